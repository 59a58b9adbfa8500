// Winograd convolution with sparse weights (arXiv 1802.06367): input tiles are transformed, every position of the tiles becomes a
// product of its sparse matrix with all channels, and the products are transformed back.
//
// Tiles stand in the lanes, so that a product is that of a 1x1 layer in the spmm loop. A panel of tiles goes through all three steps
// before the next begins, if the second-level cache holds what lies between them:
//
//   V[position][channel][tile]  ->  M[position][output][tile] = Q[position] V[position]  ->  outputs of the panel's tiles
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv.h"
#include "spmm/sparse_conv.h"
#include "spmm/winograd_tiles.h"

namespace bittern::engine {

// Weights [outputs, inputs, positions]: the matrix of each position.
std::vector<SparseRows> position_rows(const float* weights, std::int64_t outputs, std::int64_t inputs, std::int64_t positions);

class SparseWinograd {
 public:
  // `shape` is one of a 3x3 kernel of stride 1 without groups; maps are planar, without halo. `rows` may go after construction.
  SparseWinograd(const WinogradTilesKernel& kernel, const SpmmKernel& product, const ConvShape& shape, bool relu,
                 const std::vector<SparseRows>& rows);

  // Estimated time in cycles of the level's vector unit, comparable with GemmConv::cost.
  static double cost(const WinogradTilesKernel& kernel, const SpmmKernel& product, const ConvShape& shape, double entries) noexcept;

  std::int64_t vectors() const noexcept { return vectors_; }  // of a panel, on which packed weights depend
  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  std::int64_t scratch_elements() const noexcept { return together_ * panel_elements_; }
  void pack(const std::vector<SparseRows>& rows, std::byte* packed) const;
  // The epilogue's bias has one number for each output channel, or is null; `residual` is like the output.
  void run(const float* in, const std::byte* packed, const Epilogue& epilogue, float* out, float* scratch, Team& team) const;

 private:
  struct Block {  // of input channels: bytes from the start of the packed weights
    std::int64_t first_channel = 0, entries = 0, groups = 0, group_count = 0, order = 0;
  };
  struct Part {  // some output channels of a position
    std::int64_t position = 0, first = 0, count = 0, first_block = 0;
  };
  // Tiles of a panel side by side in a line of tiles.
  struct Piece {
    std::int64_t image = 0, y = 0, x = 0;  // of the first tile's outputs
    std::int64_t at = 0;                   // tile of the panel
    int tiles = 0;
  };
  template <class Body>
  void each_piece(std::int64_t panel, const Body& body) const;
  std::int64_t vectors_of(std::int64_t panel) const noexcept;
  void transform_inputs(std::int64_t panel, std::int64_t first, std::int64_t count, const float* in, float* v) const;
  void multiply(std::int64_t panel, const Part& part, const std::byte* packed, const float* v, float* m) const;
  void transform_outputs(std::int64_t panel, std::int64_t first, std::int64_t count, const float* m, const Epilogue& epilogue, float* out) const;

  const WinogradTilesKernel* kernel_;
  const SpmmKernel* product_;
  ConvShape shape_;
  bool relu_;
  std::int64_t positions_, tile_rows_, tile_cols_, tiles_;  // tiles of all images
  std::int64_t vectors_, row_;                              // of the widest panel; elements of a channel in it
  std::int64_t panels_, block_channels_, blocks_;           // blocks of a part
  std::int64_t v_position_, m_position_, panel_elements_, together_;
  std::vector<Part> parts_;
  std::vector<Block> all_blocks_;
  std::int64_t packed_bytes_ = 0;
};

}  // namespace bittern::engine
