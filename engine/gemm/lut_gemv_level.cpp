// Products of one row with weights that are codes into a table of 16 floats, compiled once per level.
#include "gemm/lut_gemv.h"
#include "simd/dot.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Entries for the low four bits of each lane of 32 bits, whatever stands above them.
#if BITTERN_VEC == 0
struct Table {
  float entry[16];
};
inline Table load_entries(const float* p) {
  Table t;
  __builtin_memcpy(t.entry, p, sizeof t.entry);
  return t;
}
inline vf entries_of(const Table& t, vi codes) {
  float found[width];
  for (int i = 0; i < width; ++i) found[i] = t.entry[codes.v[i] & 15];
  return load(found);
}
inline vi shifted(vi a, int bits) { return {a.v >> bits}; }
#elif BITTERN_VEC <= 2
struct Table {
  __m256 first, second;
};
inline Table load_entries(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline vf entries_of(const Table& t, vi codes) {
  // Bit 3 chooses the half of the table: moved to the sign, which the blend reads.
  const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes.v, 28));
  return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(t.first, codes.v), _mm256_permutevar8x32_ps(t.second, codes.v), upper)};
}
inline vi shifted(vi a, int bits) { return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(bits))}; }
#else
struct Table {
  __m512 entries;
};
inline Table load_entries(const float* p) { return {_mm512_loadu_ps(p)}; }
inline vf entries_of(const Table& t, vi codes) { return {_mm512_maskz_permutexvar_ps(0xffff, codes.v, t.entries)}; }
inline vi shifted(vi a, int bits) { return {_mm512_maskz_srl_epi32(0xffff, a.v, _mm_cvtsi32_si128(bits))}; }
#endif

inline vi load_codes(const unsigned char* p) {
  vi codes;
  __builtin_memcpy(&codes.v, p, sizeof codes.v);
  return codes;
}

// Vectors of a panel: what the registers hold twice beside the table. More of them share the broadcast inputs.
constexpr int vectors = BITTERN_VEC >= 3 ? 6 : 4;

void run(const LutGemvArgs& args) {
  constexpr int bytes = 4 * width;  // of a vector's step
  vf acc[2][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) acc[0][v] = acc[1][v] = zero();
  const Table table = load_entries(args.table);
  const unsigned char* w = args.w;
  std::int64_t i = 0;
  for (; i + 8 <= args.k; i += 8, w += vectors * bytes) {
    BITTERN_UNROLL
    for (int pair = 0; pair < 4; ++pair) {
      const vf even = set1(args.x[i + pair * 2]), odd = set1(args.x[i + pair * 2 + 1]);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const vi codes = load_codes(w + v * bytes + pair);
        acc[0][v] = fma(even, entries_of(table, codes), acc[0][v]);
        acc[1][v] = fma(odd, entries_of(table, shifted(codes, 4)), acc[1][v]);
      }
    }
  }
  for (std::int64_t j = 0; i + j < args.k; ++j) {
    const vf x = set1(args.x[i + j]);
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      acc[0][v] = fma(x, entries_of(table, shifted(load_codes(w + v * bytes), static_cast<int>(j) * 4)), acc[0][v]);
    }
  }
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
#define BITTERN_COLS "1x96"
#endif
constexpr LutGemvKernel kernel{"gemv_f32_lut4_f32_" BITTERN_COLS "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, vectors * width, &run};

}  // namespace

const LutGemvKernel& lut_gemv_kernel() { return kernel; }

}  // namespace bittern::engine::BITTERN_LEVEL
