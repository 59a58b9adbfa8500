// Row functions of the operators on 8-bit codes, compiled once per instruction-set level.
#include "ops/code_rows.h"
#include "simd/store.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

constexpr int parts = 16 / width;  // vectors in a channel block

// `pixels` neighbouring outputs.
template <IntOut out, int pixels>
void depthwise_tile(const CodeDepthwiseRow& row, std::int64_t first) {
  vi acc[pixels][parts];
  BITTERN_UNROLL
  for (int v = 0; v < parts; ++v) {
    const vi offset = load_int(row.offset + v * width);
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) acc[p][v] = offset;
  }
  const std::uint8_t* x = row.x + first * row.step;
  for (std::int64_t t = 0; t < row.tap_count; ++t) {
    const std::uint8_t* tap = x + row.taps[t];
    BITTERN_UNROLL
    for (int v = 0; v < parts; ++v) {
      const vi w = load_int(row.weights + t * 16 + v * width);
      BITTERN_UNROLL
      for (int p = 0; p < pixels; ++p) acc[p][v] = mul_add(acc[p][v], widen(tap + p * row.step + v * width), w);
    }
  }
  const IntStore& how = row.store;
  BITTERN_UNROLL
  for (int v = 0; v < parts; ++v) {
    const vf scale = load(how.scale + v * width), bias = how.bias != nullptr ? load(how.bias + v * width) : zero();
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) {
      const std::int64_t at = (first + p) * 16 + v * width;
      store_sums<out>(how, acc[p][v], scale, bias, row.y, at, at, width);
    }
  }
}

template <IntOut out>
void depthwise(const CodeDepthwiseRow& row) {
  constexpr int tile = parts == 1 ? 8 : 4;
  std::int64_t p = 0;
  for (; p + tile <= row.count; p += tile) depthwise_tile<out, tile>(row, p);
  for (; p < row.count; ++p) depthwise_tile<out, 1>(row, p);
}

void max_row(const CodeMaxRow& row) {
  for (std::int64_t p = 0; p < row.count; ++p) {
    const std::int64_t start = p * row.stride - row.pad;
    unsigned char best[16];
    for (int i = 0; i < 16; ++i) best[i] = row.lowest;
    for (std::int64_t k = 0; k < row.kernel; ++k) {
      const std::int64_t column = start + k * row.dilation;
      if (column < 0 || column >= row.width) continue;
      const unsigned char* x = row.x + column * 16;
      for (std::int64_t r = 0; r < row.rows; ++r, x += row.row_step)
        for (int i = 0; i < 16; ++i) best[i] = best[i] < x[i] ? x[i] : best[i];
    }
    __builtin_memcpy(row.y + p * 16, best, sizeof best);
  }
}

void mean(const CodeMean& window) {
  BITTERN_UNROLL
  for (int v = 0; v < parts; ++v) {
    vi sum = {};
    sum = plus(sum, window.offset);
    for (std::int64_t r = 0; r < window.rows; ++r) {
      const unsigned char* x = window.x + r * window.row_step + v * width;
      for (std::int64_t c = 0; c < window.columns; ++c, x += window.column_step) sum = add(sum, widen(x));
    }
    const vf y = min(max(mul(to_float(sum), set1(window.scale)), set1(window.lo)), set1(window.hi));
    store_bytes(window.y + v * width, plus(round_int(y), window.zero));
  }
}

void add_codes(const CodeAddRow& row) {
  const vf a_zero = set1(row.a_zero), a_scale = set1(row.a_scale), b_zero = set1(row.b_zero), b_scale = set1(row.b_scale);
  const vf lo = set1(row.lo), hi = set1(row.hi);
  const auto at = [&](const unsigned char* a, const unsigned char* b, unsigned char* y) {
    const vf sum = add(mul(sub(load_bytes(a), a_zero), a_scale), mul(sub(load_bytes(b), b_zero), b_scale));
    store_bytes(y, plus(round_int(min(max(sum, lo), hi)), row.zero));
  };
  std::int64_t i = 0;
  for (; i + width <= row.count; i += width) at(row.a + i, row.b + i, row.y + i);
  if (i == row.count) return;
  unsigned char a[width] = {}, b[width] = {}, y[width];
  for (std::int64_t j = i; j < row.count; ++j) a[j - i] = row.a[j], b[j - i] = row.b[j];
  at(a, b, y);
  for (std::int64_t j = i; j < row.count; ++j) row.y[j] = y[j - i];
}

void quantise(const CodeConvertRow& row) {
  const auto* x = static_cast<const float*>(row.x);
  auto* y = static_cast<unsigned char*>(row.y);
  const vf scale = set1(row.scale), lo = set1(row.lo), hi = set1(row.hi);
  const auto convert = [&](vf value) { return plus(round_int(min(max(div(value, scale), lo), hi)), row.zero); };
  std::int64_t i = 0;
  for (; i + width <= row.count; i += width) store_bytes(y + i, convert(load(x + i)));
  if (i == row.count) return;
  float some[width] = {};
  unsigned char codes[width];
  for (std::int64_t j = i; j < row.count; ++j) some[j - i] = x[j];
  store_bytes(codes, convert(load(some)));
  for (std::int64_t j = i; j < row.count; ++j) y[j] = codes[j - i];
}

void dequantise(const CodeConvertRow& row) {
  const auto* x = static_cast<const unsigned char*>(row.x);
  auto* y = static_cast<float*>(row.y);
  const vf scale = set1(row.scale), zero_point = set1(static_cast<float>(row.zero));
  std::int64_t i = 0;
  for (; i + width <= row.count; i += width) store(y + i, mul(sub(load_bytes(x + i), zero_point), scale));
  for (; i < row.count; ++i) y[i] = (static_cast<float>(x[i]) - static_cast<float>(row.zero)) * row.scale;
}

void table(const CodeTableRow& row) {
  for (std::int64_t i = 0; i < row.count; ++i) row.y[i] = row.table[row.x[i]];
}

constexpr CodeKernels kernels{Isa::BITTERN_LEVEL, &depthwise<IntOut::bytes>, &depthwise<IntOut::floats>, &max_row, &mean, &add_codes, &quantise, &dequantise,
                              &table};

}  // namespace

const CodeKernels& code_kernels() { return kernels; }

}  // namespace bittern::engine::BITTERN_LEVEL
