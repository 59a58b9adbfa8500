#include "gemm/conv.h"

#include <algorithm>
#include <cstring>

#include "base/transpose.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

double GemmConv::Estimate::total() const noexcept {
  return single ? weights + compute / 4 : std::max(compute, weights);  // for a single pixel they overlap for the most part
}

double GemmConv::cost(const GemmKernel& kernel, const ConvShape& s, std::int64_t in_block, bool flat) noexcept {
  return estimate(kernel, s, in_block, flat).total();
}

GemmConv::Estimate GemmConv::estimate(const GemmKernel& kernel, const ConvShape& s, std::int64_t in_block, bool flat) noexcept {
  const bool whole = flat || kernel.gathers;
  const std::int64_t length = whole ? s.oh * s.ow : s.ow, lines = whole ? 1 : s.oh;
  const std::int64_t tiles = ceil_div(length, kernel.rows), panels = ceil_div(s.oc, kernel.cols);
  double k = 0;
  if (s.groups == 1) {
    k = static_cast<double>(s.c * s.kh * s.kw * panels);
  } else {
    for (std::int64_t i = 0; i < panels; ++i) k += static_cast<double>(ConvLoop::panel(s, in_block, kernel.cols, i).k);
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
  return {compute, weights, length * lines * s.n == 1};
}

GemmConv::GemmConv(const GemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual)
    : kernel_(&kernel), loop_({kernel.rows, kernel.cols, kernel.gathers}, shape, in, out, residual, 1) {}

double GemmConv::excess() const noexcept {
  double computed = 0;
  for (const ConvLoop::Panel& p : loop_.panels()) computed += static_cast<double>(p.k * kernel_->cols);
  const ConvShape& s = loop_.shape();
  return computed / static_cast<double>(s.oc * (s.c / s.groups) * s.kh * s.kw);
}

void GemmConv::pack(const float* weights, float* packed, const Done& done) const {
  const ConvShape& s = loop_.shape();
  const std::int64_t in_block = loop_.in_block(), in = s.c / s.groups, out = s.oc / s.groups, taps = s.kh * s.kw, cols = kernel_->cols;
  for (std::size_t index = 0; index < loop_.panels().size(); ++index) {
    const ConvLoop::Panel& p = loop_.panels()[index];
    const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, s.oc - first);
    float* target = packed + p.weights;
    if (count < cols || s.groups > 1) std::memset(target, 0, static_cast<std::size_t>(p.k * cols) * sizeof(float));
    if (s.groups == 1 && (taps == 1 || in_block == 1)) {
      // The products already stand in the order of the segments.
      transpose(weights + first * p.k, p.k, count, p.k, target, cols);
      done(weights + first * p.k, count * p.k);
      continue;
    }
    // Written in order; the rows that are read from stay in cache.
    for (std::int64_t b = 0; b < p.blocks; ++b) {
      const std::int64_t start = (p.first_block + b) * in_block, lanes = std::min(in_block, s.c - start);
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
  const std::int64_t cols = kernel_->cols, inputs = loop_.shape().c, outputs = loop_.shape().oc;
  const std::int64_t stretch = std::max<std::int64_t>(1, (std::int64_t{1} << 21) / std::max<std::int64_t>(1, outputs));
  for (std::int64_t from = 0; from < inputs; from += stretch) {
    const std::int64_t to = std::min(inputs, from + stretch);
    for (std::size_t index = 0; index < loop_.panels().size(); ++index) {
      const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, outputs - first);
      float* target = packed + loop_.panels()[index].weights + from * cols;
      for (std::int64_t k = from; k < to; ++k, target += cols) {
        std::memcpy(target, weights + k * outputs + first, static_cast<std::size_t>(count) * sizeof(float));
        std::memset(target + count, 0, static_cast<std::size_t>(cols - count) * sizeof(float));
      }
    }
    done(weights + from * outputs, (to - from) * outputs);
  }
}

void GemmConv::pad_bias(const float* bias, float* padded) const {
  std::memset(padded, 0, static_cast<std::size_t>(padded_channels()) * sizeof(float));
  std::memcpy(padded, bias, static_cast<std::size_t>(loop_.shape().oc) * sizeof(float));
}

TileArgs stretch_args(const ConvLoop& loop, const GemmKernel& kernel, const ConvLoop::Stretch& stretch, const Epilogue& epilogue) noexcept {
  TileArgs args;
  args.segments = loop.segments();
  args.full = stretch.full;
  args.tail = stretch.tail;
  args.run = loop.run();
  args.tail_run = loop.tail_run();
  args.a_stride = loop.pixel_step();
  args.bias = epilogue.bias != nullptr ? epilogue.bias + stretch.panel * kernel.cols : nullptr;
  args.lo = epilogue.lo;
  args.hi = epilogue.hi;
  args.valid = stretch.valid;
  args.c_pixel = loop.out_pixel();
  args.c_block = stretch.c_block;
  args.residual_pixel = loop.residual_pixel();
  args.residual_block = stretch.residual_block;
  return args;
}

void GemmConv::run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const {
  loop_.run_all(team, [&](const ConvLoop::Stretch& stretch) {
    TileArgs args = stretch_args(loop_, *kernel_, stretch, epilogue);
    args.b = packed + loop_.panels()[static_cast<std::size_t>(stretch.panel)].weights;
    return [this, args, a = in + stretch.a, c = out + stretch.c,
            residual = epilogue.residual != nullptr ? epilogue.residual + stretch.residual : nullptr](const ConvLoop::Tile& tile) mutable {
      args.a = a + tile.a;
      args.c = c + tile.c;
      args.residual = residual != nullptr ? residual + tile.residual : nullptr;
      args.pixels = tile.pixels;
      kernel_->tiles[tile.rows - 1](args);
    };
  });
}

}  // namespace bittern::engine
