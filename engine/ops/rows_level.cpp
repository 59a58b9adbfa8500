// Row functions of the glue operators, compiled once per instruction-set level.
#include "ops/rows.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

constexpr int parts = 16 / width;  // vectors in a channel block

inline vf clamp(vf y, vf lo, vf hi) { return min(hi, max(lo, y)); }

// `pixels` neighbouring outputs.
template <int pixels>
void depthwise_tile(const DepthwiseRow& row, const float* x, const float* residual, float* y) {
  vf acc[pixels][parts];
  for (int p = 0; p < pixels; ++p)
    for (int v = 0; v < parts; ++v) acc[p][v] = zero();
  for (std::int64_t t = 0; t < row.tap_count; ++t) {
    const float* tap = x + row.taps[t];
    vf w[parts];
    for (int v = 0; v < parts; ++v) w[v] = load(row.weights + t * 16 + v * width);
    for (int p = 0; p < pixels; ++p)
      for (int v = 0; v < parts; ++v) acc[p][v] = fma(load(tap + p * row.step + v * width), w[v], acc[p][v]);
  }
  const vf lo = set1(row.lo), hi = set1(row.hi);
  for (int v = 0; v < parts; ++v) {
    const vf bias = row.bias != nullptr ? load(row.bias + v * width) : zero();
    for (int p = 0; p < pixels; ++p) {
      vf r = add(acc[p][v], bias);
      if (residual != nullptr) r = add(r, load(residual + p * 16 + v * width));
      store(y + p * 16 + v * width, clamp(r, lo, hi));
    }
  }
}

template <int tile>
void depthwise(const DepthwiseRow& row) {
  std::int64_t p = 0;
  const auto residual = [&] { return row.residual != nullptr ? row.residual + p * 16 : nullptr; };
  for (; p + tile <= row.count; p += tile) depthwise_tile<tile>(row, row.x + p * row.step, residual(), row.y + p * 16);
  for (; p < row.count; ++p) depthwise_tile<1>(row, row.x + p * row.step, residual(), row.y + p * 16);
}

// The taps of output pixel p that lie inside the input: [first, last).
inline void window(const PoolRow& row, std::int64_t p, std::int64_t& start, std::int64_t& first, std::int64_t& last) {
  start = p * row.stride - row.pad;
  first = start < 0 ? (-start + row.dilation - 1) / row.dilation : 0;
  last = start >= row.width ? 0 : (row.width - 1 - start) / row.dilation + 1;
  if (last > row.kernel) last = row.kernel;
}

void maxpool(const PoolRow& row) {
  for (std::int64_t p = 0; p < row.count; ++p) {
    std::int64_t start, first, last;
    window(row, p, start, first, last);
    vf best[parts];
    for (int v = 0; v < parts; ++v) best[v] = set1(-__builtin_inff());
    for (std::int64_t y = 0; y < row.rows; ++y) {
      for (std::int64_t t = first; t < last; ++t) {
        const float* x = row.x + y * row.row_step + (start + t * row.dilation) * 16;
        for (int v = 0; v < parts; ++v) best[v] = max(best[v], load(x + v * width));
      }
    }
    for (int v = 0; v < parts; ++v) store(row.y + p * 16 + v * width, best[v]);
  }
}

void avgpool(const PoolRow& row) {
  for (std::int64_t p = 0; p < row.count; ++p) {
    std::int64_t start, first, last;
    window(row, p, start, first, last);
    vf sum[parts];
    for (int v = 0; v < parts; ++v) sum[v] = zero();
    for (std::int64_t y = 0; y < row.rows; ++y) {
      for (std::int64_t t = first; t < last; ++t) {
        const float* x = row.x + y * row.row_step + (start + t * row.dilation) * 16;
        for (int v = 0; v < parts; ++v) sum[v] = add(sum[v], load(x + v * width));
      }
    }
    std::int64_t columns = last > first ? last - first : 0;
    if (row.include_pad) {
      // Taps beyond the padding, which ceil_mode can reach, are not counted.
      const std::int64_t room = (row.padded_width - 1 - (start + row.pad)) / row.dilation + 1;
      columns = room < row.kernel ? room : row.kernel;
    }
    const vf divisor = set1(static_cast<float>(row.full_rows * columns));
    for (int v = 0; v < parts; ++v) store(row.y + p * 16 + v * width, div(sum[v], divisor));
  }
}

