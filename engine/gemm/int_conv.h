// Convolution of 8-bit codes (and the fully connected layer, which is one) as a loop of integer gemm tiles.
#pragma once

#include <cstdint>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv_loop.h"
#include "gemm/int_tile.h"

namespace bittern::engine {

// What is added to the sums, and how they are stored. Arrays per output channel are padded as the packed weights are; the
// residual is laid out by the residual map.
struct IntEpilogue {
  const std::int32_t* offset = nullptr;
  IntStore store;
};

// The weights of a layer: element (o, i, t) of output channel, input channel of the group and tap.
struct IntWeights {
  const std::int16_t* values = nullptr;
  std::int64_t out = 0, in = 0;  // elements from one channel to the next; from tap to tap it is 1
};

// One convolution through one integer kernel on given layouts (see ConvLoop; a unit is a quad, so input blocks have 4 or 16
// channels, or one block holds all, rounded up to fours). Input is unsigned: signed codes are stored plus 128. Spare lanes of
// a quad may hold anything, the halo must hold the code of zero.
class IntConv {
 public:
  // `terms` is 2 for weights that leave 8 bits: each is then the sum of two bytes.
  IntConv(const IntGemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, int terms = 1);

  // Estimated time in cycles of the level's vector unit.
  static double cost(const IntGemmKernel& kernel, const ConvShape& shape, std::int64_t in_block, int terms = 1) noexcept;

  std::int64_t packed_bytes() const noexcept { return loop_.packed() * 4; }
  std::int64_t padded_channels() const noexcept { return loop_.padded_channels(); }
  // Weights within -128 .. 127, or -256 .. 254 with two terms.
  void pack(const IntWeights& weights, std::int8_t* packed) const;

  // `out` holds bytes, floats or 32-bit sums, as `type` says.
  void run(const std::uint8_t* in, const std::int8_t* packed, const IntEpilogue& epilogue, IntOut type, void* out, Team& team) const;

 private:
  const IntGemmKernel* kernel_;
  int terms_;
  ConvLoop loop_;
};

// offset[o] = bias[o] - zero * sum of the weights of o, for `channels` channels of `each` weights; `bias` may be null.
void sum_offsets(const IntWeights& weights, std::int64_t channels, std::int64_t each, const std::int32_t* bias, std::int32_t zero, std::int32_t* offset);

}  // namespace bittern::engine
