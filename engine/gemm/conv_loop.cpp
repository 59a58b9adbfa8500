#include "gemm/conv_loop.h"

namespace bittern::engine {
namespace {

// Input of a band of pixels: half of a common second-level cache.
constexpr std::int64_t band_bytes = 512 << 10;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

ConvLoop::Panel ConvLoop::panel(const ConvShape& s, std::int64_t in_block, std::int64_t cols, std::int64_t index, std::int64_t unit,
                              std::int64_t terms) noexcept {
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups;
  const std::int64_t first_lane = index * cols, last_lane = std::min(s.oc, first_lane + cols) - 1;
  const std::int64_t first = first_lane / out * in, last = (last_lane / out + 1) * in;  // input channels of its groups
  Panel panel;
  panel.first_block = first / in_block;
  const std::int64_t end_block = ceil_div(last, in_block);
  panel.blocks = end_block - panel.first_block;
  panel.tail = end_block * in_block > s.c;
  panel.k = (ceil_div(std::min(end_block * in_block, s.c), unit) - panel.first_block * in_block / unit) * s.kh * s.kw * terms;
  return panel;
}

bool ConvLoop::flat(const ConvShape& s, const Map& in, const Map& out) noexcept {
  return s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && (s.pad_top | s.pad_left | s.pad_bottom | s.pad_right) == 0 &&
         in.row == in.w * in.block && out.row == out.w * out.block;
}

ConvLoop::ConvLoop(const TileExtent& extent, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, std::int64_t unit,
                   std::int64_t terms)
    : extent_(extent), shape_(shape), out_(out), residual_(residual), in_block_(in.block), in_image_(in.image / unit), in_plane_(in.plane / unit) {
  const ConvShape& s = shape_;
  const std::int64_t block = in.block / unit, row = in.row / unit;
  first_input_ = -s.pad_top * row - s.pad_left * block;
  std::int64_t widest = 0, weights = 0;
  for (std::int64_t i = 0; i < ceil_div(s.oc, extent.cols); ++i) {
    panels_.push_back(panel(s, in.block, extent.cols, i, unit, terms));
    panels_.back().weights = weights;
    weights += panels_.back().k * extent.cols;
    widest = std::max(widest, panels_.back().blocks);
  }

  // Where a pixel is one unit, the taps of a kernel's row stand side by side: one segment instead of kw of them.
  const bool whole_rows = block == 1 && s.dilation_w == 1;
  const std::int64_t taps_w = whole_rows ? 1 : s.kw;
  run_ = whole_rows ? s.kw : block;
  // A single partly filled unit is a whole one to the tile: its spare lanes have weights of zero.
  tail_run_ = block == 1 ? run_ : ceil_div(s.c % in.block, unit);
  segments_per_block_ = s.kh * taps_w * terms;
  for (std::int64_t b = 0; b < widest * terms; ++b)
    for (std::int64_t y = 0; y < s.kh; ++y)
      for (std::int64_t x = 0; x < taps_w; ++x) segments_.push_back(b / terms * in_plane_ + y * s.dilation_h * row + x * s.dilation_w * block);

  const bool one_row = flat(s, in, out) && (residual.n == 0 || residual.row == residual.w * residual.block);
  lines_ = one_row ? 1 : s.oh;
  length_ = one_row ? s.oh * s.ow : s.ow;
  line_step_ = s.stride_h * row;
  pixel_step_ = s.stride_w * block;
  plan_tasks();
}

void ConvLoop::plan_tasks() {
  const ConvShape& s = shape_;
  const std::int64_t rows = extent_.rows, panel_count = static_cast<std::int64_t>(panels_.size());
  // Tasks of some million multiply-adds: long enough to hide the hand-over, short enough to balance.
  const std::int64_t k = panels_.empty() ? 1 : panels_.front().k;
  const std::int64_t work_per_pixel = std::max<std::int64_t>(1, k * extent_.cols);
  // Tiles that run on from line to line fill up best where a task has many.
  const std::int64_t pixels = std::max<std::int64_t>(extent_.gathers ? 6 * rows : rows, 2'000'000 / work_per_pixel);
  chunk_pixels_ = std::min(length_, ceil_div(pixels, rows) * rows);
  chunk_lines_ = chunk_pixels_ < length_ ? 1 : std::max<std::int64_t>(1, std::min(lines_, pixels / std::max<std::int64_t>(1, length_)));
  // Where all pixels are not enough for a task, it takes several panels.
  const std::int64_t work = work_per_pixel * chunk_pixels_ * chunk_lines_, worth = 400'000;
  chunk_panels_ = work >= worth || work == 0 ? 1 : std::min(panel_count, ceil_div(worth, work));
  panel_chunks_ = ceil_div(panel_count, std::max<std::int64_t>(1, chunk_panels_));
  line_chunks_ = chunk_lines_ == 0 ? 0 : ceil_div(lines_, chunk_lines_);
  if (line_chunks_ > 0) chunk_lines_ = ceil_div(lines_, line_chunks_);  // of almost equal size
  pixel_chunks_ = chunk_pixels_ == 0 ? 0 : ceil_div(length_, chunk_pixels_);

  constexpr std::int64_t unit_bytes = 4;  // of a float, of a quad
  const std::int64_t spread = s.kh > 1 ? s.stride_h * s.stride_w : 1;  // input pixels per output pixel
  const std::int64_t chunk_bytes = chunk_pixels_ * chunk_lines_ * spread * (k / (s.kh * s.kw)) * unit_bytes;
  band_chunks_ = std::max<std::int64_t>(1, band_bytes / std::max<std::int64_t>(1, chunk_bytes));
}

ConvLoop::Area ConvLoop::area_of(std::int64_t task, std::int64_t& first_panel, std::int64_t& last_panel) const noexcept {
  // Bands vary slowest, then panels: the packed weights of a panel stay in cache while the band's pixels pass.
  const std::int64_t chunks = line_chunks_ * pixel_chunks_;
  const std::int64_t image = task / (panel_chunks_ * chunks), rest = task % (panel_chunks_ * chunks);
  const std::int64_t first_chunk = rest / (panel_chunks_ * band_chunks_) * band_chunks_, band = std::min(band_chunks_, chunks - first_chunk);
  const std::int64_t in_band = rest - panel_chunks_ * first_chunk;
  const std::int64_t line_chunk = (first_chunk + in_band % band) / pixel_chunks_, pixel_chunk = (first_chunk + in_band % band) % pixel_chunks_;
  first_panel = in_band / band * chunk_panels_;
  last_panel = std::min(static_cast<std::int64_t>(panels_.size()), first_panel + chunk_panels_);

  Area area{};
  area.image = image;
  area.first_line = line_chunk * chunk_lines_;
  area.last_line = std::min(lines_, area.first_line + chunk_lines_);
  area.first_pixel = pixel_chunk * chunk_pixels_;
  area.last_pixel = std::min(length_, area.first_pixel + chunk_pixels_);
  return area;
}

ConvLoop::Stretch ConvLoop::stretch(std::int64_t index, std::int64_t image) const noexcept {
  const Panel& panel = panels_[static_cast<std::size_t>(index)];
  const std::int64_t first_out = index * extent_.cols;
  // In blocks of 16 whole blocks are stored, spare lanes included; in one block of all channels a lane is an offset.
  const bool blocked = out_.block == 16;
  const std::int64_t left = std::min<std::int64_t>(extent_.cols, shape_.oc - first_out);
  const auto offset = [&](const Map& map) { return image * map.image + (blocked ? first_out / 16 * map.plane : first_out); };
  Stretch s;
  s.panel = index;
  s.image = image;
  s.a = image * in_image_ + panel.first_block * in_plane_ + first_input_;
  s.c = offset(out_);
  s.residual = offset(residual_);
  s.tail = panel.tail ? segments_per_block_ : 0;
  s.full = panel.blocks * segments_per_block_ - s.tail;
  s.valid = blocked ? ceil_div(left, 16) * 16 : left;
  s.c_block = blocked ? out_.plane : 16;
  s.residual_block = blocked ? residual_.plane : 16;
  return s;
}

}  // namespace bittern::engine
