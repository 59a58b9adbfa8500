#include "gemm/conv.h"

#include <algorithm>
#include <cstring>

#include "base/transpose.h"

namespace bittern::engine {
namespace {

// Input of a band of pixels: half of a common second-level cache.
constexpr std::int64_t band_bytes = 512 << 10;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

GemmConv::Panel GemmConv::panel(const ConvShape& s, std::int64_t in_block, std::int64_t cols, std::int64_t index) noexcept {
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups;
  const std::int64_t first_lane = index * cols, last_lane = std::min(s.oc, first_lane + cols) - 1;
  const std::int64_t first = first_lane / out * in, last = (last_lane / out + 1) * in;  // input channels of its groups
  Panel panel;
  panel.first_block = first / in_block;
  const std::int64_t end_block = ceil_div(last, in_block);
  panel.blocks = end_block - panel.first_block;
  panel.tail = end_block * in_block > s.c;
  panel.k = (std::min(end_block * in_block, s.c) - panel.first_block * in_block) * s.kh * s.kw;
  return panel;
}

bool GemmConv::flat(const ConvShape& s, const Map& in, const Map& out) noexcept {
  return s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && (s.pad_top | s.pad_left | s.pad_bottom | s.pad_right) == 0 &&
         in.row == in.w * in.block && out.row == out.w * out.block;
}

double GemmConv::cost(const GemmKernel& kernel, const ConvShape& s, std::int64_t in_block, bool flat) noexcept {
  const bool whole = flat || kernel.gathers;
  const std::int64_t length = whole ? s.oh * s.ow : s.ow, lines = whole ? 1 : s.oh;
  const std::int64_t tiles = ceil_div(length, kernel.rows), panels = ceil_div(s.oc, kernel.cols);
  double k = 0;
  if (s.groups == 1) {
    k = static_cast<double>(s.c * s.kh * s.kw * panels);
  } else {
    for (std::int64_t i = 0; i < panels; ++i) k += static_cast<double>(panel(s, in_block, kernel.cols, i).k);
  }
  // A tile of r pixels takes r * vectors multiply-adds a step, but no less than their latency, and as many loads. With two
  // of them a cycle and three instructions a cycle, which is what a core shared by two threads issues, loads count too; so
  // do weights that come from the second-level cache, with some 18 bytes a cycle.
  const int vectors = std::max(1, kernel.cols / (kernel.isa == Isa::avx512 ? 16 : kernel.isa == Isa::avx2 ? 8 : 4));
  const double rows = static_cast<double>(length) / static_cast<double>(std::max<std::int64_t>(1, tiles));
  double step = std::max({rows * vectors, 4.0, rows + vectors});
  if (kernel.isa == Isa::avx2 && tiles > 1) {
    const double panel_bytes = k / static_cast<double>(panels) * kernel.cols * 4;
    step = std::max({step, (rows * vectors + rows + vectors) * 2 / 3, panel_bytes > 24576 ? kernel.cols * 4 * 2 / 18.0 : 0.0});
  }
  const double store = vectors * (rows + 4) + 12.0;
  const double compute = static_cast<double>(s.n * lines * tiles) * (k * step + static_cast<double>(panels) * store);
  // A single pixel, as in a fully connected layer, waits for its weights: about 8 bytes a cycle from memory, for every tile alike.
  const double weights = k * kernel.cols * 4 / 8;
  if (length * lines * s.n == 1) return weights + compute / 4;  // they overlap for the most part
  return std::max(compute, weights);
}

GemmConv::GemmConv(const GemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual)
    : kernel_(&kernel), shape_(shape), in_(in), out_(out), residual_(residual) {
  const ConvShape& s = shape_;
  std::int64_t widest = 0, weights = 0;
  for (std::int64_t i = 0; i < ceil_div(s.oc, kernel.cols); ++i) {
    panels_.push_back(panel(s, in.block, kernel.cols, i));
    panels_.back().weights = weights;
    weights += panels_.back().k * kernel.cols;
    widest = std::max(widest, panels_.back().blocks);
  }
  const auto panel_count = static_cast<std::int64_t>(panels_.size());

  // In planes the taps of a kernel's row stand side by side: one segment instead of kw of them.
  const bool whole_rows = in.block == 1 && s.dilation_w == 1;
  const std::int64_t taps_w = whole_rows ? 1 : s.kw;
  run_ = whole_rows ? s.kw : in.block;
  tail_run_ = s.c % in.block;
  segments_per_block_ = s.kh * taps_w;
  for (std::int64_t b = 0; b < widest; ++b)
    for (std::int64_t y = 0; y < s.kh; ++y)
      for (std::int64_t x = 0; x < taps_w; ++x)
        segments_.push_back(b * in.plane + y * s.dilation_h * in.row + x * s.dilation_w * in.block);

  const bool one_row = flat(s, in, out) && (residual.n == 0 || residual.row == residual.w * residual.block);
  lines_ = one_row ? 1 : s.oh;
  length_ = one_row ? s.oh * s.ow : s.ow;
  line_step_ = s.stride_h * in.row;
  pixel_step_ = s.stride_w * in.block;

  // Tasks of some million multiply-adds: long enough to hide the hand-over, short enough to balance.
  const std::int64_t k = panels_.empty() ? 1 : panels_.front().k;
  const std::int64_t work_per_pixel = std::max<std::int64_t>(1, k * kernel.cols);
  // Tiles that run on from line to line fill up best where a task has many.
  const std::int64_t pixels = std::max<std::int64_t>(kernel.gathers ? 6 * kernel.rows : kernel.rows, 2'000'000 / work_per_pixel);
  chunk_pixels_ = std::min(length_, ceil_div(pixels, kernel.rows) * kernel.rows);
  chunk_lines_ = chunk_pixels_ < length_ ? 1 : std::max<std::int64_t>(1, std::min(lines_, pixels / std::max<std::int64_t>(1, length_)));
  // Where all pixels are not enough for a task, it takes several panels.
  const std::int64_t work = work_per_pixel * chunk_pixels_ * chunk_lines_, worth = 400'000;
  chunk_panels_ = work >= worth || work == 0 ? 1 : std::min(panel_count, ceil_div(worth, work));
  panel_chunks_ = ceil_div(panel_count, std::max<std::int64_t>(1, chunk_panels_));
  line_chunks_ = chunk_lines_ == 0 ? 0 : ceil_div(lines_, chunk_lines_);
  if (line_chunks_ > 0) chunk_lines_ = ceil_div(lines_, line_chunks_);  // of almost equal size
  pixel_chunks_ = chunk_pixels_ == 0 ? 0 : ceil_div(length_, chunk_pixels_);

  const std::int64_t spread = s.kh > 1 ? s.stride_h * s.stride_w : 1;  // input pixels per output pixel
  const std::int64_t chunk_bytes = chunk_pixels_ * chunk_lines_ * spread * (k / (s.kh * s.kw)) * static_cast<std::int64_t>(sizeof(float));
  band_chunks_ = std::max<std::int64_t>(1, band_bytes / std::max<std::int64_t>(1, chunk_bytes));
}

double GemmConv::excess() const noexcept {
  double computed = 0;
  for (const Panel& p : panels_) computed += static_cast<double>(p.k * kernel_->cols);
  return computed / static_cast<double>(shape_.oc * (shape_.c / shape_.groups) * shape_.kh * shape_.kw);
}

void GemmConv::pack(const float* weights, float* packed, const Done& done) const {
  const ConvShape& s = shape_;
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups, taps = s.kh * s.kw, cols = kernel_->cols;
  for (std::size_t index = 0; index < panels_.size(); ++index) {
    const Panel& p = panels_[index];
    const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, s.oc - first);
    float* target = packed + p.weights;
    if (count < cols || s.groups > 1) std::memset(target, 0, static_cast<std::size_t>(p.k * cols) * sizeof(float));
    if (s.groups == 1 && (taps == 1 || in_.block == 1)) {
      // The products already stand in the order of the segments.
      transpose(weights + first * p.k, p.k, count, p.k, target, cols);
      done(weights + first * p.k, count * p.k);
      continue;
    }
    // Written in order; the rows that are read from stay in cache.
    for (std::int64_t b = 0; b < p.blocks; ++b) {
      const std::int64_t start = (p.first_block + b) * in_.block, lanes = std::min(in_.block, s.c - start);
      for (std::int64_t t = 0; t < taps; ++t) {
        for (std::int64_t lane = 0; lane < lanes; ++lane, target += cols) {
          const std::int64_t channel = start + lane;
          if (s.groups == 1) {
            for (std::int64_t o = 0; o < count; ++o) target[o] = weights[((first + o) * in + channel) * taps + t];
            continue;
          }
          for (std::int64_t o = 0; o < count; ++o) {
            const std::int64_t i = channel - (first + o) / out * in;  // inside the output's group, or foreign
            if (i >= 0 && i < in) target[o] = weights[((first + o) * in + i) * taps + t];
          }
        }
      }
    }
  }
}

void GemmConv::pack_columns(const float* weights, float* packed, const Done& done) const {
  // In stretches of input rows: they are read once from front to back.
  const std::int64_t cols = kernel_->cols, inputs = shape_.c;
  const std::int64_t stretch = std::max<std::int64_t>(1, (std::int64_t{1} << 21) / std::max<std::int64_t>(1, shape_.oc));
  for (std::int64_t from = 0; from < inputs; from += stretch) {
    const std::int64_t to = std::min(inputs, from + stretch);
    for (std::size_t index = 0; index < panels_.size(); ++index) {
      const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, shape_.oc - first);
      float* target = packed + panels_[index].weights + from * cols;
      for (std::int64_t k = from; k < to; ++k, target += cols) {
        std::memcpy(target, weights + k * shape_.oc + first, static_cast<std::size_t>(count) * sizeof(float));
        std::memset(target + count, 0, static_cast<std::size_t>(cols - count) * sizeof(float));
      }
    }
    done(weights + from * shape_.oc, (to - from) * shape_.oc);
  }
}

