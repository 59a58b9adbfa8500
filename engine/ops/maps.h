// Operators on 4-D activations in blocks of 16 channels: they cut the work into rows for the chosen kernel.
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv.h"
#include "ops/rows.h"

namespace bittern::engine {

// Depthwise convolution (one input and one output channel per group) on given layouts.
class Depthwise {
 public:
  Depthwise(const OpKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual);

  std::int64_t packed_elements() const noexcept { return blocks_ * taps_count_ * 16; }
  std::int64_t padded_channels() const noexcept { return blocks_ * 16; }
  // `weights` of C, 1, H, W order.
  void pack(const float* weights, float* packed) const;
  void pad_bias(const float* bias, float* padded) const;
  void run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const;

 private:
  const OpKernel* kernel_;
  ConvShape shape_;
  Map in_, out_, residual_;
  std::int64_t blocks_, taps_count_;
  std::vector<std::int64_t> taps_;
};

struct PoolShape {
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  bool include_pad = false;  // average: padding counts
};

// Max or average pooling: the kernel says which. Global pooling is a window as large as the map.
void pool(const OpKernel& kernel, const PoolShape& shape, const Map& in, const float* source, const Map& out, float* target, Team& team);

// Local response normalisation across channels; `row` gives window and exponent, `scratch` is lrn_scratch() floats for
// each row of the input.
void lrn(const OpKernel& kernel, const LrnRow& row, const Map& in, const float* source, const Map& out, float* target, float* scratch, Team& team);

// y = op(a, b) element by element over blocks of 16 channels; b is unused by unary operators. `row` gives op and parameters.
void eltwise(const OpKernel& kernel, const EltwiseRow& row, const Map& a_map, const float* a, const Map& b_map, const float* b,
             const Map& y_map, float* y, Team& team);

// The same over plain arrays of `count` floats.
void eltwise_flat(const OpKernel& kernel, const EltwiseRow& row, const float* a, const float* b, float* y, std::int64_t count, Team& team);

// Softmax along the middle axis of [outer, axis, inner].
void softmax(const OpKernel& kernel, const float* x, float* y, std::int64_t outer, std::int64_t axis, std::int64_t inner, Team& team);

}  // namespace bittern::engine
