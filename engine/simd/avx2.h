// f32 vectors of 256 bits: x86-64-v3.
#pragma once

#include <immintrin.h>

#include "simd/level.h"

namespace bittern::engine::BITTERN_LEVEL {

inline constexpr int width = 8;
struct vf {
  __m256 v;
};

static inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf zero() { return {_mm256_setzero_ps()}; }
static inline vf set1(float x) { return {_mm256_set1_ps(x)}; }
static inline vf load(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline void store(float* p, vf a) { _mm256_storeu_ps(p, a.v); }
// The first n lanes; 0 < n <= width. Lanes beyond are zero on load and untouched in memory on store.
static inline vf load_first(const float* p, int n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
// The lanes whose bits are set come from p + lane or go there, the others stay; no other memory is touched.
static inline __m256i lane_mask(unsigned lanes) {
  const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), bits), bits);
}
static inline vf load_lanes(vf a, const float* p, unsigned lanes) {
  const __m256i mask = lane_mask(lanes);
  return {_mm256_blendv_ps(a.v, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask))};
}
// Every `count` lanes next to each other may take p[0] to p[count - 1]; those whose bits are set do.
template <int count>
static inline vf load_part(vf a, const float* p, unsigned lanes) {
  if constexpr (count == 8) return {_mm256_loadu_ps(p)};
  const __m128 part = _mm_loadu_ps(p);
  return {_mm256_blendv_ps(a.v, _mm256_set_m128(part, part), _mm256_castsi256_ps(lane_mask(lanes)))};
}
static inline void store_lanes(float* p, vf a, unsigned lanes) { _mm256_maskstore_ps(p, lane_mask(lanes), a.v); }
static inline void store_first(float* p, vf a, int n) { _mm256_maskstore_ps(p, first_lanes(n), a.v); }
static inline vf add(vf a, vf b) { return {_mm256_add_ps(a.v, b.v)}; }
static inline vf sub(vf a, vf b) { return {_mm256_sub_ps(a.v, b.v)}; }
static inline vf mul(vf a, vf b) { return {_mm256_mul_ps(a.v, b.v)}; }
static inline vf div(vf a, vf b) { return {_mm256_div_ps(a.v, b.v)}; }
static inline vf sqrt(vf a) { return {_mm256_sqrt_ps(a.v)}; }
static inline vf fma(vf a, vf b, vf c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
// Keeps a factor alive up to here, without an instruction: a multiply-add before it then overwrites the sum and no factor,
// and sums stay in their registers. Compilers that rename them instead run out of registers in full tiles.
static inline void keep(vf a) { __asm__ volatile("" ::"x"(a.v)); }
// The second operand where either is NaN.
static inline vf max(vf a, vf b) { return {_mm256_max_ps(a.v, b.v)}; }
static inline vf min(vf a, vf b) { return {_mm256_min_ps(a.v, b.v)}; }

static inline vf where_less(vf a, vf b, vf yes, vf no) { return {_mm256_blendv_ps(no.v, yes.v, _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ))}; }
// 2^n where the low bits of t hold n: t is n + 1.5 * 2^23, so that shifting them into the exponent drops all else.
static inline vf exponent(vf t) {
  const __m256i b = _mm256_add_epi32(_mm256_castps_si256(t.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(b, 23))};
}

}  // namespace bittern::engine::BITTERN_LEVEL
