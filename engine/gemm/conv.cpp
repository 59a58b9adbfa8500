#include "gemm/conv.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

std::int64_t GemmConv::merged_groups(const ConvShape& s, std::int64_t block) noexcept {
  if (s.groups == 1) return 1;
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups;
  for (std::int64_t merged = 1; merged < s.groups; ++merged) {
    if (s.groups % merged == 0 && merged * in % block == 0 && merged * out % 16 == 0) return merged;
  }
  return s.groups;
}

bool GemmConv::flat(const ConvShape& s, const Map& in, const Map& out) noexcept {
  return s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && (s.pad_top | s.pad_left | s.pad_bottom | s.pad_right) == 0 &&
         in.row == in.w * in.block && out.row == out.w * out.block;
}

double GemmConv::cost(const GemmKernel& kernel, const ConvShape& s, std::int64_t in_block, bool flat) noexcept {
  const std::int64_t merged = merged_groups(s, in_block), groups = s.groups / merged;
  const std::int64_t in = merged * (s.c / s.groups), out = merged * (s.oc / s.groups);
  const double k = static_cast<double>(in * s.kh * s.kw);
  const std::int64_t length = flat ? s.oh * s.ow : s.ow, lines = flat ? 1 : s.oh;
  const std::int64_t tiles = ceil_div(length, kernel.rows), panels = ceil_div(out, kernel.cols);
  // A tile of r pixels takes r * vectors multiply-adds a step, but no less than their latency, and as many loads.
  const int vectors = std::max(1, kernel.cols / (kernel.isa == Isa::avx512 ? 16 : kernel.isa == Isa::avx2 ? 8 : 4));
  const double rows = static_cast<double>(length) / static_cast<double>(tiles);
  const double step = std::max({rows * vectors, 4.0, rows + vectors});
  const double tile = k * step + static_cast<double>(vectors) * rows + 20.0;
  return static_cast<double>(s.n * groups * panels * lines * tiles) * tile;
}

GemmConv::GemmConv(const GemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual)
    : kernel_(&kernel), shape_(shape), in_(in), out_(out), residual_(residual) {
  const ConvShape& s = shape_;
  merged_ = merged_groups(s, in.block);
  group_count_ = s.groups / merged_;
  group_in_ = merged_ * (s.c / s.groups);
  group_out_ = merged_ * (s.oc / s.groups);
  panels_ = ceil_div(group_out_, kernel.cols);
  k_ = group_in_ * s.kh * s.kw;

  // In planes the taps of a kernel's row stand side by side: one segment instead of kw of them.
  const bool whole_rows = in.block == 1 && s.dilation_w == 1;
  const std::int64_t taps_w = whole_rows ? 1 : s.kw;
  run_ = whole_rows ? s.kw : in.block;
  tail_run_ = group_in_ % in.block;
  const std::int64_t blocks = ceil_div(group_in_, in.block);
  for (std::int64_t b = 0; b < blocks; ++b)
    for (std::int64_t y = 0; y < s.kh; ++y)
      for (std::int64_t x = 0; x < taps_w; ++x)
        segments_.push_back(b * in.plane + y * s.dilation_h * in.row + x * s.dilation_w * in.block);
  tail_ = tail_run_ == 0 ? 0 : s.kh * s.kw;
  full_ = static_cast<std::int64_t>(segments_.size()) - tail_;

  const bool one_row = flat(s, in, out) && (residual.n == 0 || residual.row == residual.w * residual.block);
  lines_ = one_row ? 1 : s.oh;
  length_ = one_row ? s.oh * s.ow : s.ow;
  line_step_ = s.stride_h * in.row;
  pixel_step_ = s.stride_w * in.block;

  // Tasks of some million multiply-adds: long enough to hide the hand-over, short enough to balance.
  const std::int64_t work_per_pixel = std::max<std::int64_t>(1, k_ * kernel.cols);
  const std::int64_t pixels = std::max<std::int64_t>(kernel.rows, 2'000'000 / work_per_pixel);
  chunk_pixels_ = std::min(length_, ceil_div(pixels, kernel.rows) * kernel.rows);
  chunk_lines_ = chunk_pixels_ < length_ ? 1 : std::max<std::int64_t>(1, std::min(lines_, pixels / std::max<std::int64_t>(1, length_)));
  // Where all pixels are not enough for a task, it takes several panels.
  const std::int64_t work = work_per_pixel * chunk_pixels_ * chunk_lines_, worth = 400'000;
  chunk_panels_ = work >= worth || work == 0 ? 1 : std::min(panels_, ceil_div(worth, work));
  panel_chunks_ = ceil_div(panels_, chunk_panels_);
  line_chunks_ = chunk_lines_ == 0 ? 0 : ceil_div(lines_, chunk_lines_);
  pixel_chunks_ = chunk_pixels_ == 0 ? 0 : ceil_div(length_, chunk_pixels_);
}