void GemmConv::pad_bias(const float* bias, float* padded) const {
  std::memset(padded, 0, static_cast<std::size_t>(padded_channels()) * sizeof(float));
  std::memcpy(padded, bias, static_cast<std::size_t>(shape_.oc) * sizeof(float));
}

void GemmConv::run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const {
  const std::int64_t tasks = panel_chunks_ * shape_.n * line_chunks_ * pixel_chunks_;
  team.run(static_cast<std::size_t>(tasks),
           [&](std::size_t task) { run_task(static_cast<std::int64_t>(task), in, packed, epilogue, out); });
}

void GemmConv::run_task(std::int64_t task, const float* in, const float* packed, const Epilogue& epilogue, float* out) const {
  // Bands vary slowest, then panels: the packed weights of a panel stay in cache while the band's pixels pass.
  const std::int64_t chunks = line_chunks_ * pixel_chunks_;
  const std::int64_t image = task / (panel_chunks_ * chunks), rest = task % (panel_chunks_ * chunks);
  const std::int64_t first_chunk = rest / (panel_chunks_ * band_chunks_) * band_chunks_, band = std::min(band_chunks_, chunks - first_chunk);
  const std::int64_t in_band = rest - panel_chunks_ * first_chunk;
  const std::int64_t line_chunk = (first_chunk + in_band % band) / pixel_chunks_, pixel_chunk = (first_chunk + in_band % band) % pixel_chunks_;
  const std::int64_t first = in_band / band * chunk_panels_, last = std::min(static_cast<std::int64_t>(panels_.size()), first + chunk_panels_);

  Area area{};
  area.image = image;
  area.first_line = line_chunk * chunk_lines_;
  area.last_line = std::min(lines_, area.first_line + chunk_lines_);
  area.first_pixel = pixel_chunk * chunk_pixels_;
  area.last_pixel = std::min(length_, area.first_pixel + chunk_pixels_);
  for (std::int64_t index = first; index < last; ++index) run_panel(index, area, in, packed, epilogue, out);
}

