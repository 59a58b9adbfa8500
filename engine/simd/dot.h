// Integer vectors of the level being compiled: sums of products of four unsigned and four signed bytes in lanes of 32 bits.
//
// `vi` has as many lanes as `vf`. The same sums on every level, exact: no intermediate result saturates. keep() and vary() tell
// the compiler that registers are used, and that they may hold something else from here on; neither costs an instruction.
#pragma once

#include <cstdint>

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
static inline void vary(quad& a) { __asm__("" : "+r"(a.x[0]), "+r"(a.x[1]), "+r"(a.x[2]), "+r"(a.x[3])); }
static inline void vary(quads& a) { __asm__("" : "+m"(a)); }

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
// The bits of `mask` in each byte, of codes moved down by `shift` (up, if it is negative).
template <int shift, int mask>
static inline raw placed(raw a) {
  if constexpr (shift < 0) return {(a.v << static_cast<unsigned char>(-shift)) & static_cast<unsigned char>(mask)};
  return {(a.v >> static_cast<unsigned char>(shift < 0 ? 0 : shift)) & static_cast<unsigned char>(mask)};
}
static inline raw either(raw a, raw b) { return {a.v | b.v}; }
static inline raw add(raw a, raw b) { return {a.v + b.v}; }
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
template <int shift, int mask>
static inline raw placed(raw a) {
  const __m256i moved = shift < 0 ? _mm256_slli_epi16(a.v, shift < 0 ? -shift : 0) : _mm256_srli_epi16(a.v, shift < 0 ? 0 : shift);
  return {_mm256_and_si256(moved, _mm256_set1_epi8(mask))};
}
static inline raw either(raw a, raw b) { return {_mm256_or_si256(a.v, b.v)}; }
static inline raw add(raw a, raw b) { return {_mm256_add_epi8(a.v, b.v)}; }
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
static inline void vary(quad& a) { __asm__("" : "+x"(a.x)); }
static inline void vary(quads& a) { __asm__("" : "+x"(a.w)); }
#else
// As pairs of 16 bits, even and odd bytes apart: products of bytes summed in 16 bits would saturate.
struct quad {
  __m256i even, odd;
};
struct quads {
  __m256i even, odd;
};
static inline quad split_quad(__m256i x) { return {_mm256_and_si256(x, _mm256_set1_epi16(255)), _mm256_srli_epi16(x, 8)}; }
static inline quads split_quads(__m256i w) { return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)}; }
static inline quad load_quad(const unsigned char* p) { return split_quad(broadcast_quad(p)); }
static inline quads load_quads(const signed char* p) { return split_quads(load_vector(p)); }
static inline quads spread(raw a) { return split_quads(a.v); }
static inline vi dot(vi acc, const quad& x, const quads& w) {
  return {_mm256_add_epi32(_mm256_add_epi32(acc.v, _mm256_madd_epi16(x.even, w.even)), _mm256_madd_epi16(x.odd, w.odd))};
}
static inline void keep(const quad& a) { __asm__ volatile("" ::"x"(a.even), "x"(a.odd)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"x"(a.even), "x"(a.odd)); }
static inline void vary(quad& a) { __asm__("" : "+x"(a.even), "+x"(a.odd)); }
static inline void vary(quads& a) { __asm__("" : "+x"(a.even), "+x"(a.odd)); }
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