void GemmConv::pack(const float* weights, float* packed) const {
  const ConvShape& s = shape_;
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups, taps = s.kh * s.kw, cols = kernel_->cols;
  std::memset(packed, 0, static_cast<std::size_t>(packed_elements()) * sizeof(float));
  for (std::int64_t g = 0; g < group_count_; ++g) {
    for (std::int64_t o = 0; o < group_out_; ++o) {
      float* column = packed + (g * panels_ + o / cols) * k_ * cols + o % cols;
      const std::int64_t source = g * merged_ + o / out;  // the original group of this output
      const float* row = weights + (source * out + o % out) * in * taps;
      const std::int64_t first = source % merged_ * in;   // its first channel inside the merged group
      for (std::int64_t i = 0; i < in; ++i) {
        const std::int64_t channel = first + i, block = channel / in_.block, lane = channel % in_.block;
        const std::int64_t lanes = std::min(in_.block, group_in_ - block * in_.block);
        for (std::int64_t t = 0; t < taps; ++t) {
          const std::int64_t k = block * in_.block * taps + t * lanes + lane;
          column[k * cols] = row[i * taps + t];
        }
      }
    }
  }
}

void GemmConv::pad_bias(const float* bias, float* padded) const {
  std::memset(padded, 0, static_cast<std::size_t>(padded_channels()) * sizeof(float));
  for (std::int64_t g = 0; g < group_count_; ++g) {
    std::memcpy(padded + g * panels_ * kernel_->cols, bias + g * group_out_, static_cast<std::size_t>(group_out_) * sizeof(float));
  }
}

void GemmConv::run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const {
  const std::int64_t tasks = group_count_ * panel_chunks_ * shape_.n * line_chunks_ * pixel_chunks_;
  team.run(static_cast<std::size_t>(tasks),
           [&](std::size_t task) { run_task(static_cast<std::int64_t>(task), in, packed, epilogue, out); });
}

void GemmConv::run_task(std::int64_t task, const float* in, const float* packed, const Epilogue& epilogue, float* out) const {
  // Panels vary slowest: the packed weights of a panel stay in cache while the pixels pass.
  const std::int64_t pixel_chunk = task % pixel_chunks_;
  task /= pixel_chunks_;
  const std::int64_t line_chunk = task % line_chunks_;
  task /= line_chunks_;
  const std::int64_t image = task % shape_.n;
  task /= shape_.n;
  const std::int64_t group = task / panel_chunks_, first_panel = task % panel_chunks_ * chunk_panels_;
  const std::int64_t last_panel = std::min(panels_, first_panel + chunk_panels_);
  for (std::int64_t panel = first_panel; panel < last_panel; ++panel) run_panel(group, panel, image, line_chunk, pixel_chunk, in, packed, epilogue, out);
}

void GemmConv::run_panel(std::int64_t group, std::int64_t panel_in_group, std::int64_t image, std::int64_t line_chunk, std::int64_t pixel_chunk,
                         const float* in, const float* packed, const Epilogue& epilogue, float* out) const {
  const std::int64_t panel = group * panels_ + panel_in_group, lane = panel_in_group * kernel_->cols;
  const std::int64_t first_out = group * group_out_ + lane;
  TileArgs args;
  args.segments = segments_.data();
  args.full = full_;
  args.run = run_;
  args.tail = tail_;
  args.tail_run = tail_run_;
  args.a_stride = pixel_step_;
  args.b = packed + panel * k_ * kernel_->cols;
  args.bias = epilogue.bias != nullptr ? epilogue.bias + panel * kernel_->cols : nullptr;
  args.lo = epilogue.lo;
  args.hi = epilogue.hi;
  args.c_pixel = out_.block;
  args.residual_pixel = residual_.block;
  // In blocks of 16 whole blocks are stored, spare lanes included; in one block of all channels a lane is an offset.
  const bool blocked = out_.block == 16;
  const std::int64_t left = std::min<std::int64_t>(kernel_->cols, group_out_ - lane);
  args.valid = blocked ? ceil_div(left, 16) * 16 : left;
  args.c_block = blocked ? out_.plane : 16;
  args.residual_block = blocked ? residual_.plane : 16;

  const std::int64_t group_in_offset =
      in_.block == 1 || in_.block == 16 ? group * group_in_ / in_.block * in_.plane : group * group_in_;
  const float* a = in + image * in_.image + group_in_offset - shape_.pad_top * in_.row - shape_.pad_left * in_.block;
  const auto offset = [&](const Map& map) {
    return image * map.image + (blocked ? first_out / 16 * map.plane : first_out);
  };
  float* c = out + offset(out_);
  const float* residual = epilogue.residual != nullptr ? epilogue.residual + offset(residual_) : nullptr;

  const std::int64_t first_pixel = pixel_chunk * chunk_pixels_, last_pixel = std::min(length_, first_pixel + chunk_pixels_);
  const std::int64_t first_line = line_chunk * chunk_lines_, last_line = std::min(lines_, first_line + chunk_lines_);
  const std::int64_t tiles = ceil_div(last_pixel - first_pixel, kernel_->rows);
  for (std::int64_t line = first_line; line < last_line; ++line) {
    std::int64_t pixel = first_pixel;
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::int64_t rows = ceil_div(last_pixel - pixel, tiles - tile);  // tiles of almost equal size
      args.a = a + line * line_step_ + pixel * pixel_step_;
      args.c = c + line * out_.row + pixel * args.c_pixel;
      if (residual != nullptr) args.residual = residual + line * residual_.row + pixel * args.residual_pixel;
      kernel_->tiles[rows - 1](args);
      pixel += rows;
    }
  }
}

}  // namespace bittern::engine
