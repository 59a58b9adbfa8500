// f32 vectors of 128 bits in the compilers' portable vector notation: SSE2, NEON or whatever the baseline has.
#pragma once

#include "simd/level.h"

namespace bittern::engine::BITTERN_LEVEL {

inline constexpr int width = 4;
typedef float native __attribute__((vector_size(16)));
struct vf {
  native v;
};

static inline vf zero() { return {native{0.0f, 0.0f, 0.0f, 0.0f}}; }
static inline vf set1(float x) { return {native{x, x, x, x}}; }
static inline vf load(const float* p) {
  vf r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}
static inline void store(float* p, vf a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
// The first n lanes; 0 < n <= width. Lanes beyond are zero on load and untouched in memory on store.
static inline vf load_first(const float* p, int n) {
  vf r = zero();
  for (int i = 0; i < n; ++i) r.v[i] = p[i];
  return r;
}
// The lanes whose bits are set come from p + lane or go there, the others stay; no other memory is touched.
static inline vf load_lanes(vf a, const float* p, unsigned lanes) {
  for (int i = 0; i < width; ++i) {
    if ((lanes >> i & 1) != 0) a.v[i] = p[i];
  }
  return a;
}
// Every `count` lanes next to each other may take p[0] to p[count - 1]; those whose bits are set do.
template <int count>
static inline vf load_part(vf a, const float* p, unsigned lanes) {
  for (int i = 0; i < width; ++i) {
    if ((lanes >> i & 1) != 0) a.v[i] = p[i % count];
  }
  return a;
}
static inline void store_lanes(float* p, vf a, unsigned lanes) {
  for (int i = 0; i < width; ++i) {
    if ((lanes >> i & 1) != 0) p[i] = a.v[i];
  }
}
static inline void store_first(float* p, vf a, int n) {
  for (int i = 0; i < n; ++i) p[i] = a.v[i];
}
static inline vf add(vf a, vf b) { return {a.v + b.v}; }
static inline vf sub(vf a, vf b) { return {a.v - b.v}; }
static inline vf mul(vf a, vf b) { return {a.v * b.v}; }
static inline vf div(vf a, vf b) { return {a.v / b.v}; }
static inline vf sqrt(vf a) {
  for (int i = 0; i < width; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
// a * b + c; rounded twice here, once where the level has a fused instruction.
static inline vf fma(vf a, vf b, vf c) { return {a.v * b.v + c.v}; }
static inline void keep(vf) {}
// The second operand where either is NaN.
static inline vf max(vf a, vf b) { return {a.v > b.v ? a.v : b.v}; }
static inline vf min(vf a, vf b) { return {a.v < b.v ? a.v : b.v}; }

static inline vf where_less(vf a, vf b, vf yes, vf no) { return {a.v < b.v ? yes.v : no.v}; }
// 2^n where the low bits of t hold n: t is n + 1.5 * 2^23, so that shifting them into the exponent drops all else.
static inline vf exponent(vf t) {
  typedef unsigned bits __attribute__((vector_size(16)));
  bits b;
  __builtin_memcpy(&b, &t.v, sizeof b);
  b = (b + 127u) << 23;
  __builtin_memcpy(&t.v, &b, sizeof b);
  return t;
}

}  // namespace bittern::engine::BITTERN_LEVEL
