// Convolution (and the fully connected layer) of real numbers with weights that stay codes in memory: a panel is expanded
// into floats that stay in cache while a block of pixels passes, and the dense tile reads them.
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/code_panel.h"
#include "gemm/conv.h"

namespace bittern::engine {

// The codes of a layer: element (o, i, t) of output channel, input channel of the group and tap.
struct CodeWeights {
  const std::uint8_t* codes = nullptr;
  std::int64_t out = 0, in = 0;  // elements from one channel to the next; from tap to tap it is 1
};

// The same sums in the same order as GemmConv with the decoded weights: the same bits.
class CodeConv {
 public:
  // `threads`: as many panels may be expanded at a time. More threads wait for each other.
  CodeConv(const CodeGemmKernel& kernel, const GemmKernel& tile, const ConvShape& shape, const Map& in, const Map& out, const Map& residual,
           int threads);

  // As GemmConv::cost, expansion and the reading of codes included.
  double cost(const CodeTable& table, std::int64_t in_block, bool flat) const noexcept;
  std::int64_t packed_bytes() const noexcept { return bytes_; }
  std::int64_t padded_channels() const noexcept { return loop_.padded_channels(); }
  std::int64_t scratch_elements() const noexcept { return slots_ * slot_elements_; }
  // True if panels hold products that the layer has not, whose weight must be a code of zero: groups do not fill them.
  bool foreign() const noexcept;
  // Which row of scales each k of a panel has, for scales of `group` input channels and each tap: CodeTable::scale_rows. Not
  // of layers with groups.
  std::vector<std::int32_t> scale_rows(std::int64_t group) const;
  // `pad` is the code of what does not exist.
  void pack(const CodeWeights& weights, std::uint8_t pad, std::uint8_t* packed) const;
  void run(const float* in, const std::uint8_t* packed, const CodeTable& table, const Epilogue& epilogue, float* out, float* scratch,
           Team& team) const;

 private:
  const CodeGemmKernel* kernel_;
  const GemmKernel* tile_;
  ConvLoop loop_;
  std::vector<std::int64_t> offsets_;  // of the panels' codes, in bytes
  std::int64_t bytes_ = 0, slots_ = 1, slot_elements_ = 0;
};

}  // namespace bittern::engine