template <class Function>
inline void each(const EltwiseRow& row, Function function) {
  std::int64_t i = 0;
  for (; i + width <= row.count; i += width) store(row.y + i, function(load(row.a + i), row.b != nullptr ? load(row.b + i) : zero()));
  if (const int n = static_cast<int>(row.count - i); n > 0) {
    store_first(row.y + i, function(load_first(row.a + i, n), row.b != nullptr ? load_first(row.b + i, n) : zero()), n);
  }
}

void eltwise(const EltwiseRow& row) {
  const vf lo = set1(row.lo), hi = set1(row.hi), slope = set1(row.slope);
  switch (row.op) {
    case Eltwise::add:
      return each(row, [=](vf a, vf b) { return clamp(add(a, b), lo, hi); });
    case Eltwise::sub:
      return each(row, [=](vf a, vf b) { return clamp(sub(a, b), lo, hi); });
    case Eltwise::mul:
      return each(row, [=](vf a, vf b) { return clamp(mul(a, b), lo, hi); });
    case Eltwise::div:
      return each(row, [=](vf a, vf b) { return clamp(div(a, b), lo, hi); });
    case Eltwise::clamp:
      return each(row, [=](vf a, vf) { return clamp(a, lo, hi); });
    case Eltwise::leaky_relu:
      // max(0, a) + slope * min(0, a), exact for every slope because one of the terms is zero.
      return each(row, [=](vf a, vf) { return add(max(zero(), a), mul(slope, min(zero(), a))); });
  }
}

// v ^ -beta, by square roots for the exponents that networks use.
inline vf inverse_power(vf v, float beta) {
  const vf one = set1(1.0f);
  if (beta == 1.0f) return div(one, v);
  if (beta == 0.5f) return div(one, sqrt(v));
  if (beta == 0.75f) {
    const vf root = sqrt(v);
    return div(one, mul(root, sqrt(root)));
  }
  float lanes[width];
  store(lanes, v);
  for (int i = 0; i < width; ++i) lanes[i] = __builtin_powf(lanes[i], -beta);
  return load(lanes);
}

void lrn(const LrnRow& row) {
  const std::int64_t blocks = (row.channels + 15) / 16, margin = lrn_margin(row.before, row.after), filled = row.channels % 16;
  float* squares = row.squares + margin;
  for (std::int64_t i = 0; i < margin; ++i) squares[-1 - i] = squares[blocks * 16 + i] = 0.0f;
  const vf alpha = set1(row.alpha), bias = set1(row.bias);
  for (std::int64_t p = 0; p < row.count; ++p) {
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (int v = 0; v < parts; ++v) {
        const vf x = load(row.x + b * row.x_plane + p * 16 + v * width);
        store(squares + b * 16 + v * width, mul(x, x));
      }
    }
    // Spare lanes hold numbers of no meaning.
    for (std::int64_t i = filled; filled != 0 && i < 16; ++i) squares[(blocks - 1) * 16 + i] = 0.0f;
    for (std::int64_t b = 0; b < blocks; ++b) {
      for (int v = 0; v < parts; ++v) {
        vf sum = zero();
        for (std::int64_t c = -row.before; c <= row.after; ++c) sum = add(sum, load(squares + b * 16 + v * width + c));
        const vf x = load(row.x + b * row.x_plane + p * 16 + v * width);
        store(row.y + b * row.y_plane + p * 16 + v * width, mul(x, inverse_power(fma(alpha, sum, bias), row.beta)));
      }
    }
  }
}

constexpr OpKernel list[] = {
#define BITTERN_OP(level_, loop_, member_, function_, rows_, cols_)                                                        \
  BITTERN_ONLY(level_, {.name = #loop_ "_f32_f32_f32_" #rows_ "x" #cols_ "__" #level_, .loop = #loop_, .isa = Isa::level_, \
                        .rows = rows_, .cols = cols_, .member_ = function_}, )
#include "ops/kernels.inc"
#undef BITTERN_OP
};

}  // namespace

const OpKernel* op_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
