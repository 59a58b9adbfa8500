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
// |a| < 2^22.
static inline vf round_half_even(vf a) { return to_float(round_int(a)); }
// Byte `index` of each 32 bits, a whole number less another below 256.
template <int index>
static inline vf byte_less(vi a, float other) {
  return sub(to_float(vi{a.v >> (8 * index) & 255}), set1(other));
}
// Four rows of 32 bits plus `zero`, saturated to bytes of at least `lo`: a row's position p as byte `row` of 32 bits p.
static inline vi interleave_rows(const vi (&rows)[4], int zero, int lo) {
  vi r{};
  for (int i = 0; i < 4; ++i) {
    for (int p = 0; p < 4; ++p) {
      const long value = static_cast<long>(rows[i].v[p]) + zero;
      const int byte = static_cast<int>(value < lo ? lo : value > 255 ? 255 : value);
      r.v[p] = static_cast<int>(static_cast<unsigned>(r.v[p]) | static_cast<unsigned>(byte) << (8 * i));
    }
  }
  return r;
}

#else

using four_weights = quads;

#if BITTERN_VEC <= 2

static inline vi set1_int(int a) { return {_mm256_set1_epi32(a)}; }
static inline __m128i load_lane(const unsigned char* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
// One pixel for each lane, wherever they stand.
static inline vi load_lanes16(const unsigned char* base, const std::int64_t* at) {
  return {_mm256_set_m128i(load_lane(base + at[1]), load_lane(base + at[0]))};
}
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
static inline vf round_half_even(vf a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// By the number 2^23, which has the byte as its last bits: nothing is rounded.
template <int index>
static inline vf byte_less(vi a, float other) {
  constexpr int none = static_cast<int>(0x80808000u);
  const __m128i pick = _mm_setr_epi32(none | index, none | (4 + index), none | (8 + index), none | (12 + index));
  const __m256i bytes = _mm256_shuffle_epi8(a.v, _mm256_broadcastsi128_si256(pick));
  return sub(vf{_mm256_castsi256_ps(_mm256_or_si256(bytes, _mm256_set1_epi32(0x4b000000)))}, set1(8388608.0f + other));
}
static inline vi interleave_rows(const vi (&rows)[4], int zero, int lo) {
  const __m256i z = _mm256_set1_epi16(static_cast<short>(zero));
  const __m256i a = _mm256_adds_epi16(_mm256_packs_epi32(rows[0].v, rows[1].v), z);
  const __m256i b = _mm256_adds_epi16(_mm256_packs_epi32(rows[2].v, rows[3].v), z);
  const __m256i bytes = _mm256_max_epu8(_mm256_packus_epi16(a, b), _mm256_set1_epi8(static_cast<char>(lo)));
  const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return {_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(turn))};
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
static inline vf round_half_even(vf a) { return {_mm512_maskz_roundscale_ps(0xffff, a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// By the number 2^23, which has the byte as its last bits: nothing is rounded.
template <int index>
static inline vf byte_less(vi a, float other) {
  constexpr int none = static_cast<int>(0x80808000u);
  const __m128i pick = _mm_setr_epi32(none | index, none | (4 + index), none | (8 + index), none | (12 + index));
  const __m512i bytes = _mm512_shuffle_epi8(a.v, _mm512_maskz_broadcast_i32x4(0xffff, pick));
  return sub(vf{_mm512_castsi512_ps(_mm512_or_si512(bytes, _mm512_set1_epi32(0x4b000000)))}, set1(8388608.0f + other));
}
static inline vi interleave_rows(const vi (&rows)[4], int zero, int lo) {
  const __m512i z = _mm512_set1_epi16(static_cast<short>(zero));
  const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(rows[0].v, rows[1].v), z);
  const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(rows[2].v, rows[3].v), z);
  const __m512i bytes = _mm512_max_epu8(_mm512_packus_epi16(a, b), _mm512_set1_epi8(static_cast<char>(lo)));
  const __m128i turn = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return {_mm512_shuffle_epi8(bytes, _mm512_maskz_broadcast_i32x4(0xffff, turn))};
}
static inline four_weights broadcast_weights(std::uint32_t four) { return to_quads(vi{_mm512_set1_epi32(static_cast<int>(four))}); }

#endif

static inline vi dot_lanes(vi acc, vi x, const four_weights& w) { return dot(acc, to_quad(pixels{x.v}), w); }

#endif

static inline vi load_whole(const unsigned char* p) { return load_int(reinterpret_cast<const int*>(p)); }
static inline void store_whole(unsigned char* p, vi a) { store_int(reinterpret_cast<int*>(p), a); }

}  // namespace bittern::engine::BITTERN_LEVEL
