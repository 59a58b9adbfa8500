// Integer vectors of the level being compiled: sums of products of four unsigned and four signed bytes in lanes of 32 bits.
//
// `vi` has as many lanes as `vf`. The same sums on every level, exact: no intermediate result saturates.
#pragma once

#include "simd/vec.h"

#if BITTERN_VEC != 0
#include <immintrin.h>
#endif

namespace bittern::engine::BITTERN_LEVEL {

#if BITTERN_VEC == 0

typedef int native_int __attribute__((vector_size(16)));
struct vi {
  native_int v;
};
// Four activations of one pixel.
struct quad {
  int x[4];
};
// Four weights for each lane.
struct quads {
  native_int w[4];
};

static inline vi load_int(const int* p) {
  vi r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}
static inline void store_int(int* p, vi a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
static inline quad load_quad(const unsigned char* p) { return {{p[0], p[1], p[2], p[3]}}; }
static inline quads load_quads(const signed char* p) {
  quads r;
  for (int i = 0; i < 4; ++i) r.w[i] = native_int{p[i], p[4 + i], p[8 + i], p[12 + i]};
  return r;
}
static inline vi dot(vi acc, const quad& x, const quads& w) {
  for (int i = 0; i < 4; ++i) acc.v += w.w[i] * x.x[i];
  return acc;
}
static inline void keep(const quad&) {}
static inline void keep(const quads&) {}

// A vector's bytes as they stand in memory: weights of a quad of input channels, or codes of them.
constexpr int raw_bytes = 16;
typedef unsigned char native_raw __attribute__((vector_size(16)));
struct raw {
  native_raw v;
};
static inline raw load_raw(const unsigned char* p) {
  raw r;
  __builtin_memcpy(&r.v, p, sizeof r.v);
  return r;
}
static inline void store_raw(signed char* p, raw a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
static inline raw load_table(const signed char* p) { return load_raw(reinterpret_cast<const unsigned char*>(p)); }
// Table entries of codes below 16.
static inline raw look_up(raw table, raw codes) {
  raw r;
  for (int i = 0; i < raw_bytes; ++i) r.v[i] = table.v[codes.v[i]];
  return r;
}
// The code that stands `shift` bits up in each byte.
template <int shift, int mask>
static inline raw code_at(raw a) {
  return {(a.v >> static_cast<unsigned char>(shift)) & static_cast<unsigned char>(mask)};
}
static inline quads spread(raw a) {
  signed char bytes[raw_bytes];
  store_raw(bytes, a);
  return load_quads(bytes);
}
static inline vf to_float(vi a) { return {__builtin_convertvector(a.v, native)}; }
// Round half to even; |a| < 2^22.
static inline vi round_int(vf a) {
  const native magic = native{} + 12582912.0f;  // 1.5 * 2^23: the sum has no bits behind the point
  return {__builtin_convertvector((a.v + magic) - magic, native_int)};
}
static inline vi plus(vi a, int b) { return {a.v + b}; }
static inline vi add(vi a, vi b) { return {a.v + b.v}; }
// Bytes, each in a lane of its own.
static inline vi widen(const unsigned char* p) { return {native_int{p[0], p[1], p[2], p[3]}}; }
// acc + x * w, x in 0 .. 255 and w in -32768 .. 32767.
static inline vi mul_add(vi acc, vi x, vi w) { return {acc.v + x.v * w.v}; }
// Lanes of 0 .. 255 as bytes.
static inline void store_bytes(unsigned char* p, vi a) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<unsigned char>(a.v[i]);
}
static inline vf load_bytes(const unsigned char* p) { return to_float(widen(p)); }

#elif BITTERN_VEC <= 2

struct vi {
  __m256i v;
};
static inline vi load_int(const int* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
static inline void store_int(int* p, vi a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
static inline __m256i broadcast_quad(const unsigned char* p) {
  int four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm256_set1_epi32(four);
}
constexpr int raw_bytes = 32;
struct raw {
  __m256i v;
};
static inline raw load_raw(const unsigned char* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
static inline void store_raw(signed char* p, raw a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v); }
static inline raw load_table(const signed char* p) { return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
static inline raw look_up(raw table, raw codes) { return {_mm256_shuffle_epi8(table.v, codes.v)}; }
template <int shift, int mask>
static inline raw code_at(raw a) {
  return {_mm256_and_si256(shift == 0 ? a.v : _mm256_srli_epi16(a.v, shift), _mm256_set1_epi8(mask))};
}
static inline __m256i load_vector(const signed char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
#if BITTERN_VEC == 2
struct quad {
  __m256i x;
};
struct quads {
  __m256i w;
};
static inline quad load_quad(const unsigned char* p) { return {broadcast_quad(p)}; }
static inline quads spread(raw a) { return {a.v}; }
static inline quads load_quads(const signed char* p) { return {load_vector(p)}; }
static inline vi dot(vi acc, const quad& x, const quads& w) { return {_mm256_dpbusd_avx_epi32(acc.v, x.x, w.w)}; }
static inline void keep(const quad& a) { __asm__ volatile("" ::"x"(a.x)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"x"(a.w)); }
#else
// As pairs of 16 bits, even and odd bytes apart: products of bytes summed in 16 bits would saturate.
struct quad {
  __m256i even, odd;
};
struct quads {
  __m256i even, odd;
};
static inline quad load_quad(const unsigned char* p) {
  const __m256i x = broadcast_quad(p);
  return {_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)};
}
static inline quads spread(raw a) { return {_mm256_srai_epi16(_mm256_slli_epi16(a.v, 8), 8), _mm256_srai_epi16(a.v, 8)}; }
static inline quads load_quads(const signed char* p) { return spread({load_vector(p)}); }
static inline vi dot(vi acc, const quad& x, const quads& w) {
  return {_mm256_add_epi32(_mm256_add_epi32(acc.v, _mm256_madd_epi16(x.even, w.even)), _mm256_madd_epi16(x.odd, w.odd))};
}
static inline void keep(const quad& a) { __asm__ volatile("" ::"x"(a.even), "x"(a.odd)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"x"(a.even), "x"(a.odd)); }
#endif
static inline vf to_float(vi a) { return {_mm256_cvtepi32_ps(a.v)}; }
static inline vi round_int(vf a) { return {_mm256_cvtps_epi32(a.v)}; }
static inline vi plus(vi a, int b) { return {_mm256_add_epi32(a.v, _mm256_set1_epi32(b))}; }
static inline vi add(vi a, vi b) { return {_mm256_add_epi32(a.v, b.v)}; }
static inline vi widen(const unsigned char* p) { return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))}; }
// The upper halves of x are zero, so the pairs' sums are the products of the lower halves.
static inline vi mul_add(vi acc, vi x, vi w) { return {_mm256_add_epi32(acc.v, _mm256_madd_epi16(x.v, w.v))}; }
static inline void store_bytes(unsigned char* p, vi a) {
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(a.v), _mm256_extracti128_si256(a.v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
static inline vf load_bytes(const unsigned char* p) { return to_float(widen(p)); }

#else

struct vi {
  __m512i v;
};
static inline vi load_int(const int* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_int(int* p, vi a) { _mm512_storeu_si512(p, a.v); }
static inline __m512i broadcast_quad(const unsigned char* p) {
  int four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}
constexpr int raw_bytes = 64;
struct raw {
  __m512i v;
};
static inline raw load_raw(const unsigned char* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_raw(signed char* p, raw a) { _mm512_storeu_si512(p, a.v); }
static inline raw load_table(const signed char* p) {
  const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_maskz_broadcast_i32x4(0xffff, table)};
}
static inline raw look_up(raw table, raw codes) { return {_mm512_shuffle_epi8(table.v, codes.v)}; }
template <int shift, int mask>
static inline raw code_at(raw a) {
  return {_mm512_and_si512(shift == 0 ? a.v : _mm512_srli_epi16(a.v, shift), _mm512_set1_epi8(mask))};
}
#if BITTERN_VEC >= 4
struct quad {
  __m512i x;
};
struct quads {
  __m512i w;
};
static inline quad load_quad(const unsigned char* p) { return {broadcast_quad(p)}; }
static inline quads spread(raw a) { return {a.v}; }
static inline quads load_quads(const signed char* p) { return {_mm512_loadu_si512(p)}; }
static inline vi dot(vi acc, const quad& x, const quads& w) { return {_mm512_dpbusd_epi32(acc.v, x.x, w.w)}; }
static inline void keep(const quad& a) { __asm__ volatile("" ::"v"(a.x)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"v"(a.w)); }
#else
struct quad {
  __m512i even, odd;
};
struct quads {
  __m512i even, odd;
};
static inline quad load_quad(const unsigned char* p) {
  const __m512i x = broadcast_quad(p);
  return {_mm512_and_si512(x, _mm512_set1_epi16(255)), _mm512_srli_epi16(x, 8)};
}
static inline quads spread(raw a) { return {_mm512_srai_epi16(_mm512_slli_epi16(a.v, 8), 8), _mm512_srai_epi16(a.v, 8)}; }
static inline quads load_quads(const signed char* p) { return spread({_mm512_loadu_si512(p)}); }
static inline vi dot(vi acc, const quad& x, const quads& w) {
  return {_mm512_add_epi32(_mm512_add_epi32(acc.v, _mm512_madd_epi16(x.even, w.even)), _mm512_madd_epi16(x.odd, w.odd))};
}
static inline void keep(const quad& a) { __asm__ volatile("" ::"v"(a.even), "v"(a.odd)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"v"(a.even), "v"(a.odd)); }
#endif
static inline vf to_float(vi a) { return {_mm512_maskz_cvtepi32_ps(0xffff, a.v)}; }
static inline vi round_int(vf a) { return {_mm512_maskz_cvtps_epi32(0xffff, a.v)}; }
static inline vi plus(vi a, int b) { return {_mm512_add_epi32(a.v, _mm512_set1_epi32(b))}; }
static inline vi add(vi a, vi b) { return {_mm512_add_epi32(a.v, b.v)}; }
static inline vi widen(const unsigned char* p) {
  return {_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline vi mul_add(vi acc, vi x, vi w) { return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(x.v, w.v))}; }
static inline void store_bytes(unsigned char* p, vi a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_maskz_cvtepi32_epi8(0xffff, a.v));
}
static inline vf load_bytes(const unsigned char* p) { return to_float(widen(p)); }

#endif

}  // namespace bittern::engine::BITTERN_LEVEL
