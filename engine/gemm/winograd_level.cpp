// Winograd transforms of one tile, compiled once per instruction-set level.
#include "gemm/winograd.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

constexpr int parts = 16 / width;
constexpr float p = 0.70710678118654752f, q = 1.41421356237309505f;  // the interpolation points of F(4)

// t = B^T d for one column of m + 2 values.
inline __attribute__((always_inline)) void forward(const vf (&d)[6], vf (&t)[6]) {
  const vf five_halves = set1(-2.5f);
  t[0] = add(fma(five_halves, d[2], d[0]), d[4]);
  const vf a = fma(set1(-2.0f), d[2], d[4]), b = mul(set1(p), fma(set1(-2.0f), d[1], d[3]));
  t[1] = add(a, b);
  t[2] = sub(a, b);
  const vf c = fma(set1(-0.5f), d[2], d[4]), e = mul(set1(q), fma(set1(-0.5f), d[1], d[3]));
  t[3] = add(c, e);
  t[4] = sub(c, e);
  t[5] = add(fma(five_halves, d[3], d[1]), d[5]);
}
inline __attribute__((always_inline)) void forward(const vf (&d)[4], vf (&t)[4]) {
  t[0] = sub(d[0], d[2]);
  t[1] = add(d[1], d[2]);
  t[2] = sub(d[2], d[1]);
  t[3] = sub(d[1], d[3]);
}

// y = A^T m for one column of m + 2 values.
inline __attribute__((always_inline)) void backward(const vf (&m)[6], vf (&y)[4]) {
  const vf s1 = add(m[1], m[2]), d1 = sub(m[1], m[2]), s2 = add(m[3], m[4]), d2 = sub(m[3], m[4]);
  y[0] = add(m[0], add(s1, s2));
  y[1] = fma(set1(p), d1, mul(set1(q), d2));
  y[2] = fma(set1(0.5f), s1, mul(set1(2.0f), s2));
  y[3] = add(fma(set1(p * 0.5f), d1, mul(set1(q * 2.0f), d2)), m[5]);
}
inline __attribute__((always_inline)) void backward(const vf (&m)[4], vf (&y)[2]) {
  y[0] = add(m[0], add(m[1], m[2]));
  y[1] = sub(sub(m[1], m[2]), m[3]);
}

template <int outputs>
void input_tile(const WinogradInput& tile) {
  constexpr int n = outputs + 2;
  const bool whole = tile.first_row == 0 && tile.first_col == 0 && tile.last_row == n && tile.last_col == n;
  for (int v = 0; v < parts; ++v) {
    const float* x = tile.x + v * width;
    vf columns[n][n];  // [column][row]
    for (int c = 0; c < n; ++c) {
      vf d[n];
      if (whole) {
        BITTERN_UNROLL
        for (int r = 0; r < n; ++r) d[r] = load(x + r * tile.row + c * 16);
      } else {
        for (int r = 0; r < n; ++r) {
          const bool inside = r >= tile.first_row && r < tile.last_row && c >= tile.first_col && c < tile.last_col;
          d[r] = inside ? load(x + r * tile.row + c * 16) : zero();
        }
      }
      forward(d, columns[c]);
    }
    float* out = tile.v + v * width;
    for (int r = 0; r < n; ++r) {
      vf d[n], t[n];
      BITTERN_UNROLL
      for (int c = 0; c < n; ++c) d[c] = columns[c][r];
      forward(d, t);
      BITTERN_UNROLL
      for (int c = 0; c < n; ++c) store(out + (r * n + c) * tile.position, t[c]);
    }
    if (tile.relu) {
      for (int i = 0; i < n * n; ++i) store(out + i * tile.position, max(zero(), load(out + i * tile.position)));
    }
  }
}

template <int outputs>
void output_tile(const WinogradOutput& tile) {
  constexpr int n = outputs + 2;
  const vf lo = set1(tile.lo), hi = set1(tile.hi);
  for (int v = 0; v < parts; ++v) {
    const float* m = tile.m + v * width;
    vf columns[n][outputs];  // [column][row]
    for (int c = 0; c < n; ++c) {
      vf d[n];
      BITTERN_UNROLL
      for (int r = 0; r < n; ++r) d[r] = load(m + (r * n + c) * tile.position);
      backward(d, columns[c]);
    }
    const vf bias = tile.bias != nullptr ? load(tile.bias + v * width) : zero();
    for (int r = 0; r < outputs; ++r) {
      if (r >= tile.rows) break;
      vf d[n], y[outputs];
      BITTERN_UNROLL
      for (int c = 0; c < n; ++c) d[c] = columns[c][r];
      backward(d, y);
      for (int c = 0; c < outputs; ++c) {
        if (c >= tile.cols) break;
        vf value = add(y[c], bias);
        if (tile.residual != nullptr) value = add(value, load(tile.residual + r * tile.residual_row + c * 16 + v * width));
        store(tile.y + r * tile.row + c * 16 + v * width, min(hi, max(lo, value)));
      }
    }
  }
}

constexpr WinogradKernel list[] = {
#define BITTERN_WINOGRAD(level, m) \
  BITTERN_ONLY(level, {"winograd_f32_f32_f32_" #m "x" #m "__" #level, Isa::level, m, input_tile<m>, output_tile<m>}, )
#include "gemm/winograd.inc"
#undef BITTERN_WINOGRAD
};

}  // namespace

const WinogradKernel* winograd_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
