// Pixels of 16 channels in lanes of 128 bits, and back: how sparse loops on codes turn a map's blocks of 16 channels into vectors
// of pixels.
//
// A vector holds `lane_count` pixels of 16 bytes. Four of them, transposed within their lanes, are four vectors of `width` pixels,
// four channels each; position 4 l + j holds pixel j * lane_count + l. Sums of such vectors go back the same way.
#pragma once

#include <cstdint>

#include "simd/dot.h"

namespace bittern::engine::BITTERN_LEVEL {

inline constexpr int lane_count = width / 4;

#if BITTERN_VEC == 0

struct four_weights {
  int w[4];
};
static inline four_weights broadcast_weights(std::uint32_t four) {
  four_weights r;
  for (int i = 0; i < 4; ++i) r.w[i] = static_cast<signed char>(four >> (8 * i) & 255);
  return r;
}
// acc + x . w: unsigned bytes of x, a pixel in each lane of 32 bits.
static inline vi dot_lanes(vi acc, vi x, const four_weights& w) {
  for (int i = 0; i < 4; ++i) acc.v += (x.v >> (8 * i) & 255) * w.w[i];
  return acc;
}
static inline vi set1_int(int a) { return {native_int{} + a}; }
static inline vi load_lanes16(const unsigned char* base, const std::int64_t* at) { return load_int(reinterpret_cast<const int*>(base + at[0])); }
static inline void store_lanes16(unsigned char* base, const std::int64_t* at, int, vi a) { __builtin_memcpy(base + at[0], &a.v, 16); }
static inline void transpose_lanes(vi (&a)[4]) {
  vi b[4];
  for (int i = 0; i < 4; ++i) b[i].v = native_int{a[0].v[i], a[1].v[i], a[2].v[i], a[3].v[i]};
  for (int i = 0; i < 4; ++i) a[i] = b[i];
}
// Bytes 4 quarter .. 4 quarter + 3 of every lane.
template <int quarter>
static inline vf bytes_of(vi a) {
  const auto four = static_cast<unsigned>(a.v[quarter]);
  return to_float(vi{native_int{static_cast<int>(four & 255), static_cast<int>(four >> 8 & 255), static_cast<int>(four >> 16 & 255), static_cast<int>(four >> 24)}});
}
static inline vf repeat4(const float* p) { return load(p); }
// Codes within 0 .. 255 after `zero` is added; quarters of every pixel side by side.
static inline vi narrow_lanes(const vi (&quarters)[4], int zero) {
  unsigned char bytes[16];
  for (int g = 0; g < 4; ++g) store_bytes(bytes + 4 * g, plus(quarters[g], zero));
  return load_int(reinterpret_cast<const int*>(bytes));
}

#else

using four_weights = quads;

#if BITTERN_VEC <= 2

static inline vi set1_int(int a) { return {_mm256_set1_epi32(a)}; }
static inline __m128i load_lane(const unsigned char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
// One pixel for each lane, wherever they stand.
static inline vi load_lanes16(const unsigned char* base, const std::int64_t* at) { return {_mm256_set_m128i(load_lane(base + at[1]), load_lane(base + at[0]))}; }
static inline void store_lanes16(unsigned char* base, const std::int64_t* at, int count, vi a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(base + at[0]), _mm256_castsi256_si128(a.v));
  if (count > 1) _mm_storeu_si128(reinterpret_cast<__m128i*>(base + at[1]), _mm256_extracti128_si256(a.v, 1));
}
static inline void transpose_lanes(vi (&a)[4]) {
  const __m256i p = _mm256_unpacklo_epi32(a[0].v, a[1].v), q = _mm256_unpacklo_epi32(a[2].v, a[3].v);
  const __m256i r = _mm256_unpackhi_epi32(a[0].v, a[1].v), s = _mm256_unpackhi_epi32(a[2].v, a[3].v);
  a[0] = {_mm256_unpacklo_epi64(p, q)}, a[1] = {_mm256_unpackhi_epi64(p, q)};
  a[2] = {_mm256_unpacklo_epi64(r, s)}, a[3] = {_mm256_unpackhi_epi64(r, s)};
}
template <int quarter>
static inline vf bytes_of(vi a) {
  constexpr int first = 4 * quarter, none = static_cast<int>(0x80808000u);
  const __m128i pick = _mm_setr_epi32(none | first, none | (first + 1), none | (first + 2), none | (first + 3));
  return to_float(vi{_mm256_shuffle_epi8(a.v, _mm256_broadcastsi128_si256(pick))});
}
static inline four_weights broadcast_weights(std::uint32_t four) { return to_quads(vi{_mm256_set1_epi32(static_cast<int>(four))}); }

#else

static inline vi set1_int(int a) { return {_mm512_set1_epi32(a)}; }
// Broadcasts under masks and shuffles by the compiler: GCC 12 warns of its own insertions and extractions.
static inline vi load_lanes16(const unsigned char* base, const std::int64_t* at) {
  const auto lane = [&](int i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(base + at[i])); };
  __m512i all = _mm512_maskz_broadcast_i32x4(0x000f, lane(0));
  all = _mm512_mask_broadcast_i32x4(all, 0x00f0, lane(1));
  all = _mm512_mask_broadcast_i32x4(all, 0x0f00, lane(2));
  return {_mm512_mask_broadcast_i32x4(all, 0xf000, lane(3))};
}
template <int lane>
static inline void store_lane(unsigned char* p, vi a) {
  const auto one = __builtin_shufflevector(a.v, a.v, 2 * lane, 2 * lane + 1);
  __builtin_memcpy(p, &one, 16);
}
static inline void store_lanes16(unsigned char* base, const std::int64_t* at, int count, vi a) {
  store_lane<0>(base + at[0], a);
  if (count > 1) store_lane<1>(base + at[1], a);
  if (count > 2) store_lane<2>(base + at[2], a);
  if (count > 3) store_lane<3>(base + at[3], a);
}
static inline void transpose_lanes(vi (&a)[4]) {
  constexpr __mmask16 all = 0xffff;
  constexpr __mmask8 each = 0xff;
  const __m512i p = _mm512_maskz_unpacklo_epi32(all, a[0].v, a[1].v), q = _mm512_maskz_unpacklo_epi32(all, a[2].v, a[3].v);
  const __m512i r = _mm512_maskz_unpackhi_epi32(all, a[0].v, a[1].v), s = _mm512_maskz_unpackhi_epi32(all, a[2].v, a[3].v);
  a[0] = {_mm512_maskz_unpacklo_epi64(each, p, q)}, a[1] = {_mm512_maskz_unpackhi_epi64(each, p, q)};
  a[2] = {_mm512_maskz_unpacklo_epi64(each, r, s)}, a[3] = {_mm512_maskz_unpackhi_epi64(each, r, s)};
}
template <int quarter>
static inline vf bytes_of(vi a) {
  constexpr int first = 4 * quarter, none = static_cast<int>(0x80808000u);
  const __m128i pick = _mm_setr_epi32(none | first, none | (first + 1), none | (first + 2), none | (first + 3));
  return to_float(vi{_mm512_shuffle_epi8(a.v, _mm512_maskz_broadcast_i32x4(0xffff, pick))});
}
static inline four_weights broadcast_weights(std::uint32_t four) { return to_quads(vi{_mm512_set1_epi32(static_cast<int>(four))}); }

#endif

static inline vi dot_lanes(vi acc, vi x, const four_weights& w) { return dot(acc, to_quad(pixels{x.v}), w); }
static inline vf repeat4(const float* p) { return repeat(p); }
static inline vi narrow_lanes(const vi (&quarters)[4], int zero) { return {narrow(quarters, zero, 0).v}; }

#endif

static inline vi load_whole(const unsigned char* p) { return load_int(reinterpret_cast<const int*>(p)); }
static inline void store_whole(unsigned char* p, vi a) { store_int(reinterpret_cast<int*>(p), a); }

}  // namespace bittern::engine::BITTERN_LEVEL
