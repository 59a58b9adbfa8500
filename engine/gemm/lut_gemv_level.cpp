// Products of one row of real numbers with weights of few bits, compiled once per level.
#include "gemm/lut_gemv.h"
#include "simd/dot.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Entries for the lowest bits of each lane of 32 bits, whatever stands above them: four bits of Table16, two of Table4.
#if BITTERN_VEC == 0
template <int count>
struct Table {
  static constexpr int bits = count == 16 ? 4 : 2;
  float entry[count];
  static Table load(const float* p) {
    Table t;
    __builtin_memcpy(t.entry, p, sizeof t.entry);
    return t;
  }
  vf of(vi codes) const {
    float found[width];
    for (int i = 0; i < width; ++i) found[i] = entry[codes.v[i] & (count - 1)];
    return BITTERN_LEVEL::load(found);
  }
};
using Table16 = Table<16>;
using Table4 = Table<4>;
inline vi shifted(vi a, int bits) { return {a.v >> bits}; }
inline vi signed_bytes(const unsigned char* p) {
  signed char b[width];
  __builtin_memcpy(b, p, sizeof b);
  return {native_int{b[0], b[1], b[2], b[3]}};
}
#elif BITTERN_VEC <= 2
struct Table16 {
  static constexpr int bits = 4;
  __m256 first, second;
  static Table16 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  vf of(vi codes) const {
    // Bit 3 chooses the half of the table: moved to the sign, which the blend reads.
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes.v, 28));
    return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(first, codes.v), _mm256_permutevar8x32_ps(second, codes.v), upper)};
  }
};
struct Table4 {
  static constexpr int bits = 2;
  __m256 entries;
  static Table4 load(const float* p) {
    const __m128 four = _mm_loadu_ps(p);
    return {_mm256_set_m128(four, four)};
  }
  vf of(vi codes) const { return {_mm256_permutevar_ps(entries, codes.v)}; }
};
inline vi shifted(vi a, int bits) { return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(bits))}; }
inline vi signed_bytes(const unsigned char* p) { return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}; }
#else
struct Table16 {
  static constexpr int bits = 4;
  __m512 entries;
  static Table16 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  vf of(vi codes) const { return {_mm512_maskz_permutexvar_ps(0xffff, codes.v, entries)}; }
};
struct Table4 {
  static constexpr int bits = 2;
  __m512 entries;
  static Table4 load(const float* p) { return {_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(p))}; }
  vf of(vi codes) const { return {_mm512_maskz_permutevar_ps(0xffff, entries, codes.v)}; }
};
inline vi shifted(vi a, int bits) { return {_mm512_maskz_srl_epi32(0xffff, a.v, _mm_cvtsi32_si128(bits))}; }
inline vi signed_bytes(const unsigned char* p) {
  return {_mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
#endif

inline vi load_codes(const unsigned char* p) {
  vi codes;
  __builtin_memcpy(&codes.v, p, sizeof codes.v);
  return codes;
}

constexpr int vectors = 4;

// Two sets of sums: of even and odd inputs, so that a product waits for the one before last; or of either sign.
struct Sums {
  vf of[2][vectors];
};

inline void prefetch(const unsigned char* w, int bytes) {
  BITTERN_UNROLL
  for (int line = 0; line < bytes; line += 64) __builtin_prefetch(w + 4096 + line);
}

template <bool apart>
inline void finish(const LutGemvArgs& args, const Sums& sums) {
  const vf lo = set1(args.lo), hi = set1(args.hi);
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t left = args.valid - v * width;
    if (left <= 0) break;
    const vf scale = load(args.scale + v * width);
    vf y;
    if constexpr (apart) {
      y = sub(mul(sums.of[0][v], scale), mul(sums.of[1][v], load(args.negative + v * width)));
    } else {
      y = mul(add(sums.of[0][v], sums.of[1][v]), scale);
    }
    const bool whole = left >= width;
    if (args.bias != nullptr) y = add(y, whole ? load(args.bias + v * width) : load_first(args.bias + v * width, static_cast<int>(left)));
    y = min(hi, max(lo, y));
    if (whole) {
      store(args.c + v * width, y);
    } else {
      store_first(args.c + v * width, y, static_cast<int>(left));
    }
  }
}

// What each sign's sum takes of the codes 0, 1 and 2.
constexpr float positive_codes[4] = {0.0f, 1.0f, 0.0f, 0.0f}, negative_codes[4] = {0.0f, 0.0f, 1.0f, 0.0f};

// `apart`: ternary weights whose signs have numbers of their own.
template <class Table, bool apart>
void run_codes(const LutGemvArgs& args) {
  constexpr int bits = Table::bits, per_byte = 8 / bits, per_step = 32 / bits, bytes = 4 * width;  // bytes of a vector's step
  Sums sums;
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) sums.of[0][v] = sums.of[1][v] = zero();
  const Table table = Table::load(apart ? positive_codes : args.table), other = Table::load(apart ? negative_codes : args.table);
  const auto take = [&](vf x, vi codes, int v, int odd) {
    if constexpr (apart) {
      sums.of[0][v] = fma(x, table.of(codes), sums.of[0][v]);
      sums.of[1][v] = fma(x, other.of(codes), sums.of[1][v]);
    } else {
      sums.of[odd][v] = fma(x, table.of(codes), sums.of[odd][v]);
    }
  };
  const unsigned char* w = args.w;
  std::int64_t i = 0;
  for (; i + per_step <= args.k; i += per_step, w += vectors * bytes) {
    prefetch(w, vectors * bytes);
    BITTERN_UNROLL
    for (int byte = 0; byte < 4; ++byte) {
      vf x[per_byte];
      BITTERN_UNROLL
      for (int j = 0; j < per_byte; ++j) x[j] = set1(args.x[i + byte * per_byte + j]);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const vi codes = load_codes(w + v * bytes + byte);
        take(x[0], codes, v, 0);
        BITTERN_UNROLL
        for (int j = 1; j < per_byte; ++j) take(x[j], shifted(codes, j * bits), v, j % 2);
      }
    }
  }
  for (std::int64_t j = 0; i + j < args.k; ++j) {
    const vf x = set1(args.x[i + j]);
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) take(x, shifted(load_codes(w + v * bytes), static_cast<int>(j) * bits), v, 0);
  }
  finish<apart>(args, sums);
}

