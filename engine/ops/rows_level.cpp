// Row functions of the glue operators, compiled once per instruction-set level.
#include "ops/rows.h"
#include "simd/math.h"
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

// Output pixels whose window lies inside the input: [first, last). Divisions per pixel would cost more than the pooling.
inline void inside(const PoolRow& row, std::int64_t& first, std::int64_t& last) {
  first = (row.pad + row.stride - 1) / row.stride;
  const std::int64_t room = row.width - 1 - (row.kernel - 1) * row.dilation + row.pad;
  last = room < 0 ? 0 : room / row.stride + 1;
  if (last > row.count) last = row.count;
  if (first > last) first = last;
}

// Combines the taps [first, last) of `pixels` neighbouring windows.
template <int pixels, class Combine>
inline void pool_tile(const PoolRow& row, std::int64_t start, std::int64_t first, std::int64_t last, vf (&acc)[pixels][parts], Combine combine) {
  const std::int64_t step = row.stride * 16;
  for (std::int64_t y = 0; y < row.rows; ++y) {
    const float* x = row.x + y * row.row_step + start * 16;
    for (std::int64_t t = first; t < last; ++t) {
      BITTERN_UNROLL
      for (int p = 0; p < pixels; ++p) {
        BITTERN_UNROLL
        for (int v = 0; v < parts; ++v) acc[p][v] = combine(acc[p][v], load(x + p * step + t * row.dilation * 16 + v * width));
      }
    }
  }
}

// Every output of a row: those at the borders one by one, those between in tiles. finish(pixel, taps, vector) ends one.
template <class Combine, class Finish>
inline void pool_row(const PoolRow& row, vf identity, Combine combine, Finish finish) {
  constexpr int tile = 4;
  std::int64_t first_inside, last_inside;
  inside(row, first_inside, last_inside);
  const auto single = [&](std::int64_t p) {
    std::int64_t start, first, last;
    window(row, p, start, first, last);
    vf acc[1][parts];
    for (int v = 0; v < parts; ++v) acc[0][v] = identity;
    pool_tile(row, start, first, last, acc, combine);
    for (int v = 0; v < parts; ++v) store(row.y + p * 16 + v * width, finish(p, last > first ? last - first : 0, acc[0][v]));
  };
  std::int64_t p = 0;
  for (; p < first_inside; ++p) single(p);
  for (; p + tile <= last_inside; p += tile) {
    vf acc[tile][parts];
    for (int i = 0; i < tile; ++i)
      for (int v = 0; v < parts; ++v) acc[i][v] = identity;
    pool_tile(row, p * row.stride - row.pad, 0, row.kernel, acc, combine);
    for (int i = 0; i < tile; ++i)
      for (int v = 0; v < parts; ++v) store(row.y + (p + i) * 16 + v * width, finish(p + i, row.kernel, acc[i][v]));
  }
  for (; p < row.count; ++p) single(p);
}

void maxpool(const PoolRow& row) {
  pool_row(row, set1(-__builtin_inff()), [](vf a, vf b) { return max(a, b); }, [](std::int64_t, std::int64_t, vf a) { return a; });
}

void avgpool(const PoolRow& row) {
  pool_row(row, zero(), [](vf a, vf b) { return add(a, b); }, [&](std::int64_t p, std::int64_t taps, vf sum) {
    std::int64_t columns = taps;
    if (row.include_pad) {
      // Taps beyond the padding, which ceil_mode can reach, are not counted.
      const std::int64_t room = (row.padded_width - 1 - p * row.stride) / row.dilation + 1;
      columns = room < row.kernel ? room : row.kernel;
    }
    return div(sum, set1(static_cast<float>(row.full_rows * columns)));
  });
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
    case Eltwise::sigmoid:
      return each(row, [](vf a, vf) { return sigmoid(a); });
    case Eltwise::tanh:
      return each(row, [](vf a, vf) { return tanh(a); });
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

// One softmax of contiguous elements.
void softmax_contiguous(const float* x, float* y, std::int64_t axis) {
  float lanes[width];
  vf most = set1(-__builtin_inff());
  const std::int64_t whole = axis / width * width;
  const int left = static_cast<int>(axis - whole);
  for (std::int64_t i = 0; i < whole; i += width) most = max(most, load(x + i));
  store(lanes, most);
  float largest = lanes[0];
  for (int l = 1; l < width; ++l) largest = lanes[l] > largest ? lanes[l] : largest;
  for (std::int64_t i = whole; i < axis; ++i) largest = x[i] > largest ? x[i] : largest;
  const vf shift = set1(largest);
  vf total = zero();
  for (std::int64_t i = 0; i < whole; i += width) {
    const vf e = exp(sub(load(x + i), shift));
    total = add(total, e);
    store(y + i, e);
  }
  store(lanes, total);
  float sum = 0;
  for (int l = 0; l < width; ++l) sum += lanes[l];
  if (left != 0) {
    store_first(y + whole, exp(sub(load_first(x + whole, left), shift)), left);
    for (int l = 0; l < left; ++l) sum += y[whole + l];
  }
  const vf divisor = set1(sum);
  for (std::int64_t i = 0; i < whole; i += width) store(y + i, div(load(y + i), divisor));
  if (left != 0) store_first(y + whole, div(load_first(y + whole, left), divisor), left);
}

void softmax(const SoftmaxRow& row) {
  if (row.inner == 1 && row.axis >= width) {
    for (std::int64_t r = row.first; r < row.first + row.count; ++r) softmax_contiguous(row.x + r * row.axis, row.y + r * row.axis, row.axis);
    return;
  }
  // Softmaxes in lanes: neighbours lie side by side if there is an inner dimension, else they are gathered.
  for (std::int64_t done = 0; done < row.count;) {
    const std::int64_t r = row.first + done, within = row.inner == 1 ? row.count - done : row.inner - r % row.inner;
    std::int64_t n = within < row.count - done ? within : row.count - done;
    if (n > width) n = width;
    const std::int64_t base = r / row.inner * row.axis * row.inner + r % row.inner;
    const std::int64_t lane_step = row.inner == 1 ? row.axis : 1;
    const auto get_from = [&](const float* from, std::int64_t i) {
      float lanes[width];
      for (int l = 0; l < width; ++l) lanes[l] = l < n ? from[base + i * row.inner + l * lane_step] : 0.0f;
      return load(lanes);
    };
    const auto put = [&](std::int64_t i, vf y) {
      float lanes[width];
      store(lanes, y);
      for (int l = 0; l < n; ++l) row.y[base + i * row.inner + l * lane_step] = lanes[l];
    };
    vf largest = get_from(row.x, 0);
    for (std::int64_t i = 1; i < row.axis; ++i) largest = max(largest, get_from(row.x, i));
    vf sum = zero();
    for (std::int64_t i = 0; i < row.axis; ++i) {
      const vf e = exp(sub(get_from(row.x, i), largest));
      sum = add(sum, e);
      put(i, e);
    }
    for (std::int64_t i = 0; i < row.axis; ++i) put(i, div(get_from(row.y, i), sum));
    done += n;
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
