// Convolution of codes of few bits (and the fully connected layer, which is one) as a loop of bgemm tiles.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "bgemm/bit_map.h"
#include "bgemm/bit_tile.h"
#include "gemm/conv_loop.h"
#include "gemm/int_conv.h"

namespace bittern::engine {

// What a code q of the input stands for, in whole numbers: factor * q - shift. (2, 1) is -1 and +1 of one bit. The code's planes may
// be some of the input's only.
struct BitValues {
  std::int32_t factor = 1, shift = 0;
  std::int64_t planes = 1, first = 0;
};

// Weights as planes of bits: sum over planes of coefficient * (2 t - 1) where words are compared (exclusive or), of coefficient * t
// where they are intersected (and).
struct BitWeightForm {
  bool conjunction = false;
  std::vector<std::int32_t> coefficients;
  std::int32_t shift = 0;  // plane p of a weight w is bit p of (w + shift) >> halved
  int halved = 0;
};

// The form of least planes for weights of these values; nothing beyond 8 planes. -1 and +1: one plane; odd numbers -(2^n - 1) ..
// 2^n - 1: n planes; others as unsigned or two's complement numbers.
std::optional<BitWeightForm> bit_weight_form(std::span<const std::int16_t> alphabet);


class BitConv;
// One of several layers whose results are added: a set of the input's planes with a set of weights, and its constants per padded output
// channel (BitConv::padded).
struct BitSummand {
  const BitConv* conv;
  const std::uint32_t* packed;
  BitStore store;
};

// What a layer's real numbers meet before they are clamped; null: nothing.
struct BitPartners {
  const float* residual = nullptr;  // is added
  const Map* residual_map = nullptr;
  const float* factors = nullptr;   // of each output pixel, [image][pixel]: multiplied after that
};

class BitConv {
 public:
  // `zero_padding`: what lies outside the image is zero, though no code may stand for it; else it is what the halo holds.
  BitConv(const BitGemmKernel& kernel, const ConvShape& shape, const BitMap& in, const BitWeightForm& form, const BitValues& values, bool zero_padding);

  // Whether groups of channels run as such: they fill whole words. Else foreign channels get weights of zero, so `form` must have it.
  static bool groups_fit(const ConvShape& shape) noexcept;
  // Estimated time in cycles of the level's vector unit.
  static double cost(const BitGemmKernel& kernel, const ConvShape& shape, std::int64_t planes, std::int64_t weight_planes) noexcept;

  std::int64_t packed_words() const noexcept;
  std::int64_t padded_channels() const noexcept { return groups_ * panels_per_group_ * kernel_->cols; }
  // Where output channel c stands among the padded ones.
  std::int64_t padded(std::int64_t c) const noexcept { return c / group_out_ * panels_per_group_ * kernel_->cols + c % group_out_; }
  // Borders differ in their offsets: how many kinds of pixels there are.
  std::int64_t patterns() const noexcept { return row_kinds_ * column_kinds_; }

  void pack(const IntWeights& weights, std::uint32_t* packed) const;
  // sum = offset + factor * count, times `direction` of the channel (-1, 0, 1; empty: 1). `offset` is [patterns()][padded_channels()].
  // Sums and offsets must fit 31 bits: fits().
  void offsets(const IntWeights& weights, std::span<const std::int8_t> direction, std::int32_t* offset, std::int32_t* factor) const;
  static bool fits(const ConvShape& shape, const BitWeightForm& form, const BitValues& values) noexcept;

  // Thresholds of the sums, [threshold][padded_channels()], in terms of counts: [pattern][threshold][padded_channels()], and the
  // channels' flips (BitStore).
  void count_thresholds(const std::int32_t* offset, const std::int32_t* factor, std::span<const std::int32_t> thresholds, std::int32_t* counts,
                        std::uint32_t* flips) const;

  // To bits.
  void run(const std::uint32_t* in, const std::uint32_t* packed, const BitStore& store, const BitMap& out, std::uint32_t* bits, Team& team) const;
  // To real numbers: the sum of layers of one shape, whose tiles have one size: each is added, rounded, to the sum of those before it, then clamped by
  // its own bounds. The first meets the residual, the last the factors.
  static void run_sum(std::span<const BitSummand> summands, const std::uint32_t* in, const BitPartners& partners, const Map& out, float* floats, Team& team);

 private:
  // Where results go: strides of an output pixel, row and image.
  struct Target {
    BitOut out = BitOut::bits;
    std::int64_t pixel = 0, row = 0, image = 0;
    std::int64_t residual_pixel = 0, residual_row = 0, residual_image = 0;
    std::uint32_t* bits = nullptr;
    float* floats = nullptr;
    const Map* map = nullptr;
    BitPartners partners;
  };
  // Some output pixels of one image, by a panel of weights.
  struct Task {
    std::int64_t image = 0, panel = 0, first = 0, last = 0;
    bool adds = false, ends = false;  // what the target holds; the sum
  };
  static void run(std::span<const BitSummand> summands, const std::uint32_t* in, const Target& target, Team& team);
  void run_task(const Task& task, const BitSummand& summand, const std::uint32_t* in, const Target& target) const;
  std::int64_t taps() const noexcept { return shape_.kh * shape_.kw; }

  const BitGemmKernel* kernel_;
  ConvShape shape_;
  BitMap in_;
  BitWeightForm form_;
  BitValues values_;
  bool grouped_;                                    // as groups; else one group of all channels
  std::int64_t groups_, group_in_, group_out_, panels_per_group_, group_words_;
  std::vector<std::int64_t> segments_;
  std::int64_t run_;
  std::vector<std::int32_t> pairs_;                 // coefficients
  std::vector<std::int32_t> row_kind_, column_kind_;  // of output rows and columns
  std::vector<std::int64_t> row_sample_, column_sample_;  // an output row, a column of each kind
  std::int64_t row_kinds_ = 1, column_kinds_ = 1;
};

}  // namespace bittern::engine
