// f32 vectors of 512 bits: x86-64-v4.
#pragma once

#include <immintrin.h>

#include "simd/level.h"

namespace bittern::engine::BITTERN_LEVEL {

inline constexpr int width = 16;
struct vf {
  __m512 v;
};

static inline __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

static inline vf zero() { return {_mm512_setzero_ps()}; }
static inline vf set1(float x) { return {_mm512_set1_ps(x)}; }
static inline vf load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline void store(float* p, vf a) { _mm512_storeu_ps(p, a.v); }
// The first n lanes; 0 < n <= width. Lanes beyond are zero on load and untouched in memory on store.
static inline vf load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
// The lanes whose bits are set come from p + lane or go there, the others stay; no other memory is touched.
static inline vf load_lanes(vf a, const float* p, unsigned lanes) { return {_mm512_mask_loadu_ps(a.v, static_cast<__mmask16>(lanes), p)}; }
// Every `count` lanes next to each other may take p[0] to p[count - 1]; those whose bits are set do. Unlike load_lanes this
// does not touch the line of the cache beside, for lanes that it does not load.
template <int count>
static inline vf load_part(vf a, const float* p, unsigned lanes) {
  if constexpr (count == 16) return {_mm512_loadu_ps(p)};
  if constexpr (count == 8) return {_mm512_mask_broadcast_f32x8(a.v, static_cast<__mmask16>(lanes), _mm256_loadu_ps(p))};
  return {_mm512_mask_broadcast_f32x4(a.v, static_cast<__mmask16>(lanes), _mm_loadu_ps(p))};
}
static inline void store_lanes(float* p, vf a, unsigned lanes) { _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lanes), a.v); }
static inline void store_first(float* p, vf a, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), a.v); }
static inline vf add(vf a, vf b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline vf sub(vf a, vf b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline vf mul(vf a, vf b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline vf div(vf a, vf b) { return {_mm512_div_ps(a.v, b.v)}; }
static inline vf sqrt(vf a) { return {_mm512_maskz_sqrt_ps(0xffff, a.v)}; }
static inline vf fma(vf a, vf b, vf c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
// Keeps a factor alive up to here, without an instruction: a multiply-add before it then overwrites the sum and no factor,
// and sums stay in their registers. Compilers that rename them instead run out of registers in full tiles.
static inline void keep(vf a) { __asm__ volatile("" ::"v"(a.v)); }
// The second operand where either is NaN. (The unmasked forms trip a false "maybe uninitialized" of GCC 12.)
static inline vf max(vf a, vf b) { return {_mm512_maskz_max_ps(0xffff, a.v, b.v)}; }
static inline vf min(vf a, vf b) { return {_mm512_maskz_min_ps(0xffff, a.v, b.v)}; }

static inline vf where_less(vf a, vf b, vf yes, vf no) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), no.v, yes.v)};
}
// 2^n where the low bits of t hold n: t is n + 1.5 * 2^23, so that shifting them into the exponent drops all else.
static inline vf exponent(vf t) {
  const __m512i b = _mm512_add_epi32(_mm512_castps_si512(t.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, b, 23))};
}

}  // namespace bittern::engine::BITTERN_LEVEL
