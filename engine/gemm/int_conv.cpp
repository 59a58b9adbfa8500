#include "gemm/int_conv.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {
namespace {

constexpr std::int64_t quad = 4;
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

IntConv::IntConv(const IntGemmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual,
                 int terms)
    : kernel_(&kernel), terms_(terms), loop_({kernel.rows, kernel.cols, kernel.rows <= most_gathered_rows}, shape, in, out, residual, quad, terms) {}

double IntConv::cost(const IntGemmKernel& kernel, const ConvShape& s, std::int64_t in_block, int terms) noexcept {
  const bool gathers = kernel.rows <= most_gathered_rows;
  const std::int64_t length = gathers ? s.oh * s.ow : s.ow, lines = gathers ? 1 : s.oh;
  const std::int64_t tiles = ceil_div(length, kernel.rows), panels = ceil_div(s.oc, kernel.cols);
  double k = 0;
  for (std::int64_t i = 0; i < panels; ++i) k += static_cast<double>(ConvLoop::panel(s, in_block, kernel.cols, i, quad, terms).k);
  const bool wide = kernel.isa >= Isa::avx512;
  const double vectors = static_cast<double>(kernel.cols) / (wide ? 16 : kernel.isa == Isa::scalar ? 4 : 8);
  const double rows = static_cast<double>(length) / static_cast<double>(std::max<std::int64_t>(1, tiles));
  const double step = std::max({rows * vectors, 4.0, rows + vectors});
  const double store = vectors * (3 * rows + 4) + 12.0;
  return static_cast<double>(s.n * lines * tiles) * (k * step + static_cast<double>(panels) * store);
}

void IntConv::pack(const IntWeights& weights, std::int8_t* packed) const {
  const ConvShape& s = loop_.shape();
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups, taps = s.kh * s.kw, cols = kernel_->cols, block = loop_.in_block();
  for (std::size_t index = 0; index < loop_.panels().size(); ++index) {
    const ConvLoop::Panel& p = loop_.panels()[index];
    const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, s.oc - first);
    std::int8_t* const panel = packed + p.weights * quad;
    std::memset(panel, 0, static_cast<std::size_t>(p.k * cols * quad));
    for (std::int64_t o = 0; o < count; ++o) {
      std::int8_t* target = panel + o * quad;
      const std::int64_t group = (first + o) / out * in;  // its first input channel
      const std::int16_t* const row = weights.values + (first + o) * weights.out;
      for (std::int64_t b = 0; b < p.blocks * terms_; ++b) {
        const std::int64_t start = (p.first_block + b / terms_) * block, end = std::min(start + block, s.c);
        const bool second = b % terms_ != 0;
        for (std::int64_t t = 0; t < taps; ++t) {
          for (std::int64_t lane = start; lane < end; lane += quad, target += cols * quad) {
            // Foreign channels' weights stay zero.
            const std::int64_t low = std::max(lane, group), high = std::min(std::min(lane + quad, end), group + in);
            for (std::int64_t channel = low; channel < high; ++channel) {
              const std::int32_t w = row[(channel - group) * weights.in + t];
              std::int32_t byte = w;
              if (terms_ == 2) {
                const std::int32_t near = std::clamp(w, -128, 127);
                byte = second ? w - near : near;
              }
              target[channel - lane] = static_cast<std::int8_t>(byte);
            }
          }
        }
      }
    }
  }
}

void sum_offsets(const IntWeights& weights, std::int64_t channels, std::int64_t each, const std::int32_t* bias, std::int32_t zero, std::int32_t* offset) {
  // Along the rows or down the columns, as they stand.
  std::vector<std::int64_t> sums(static_cast<std::size_t>(channels));
  if (weights.out == 1) {
    for (std::int64_t i = 0; i < each; ++i)
      for (std::int64_t o = 0; o < channels; ++o) sums[static_cast<std::size_t>(o)] += weights.values[i * weights.in + o];
  } else {
    for (std::int64_t o = 0; o < channels; ++o)
      for (std::int64_t i = 0; i < each; ++i) sums[static_cast<std::size_t>(o)] += weights.values[o * weights.out + i];
  }
  for (std::int64_t o = 0; o < channels; ++o) {
    offset[o] = static_cast<std::int32_t>((bias != nullptr ? bias[o] : 0) - zero * sums[static_cast<std::size_t>(o)]);
  }
}

void IntConv::run(const std::uint8_t* in, const std::int8_t* packed, const IntEpilogue& epilogue, IntOut type, void* out, Team& team) const {
  const std::int64_t element = type == IntOut::bytes ? 1 : 4;
  const IntTileFunction* const tiles = kernel_->tiles + static_cast<int>(type) * kernel_->rows;
  loop_.run_all(team, [&](const ConvLoop::Stretch& stretch) {
    const std::int64_t first = stretch.panel * kernel_->cols;
    IntTileArgs args;
    args.segments = loop_.segments();
    args.full = stretch.full;
    args.tail = stretch.tail;
    args.run = loop_.run();
    args.tail_run = loop_.tail_run();
    args.a_stride = loop_.pixel_step();
    args.b = packed + loop_.panels()[static_cast<std::size_t>(stretch.panel)].weights * quad;
    args.offset = epilogue.offset + first;
    args.store = epilogue.store;
    if (args.store.scale != nullptr) args.store.scale += first;
    if (args.store.bias != nullptr) args.store.bias += first;
    args.valid = stretch.valid;
    args.c_pixel = loop_.out_pixel();
    args.c_block = stretch.c_block;
    args.residual_pixel = loop_.residual_pixel();
    args.residual_block = stretch.residual_block;
    return [args, tiles, element, a = in + stretch.a * quad, c = static_cast<std::byte*>(out) + stretch.c * element,
            residual = epilogue.store.residual != nullptr ? epilogue.store.residual + stretch.residual : nullptr](const ConvLoop::Tile& tile) mutable {
      args.a = a + tile.a * quad;
      args.c = c + tile.c * element;
      args.store.residual = residual != nullptr ? residual + tile.residual : nullptr;
      args.pixels = tile.pixels;
      tiles[tile.rows - 1](args);
    };
  });
}

}  // namespace bittern::engine