void GemmConv::run_panel(std::int64_t index, const Area& area, const float* in, const float* packed, const Epilogue& epilogue,
                         float* out) const {
  const Panel& panel = panels_[static_cast<std::size_t>(index)];
  const std::int64_t first_out = index * kernel_->cols;

  TileArgs args;
  args.segments = segments_.data();
  args.tail = panel.tail ? segments_per_block_ : 0;
  args.full = panel.blocks * segments_per_block_ - args.tail;
  args.run = run_;
  args.tail_run = tail_run_;
  args.a_stride = pixel_step_;
  args.b = packed + panel.weights;
  args.bias = epilogue.bias != nullptr ? epilogue.bias + first_out : nullptr;
  args.lo = epilogue.lo;
  args.hi = epilogue.hi;
  args.c_pixel = out_.block;
  args.residual_pixel = residual_.block;
  // In blocks of 16 whole blocks are stored, spare lanes included; in one block of all channels a lane is an offset.
  const bool blocked = out_.block == 16;
  const std::int64_t left = std::min<std::int64_t>(kernel_->cols, shape_.oc - first_out);
  args.valid = blocked ? ceil_div(left, 16) * 16 : left;
  args.c_block = blocked ? out_.plane : 16;
  args.residual_block = blocked ? residual_.plane : 16;

  const float* a = in + area.image * in_.image + panel.first_block * in_.plane - shape_.pad_top * in_.row - shape_.pad_left * in_.block;
  const auto offset = [&](const Map& map) {
    return area.image * map.image + (blocked ? first_out / 16 * map.plane : first_out);
  };
  float* c = out + offset(out_);
  const float* residual = epilogue.residual != nullptr ? epilogue.residual + offset(residual_) : nullptr;

  const std::int64_t width = area.last_pixel - area.first_pixel, lines = area.last_line - area.first_line;
  if (kernel_->gathers && lines > 1) {
    // Tiles run on from line to line.
    TilePixel pixels[most_gathered_rows];
    args.a = a;
    args.c = c;
    args.residual = residual;
    args.pixels = pixels;
    const std::int64_t tiles = ceil_div(width * lines, kernel_->rows);
    std::int64_t line = area.first_line, pixel = area.first_pixel, left_over = width * lines;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t rows = ceil_div(left_over, tiles - tile);  // tiles of almost equal size
      for (std::int64_t r = 0; r < rows; ++r) {
        pixels[r] = {line * line_step_ + pixel * pixel_step_, line * out_.row + pixel * out_.block, line * residual_.row + pixel * residual_.block};
        if (++pixel == area.last_pixel) ++line, pixel = area.first_pixel;
      }
      kernel_->tiles[rows - 1](args);
      left_over -= rows;
    }
    return;
  }
  const std::int64_t tiles = ceil_div(width, kernel_->rows);
  for (std::int64_t line = area.first_line; line < area.last_line; ++line) {
    std::int64_t pixel = area.first_pixel;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t rows = ceil_div(area.last_pixel - pixel, tiles - tile);
      args.a = a + line * line_step_ + pixel * pixel_step_;
      args.c = c + line * out_.row + pixel * args.c_pixel;
      if (residual != nullptr) args.residual = residual + line * residual_.row + pixel * args.residual_pixel;
      kernel_->tiles[rows - 1](args);
      pixel += rows;
    }
  }
}

}  // namespace bittern::engine
