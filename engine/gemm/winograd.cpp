#include "gemm/winograd.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The rows of G: weights are transformed as G w G^T, in double so that they are rounded once.
void kernel_matrix(int outputs, double (&g)[6][3]) {
  if (outputs == 2) {
    constexpr double rows[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    std::memcpy(g, rows, sizeof rows);
    return;
  }
  const double points[5] = {0, std::sqrt(0.5), -std::sqrt(0.5), std::sqrt(2.0), -std::sqrt(2.0)};
  for (int i = 0; i < 5; ++i) {
    double scale = 1;
    for (int j = 0; j < 5; ++j)
      if (j != i) scale *= points[i] - points[j];
    for (int k = 0; k < 3; ++k) g[i][k] = (k == 0 ? 1 : k == 1 ? points[i] : points[i] * points[i]) / scale;
  }
  g[5][0] = g[5][1] = 0;
  g[5][2] = 1;
}

// Tiles worked on at a time: their transforms stay in the outer cache levels.
std::int64_t chunk_tiles(std::int64_t positions, std::int64_t channels, std::int64_t tiles, bool grouped) {
  // Groups do little work on each transformed value, so these should not leave the second level.
  const std::int64_t floats = grouped ? 1 << 18 : 1 << 19;
  const std::int64_t room = std::max<std::int64_t>(28, floats / (positions * std::max<std::int64_t>(1, channels)) / 28 * 28);
  const std::int64_t chunks = ceil_div(tiles, room);
  return chunks == 0 ? 0 : ceil_div(tiles, chunks);
}

}  // namespace

namespace {

// Neighbouring groups that run as one, with zero weights between them, so that channels come in whole blocks; 0 if none do.
std::int64_t merged_groups(const ConvShape& s) {
  if (s.groups == 1) return 1;
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups;
  for (std::int64_t merged = 1; merged <= s.groups && merged <= 16; ++merged) {
    if (s.groups % merged == 0 && merged * in % 16 == 0 && merged * out % 16 == 0) return merged;
  }
  return 0;
}

// The convolution that runs: of all merged groups, one.
ConvShape one_group(ConvShape s) {
  const std::int64_t count = s.groups / merged_groups(s);
  s.c /= count;
  s.oc /= count;
  s.groups = 1;
  return s;
}

}  // namespace

bool WinogradConv::fits(const ConvShape& s) noexcept {
  return s.kh == 3 && s.kw == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 && s.dilation_w == 1 && merged_groups(s) != 0;
}

double WinogradConv::cost(const WinogradKernel& kernel, const GemmKernel& gemm, const ConvShape& whole) noexcept {
  const ConvShape s = one_group(whole);
  const std::int64_t m = kernel.outputs, positions = (m + 2) * (m + 2);
  const std::int64_t tiles = ceil_div(s.oh, m) * ceil_div(s.ow, m);
  const std::int64_t in_blocks = ceil_div(s.c, 16), out_blocks = ceil_div(s.oc, 16);
  ConvShape product;
  product.c = s.c;
  product.oc = s.oc;
  product.w = product.ow = chunk_tiles(positions, in_blocks * 16 + out_blocks * 16, tiles, whole.groups > 1);
  const double chunks = static_cast<double>(tiles) / static_cast<double>(std::max<std::int64_t>(1, product.ow));
  const double multiply = GemmConv::cost(gemm, product, 16, true) * static_cast<double>(positions) * chunks;
  // Transforms, measured: about 6 cycles a position for an input block, 5 for an output block, at 512 bits.
  const double lanes = gemm.isa == Isa::avx512 ? 1 : gemm.isa == Isa::avx2 ? 2 : 4;
  const double transforms = static_cast<double>(tiles * positions) * static_cast<double>(6 * in_blocks + 5 * out_blocks) * lanes;
  // Transformed weights are larger, and a small map reads them for little work: about 8 bytes a cycle from memory.
  const double weights = static_cast<double>(positions * s.c * s.oc) * 4 / 8;
  return static_cast<double>(s.n * (whole.groups / merged_groups(whole))) * std::max(multiply + transforms, weights / static_cast<double>(std::max<std::int64_t>(1, s.n)));
}

WinogradConv::WinogradConv(const WinogradKernel& kernel, const GemmKernel& gemm, const ConvShape& shape, const Map& in, const Map& out,
                           const Map& residual, bool relu)
    : kernel_(&kernel), gemm_(&gemm), shape_(shape), merged_(merged_groups(shape)), groups_(shape.groups / merged_), group_in_(shape.c / groups_),
      group_out_(shape.oc / groups_), in_(in), out_(out), residual_(residual), relu_(relu) {
  const std::int64_t m = kernel.outputs;
  positions_ = (m + 2) * (m + 2);
  panels_ = ceil_div(group_out_, gemm.cols);
  in_blocks_ = ceil_div(shape.c, 16);
  out_blocks_ = ceil_div(shape.oc, 16);
  tile_rows_ = ceil_div(shape.oh, m);
  tile_cols_ = ceil_div(shape.ow, m);
  chunk_ = chunk_tiles(positions_, (in_blocks_ + out_blocks_) * 16, tile_rows_ * tile_cols_, groups_ > 1);
  // An odd number of cache lines between positions: they are written side by side and must not fall into one cache set.
  v_position_ = (in_blocks_ * chunk_ | 1) * 16;
  m_position_ = (out_blocks_ * chunk_ | 1) * 16;
  for (std::int64_t b = 0; b < ceil_div(group_in_, 16); ++b) segments_.push_back(b * chunk_ * 16);
}

