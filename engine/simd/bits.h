// Vectors of bits of the level being compiled: words of 32 bits in the lanes of `vi`, and counts of their ones.
//
// Where the processor counts bits of words (avx512icl) a count is a sum of the lanes; elsewhere a table look-up counts the ones of
// every byte, and bytes are added up for at most `most_counted` words before flush() adds them into the lanes.
#pragma once

#include "simd/dot.h"

namespace bittern::engine::BITTERN_LEVEL {

#if BITTERN_VEC == 0

struct bits {
  native_int v;
};
using counts = vi;
inline constexpr int most_counted = 1 << 30;
static inline counts no_counts() { return {native_int{}}; }
static inline bits load_bits(const unsigned* p) {
  bits r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}
static inline bits broadcast_bits(const unsigned* p) { return {native_int{} + static_cast<int>(*p)}; }
static inline bits differ(bits a, bits b) { return {a.v ^ b.v}; }
static inline bits both(bits a, bits b) { return {a.v & b.v}; }
static inline counts count(counts c, bits a) {
  for (int i = 0; i < 4; ++i) c.v[i] += __builtin_popcount(static_cast<unsigned>(a.v[i]));
  return c;
}
static inline vi flush(counts c) { return c; }
static inline vi mul_int(vi a, vi b) { return {a.v * b.v}; }
static inline vi no_sums() { return {native_int{}}; }
static inline vi set_int(int a) { return {native_int{} + a}; }
// A bit for each lane, the first lane the lowest.
static inline unsigned reached(vi a, vi least) {
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) r |= static_cast<unsigned>(a.v[i] >= least.v[i]) << i;
  return r;
}
static inline unsigned reached(vf a, vf least) {
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) r |= static_cast<unsigned>(a.v[i] >= least.v[i]) << i;
  return r;
}

#elif BITTERN_VEC <= 2

struct bits {
  __m256i v;
};
struct counts {
  __m256i v;
};
inline constexpr int most_counted = 31;  // a byte holds 31 counts of 8
static inline counts no_counts() { return {_mm256_setzero_si256()}; }
static inline bits load_bits(const unsigned* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
static inline bits broadcast_bits(const unsigned* p) { return {_mm256_set1_epi32(static_cast<int>(*p))}; }
static inline bits differ(bits a, bits b) { return {_mm256_xor_si256(a.v, b.v)}; }
static inline bits both(bits a, bits b) { return {_mm256_and_si256(a.v, b.v)}; }
static inline counts count(counts c, bits a) {
  const __m256i ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i first = _mm256_shuffle_epi8(ones, _mm256_and_si256(a.v, low));
  const __m256i second = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(a.v, 4), low));
  return {_mm256_add_epi8(c.v, _mm256_add_epi8(first, second))};
}
static inline vi flush(counts c) {
  return {_mm256_madd_epi16(_mm256_maddubs_epi16(c.v, _mm256_set1_epi8(1)), _mm256_set1_epi16(1))};
}
static inline vi mul_int(vi a, vi b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
static inline vi no_sums() { return {_mm256_setzero_si256()}; }
static inline vi set_int(int a) { return {_mm256_set1_epi32(a)}; }
static inline unsigned reached(vi a, vi least) {
  return ~static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(least.v, a.v)))) & 0xffu;
}
static inline unsigned reached(vf a, vf least) { return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, least.v, _CMP_GE_OQ))); }

#else

struct bits {
  __m512i v;
};
static inline bits load_bits(const unsigned* p) { return {_mm512_loadu_si512(p)}; }
static inline bits broadcast_bits(const unsigned* p) { return {_mm512_set1_epi32(static_cast<int>(*p))}; }
static inline bits differ(bits a, bits b) { return {_mm512_xor_si512(a.v, b.v)}; }
static inline bits both(bits a, bits b) { return {_mm512_and_si512(a.v, b.v)}; }
#if BITTERN_VEC >= 5
using counts = vi;
inline constexpr int most_counted = 1 << 30;
static inline counts no_counts() { return {_mm512_setzero_si512()}; }
static inline counts count(counts c, bits a) { return {_mm512_add_epi32(c.v, _mm512_popcnt_epi32(a.v))}; }
static inline vi flush(counts c) { return c; }
#else
struct counts {
  __m512i v;
};
inline constexpr int most_counted = 31;
static inline counts no_counts() { return {_mm512_setzero_si512()}; }
static inline counts count(counts c, bits a) {
  const __m512i ones = _mm512_maskz_broadcast_i32x4(0xffff, _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i first = _mm512_shuffle_epi8(ones, _mm512_and_si512(a.v, low));
  const __m512i second = _mm512_shuffle_epi8(ones, _mm512_and_si512(_mm512_srli_epi16(a.v, 4), low));
  return {_mm512_add_epi8(c.v, _mm512_add_epi8(first, second))};
}
static inline vi flush(counts c) {
  return {_mm512_madd_epi16(_mm512_maddubs_epi16(c.v, _mm512_set1_epi8(1)), _mm512_set1_epi16(1))};
}
#endif
static inline vi mul_int(vi a, vi b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
static inline vi no_sums() { return {_mm512_setzero_si512()}; }
static inline vi set_int(int a) { return {_mm512_set1_epi32(a)}; }
static inline unsigned reached(vi a, vi least) { return _mm512_cmpge_epi32_mask(a.v, least.v); }
static inline unsigned reached(vf a, vf least) { return _mm512_cmp_ps_mask(a.v, least.v, _CMP_GE_OQ); }

#endif

}  // namespace bittern::engine::BITTERN_LEVEL
