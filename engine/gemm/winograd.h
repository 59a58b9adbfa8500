// Winograd convolution F(m x m, 3 x 3): fewer multiplications for 3 x 3 kernels of stride 1.
//
// Input tiles of (m+2)^2 pixels are transformed, every position of the transformed tiles becomes a matrix product over
// channels (the gemm tile: tiles are its pixels), and the products are transformed back to m^2 outputs a tile.
// Lavin and Gray, arXiv 1509.09308. F(4x4) interpolates at 0, +-1/sqrt(2), +-sqrt(2) and infinity, which keeps the
// transforms' entries, and with them the rounding errors, smaller than the usual 0, +-1, +-2.
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv.h"
#include "gemm/tile.h"

namespace bittern::engine {

// One block of 16 channels of one input tile. Rows and columns outside [first, last) are zero and not read.
struct WinogradInput {
  const float* x = nullptr;      // the tile's corner, in the padding or beyond where rows and columns say so
  std::int64_t row = 0;          // elements between rows; pixels are 16 apart
  std::int64_t first_row = 0, last_row = 0, first_col = 0, last_col = 0;
  bool relu = false;             // of the transformed tile
  float* v = nullptr;            // position 0
  std::int64_t position = 0;     // elements between positions
};

// One block of 16 channels of one output tile; `rows` and `cols` of it exist.
struct WinogradOutput {
  const float* m = nullptr;
  std::int64_t position = 0;
  float* y = nullptr;
  std::int64_t row = 0;
  std::int64_t rows = 0, cols = 0;
  const float* bias = nullptr;      // 16, or null
  const float* residual = nullptr;  // like y, or null
  std::int64_t residual_row = 0;
  float lo = 0, hi = 0;
};

struct WinogradKernel {
  const char* name;
  Isa isa;
  int outputs;  // m: 2 or 4
  void (*input)(const WinogradInput&);
  void (*output)(const WinogradOutput&);
};

namespace scalar { const WinogradKernel* winograd_kernels(int& count); }
namespace avx2 { const WinogradKernel* winograd_kernels(int& count); }
namespace avx512 { const WinogradKernel* winograd_kernels(int& count); }

class WinogradConv {
 public:
  // `shape` must satisfy fits(); layouts are blocks of 16 channels. The input needs no halo.
  WinogradConv(const WinogradKernel& kernel, const GemmKernel& gemm, const ConvShape& shape, const Map& in, const Map& out, const Map& residual,
               bool relu = false);

  static bool fits(const ConvShape& shape) noexcept;
  // Estimated cycles, comparable with GemmConv::cost.
  static double cost(const WinogradKernel& kernel, const GemmKernel& gemm, const ConvShape& shape) noexcept;

  std::int64_t packed_elements() const noexcept { return groups_ * group_weights(); }
  std::int64_t padded_channels() const noexcept { return groups_ * panels_ * gemm_->cols; }
  // Floats of working memory that run() needs; uninitialised.
  std::int64_t scratch_elements() const noexcept { return positions_ * (v_position_ + m_position_); }
  void pack(const float* weights, float* packed) const;
  // Weights that are transformed already, [outputs, inputs, positions], by the matrices of F(2x2); without groups.
  void pack_transformed(const float* weights, float* packed) const;
  void pad_bias(const float* bias, float* padded) const;
  void run(const float* in, const float* packed, const Epilogue& epilogue, float* out, float* scratch, Team& team) const;

 private:
  std::int64_t group_weights() const noexcept { return positions_ * panels_ * group_in_ * gemm_->cols; }
  void pack_group(const float* weights, float* packed) const;
  void transform_inputs(std::int64_t image, std::int64_t first_tile, std::int64_t tiles, const float* in, float* v, Team& team) const;
  void multiply(std::int64_t tiles, const float* packed, const float* v, float* m, Team& team) const;
  void transform_outputs(std::int64_t image, std::int64_t first_tile, std::int64_t tiles, const float* m, const Epilogue& epilogue, float* out, Team& team) const;

  const WinogradKernel* kernel_;
  const GemmKernel* gemm_;
  ConvShape shape_;
  std::int64_t merged_, groups_;        // groups that run as one, and how many of those there are
  std::int64_t group_in_, group_out_;   // channels of one of them
  Map in_, out_, residual_;
  bool relu_;                           // of the transformed inputs
  std::int64_t positions_, panels_, in_blocks_, out_blocks_;  // panels of one group; blocks of all
  std::int64_t tile_rows_, tile_cols_, chunk_;  // tiles of an image; tiles worked on at a time
  std::int64_t v_position_, m_position_;        // elements of one position of a chunk
  std::vector<std::int64_t> segments_;
};

}  // namespace bittern::engine