void WinogradConv::pack(const float* weights, float* packed) const {
  const std::int64_t in = group_in_ / merged_, out = group_out_ / merged_;
  std::vector<float> spread(merged_ == 1 ? 0 : static_cast<std::size_t>(group_out_ * group_in_ * 9), 0.0f);
  for (std::int64_t g = 0; g < groups_; ++g) {
    const float* own = weights + g * group_out_ * in * 9;
    if (merged_ > 1) {
      for (std::int64_t o = 0; o < group_out_; ++o) {
        float* row = spread.data() + (o * group_in_ + o / out * in) * 9;
        std::memcpy(row, own + o * in * 9, static_cast<std::size_t>(in * 9) * sizeof(float));
      }
      own = spread.data();
    }
    pack_group(own, packed + g * group_weights());
  }
}

void WinogradConv::pack_group(const float* weights, float* packed) const {
  double g[6][3];
  kernel_matrix(kernel_->outputs, g);
  constexpr std::int64_t most = 64;  // columns of the widest gemm kernel
  const std::int64_t n = kernel_->outputs + 2, cols = gemm_->cols;
  for (std::int64_t panel = 0; panel < panels_; ++panel) {
    const std::int64_t first = panel * cols, count = std::min(cols, group_out_ - first);
    for (std::int64_t c = 0; c < group_in_; ++c) {
      // Column by column of the panel, so that the innermost loops run over neighbouring outputs.
      double w[9][most], rows[6][3][most];
      for (std::int64_t o = 0; o < cols; ++o) {
        const float* kernel = weights + ((first + o) * group_in_ + c) * 9;
        for (int k = 0; k < 9; ++k) w[k][o] = o < count ? kernel[k] : 0.0;
      }
      for (std::int64_t i = 0; i < n; ++i)
        for (int k = 0; k < 3; ++k)
          for (std::int64_t o = 0; o < cols; ++o) rows[i][k][o] = g[i][0] * w[k][o] + g[i][1] * w[3 + k][o] + g[i][2] * w[6 + k][o];
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          float* target = packed + (((i * n + j) * panels_ + panel) * group_in_ + c) * cols;
          for (std::int64_t o = 0; o < cols; ++o) {
            target[o] = static_cast<float>(g[j][0] * rows[i][0][o] + g[j][1] * rows[i][1][o] + g[j][2] * rows[i][2][o]);
          }
        }
      }
    }
  }
}

void WinogradConv::pack_transformed(const float* weights, float* packed) const {
  const std::int64_t cols = gemm_->cols;
  for (std::int64_t position = 0; position < positions_; ++position) {
    for (std::int64_t panel = 0; panel < panels_; ++panel) {
      for (std::int64_t c = 0; c < group_in_; ++c, packed += cols) {
        for (std::int64_t o = 0; o < cols; ++o) {
          const std::int64_t output = panel * cols + o;
          packed[o] = output < group_out_ ? weights[(output * group_in_ + c) * positions_ + position] : 0.0f;
        }
      }
    }
  }
}

void WinogradConv::pad_bias(const float* bias, float* padded) const {
  std::memset(padded, 0, static_cast<std::size_t>(padded_channels()) * sizeof(float));
  std::memcpy(padded, bias, static_cast<std::size_t>(shape_.oc) * sizeof(float));
}

void WinogradConv::run(const float* in, const float* packed, const Epilogue& epilogue, float* out, float* scratch, Team& team) const {
  float* v = scratch;
  float* m = scratch + positions_ * v_position_;
  const std::int64_t tiles = tile_rows_ * tile_cols_;
  for (std::int64_t image = 0; image < shape_.n; ++image) {
    for (std::int64_t first = 0; first < tiles; first += chunk_) {
      const std::int64_t count = std::min(chunk_, tiles - first);
      transform_inputs(image, first, count, in, v, team);
      multiply(count, packed, v, m, team);
      transform_outputs(image, first, count, m, epilogue, out, team);
    }
  }
}

