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

#if BITTERN_VEC != 0

// Four rows of a column of the kernel share a lane of 32 bits, so that one dot product takes them all; what is interleaved once
// serves all columns of the kernel, shifted by pixels, and several lines of output. Sums come out as quarters: vector g
// holds channels 4 g .. 4 g + 3 of neighbouring pixels.
template <int kernel, int stride, int lines>
struct QuadShape {
  static constexpr int rows = kernel + (lines - 1) * stride;
  static constexpr int quads = (rows + 3) / 4;
  static constexpr int step = lane_pixels * stride;                                            // pixels of x in a vector of outputs
  static constexpr int columns = (lane_pixels - 1 + (kernel - 1) / stride) / lane_pixels + 1;  // vectors that a window touches
};

// A vector of neighbouring pixels of every phase (pixel modulo stride), its rows interleaved by fours.
template <int kernel, int stride, int lines>
struct QuadColumn {
  using Shape = QuadShape<kernel, stride, lines>;
  pixels x[stride][Shape::quads][4];

  inline __attribute__((always_inline)) void load(const unsigned char* from, std::int64_t row) {
    BITTERN_UNROLL
    for (int q = 0; q < Shape::quads; ++q) {
      pixels phase[stride][4];
      BITTERN_UNROLL
      for (int r = 0; r < 4; ++r) {
        if (q * 4 + r >= Shape::rows) {
          for (int s = 0; s < stride; ++s) phase[s][r] = no_pixels();
        } else if (stride == 1) {
          phase[0][r] = load_pixels(from + (q * 4 + r) * row);
        } else {
          const unsigned char* p = from + (q * 4 + r) * row;
          part_pixels(load_pixels(p), load_pixels(p + lane_pixels * 16), phase[0][r], phase[stride - 1][r]);
        }
      }
      BITTERN_UNROLL
      for (int s = 0; s < stride; ++s) interleave(phase[s], x[s][q]);
    }
  }
};

// What the map holds of a vector's rows: the last ones end before the vector does.
__attribute__((noinline)) void copy_readable(const CodeDepthwiseLines& task, std::int64_t at, int rows, int bytes, unsigned char* to) {
  for (int r = 0; r < rows; ++r, at += task.x_row, to += bytes) {
    const std::int64_t left = task.readable - at;
    __builtin_memset(to, 0, static_cast<unsigned long>(bytes));
    if (left > 0) __builtin_memcpy(to, task.x + at, static_cast<unsigned long>(left < bytes ? left : bytes));
  }
}

// Stores quarters in the one way that has no shortcut.
template <IntOut out>
__attribute__((noinline)) void store_quarters(const CodeDepthwiseLines& task, const vi (&quarters)[4], std::int64_t line, std::int64_t first,
                                              int count) {
  vi sums[4] = {quarters[0], quarters[1], quarters[2], quarters[3]};
  gather_pixels(sums);
  const IntStore& how = task.store;
  for (int p = 0; p < count; ++p) {
    for (int v = 0; v < parts; ++v) {
      const std::int64_t at = (first + p) * 16 + v * width;
      const vf bias = how.bias != nullptr ? load(how.bias + v * width) : zero();
      store_sums<out>(how, sums[p * parts + v], load(how.scale + v * width), bias, task.y, line * task.y_row + at, line * task.residual_row + at,
                      width);
    }
  }
}

