// Convolution as a loop of tiles: which pixels, output channels and stretches of K each tile computes, and how the work is
// cut into tasks. Shared by the float and the integer gemm loop.
#pragma once

#include <algorithm>
#include <cstdint>
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

// A tile's extent, and whether its pixels may stand anywhere.
struct TileExtent {
  std::int64_t rows = 1, cols = 1;
  bool gathers = false;
};

// Layouts: input blocks of 1 unit, 16 channels, or one block of all; output blocks of 16, or one block of all (then the
// output has no spare lanes). A unit is what the tile broadcasts: one float, or a quad of bytes. Padding is read from the
// input's halo, which must be as wide.
// A panel (the output channels of a tile) reads the input blocks that its groups touch; where groups do not fill blocks,
// the weights of foreign channels are zero. With two terms every block is read twice, with weights of its own each time.
class ConvLoop {
 public:
  // The input blocks that a panel of output channels reads.
  struct Panel {
    std::int64_t first_block = 0, blocks = 0;
    bool tail = false;         // the last of them is partly filled
    std::int64_t k = 0;        // units of an output
    std::int64_t weights = 0;  // units in the panels before it, times cols
  };
  // One call of the tile. Offsets of input in units, of output and residual in elements, from the image's first pixel.
  struct Tile {
    std::int64_t rows = 0, a = 0, c = 0, residual = 0;
    const TilePixel* pixels = nullptr;
  };
  // One panel over some pixels: what all its tiles share.
  struct Stretch {
    std::int64_t panel = 0, image = 0;
    std::int64_t a = 0;                      // units from the input's start to the panel's blocks
    std::int64_t c = 0, residual = 0;        // elements
    std::int64_t full = 0, tail = 0;         // segments
    std::int64_t valid = 0, c_block = 0, residual_block = 0;
  };

  ConvLoop(const TileExtent& extent, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, std::int64_t unit, std::int64_t terms = 1);

  static Panel panel(const ConvShape& shape, std::int64_t in_block, std::int64_t cols, std::int64_t index, std::int64_t unit = 1,
                     std::int64_t terms = 1) noexcept;
  // True if rows follow each other without a gap on both sides, so that a plane is one long row.
  static bool flat(const ConvShape& shape, const Map& in, const Map& out) noexcept;

  const ConvShape& shape() const noexcept { return shape_; }
  const std::vector<Panel>& panels() const noexcept { return panels_; }
  std::int64_t in_block() const noexcept { return in_block_; }
  // Units of all packed weights, times cols.
  std::int64_t packed() const noexcept { return panels_.empty() ? 0 : panels_.back().weights + panels_.back().k * extent_.cols; }
  std::int64_t padded_channels() const noexcept { return static_cast<std::int64_t>(panels_.size()) * extent_.cols; }

  const std::int64_t* segments() const noexcept { return segments_.data(); }
  std::int64_t run() const noexcept { return run_; }
  std::int64_t tail_run() const noexcept { return tail_run_; }
  std::int64_t pixel_step() const noexcept { return pixel_step_; }
  std::int64_t out_pixel() const noexcept { return out_.block; }
  std::int64_t residual_pixel() const noexcept { return residual_.block; }

  std::int64_t tasks() const noexcept { return panel_chunks_ * shape_.n * line_chunks_ * pixel_chunks_; }
  // How often one thread comes back to a panel: once for each image and band.
  std::int64_t passes() const noexcept {
    const std::int64_t chunks = line_chunks_ * pixel_chunks_;
    return shape_.n * (chunks == 0 ? 0 : (chunks + band_chunks_ - 1) / band_chunks_);
  }

  // begin(stretch) is called once for every stretch and returns what is called as tile(tile) for each of its tiles.
  template <class Begin>
  void run_all(Team& team, const Begin& begin) const {
    team.run(static_cast<std::size_t>(tasks()), [&](std::size_t task) { run_task(static_cast<std::int64_t>(task), begin); });
  }

 private:
  // Part of an image's output: lines and pixels of a line, ends excluded.
  struct Area {
    std::int64_t image, first_line, last_line, first_pixel, last_pixel;
  };

  void plan_tasks();
  Area area_of(std::int64_t task, std::int64_t& first_panel, std::int64_t& last_panel) const noexcept;
  Stretch stretch(std::int64_t panel, std::int64_t image) const noexcept;

  template <class Begin>
  void run_task(std::int64_t task, const Begin& begin) const {
    std::int64_t first = 0, last = 0;
    const Area area = area_of(task, first, last);
    for (std::int64_t index = first; index < last; ++index) run_tiles(area, begin(stretch(index, area.image)));
  }

  template <class Call>
  void run_tiles(const Area& area, Call&& call) const {
    const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
    const std::int64_t width = area.last_pixel - area.first_pixel, lines = area.last_line - area.first_line;
    Tile tile;
    if (extent_.gathers && lines > 1) {
      // Tiles run on from line to line.
      TilePixel pixels[most_gathered_rows];
      tile.pixels = pixels;
      const std::int64_t tiles = ceil_div(width * lines, extent_.rows);
      std::int64_t line = area.first_line, pixel = area.first_pixel, left = width * lines;
      for (std::int64_t i = 0; i < tiles; ++i) {
        tile.rows = ceil_div(left, tiles - i);  // tiles of almost equal size
        for (std::int64_t r = 0; r < tile.rows; ++r) {
          pixels[r] = {line * line_step_ + pixel * pixel_step_, line * out_.row + pixel * out_.block, line * residual_.row + pixel * residual_.block};
          if (++pixel == area.last_pixel) ++line, pixel = area.first_pixel;
        }
        call(tile);
        left -= tile.rows;
      }
      return;
    }
    const std::int64_t tiles = ceil_div(width, extent_.rows);
    for (std::int64_t line = area.first_line; line < area.last_line; ++line) {
      std::int64_t pixel = area.first_pixel;
      for (std::int64_t i = 0; i < tiles; ++i) {
        tile.rows = ceil_div(area.last_pixel - pixel, tiles - i);
        tile.a = line * line_step_ + pixel * pixel_step_;
        tile.c = line * out_.row + pixel * out_.block;
        tile.residual = line * residual_.row + pixel * residual_.block;
        call(tile);
        pixel += tile.rows;
      }
    }
  }

  TileExtent extent_;
  ConvShape shape_;
  Map out_, residual_;
  std::int64_t in_block_, in_image_, in_plane_, first_input_;  // block in channels, the others in units
  std::vector<Panel> panels_;
  std::int64_t run_, tail_run_, segments_per_block_;
  std::vector<std::int64_t> segments_;       // of the widest panel; others use the first ones
  std::int64_t lines_, length_;              // rows of one image and pixels of one row (one long row if flat)
  std::int64_t line_step_, pixel_step_;      // of the input, in units, per output line and pixel
  std::int64_t chunk_lines_, chunk_pixels_, line_chunks_, pixel_chunks_, chunk_panels_, panel_chunks_;
  std::int64_t band_chunks_;                 // chunks of pixels whose input stays in cache while all panels pass over them
};

}  // namespace bittern::engine
