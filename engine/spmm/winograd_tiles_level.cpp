// Winograd's transforms of several tiles at once, compiled once per level. The points are those of docs/format.md.
#include "simd/interleave.h"
#include "simd/vec.h"
#include "spmm/winograd_tiles.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// t = B^T d.
inline __attribute__((always_inline)) void forward(const vf (&d)[4], vf (&t)[4]) {
  t[0] = sub(d[0], d[2]);
  t[1] = add(d[1], d[2]);
  t[2] = sub(d[2], d[1]);
  t[3] = sub(d[1], d[3]);
}
inline __attribute__((always_inline)) void forward(const vf (&d)[6], vf (&t)[6]) {
  const vf four = set1(4.0f), minus_four = set1(-4.0f), minus_five = set1(-5.0f);
  const vf a = fma(minus_four, d[2], d[4]), b = fma(minus_four, d[1], d[3]), c = sub(d[4], d[2]), e = sub(d[3], d[1]);
  t[0] = fma(four, d[0], fma(minus_five, d[2], d[4]));
  t[1] = add(a, b);
  t[2] = sub(a, b);
  t[3] = fma(set1(2.0f), e, c);
  t[4] = fma(set1(-2.0f), e, c);
  t[5] = fma(four, d[1], fma(minus_five, d[3], d[5]));
}

// y = A^T m.
inline __attribute__((always_inline)) void backward(const vf (&m)[4], vf (&y)[2]) {
  y[0] = add(m[0], add(m[1], m[2]));
  y[1] = sub(sub(m[1], m[2]), m[3]);
}
inline __attribute__((always_inline)) void backward(const vf (&m)[6], vf (&y)[4]) {
  const vf s = add(m[1], m[2]), d = sub(m[1], m[2]), s2 = add(m[3], m[4]), d2 = sub(m[3], m[4]);
  y[0] = add(m[0], add(s, s2));
  y[1] = fma(set1(2.0f), d2, d);
  y[2] = fma(set1(4.0f), s2, s);
  y[3] = add(fma(set1(8.0f), d2, d), m[5]);
}

// Vectors that follow each other in memory, as one vector for each place of a tile's m columns; and back.
inline __attribute__((always_inline)) void columns(const vf (&x)[2], vf (&d)[2]) { deinterleave(x[0], x[1], d[0], d[1]); }
inline __attribute__((always_inline)) void columns(const vf (&x)[4], vf (&d)[4]) {
  vf even[2], odd[2];
  deinterleave(x[0], x[1], even[0], odd[0]);
  deinterleave(x[2], x[3], even[1], odd[1]);
  deinterleave(even[0], even[1], d[0], d[2]);
  deinterleave(odd[0], odd[1], d[1], d[3]);
}
inline __attribute__((always_inline)) void rows_of(const vf (&d)[2], vf (&y)[2]) { interleave(d[0], d[1], y[0], y[1]); }
inline __attribute__((always_inline)) void rows_of(const vf (&d)[4], vf (&y)[4]) {
  vf even[2], odd[2];
  interleave(d[0], d[2], even[0], even[1]);
  interleave(d[1], d[3], odd[0], odd[1]);
  interleave(even[0], odd[0], y[0], y[1]);
  interleave(even[1], odd[1], y[2], y[3]);
}

// Addresses are numbers here: their lanes may lie outside the map.
inline float* at(const float* plane, std::int64_t element) {
  return reinterpret_cast<float*>(reinterpret_cast<unsigned long>(plane) + static_cast<unsigned long>(element * 4));
}

template <int outputs>
void input_tiles(const WinogradTilesIn& in) {
  constexpr int n = outputs + 2;
  vf half[n][n];  // [row][column]
  for (int r = 0; r < n; ++r) {
    vf d[n];
    if (r >= in.first_row && r < in.last_row) {
      vf x[outputs], next[outputs], beyond[outputs];
      const std::int64_t line = in.corner + r * in.row;
      BITTERN_UNROLL
      for (int i = 0; i < outputs; ++i) {
        x[i] = load_lanes(zero(), at(in.plane, line + i * width), in.lanes[i]);
        next[i] = load_lanes(zero(), at(in.plane, line + outputs + i * width), in.lanes[outputs + i]);
      }
      vf own[outputs];
      columns(x, own);
      columns(next, beyond);
      BITTERN_UNROLL
      for (int c = 0; c < outputs; ++c) d[c] = own[c];
      d[outputs] = beyond[0];
      d[outputs + 1] = beyond[1];
    } else {
      BITTERN_UNROLL
      for (int c = 0; c < n; ++c) d[c] = zero();
    }
    forward(d, half[r]);
  }
  for (int c = 0; c < n; ++c) {
    vf d[n], t[n];
    BITTERN_UNROLL
    for (int r = 0; r < n; ++r) d[r] = half[r][c];
    forward(d, t);
    if (in.relu) {
      BITTERN_UNROLL
      for (int r = 0; r < n; ++r) t[r] = max(zero(), t[r]);
    }
    float* v = in.v + c * in.position;
    if (in.tiles == width) {
      BITTERN_UNROLL
      for (int r = 0; r < n; ++r) store(v + r * n * in.position, t[r]);
    } else {
      BITTERN_UNROLL
      for (int r = 0; r < n; ++r) store_first(v + r * n * in.position, t[r], in.tiles);
    }
  }
}

template <int outputs>
void output_tiles(const WinogradTilesOut& out) {
  constexpr int n = outputs + 2;
  vf half[outputs][n];  // [row][column]
  for (int c = 0; c < n; ++c) {
    vf d[n], y[outputs];
    BITTERN_UNROLL
    for (int r = 0; r < n; ++r) d[r] = load(out.m + (r * n + c) * out.position);
    backward(d, y);
    BITTERN_UNROLL
    for (int r = 0; r < outputs; ++r) half[r][c] = y[r];
  }
  const vf bias = set1(out.bias), lo = set1(out.lo), hi = set1(out.hi);
  for (int r = 0; r < outputs && r < out.rows; ++r) {
    vf d[outputs], y[outputs];
    backward(half[r], d);
    rows_of(d, y);
    const std::int64_t line = out.corner + r * out.row;
    for (int i = 0; i < outputs; ++i) {
      vf value = add(y[i], bias);
      if (out.residual != nullptr) value = add(value, load_lanes(zero(), at(out.residual, line + i * width), out.lanes[i]));
      store_lanes(at(out.plane, line + i * width), min(hi, max(lo, value)), out.lanes[i]);
    }
  }
}

constexpr WinogradTilesKernel list[] = {
#define BITTERN_WINOGRAD_TILES(level, m) \
  BITTERN_ONLY(level, {"sparse_winograd_f32_f32_f32_" #m "x" #m "__" #level, Isa::level, m, width, input_tiles<m>, output_tiles<m>}, )
#include "spmm/winograd_tiles.inc"
#undef BITTERN_WINOGRAD_TILES
};

}  // namespace

const WinogradTilesKernel* winograd_tiles_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