template <int kernel, int stride, int lines>
void depthwise_quads(const CodeDepthwiseLines& task, std::int64_t line, std::int64_t last) {
  using Shape = QuadShape<kernel, stride, lines>;
  quads w[lines][Shape::quads][kernel][4];
  for (int k = 0; k < kernel; ++k) {
    for (int g = 0; g < 4; ++g) {
      vi below = {};
      for (int q = 0; q < Shape::quads; ++q) {
        const bool some = q < (kernel + 3) / 4;
        const vi all = some ? repeat_int(task.quads + (q * kernel + k) * 16 + g * 4) : vi{};
        w[0][q][k][g] = to_quads(all);
        // The next line's weights stand `stride` rows lower.
        if (lines == 2) w[lines - 1][q][k][g] = to_quads(either(shift_left(all, 8 * stride), shift_right(below, 32 - 8 * stride)));
        below = all;
      }
    }
  }
  const IntStore& how = task.store;
  const bool plain = task.out == IntOut::bytes && !how.inner && how.residual == nullptr;
  const bool biased = how.bias != nullptr;
  const vf hi = set1(how.hi);
  const int lo = static_cast<int>(how.lo) + how.zero;
  vf scale[4], bias[4];
  vi offset[4];
  BITTERN_UNROLL
  for (int g = 0; g < 4; ++g) {
    scale[g] = repeat(how.scale + g * 4);
    bias[g] = biased ? repeat(how.bias + g * 4) : zero();
    offset[g] = repeat_int(task.offset + g * 4);
  }
  for (; line < last; line += lines) {
    const std::int64_t row = line * stride * task.x_row;
    QuadColumn<kernel, stride, lines> column[Shape::columns];
    const auto load_column = [&](int i, std::int64_t pixel) __attribute__((always_inline)) {
      constexpr int bytes = Shape::step * 16;
      const std::int64_t at = row + (pixel * stride + i * Shape::step) * 16;
      unsigned char copy[Shape::rows * bytes];
      if (at + (Shape::rows - 1) * task.x_row + bytes <= task.readable) {
        column[i].load(task.x + at, task.x_row);
      } else {
        copy_readable(task, at, Shape::rows, bytes, copy);
        column[i].load(copy, bytes);
      }
    };
    BITTERN_UNROLL
    for (int i = 0; i < Shape::columns - 1; ++i) load_column(i, 0);
    for (std::int64_t first = 0; first < task.count; first += lane_pixels) {
      load_column(Shape::columns - 1, first);
      vi acc[lines][4];
      BITTERN_UNROLL
      for (int g = 0; g < 4; ++g) {
        BITTERN_UNROLL
        for (int l = 0; l < lines; ++l) acc[l][g] = offset[g];
        BITTERN_UNROLL
        for (int q = 0; q < Shape::quads; ++q) {
          BITTERN_UNROLL
          for (int k = 0; k < kernel; ++k) {
            const int s = k % stride, i = k / stride / lane_pixels, shift = k / stride % lane_pixels;
            const int next = i + 1 < Shape::columns ? i + 1 : i;
            const quad x = to_quad(shift_pixels(column[i].x[s][q][g], column[next].x[s][q][g], shift));
            BITTERN_UNROLL
            for (int l = 0; l < lines; ++l) acc[l][g] = dot(acc[l][g], x, w[l][q][k][g]);
          }
        }
      }
      const std::int64_t left = task.count - first;
      BITTERN_UNROLL
      for (int l = 0; l < lines; ++l) {
        if (plain) {
          // Narrowing saturates, so only what leaves 32 bits must be bounded before. A NaN becomes the lowest code.
          BITTERN_UNROLL
          for (int g = 0; g < 4; ++g) {
            vf y = mul(to_float(acc[l][g]), scale[g]);
            if (biased) y = add(y, bias[g]);
            acc[l][g] = round_int(min(hi, y));
          }
          store_pixels(static_cast<unsigned char*>(task.y) + (line + l) * task.y_row + first * 16, narrow(acc[l], how.zero, lo), left);
        } else {
          const int count = left < lane_pixels ? static_cast<int>(left) : lane_pixels;
          const vi sums[4] = {acc[l][0], acc[l][1], acc[l][2], acc[l][3]};  // a copy, so that `acc` may live in registers
          (task.out == IntOut::bytes ? &store_quarters<IntOut::bytes> : &store_quarters<IntOut::floats>)(task, sums, line + l, first, count);
        }
      }
      BITTERN_UNROLL
      for (int i = 0; i < Shape::columns - 1; ++i) column[i] = column[i + 1];
    }
  }
}

template <int kernel, int stride, int lines>
void depthwise_lines_of(const CodeDepthwiseLines& task) {
  const std::int64_t paired = task.lines - task.lines % lines;
  depthwise_quads<kernel, stride, lines>(task, 0, paired);
  if (paired < task.lines) depthwise_quads<kernel, stride, 1>(task, paired, task.lines);
}

void depthwise_lines(const CodeDepthwiseLines& task) {
  if (task.kernel == 3 && task.stride == 1) {
    depthwise_lines_of<3, 1, 2>(task);
  } else if (task.kernel == 3) {
    depthwise_lines_of<3, 2, 1>(task);
  } else if (task.stride == 1) {
    depthwise_lines_of<5, 1, 2>(task);
  } else {
    depthwise_lines_of<5, 2, 2>(task);
  }
}

constexpr auto lines_kernel = &depthwise_lines;

#else

constexpr void (*lines_kernel)(const CodeDepthwiseLines&) = nullptr;

#endif

typedef unsigned char pixel __attribute__((vector_size(16)));
struct one_pixel {
  pixel v;
};
inline one_pixel max(one_pixel a, one_pixel b) { return {a.v > b.v ? a.v : b.v}; }
inline void read_pixels(const unsigned char* p, one_pixel& a) { __builtin_memcpy(&a.v, p, sizeof a.v); }
inline void write_pixels(unsigned char* p, one_pixel a) { __builtin_memcpy(p, &a.v, sizeof a.v); }
#if BITTERN_VEC == 0
using pixels = one_pixel;
constexpr int lane_pixels = 1;
#else
inline void read_pixels(const unsigned char* p, pixels& a) { a = load_pixels(p); }
inline void write_pixels(unsigned char* p, pixels a) { store_pixels(p, a, lane_pixels); }
#endif

