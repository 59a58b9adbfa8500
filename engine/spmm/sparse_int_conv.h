// Convolution of 8-bit codes (and the product with many rows, which is one) with sparse weights: panels of pixels times quads of
// weights.
//
// As SparseConv, on maps of codes: blocks of 16 channels, and padding read from the halo, so that a tap of the kernel moves a
// pixel by the same distance everywhere, whatever its stride. The quads of a panel that some weight meets are copied side by side
// into a buffer that stays in the first-level cache; sums wait in another until all inputs have passed, and are then stored
// through the epilogue of all integer layers (gemm/int_store.h).
//
//   quad    four neighbouring input channels at one tap: left out where all four weights are zero
//   chunk   output channels that one task computes: blocks of 16
//   block   quads whose rows of the panel fill the buffer
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/int_conv.h"
#include "spmm/int_panel.h"

namespace bittern::engine {

// The quads of weights that are not all zero, output channel by output channel, positions rising: ((c / 16) * taps + tap) * 4 +
// c / 4 % 4 of the map's channel c.
struct SparseQuads {
  std::vector<std::int64_t> first;       // of each output channel, and the end
  std::vector<std::int32_t> position;
  std::vector<std::uint32_t> weights;    // the first channel's in the lowest byte

  std::int64_t entries() const noexcept { return static_cast<std::int64_t>(position.size()); }
};

// Weights within -128 .. 127, of which at most so many, or a few more, are not zero.
SparseQuads sparse_quads(const IntWeights& weights, const ConvShape& shape, std::size_t most);

class SparseIntConv {
 public:
  // The input has blocks of 16 channels or one of a multiple of 16, and a halo as wide as the padding. `quads` may go after
  // construction.
  SparseIntConv(const IntSpmmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, const SparseQuads& quads);

  // False for maps and layers that it cannot run: other blocks, or positions that leave 32 bits.
  static bool fits(const ConvShape& shape, const Map& in) noexcept;

  // Estimated time in cycles of the level's vector unit, comparable with IntConv::cost.
  static double cost(const IntSpmmKernel& kernel, const ConvShape& shape, double quads) noexcept;

  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  std::int64_t padded_channels() const noexcept { return padded_; }
  std::int64_t scratch_bytes() const noexcept { return strips_ * strip_bytes_; }
  // `quads` as in the constructor; `packed` takes packed_bytes(), on a line of the cache.
  void pack(const SparseQuads& quads, std::byte* packed) const;
  // As IntConv::run; `scratch` has scratch_bytes(), on a line of the cache.
  void run(const std::uint8_t* in, const std::byte* packed, const IntEpilogue& epilogue, IntOut type, void* out, std::byte* scratch,
           Team& team) const;

 private:
  struct Block {
    std::int64_t first_source = 0, sources = 0;        // in sources_
    std::int64_t rows = 0;                             // of the panel
    std::int32_t first_position = 0, end_position = 0;
    std::int64_t entries = 0, groups = 0, group_count = 0, order = 0;  // bytes from the start of the packed weights; SpmmGroups
  };
  struct Chunk {
    std::int64_t first = 0, count = 0, first_block = 0, blocks = 0;    // of padded channels
  };

  void plan_blocks(const SparseQuads& quads);
  void cut(std::int64_t first_pixel, std::int64_t count, IntSpmmPixels* pixels) const;
  void store(const Chunk& chunk, std::int64_t image, std::int64_t vectors, const IntSpmmPixels* pixels, const std::int32_t* sums,
             const IntEpilogue& epilogue, IntOut type, void* out) const;

  const IntSpmmKernel* kernel_;
  ConvShape shape_;
  Map in_, out_, residual_;
  int vectors_ = 1;
  std::int64_t padded_ = 0, panel_pixels_ = 0, panels_ = 0;
  std::int64_t most_rows_ = 0;           // of the panel in a block
  std::vector<Chunk> chunks_;
  std::vector<Block> blocks_;
  std::vector<IntSpmmSource> sources_;
  std::vector<std::int32_t> positions_;  // of the sources' first quads
  std::int64_t packed_bytes_ = 0, strips_ = 1, strip_bytes_ = 0, pixels_at_ = 0, sums_at_ = 0;
};

}  // namespace bittern::engine