// Neighbouring pixels of 16 bytes, one in each lane of 128 bits.
inline constexpr int lane_pixels = 2;
struct pixels {
  __m256i v;
};
static inline pixels no_pixels() { return {_mm256_setzero_si256()}; }
static inline pixels load_pixels(const unsigned char* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
// The first n pixels.
static inline void store_pixels(unsigned char* p, pixels a, std::int64_t n) {
  if (n >= lane_pixels) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.v);
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(a.v));
  }
}
static inline pixels max(pixels a, pixels b) { return {_mm256_max_epu8(a.v, b.v)}; }
// Every second pixel of the row a, b: the first, third ... and the second, fourth ...
static inline void part_pixels(pixels a, pixels b, pixels& even, pixels& odd) {
  even = {_mm256_permute2x128_si256(a.v, b.v, 0x20)};
  odd = {_mm256_permute2x128_si256(a.v, b.v, 0x31)};
}
// The pixels of the row a, b from pixel n on.
static inline pixels shift_pixels(pixels a, pixels b, int n) { return n == 0 ? a : pixels{_mm256_permute2x128_si256(a.v, b.v, 0x21)}; }
// Bytes of four rows into quads: vector g gets channels 4 g .. 4 g + 3 of every pixel.
static inline void interleave(const pixels (&rows)[4], pixels (&to)[4]) {
  const __m256i a = _mm256_unpacklo_epi8(rows[0].v, rows[1].v), b = _mm256_unpacklo_epi8(rows[2].v, rows[3].v);
  const __m256i c = _mm256_unpackhi_epi8(rows[0].v, rows[1].v), d = _mm256_unpackhi_epi8(rows[2].v, rows[3].v);
  to[0] = {_mm256_unpacklo_epi16(a, b)};
  to[1] = {_mm256_unpackhi_epi16(a, b)};
  to[2] = {_mm256_unpacklo_epi16(c, d)};
  to[3] = {_mm256_unpackhi_epi16(c, d)};
}
// The other way round, from 32 bits: channels of every pixel side by side, plus `zero`, in `lo` .. 255.
static inline pixels narrow(const vi (&quarters)[4], int zero, int lo) {
  const __m256i z = _mm256_set1_epi16(static_cast<short>(zero));
  const __m256i a = _mm256_adds_epi16(_mm256_packs_epi32(quarters[0].v, quarters[1].v), z);
  const __m256i b = _mm256_adds_epi16(_mm256_packs_epi32(quarters[2].v, quarters[3].v), z);
  return {_mm256_max_epu8(_mm256_packus_epi16(a, b), _mm256_set1_epi8(static_cast<char>(lo)))};
}
// From quarters of every pixel to whole pixels, one after the other.
static inline void gather_pixels(vi (&a)[4]) {
  const __m256i first = _mm256_permute2x128_si256(a[0].v, a[1].v, 0x20), second = _mm256_permute2x128_si256(a[2].v, a[3].v, 0x20);
  const __m256i third = _mm256_permute2x128_si256(a[0].v, a[1].v, 0x31), fourth = _mm256_permute2x128_si256(a[2].v, a[3].v, 0x31);
  a[0] = {first}, a[1] = {second}, a[2] = {third}, a[3] = {fourth};
}
// Four numbers in every lane.
static inline vi repeat_int(const int* p) { return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
static inline vf repeat(const float* p) { return {_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p))}; }
static inline vi shift_left(vi a, int bits) { return {_mm256_slli_epi32(a.v, bits)}; }
static inline vi shift_right(vi a, int bits) { return {_mm256_srli_epi32(a.v, bits)}; }
static inline vi either(vi a, vi b) { return {_mm256_or_si256(a.v, b.v)}; }
#if BITTERN_VEC == 2
static inline quad to_quad(pixels a) { return {a.v}; }
static inline quads to_quads(vi a) { return {a.v}; }
#else
static inline quad to_quad(pixels a) { return split_quad(a.v); }
static inline quads to_quads(vi a) { return split_quads(a.v); }
#endif

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
template <int shift, int mask>
static inline raw placed(raw a) {
  constexpr auto up = static_cast<unsigned>(shift < 0 ? -shift : 0), down = static_cast<unsigned>(shift < 0 ? 0 : shift);
  const __m512i moved = shift < 0 ? _mm512_slli_epi16(a.v, up) : _mm512_srli_epi16(a.v, down);
  return {_mm512_and_si512(moved, _mm512_set1_epi8(mask))};
}
static inline raw either(raw a, raw b) { return {_mm512_or_si512(a.v, b.v)}; }
static inline raw add(raw a, raw b) { return {_mm512_add_epi8(a.v, b.v)}; }
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
static inline void vary(quad& a) { __asm__("" : "+v"(a.x)); }
static inline void vary(quads& a) { __asm__("" : "+v"(a.w)); }
#else
struct quad {
  __m512i even, odd;
};
struct quads {
  __m512i even, odd;
};
static inline quad split_quad(__m512i x) { return {_mm512_and_si512(x, _mm512_set1_epi16(255)), _mm512_srli_epi16(x, 8)}; }
static inline quads split_quads(__m512i w) { return {_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), _mm512_srai_epi16(w, 8)}; }
static inline quad load_quad(const unsigned char* p) { return split_quad(broadcast_quad(p)); }
static inline quads load_quads(const signed char* p) { return split_quads(_mm512_loadu_si512(p)); }
static inline quads spread(raw a) { return split_quads(a.v); }
static inline vi dot(vi acc, const quad& x, const quads& w) {
  return {_mm512_add_epi32(_mm512_add_epi32(acc.v, _mm512_madd_epi16(x.even, w.even)), _mm512_madd_epi16(x.odd, w.odd))};
}
static inline void keep(const quad& a) { __asm__ volatile("" ::"v"(a.even), "v"(a.odd)); }
static inline void keep(const quads& a) { __asm__ volatile("" ::"v"(a.even), "v"(a.odd)); }
static inline void vary(quad& a) { __asm__("" : "+v"(a.even), "+v"(a.odd)); }
static inline void vary(quads& a) { __asm__("" : "+v"(a.even), "+v"(a.odd)); }
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

