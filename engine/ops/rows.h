// The row functions of the glue operators: what each instruction-set level implements.
//
// A row is a run of pixels of one block of 16 channels (or, element-wise, plain floats). Drivers in this folder cut
// the work into rows and hand them to the kernel that the planner chose.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

// Depthwise convolution of one output row: y[p] = clamp(sum over taps of x[p * step + taps[t]] * w[t] + bias + residual).
struct DepthwiseRow {
  const float* x = nullptr;            // the window of the first pixel
  const std::int64_t* taps = nullptr;  // offsets of the taps, in elements
  std::int64_t tap_count = 0;
  const float* weights = nullptr;      // [tap][16]
  const float* bias = nullptr;         // 16, or null
  const float* residual = nullptr;     // contiguous pixels, or null
  float* y = nullptr;
  std::int64_t step = 0;               // elements of x between output pixels
  std::int64_t count = 0;              // pixels
  float lo = 0, hi = 0;
};

// Pooling of one output row. Taps outside the input do not exist: vertically they are left out by the caller.
struct PoolRow {
  const float* x = nullptr;            // column 0 of the first existing window row
  std::int64_t rows = 0;               // window rows that exist
  std::int64_t row_step = 0;           // elements between them
  std::int64_t width = 0;              // columns of the input
  std::int64_t kernel = 0, stride = 0, pad = 0, dilation = 0;  // horizontally
  float* y = nullptr;
  std::int64_t count = 0;
  // Average: the divisor is `full_rows` times the columns of the window inside the padded input if `include_pad`.
  bool include_pad = false;
  std::int64_t full_rows = 0, padded_width = 0;  // padded_width: input columns and both pads
};

// Local response normalisation across channels of one row of pixels, all blocks:
// y = x / (bias + alpha * sum of x^2 over channels c - before .. c + after) ^ beta.
struct LrnRow {
  const float* x = nullptr;       // block 0 of the first pixel
  std::int64_t x_plane = 0;       // elements between blocks
  float* y = nullptr;
  std::int64_t y_plane = 0;
  std::int64_t channels = 0, count = 0;
  std::int64_t before = 0, after = 0;
  float alpha = 0, beta = 0, bias = 0;
  float* squares = nullptr;       // working memory: lrn_scratch() floats
};

// The windows at the first and last channel reach into zeros on both sides.
inline std::int64_t lrn_margin(std::int64_t before, std::int64_t after) noexcept { return ((before > after ? before : after) + 15) / 16 * 16; }
inline std::int64_t lrn_scratch(std::int64_t channels, std::int64_t before, std::int64_t after) noexcept {
  return (channels + 15) / 16 * 16 + 2 * lrn_margin(before, after);
}

enum class Eltwise : int { add, sub, mul, div, clamp, leaky_relu, sigmoid, tanh };

// y[i] = op(a[i], b[i]), clamped to [lo, hi] (binary operators), or a function of a[i].
struct EltwiseRow {
  Eltwise op = Eltwise::add;
  const float* a = nullptr;
  const float* b = nullptr;
  float* y = nullptr;
  std::int64_t count = 0;
  float lo = 0, hi = 0, slope = 0;
};

// Softmax of `count` vectors of `axis` elements, `inner` apart: vector v starts at (v / inner) * axis * inner + v % inner.
struct SoftmaxRow {
  const float* x = nullptr;
  float* y = nullptr;
  std::int64_t axis = 0, inner = 1;
  std::int64_t first = 0, count = 0;
};

using DepthwiseFunction = void (*)(const DepthwiseRow&);
using PoolFunction = void (*)(const PoolRow&);
using EltwiseFunction = void (*)(const EltwiseRow&);
using LrnFunction = void (*)(const LrnRow&);
using SoftmaxFunction = void (*)(const SoftmaxRow&);

// One entry of the list of operators' kernels. Which function is set follows from the loop.
struct OpKernel {
  const char* name;
  const char* loop;
  Isa isa;
  int rows, cols;
  DepthwiseFunction depthwise = nullptr;
  PoolFunction pool = nullptr;
  EltwiseFunction eltwise = nullptr;
  LrnFunction lrn = nullptr;
  SoftmaxFunction softmax = nullptr;
};

namespace scalar { const OpKernel* op_kernels(int& count); }
namespace avx2 { const OpKernel* op_kernels(int& count); }
namespace avx512 { const OpKernel* op_kernels(int& count); }

}  // namespace bittern::engine
