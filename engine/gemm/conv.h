// Convolution (and the fully connected layer, which is one) as a loop of gemm tiles.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv_loop.h"
#include "gemm/tile.h"

namespace bittern::engine {

// What happens to the accumulator when it is stored.
struct Epilogue {
  const float* bias = nullptr;      // one per output channel, padded as the packed weights are; or null
  const float* residual = nullptr;  // laid out by GemmConv's residual map; or null
  float lo, hi;                     // clamp; -inf and +inf for none
};

// What all tiles of a stretch share, but for the weights.
TileArgs stretch_args(const ConvLoop& loop, const GemmKernel& kernel, const ConvLoop::Stretch& stretch, const Epilogue& epilogue) noexcept;

// One convolution through one float kernel on given layouts (see ConvLoop). Weights are packed once and belong to the caller.
class GemmConv {
 public:
  GemmConv(const GemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual);

  // Estimated time in cycles of the level's vector unit: of the tiles, of reading the weights from memory once, and of both
  // together: what kernels are compared by.
  struct Estimate {
    double compute = 0, weights = 0;
    bool single = false;  // one pixel
    double total() const noexcept;
  };
  static Estimate estimate(const GemmKernel& kernel, const ConvShape& shape, std::int64_t in_block, bool flat) noexcept;
  static double cost(const GemmKernel& kernel, const ConvShape& shape, std::int64_t in_block, bool flat) noexcept;
  std::int64_t packed_elements() const noexcept { return loop_.packed(); }
  std::int64_t padded_channels() const noexcept { return loop_.padded_channels(); }
  // Multiplications computed over multiplications needed: above 1 where groups or channels do not fill panels.
  double excess() const noexcept;
  // Told of each stretch of weights that has been packed and is not needed any more: (first, count).
  using Done = std::function<void(const float*, std::int64_t)>;
  // `weights` in O, I/groups, H, W order; `packed` takes packed_elements() floats.
  void pack(const float* weights, float* packed, const Done& done) const;
  // The same for a matrix stored as inputs x outputs: kernels of 1 x 1 without groups only.
  void pack_columns(const float* weights, float* packed, const Done& done) const;
  // `bias` of oc floats; `padded` takes padded_channels() floats.
  void pad_bias(const float* bias, float* padded) const;

  void run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const;

 private:
  const GemmKernel* kernel_;
  ConvLoop loop_;
};

}  // namespace bittern::engine
