// Products of one row with weights that are codes into a table of 16 floats, compiled once per level.
#include "gemm/lut_gemv.h"
#include "simd/dot.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

#if BITTERN_VEC == 0
struct Table {
  float entry[16];
};
inline Table load_entries(const float* p) {
  Table t;
  __builtin_memcpy(t.entry, p, sizeof t.entry);
  return t;
}
// Entries of the low and of the high halves of `width` bytes.
inline void look_up(const Table& t, const unsigned char* codes, vf& low, vf& high) {
  float a[width], b[width];
  for (int i = 0; i < width; ++i) a[i] = t.entry[codes[i] & 15], b[i] = t.entry[codes[i] >> 4];
  low = load(a);
  high = load(b);
}
#elif BITTERN_VEC <= 2
struct Table {
  __m256 first, second;
};
inline Table load_entries(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline vf entry(const Table& t, __m256i code) {
  // Bit 3 chooses the half of the table: moved to the sign, which the blend reads.
  const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28));
  return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(t.first, code), _mm256_permutevar8x32_ps(t.second, code), upper)};
}
inline void look_up(const Table& t, const unsigned char* codes, vf& low, vf& high) {
  const __m256i both = widen(codes).v;
  low = entry(t, both);
  high = entry(t, _mm256_srli_epi32(both, 4));
}
#else
struct Table {
  __m512 entries;
};
inline Table load_entries(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void look_up(const Table& t, const unsigned char* codes, vf& low, vf& high) {
  const __m512i both = widen(codes).v;  // the permutation reads four bits of an index
  low = {_mm512_maskz_permutexvar_ps(0xffff, both, t.entries)};
  high = {_mm512_maskz_permutexvar_ps(0xffff, _mm512_maskz_srli_epi32(0xffff, both, 4), t.entries)};
}
#endif

void run(const LutGemvArgs& args) {
  constexpr int vectors = 4;
  vf acc[2][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) acc[0][v] = acc[1][v] = zero();
  const Table table = load_entries(args.table);
  const unsigned char* w = args.w;
  const auto input = [&](std::int64_t i, vf* sums) {
    const vf x = set1(args.x[i]);
    BITTERN_UNROLL
    for (int pair = 0; pair < vectors / 2; ++pair) {
      vf low, high;
      look_up(table, w + (i * 2 + pair) * width, low, high);
      sums[pair * 2] = fma(x, low, sums[pair * 2]);
      sums[pair * 2 + 1] = fma(x, high, sums[pair * 2 + 1]);
    }
  };
  std::int64_t i = 0;
  for (; i + 2 <= args.k; i += 2) {
    __builtin_prefetch(w + i * 2 * width + 2048);
    input(i, acc[0]);
    input(i + 1, acc[1]);
  }
  if (i < args.k) input(i, acc[0]);
  const vf lo = set1(args.lo), hi = set1(args.hi);
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t left = args.valid - v * width;
    if (left <= 0) break;
    vf y = add(acc[0][v], acc[1][v]);
    if (args.scale != nullptr) y = mul(y, load(args.scale + v * width));
    if (args.bias != nullptr) y = add(y, load(args.bias + v * width));
    y = min(hi, max(lo, y));
    if (left >= width) {
      store(args.c + v * width, y);
    } else {
      store_first(args.c + v * width, y, static_cast<int>(left));
    }
  }
}

#define BITTERN_TEXT_(text) #text
#define BITTERN_TEXT(text) BITTERN_TEXT_(text)
#if BITTERN_VEC == 0
#define BITTERN_COLS "1x16"
#elif BITTERN_VEC <= 2
#define BITTERN_COLS "1x32"
#else
#define BITTERN_COLS "1x64"
#endif
constexpr LutGemvKernel kernel{"gemv_f32_lut4_f32_" BITTERN_COLS "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, 4 * width, &run};

}  // namespace

const LutGemvKernel& lut_gemv_kernel() { return kernel; }

}  // namespace bittern::engine::BITTERN_LEVEL
