// Convolution (and a product with many rows) with sparse weights: panels of pixels times rows of weights.
//
// The input is planar. Output pixels are cut into panels (panels.h); the inputs of a panel, each shifted as a tap of the
// kernel asks, are laid side by side in a buffer that stays near the first-level cache, so that every convolution becomes
// the one of 1x1 with aligned vectors (the idea of direct sparse convolution, arXiv 1608.01409, without its unaligned
// loads). Where the planes already stand so, they are read as they are.
//
//   chunk   output channels that one task computes; of whole groups or of a part of one
//   block   input channels whose rows of the panel fill the buffer; the sums of a chunk wait in between
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv.h"
#include "spmm/panel.h"
#include "spmm/panels.h"
#include "spmm/sparse_rows.h"

namespace bittern::engine {

// What weights are made of, for the form of the kernel: a table of 256 for codes; a factor of each output channel's sum, which for
// codes may be null; and for lists the ratio.
struct SpmmFactors {
  const float* table = nullptr;
  const float* scale = nullptr;
  const float* ratio = nullptr;
};

class SparseConv {
 public:
  // Maps are planar (block 1) without halo. `rows` may go after construction.
  SparseConv(const SpmmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, const SparseRows& rows);

  // False for layers whose positions leave their 32 bits, or the 16 of lists: windows or planes beyond what occurs.
  static bool fits(const ConvShape& shape, SpmmForm form = SpmmForm::values) noexcept;

  // Estimated time in cycles of the level's vector unit, comparable with GemmConv::cost. `entries` as the kernel has them: blocks count
  // once.
  static double cost(const SpmmKernel& kernel, const ConvShape& shape, double entries) noexcept;

  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  std::int64_t scratch_bytes() const noexcept { return phase_bytes_ + strips_ * strip_bytes_; }
  int vectors() const noexcept { return form_.vectors; }
  // `rows` as in the constructor; `packed` takes packed_bytes(), on a line of the cache.
  void pack(const SparseRows& rows, std::byte* packed) const;
  void run(const float* in, const std::byte* packed, const SpmmFactors& factors, const Epilogue& epilogue, float* out, std::byte* scratch,
           Team& team) const;

 private:
  struct Channel {  // of the input, in a block
    std::int64_t channel = 0, first_copy = 0, copies = 0, vectors = 0;
  };
  struct Block {
    std::int64_t first_channel = 0, channels = 0;      // in channels_
    std::int64_t entries = 0, groups = 0, group_count = 0, order = 0;  // bytes from the start of the packed weights; SpmmGroups
    std::int64_t entry_count = 0;
  };
  struct Chunk {
    std::int64_t first = 0, count = 0, first_block = 0, blocks = 0;
  };

  void plan_blocks(const SparseRows& rows);
  void fill(const Panels::Panel& panel, const Block& block, const float* image, const SpmmPiece* pieces, const std::int32_t* first,
            float* target) const;
  std::int64_t offset_of(std::int64_t vector, std::int64_t channel) const noexcept;  // as entries have it
  std::int64_t unit() const noexcept;                                                // bytes between rows of a panel, or planes

  const SpmmKernel* kernel_;
  ConvShape shape_;
  Map out_, residual_;
  PanelForm form_;
  Panels panels_;
  bool contiguous_ = false;        // the taps need no shifting
  bool direct_ = false;            // planes are read in place
  std::int64_t most_vectors_ = 0;  // of a block
  std::vector<Chunk> chunks_;
  std::vector<Block> blocks_;
  std::vector<Channel> channels_;
  std::vector<std::int32_t> copies_, halos_;
  std::int64_t packed_bytes_ = 0, phase_bytes_ = 0, strips_ = 1, strip_bytes_ = 0, pieces_at_ = 0, sums_at_ = 0, pieces_ = 0;
};

}  // namespace bittern::engine