void run_bytes(const LutGemvArgs& args) {
  Sums sums;
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) sums.of[0][v] = sums.of[1][v] = zero();
  const unsigned char* w = args.w;
  const auto take = [&](std::int64_t i, int odd) {
    const vf x = set1(args.x[i]);
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      sums.of[odd][v] = fma(x, to_float(signed_bytes(w + (i * vectors + v) * width)), sums.of[odd][v]);
    }
  };
  std::int64_t i = 0;
  for (; i + 2 <= args.k; i += 2) {
    prefetch(w + i * vectors * width, 2 * vectors * width);
    take(i, 0);
    take(i + 1, 1);
  }
  if (i < args.k) take(i, 0);
  finish<false>(args, sums);
}

#define BITTERN_TEXT_(text) #text
#define BITTERN_TEXT(text) BITTERN_TEXT_(text)
#if BITTERN_VEC == 0
#define BITTERN_COLS "_f32_1x16__"
#elif BITTERN_VEC <= 2
#define BITTERN_COLS "_f32_1x32__"
#else
#define BITTERN_COLS "_f32_1x64__"
#endif
#define BITTERN_ROW(weight, codes, bits, run) \
  {"gemv_f32_" weight BITTERN_COLS BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, codes, bits, vectors * width, run}
constexpr LutGemvKernel list[] = {
    BITTERN_ROW("lut4", RowCodes::table16, 4, (&run_codes<Table16, false>)),
    BITTERN_ROW("lut2", RowCodes::table4, 2, (&run_codes<Table4, false>)),
    BITTERN_ROW("t2", RowCodes::ternary, 2, (&run_codes<Table4, true>)),
    BITTERN_ROW("s8", RowCodes::bytes, 8, &run_bytes),
};

}  // namespace

const LutGemvKernel* lut_gemv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