void WinogradConv::transform_inputs(std::int64_t image, std::int64_t first_tile, std::int64_t tiles, const float* in, float* v, Team& team) const {
  const std::int64_t m = kernel_->outputs, n = m + 2;
  constexpr std::int64_t batch = 16;  // tiles of a task
  const std::int64_t batches = ceil_div(tiles, batch);
  team.run(static_cast<std::size_t>(in_blocks_ * batches), [&](std::size_t task) {
    const std::int64_t block = static_cast<std::int64_t>(task) / batches, start = static_cast<std::int64_t>(task) % batches * batch;
    const float* plane = in + image * in_.image + block * in_.plane;
    WinogradInput tile;
    tile.row = in_.row;
    tile.position = v_position_;
    tile.relu = relu_;
    for (std::int64_t t = start; t < std::min(tiles, start + batch); ++t) {
      const std::int64_t y = (first_tile + t) / tile_cols_ * m - shape_.pad_top, x = (first_tile + t) % tile_cols_ * m - shape_.pad_left;
      tile.x = plane + y * in_.row + x * 16;
      // The halo is zero, so it may be read as part of the map.
      tile.first_row = std::clamp<std::int64_t>(-in_.top - y, 0, n);
      tile.last_row = std::clamp<std::int64_t>(in_.h + in_.bottom - y, 0, n);
      tile.first_col = std::clamp<std::int64_t>(-in_.left - x, 0, n);
      tile.last_col = std::clamp<std::int64_t>(in_.w + in_.right - x, 0, n);
      tile.v = v + (block * chunk_ + t) * 16;
      kernel_->input(tile);
    }
  });
}

void WinogradConv::multiply(std::int64_t tiles, const float* packed, const float* v, float* m, Team& team) const {
  const std::int64_t cols = gemm_->cols, rows = gemm_->rows;
  // A task is some panels of one position, long enough to be worth handing over. Panels are counted through all groups.
  const std::int64_t panels = groups_ * panels_;
  const std::int64_t work = tiles * group_in_ * cols, some = std::clamp<std::int64_t>(300'000 / std::max<std::int64_t>(1, work), 1, panels);
  const std::int64_t batches = ceil_div(panels, some);
  const std::int64_t pieces = ceil_div(tiles, rows);
  team.run(static_cast<std::size_t>(positions_ * batches), [&](std::size_t task) {
    const std::int64_t position = static_cast<std::int64_t>(task) / batches, first = static_cast<std::int64_t>(task) % batches * some;
    TileArgs args;
    args.segments = segments_.data();
    args.full = group_in_ / 16;
    args.run = 16;
    args.tail = group_in_ % 16 != 0 ? 1 : 0;
    args.tail_run = group_in_ % 16;
    args.a_stride = 16;
    args.c_pixel = 16;
    args.c_block = chunk_ * 16;
    args.lo = -__builtin_inff();
    args.hi = __builtin_inff();
    for (std::int64_t index = first; index < std::min(panels, first + some); ++index) {
      const std::int64_t group = index / panels_, panel = index % panels_;
      args.b = packed + group * group_weights() + (position * panels_ + panel) * group_in_ * cols;
      args.valid = std::min(cols, ceil_div(group_out_, 16) * 16 - panel * cols);
      const float* a = v + position * v_position_ + group * group_in_ / 16 * chunk_ * 16;
      float* c = m + position * m_position_ + (group * group_out_ + panel * cols) / 16 * chunk_ * 16;
      std::int64_t t = 0;
      for (std::int64_t piece = 0; piece < pieces; ++piece) {
        const std::int64_t count = ceil_div(tiles - t, pieces - piece);
        args.a = a + t * 16;
        args.c = c + t * 16;
        gemm_->tiles[count - 1](args);
        t += count;
      }
    }
  });
}

void WinogradConv::transform_outputs(std::int64_t image, std::int64_t first_tile, std::int64_t tiles, const float* m, const Epilogue& epilogue,
                                     float* out, Team& team) const {
  const std::int64_t outputs = kernel_->outputs;
  constexpr std::int64_t batch = 16;
  const std::int64_t batches = ceil_div(tiles, batch);
  team.run(static_cast<std::size_t>(out_blocks_ * batches), [&](std::size_t task) {
    const std::int64_t block = static_cast<std::int64_t>(task) / batches, start = static_cast<std::int64_t>(task) % batches * batch;
    WinogradOutput tile;
    tile.position = m_position_;
    tile.row = out_.row;
    tile.residual_row = residual_.row;
    tile.bias = epilogue.bias != nullptr ? epilogue.bias + block * 16 : nullptr;
    tile.lo = epilogue.lo;
    tile.hi = epilogue.hi;
    for (std::int64_t t = start; t < std::min(tiles, start + batch); ++t) {
      const std::int64_t y = (first_tile + t) / tile_cols_ * outputs, x = (first_tile + t) % tile_cols_ * outputs;
      tile.m = m + (block * chunk_ + t) * 16;
      tile.y = out + image * out_.image + block * out_.plane + y * out_.row + x * 16;
      if (epilogue.residual != nullptr) {
        tile.residual = epilogue.residual + image * residual_.image + block * residual_.plane + y * residual_.row + x * 16;
      }
      tile.rows = std::min(outputs, shape_.oh - y);
      tile.cols = std::min(outputs, shape_.ow - x);
      kernel_->output(tile);
    }
  });
}

}  // namespace bittern::engine