// The maximum over windows that stand next to each other in lanes of V.
template <class V>
inline __attribute__((always_inline)) void max_windows(const unsigned char* x, std::int64_t rows, std::int64_t row_step, std::int64_t columns,
                                                       std::int64_t column_step, unsigned char* y) {
  V best = {};  // the lowest code there is
  for (std::int64_t k = 0; k < columns; ++k) {
    for (std::int64_t r = 0; r < rows; ++r) {
      V some;
      read_pixels(x + k * column_step + r * row_step, some);
      best = max(best, some);
    }
  }
  write_pixels(y, best);
}

// The sizes that most windows have are worth loops without counters.
template <class V>
inline __attribute__((always_inline)) void max_inside(const CodeMaxRow& row, const unsigned char* x, unsigned char* y) {
  if (row.rows == 3 && row.kernel == 3) {
    max_windows<V>(x, 3, row.row_step, 3, row.dilation * 16, y);
  } else if (row.rows == 2 && row.kernel == 2) {
    max_windows<V>(x, 2, row.row_step, 2, row.dilation * 16, y);
  } else {
    max_windows<V>(x, row.rows, row.row_step, row.kernel, row.dilation * 16, y);
  }
}

void max_row(const CodeMaxRow& given) {
  const CodeMaxRow row = given;  // bytes written may be anything but this
  const std::int64_t reach = (row.kernel - 1) * row.dilation;
  for (std::int64_t p = 0; p < row.count;) {
    const std::int64_t start = p * row.stride - row.pad;
    const unsigned char* x = row.x + start * 16;
    const bool whole = start >= 0 && row.rows > 0;
    if (whole && row.stride == 1 && p + lane_pixels <= row.count && start + lane_pixels - 1 + reach < row.width) {
      max_inside<pixels>(row, x, row.y + p * 16);
      p += lane_pixels;
      continue;
    }
    if (whole && start + reach < row.width) {
      max_inside<one_pixel>(row, x, row.y + p * 16);
    } else {
      one_pixel best = {pixel{} + row.lowest};
      for (std::int64_t k = 0; k < row.kernel; ++k) {
        const std::int64_t column = start + k * row.dilation;
        if (column < 0 || column >= row.width) continue;
        for (std::int64_t r = 0; r < row.rows; ++r) {
          one_pixel some;
          read_pixels(row.x + column * 16 + r * row.row_step, some);
          best = max(best, some);
        }
      }
      write_pixels(row.y + p * 16, best);
    }
    ++p;
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

// Comparisons give -1 in the lanes where they hold.
using some_floats = float __attribute__((vector_size(width * 4)));
using some_ints = std::int32_t __attribute__((vector_size(width * 4)));
using some_bytes = unsigned char __attribute__((vector_size(width)));

void threshold(const CodeThresholdRow& row) {
  constexpr int pair = 2;  // whose counts are independent
  const auto count = [&](const float* const* x, unsigned char* const* y) {
    for (int v = 0; v < parts; ++v) {
      some_floats value[pair];
      some_ints reached[pair] = {};
      for (int p = 0; p < pair; ++p) __builtin_memcpy(&value[p], x[p] + v * width, sizeof value[p]);
      for (std::int64_t k = 0; k < row.steps; ++k) {
        some_floats least;
        __builtin_memcpy(&least, row.thresholds + k * 16 + v * width, sizeof least);
        for (int p = 0; p < pair; ++p) reached[p] -= value[p] >= least;
      }
      for (int p = 0; p < pair; ++p) {
        const some_bytes codes = __builtin_convertvector(reached[p], some_bytes);
        __builtin_memcpy(y[p] + v * width, &codes, sizeof codes);
      }
    }
  };
  std::int64_t i = 0;
  if (row.lanes == 16) {
    for (; i + pair <= row.count; i += pair) {
      const float* const x[pair] = {row.x + i * row.x_step, row.x + (i + 1) * row.x_step};
      unsigned char* const y[pair] = {row.y + i * row.y_step, row.y + (i + 1) * row.y_step};
      count(x, y);
    }
  }
  for (; i < row.count; ++i) {
    float some[16] = {};
    unsigned char codes[16], spare[16];
    for (std::int64_t c = 0; c < row.lanes; ++c) some[c] = row.x[i * row.x_step + c];
    const float* const x[pair] = {some, some};
    unsigned char* const y[pair] = {codes, spare};
    count(x, y);
    for (std::int64_t c = 0; c < row.lanes; ++c) row.y[i * row.y_step + c] = codes[c];
  }
}

constexpr CodeKernels kernels{Isa::BITTERN_LEVEL, &depthwise<IntOut::bytes>, &depthwise<IntOut::floats>, &depthwise<IntOut::sums>, lines_kernel,
                              &max_row, &mean, &add_codes, &quantise, &dequantise, &table, &threshold};

}  // namespace

const CodeKernels& code_kernels() { return kernels; }

}  // namespace bittern::engine::BITTERN_LEVEL