// As with 256 bits.
inline constexpr int lane_pixels = 4;
struct pixels {
  __m512i v;
};
static inline pixels no_pixels() { return {_mm512_setzero_si512()}; }
static inline pixels load_pixels(const unsigned char* p) { return {_mm512_loadu_si512(p)}; }
static inline void store_pixels(unsigned char* p, pixels a, std::int64_t n) {
  if (n >= lane_pixels) {
    _mm512_storeu_si512(p, a.v);
  } else {
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1u << (4 * n)) - 1u), a.v);
  }
}
static inline pixels max(pixels a, pixels b) { return {_mm512_max_epu8(a.v, b.v)}; }
static inline void part_pixels(pixels a, pixels b, pixels& even, pixels& odd) {
  even = {_mm512_maskz_shuffle_i64x2(0xff, a.v, b.v, 0x88)};
  odd = {_mm512_maskz_shuffle_i64x2(0xff, a.v, b.v, 0xdd)};
}
static inline pixels shift_pixels(pixels a, pixels b, int n) {
  switch (n) {
    case 0: return a;
    case 1: return {_mm512_maskz_alignr_epi64(0xff, b.v, a.v, 2)};
    case 2: return {_mm512_maskz_alignr_epi64(0xff, b.v, a.v, 4)};
    default: return {_mm512_maskz_alignr_epi64(0xff, b.v, a.v, 6)};
  }
}
static inline void interleave(const pixels (&rows)[4], pixels (&to)[4]) {
  const __m512i a = _mm512_unpacklo_epi8(rows[0].v, rows[1].v), b = _mm512_unpacklo_epi8(rows[2].v, rows[3].v);
  const __m512i c = _mm512_unpackhi_epi8(rows[0].v, rows[1].v), d = _mm512_unpackhi_epi8(rows[2].v, rows[3].v);
  to[0] = {_mm512_unpacklo_epi16(a, b)};
  to[1] = {_mm512_unpackhi_epi16(a, b)};
  to[2] = {_mm512_unpacklo_epi16(c, d)};
  to[3] = {_mm512_unpackhi_epi16(c, d)};
}
static inline pixels narrow(const vi (&quarters)[4], int zero, int lo) {
  const __m512i z = _mm512_set1_epi16(static_cast<short>(zero));
  const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(quarters[0].v, quarters[1].v), z);
  const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(quarters[2].v, quarters[3].v), z);
  return {_mm512_max_epu8(_mm512_packus_epi16(a, b), _mm512_set1_epi8(static_cast<char>(lo)))};
}
static inline void gather_pixels(vi (&a)[4]) {
  const __m512i b = _mm512_maskz_shuffle_i64x2(0xff, a[0].v, a[1].v, 0x44), c = _mm512_maskz_shuffle_i64x2(0xff, a[2].v, a[3].v, 0x44);
  const __m512i d = _mm512_maskz_shuffle_i64x2(0xff, a[0].v, a[1].v, 0xee), e = _mm512_maskz_shuffle_i64x2(0xff, a[2].v, a[3].v, 0xee);
  a[0] = {_mm512_maskz_shuffle_i64x2(0xff, b, c, 0x88)};
  a[1] = {_mm512_maskz_shuffle_i64x2(0xff, b, c, 0xdd)};
  a[2] = {_mm512_maskz_shuffle_i64x2(0xff, d, e, 0x88)};
  a[3] = {_mm512_maskz_shuffle_i64x2(0xff, d, e, 0xdd)};
}
static inline vi repeat_int(const int* p) {
  return {_mm512_maskz_broadcast_i32x4(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline vf repeat(const float* p) { return {_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(p))}; }
static inline vi shift_left(vi a, int bits) { return {_mm512_maskz_slli_epi32(0xffff, a.v, static_cast<unsigned>(bits))}; }
static inline vi shift_right(vi a, int bits) { return {_mm512_maskz_srli_epi32(0xffff, a.v, static_cast<unsigned>(bits))}; }
static inline vi either(vi a, vi b) { return {_mm512_or_si512(a.v, b.v)}; }
#if BITTERN_VEC >= 4
static inline quad to_quad(pixels a) { return {a.v}; }
static inline quads to_quads(vi a) { return {a.v}; }
#else
static inline quad to_quad(pixels a) { return split_quad(a.v); }
static inline quads to_quads(vi a) { return split_quads(a.v); }
#endif

#endif

// acc + x . w: unsigned bytes of x, and weights of its own for each lane.
static inline vi dot_each(vi acc, vi x, const signed char* w) {
#if BITTERN_VEC == 0
  const quads each = load_quads(w);
  for (int i = 0; i < 4; ++i) acc.v += (x.v >> (8 * i) & 255) * each.w[i];
  return acc;
#else
  return dot(acc, to_quad(pixels{x.v}), load_quads(w));
#endif
}

}  // namespace bittern::engine::BITTERN_LEVEL
