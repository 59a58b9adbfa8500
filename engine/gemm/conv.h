// Convolution (and the fully connected layer, which is one) as a loop of gemm tiles.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/tile.h"

namespace bittern::engine {

struct ConvShape {
  std::int64_t n = 1, c = 0, h = 1, w = 1;           // input
  std::int64_t oc = 0, oh = 1, ow = 1;               // output
  std::int64_t kh = 1, kw = 1;
  std::int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t groups = 1;

  // Multiplications that the definition needs.
  double macs() const noexcept {
    return static_cast<double>(n * oc * oh * ow) * static_cast<double>(c / groups * kh * kw);
  }
};

// What happens to the accumulator when it is stored.
struct Epilogue {
  const float* bias = nullptr;      // one per output channel, padded as the packed weights are; or null
  const float* residual = nullptr;  // laid out by GemmConv's residual map; or null
  float lo, hi;                     // clamp; -inf and +inf for none
};

// One convolution through one kernel on given layouts. Weights are packed once and belong to the caller.
//
// Layouts: input blocks of 1 or 16 channels, or one block of all; output blocks of 16, or one block of all (then the
// output has no spare lanes). Padding is read from the input's halo, which must be as wide.
// A panel (the output channels of a tile) reads the input blocks that its groups touch; where groups do not fill
// blocks, the weights of foreign channels are zero.
class GemmConv {
 public:
  GemmConv(const GemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual);

  // Estimated time in cycles of the level's vector unit: what kernels are compared by.
  static double cost(const GemmKernel& kernel, const ConvShape& shape, std::int64_t in_block, bool flat) noexcept;
  // True if rows follow each other without a gap on both sides, so that a plane is one long row.
  static bool flat(const ConvShape& shape, const Map& in, const Map& out) noexcept;

  std::int64_t packed_elements() const noexcept { return panels_.empty() ? 0 : panels_.back().weights + panels_.back().k * kernel_->cols; }
  std::int64_t padded_channels() const noexcept { return static_cast<std::int64_t>(panels_.size()) * kernel_->cols; }
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
  // The input blocks that a panel of output channels reads.
  struct Panel {
    std::int64_t first_block = 0, blocks = 0;
    bool tail = false;         // the last of them is partly filled
    std::int64_t k = 0;        // products of an output
    std::int64_t weights = 0;  // where its packed weights start
  };
  static Panel panel(const ConvShape& shape, std::int64_t in_block, std::int64_t cols, std::int64_t index) noexcept;

  // Part of an image's output: lines and pixels of a line, ends excluded.
  struct Area {
    std::int64_t image, first_line, last_line, first_pixel, last_pixel;
  };

  void run_task(std::int64_t task, const float* in, const float* packed, const Epilogue& epilogue, float* out) const;
  void run_panel(std::int64_t index, const Area& area, const float* in, const float* packed, const Epilogue& epilogue, float* out) const;

  const GemmKernel* kernel_;
  ConvShape shape_;
  Map in_, out_, residual_;
  std::vector<Panel> panels_;
  std::int64_t run_, tail_run_, segments_per_block_;
  std::vector<std::int64_t> segments_;       // of the widest panel; others use the first ones
  std::int64_t lines_, length_;              // rows of one image and pixels of one row (one long row if flat)
  std::int64_t line_step_, pixel_step_;      // of the input, in elements, per output line and pixel
  std::int64_t chunk_lines_, chunk_pixels_, line_chunks_, pixel_chunks_, chunk_panels_, panel_chunks_;
  std::int64_t band_chunks_;                 // chunks of pixels whose input stays in cache while all panels pass over them
};

}  // namespace bittern::engine
