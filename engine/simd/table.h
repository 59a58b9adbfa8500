// Small tables in registers, looked up by codes in the lanes.
#pragma once

#include "simd/dot.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {

// Entries for the lowest bits of each lane of 32 bits, whatever stands above them: four bits of Table16, two of Table4. Every
// four lanes may have a Table4 of their own.
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
static inline vf repeat_four(const float* p) { return load(p); }
static inline Table4 load_tables(const float* p) { return Table4::load(p); }
static inline vi shifted(vi a, int bits) { return {a.v >> bits}; }
static inline vi signed_bytes(const unsigned char* p) {
  signed char b[width];
  __builtin_memcpy(b, p, sizeof b);
  return {native_int{b[0], b[1], b[2], b[3]}};
}
static inline vi unsigned_bytes(const unsigned char* p) { return {native_int{p[0], p[1], p[2], p[3]}}; }
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
static inline vf repeat_four(const float* p) { return {_mm256_set_m128(_mm_loadu_ps(p), _mm_loadu_ps(p))}; }
static inline Table4 load_tables(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline vi shifted(vi a, int bits) { return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(bits))}; }
static inline vi signed_bytes(const unsigned char* p) { return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}; }
static inline vi unsigned_bytes(const unsigned char* p) { return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}; }
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
static inline vf repeat_four(const float* p) { return {_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(p))}; }
static inline Table4 load_tables(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline vi shifted(vi a, int bits) { return {_mm512_maskz_srl_epi32(0xffff, a.v, _mm_cvtsi32_si128(bits))}; }
static inline vi signed_bytes(const unsigned char* p) {
  return {_mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline vi unsigned_bytes(const unsigned char* p) {
  return {_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
#endif

static inline vi load_codes(const unsigned char* p) {
  vi codes;
  __builtin_memcpy(&codes.v, p, sizeof codes.v);
  return codes;
}

// What stands in the lanes, whichever type it has.
static inline vi bits_of(vf a) {
  vi bits;
  __builtin_memcpy(&bits.v, &a.v, sizeof bits.v);
  return bits;
}

}  // namespace bittern::engine::BITTERN_LEVEL
