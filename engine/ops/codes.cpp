#include "ops/codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/map_rows.h"

namespace bittern::engine {
namespace {

// The taps of a window that lie inside: first and last (exclusive) of `kernel` taps from `start`.
void inside(std::int64_t start, std::int64_t kernel, std::int64_t dilation, std::int64_t size, std::int64_t& first, std::int64_t& last) {
  if (start >= 0 && start + (kernel - 1) * dilation < size) {  // most do: no divisions
    first = 0;
    last = kernel;
    return;
  }
  first = start < 0 ? (-start + dilation - 1) / dilation : 0;
  last = start >= size ? 0 : std::min(kernel, (size - 1 - start) / dilation + 1);
  first = std::min(first, last);
}

constexpr std::int64_t strip = 256;  // pixels interleaved at a time

}  // namespace

CodeDepthwise::CodeDepthwise(const CodeKernels& kernels, const ConvShape& shape, const Map& in, const Map& out, const Map& residual)
    : kernels_(&kernels),
      shape_(shape),
      in_(in),
      out_(out),
      residual_(residual),
      blocks_((shape.oc + 15) / 16),
      taps_count_(shape.kh * shape.kw),
      quads_count_((shape.kh + 3) / 4 * shape.kw) {
  for (std::int64_t y = 0; y < shape.kh; ++y)
    for (std::int64_t x = 0; x < shape.kw; ++x) taps_.push_back(y * shape.dilation_h * in.row + x * shape.dilation_w * 16);
}

void CodeDepthwise::pack(const std::int16_t* weights, std::int32_t* packed) const {
  std::fill(packed, packed + packed_elements(), 0);
  std::int32_t* quads = packed + blocks_ * taps_count_ * 16;
  bool bytes = true;
  for (std::int64_t c = 0; c < shape_.oc; ++c) {
    for (std::int64_t t = 0; t < taps_count_; ++t) {
      const std::int32_t w = weights[c * taps_count_ + t];
      packed[(c / 16 * taps_count_ + t) * 16 + c % 16] = w;
      bytes = bytes && w >= -128 && w <= 127;
      const std::int64_t y = t / shape_.kw, x = t % shape_.kw;
      std::int32_t& quad = quads[(c / 16 * quads_count_ + y / 4 * shape_.kw + x) * 16 + c % 16];
      quad = static_cast<std::int32_t>(static_cast<std::uint32_t>(quad) | (static_cast<std::uint32_t>(w) & 255u) << (8 * (y % 4)));
    }
  }
  packed[packed_elements() - 1] = bytes;
}

void CodeDepthwise::run_lines(const std::uint8_t* in, const std::int32_t* packed, const IntEpilogue& epilogue, IntOut type, void* out,
                              Team& team) const {
  const ConvShape& s = shape_;
  const std::int64_t element = type == IntOut::bytes ? 1 : 4;
  const std::int64_t readable = row_at(in_, in_.n - 1, in_.blocks() - 1, in_.h + in_.bottom - 1) + (in_.w + in_.right) * 16;
  for_lines(out_, team, [&](std::int64_t n, std::int64_t b, std::int64_t y, std::int64_t last) {
    CodeDepthwiseLines task;
    const std::int64_t first = row_at(in_, n, b, y * s.stride_h - s.pad_top) - s.pad_left * 16;
    task.x = in + first;
    task.readable = readable - first;
    task.x_row = in_.row;
    task.kernel = s.kh;
    task.stride = s.stride_h;
    task.quads = packed + (blocks_ * taps_count_ + b * quads_count_) * 16;
    task.offset = epilogue.offset + b * 16;
    task.store = epilogue.store;
    task.store.scale += b * 16;
    if (task.store.bias != nullptr) task.store.bias += b * 16;
    if (task.store.residual != nullptr) task.store.residual += row_at(residual_, n, b, y);
    task.out = type;
    task.y = static_cast<std::byte*>(out) + row_at(out_, n, b, y) * element;
    task.y_row = out_.row;
    task.residual_row = residual_.row;
    task.lines = last - y;
    task.count = s.ow;
    kernels_->depthwise_lines(task);
  });
}

void CodeDepthwise::run(const std::uint8_t* in, const std::int32_t* packed, const IntEpilogue& epilogue, IntOut type, void* out, Team& team) const {
  const ConvShape& s = shape_;
  const bool square = s.kh == s.kw && (s.kh == 3 || s.kh == 5) && s.stride_h == s.stride_w && (s.stride_h == 1 || s.stride_h == 2);
  if (type != IntOut::sums && kernels_->depthwise_lines != nullptr && square && s.dilation_h == 1 && s.dilation_w == 1 && packed[packed_elements() - 1] != 0) {
    run_lines(in, packed, epilogue, type, out, team);
    return;
  }
  const std::uint8_t* first = in - s.pad_top * in_.row - s.pad_left * 16;
  const std::int64_t element = type == IntOut::bytes ? 1 : 4;
  for_rows(out_, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    CodeDepthwiseRow row;
    row.taps = taps_.data();
    row.tap_count = taps_count_;
    row.weights = packed + b * taps_count_ * 16;
    row.offset = epilogue.offset + b * 16;
    row.store = epilogue.store;
    row.store.scale += b * 16;
    if (row.store.bias != nullptr) row.store.bias += b * 16;
    if (row.store.residual != nullptr) row.store.residual += row_at(residual_, n, b, y);
    row.x = first + n * in_.image + b * in_.plane + y * s.stride_h * in_.row;
    row.y = static_cast<std::byte*>(out) + row_at(out_, n, b, y) * element;
    row.step = s.stride_w * 16;
    row.count = s.ow;
    (type == IntOut::bytes ? kernels_->depthwise_bytes : type == IntOut::floats ? kernels_->depthwise_floats : kernels_->depthwise_sums)(row);
  });
}

void code_max_pool(const CodeKernels& kernels, const PoolShape& s, std::uint8_t lowest, const Map& in, const std::uint8_t* source, const Map& out,
                   std::uint8_t* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::int64_t start = y * s.stride_h - s.pad_top;
    std::int64_t first = 0, last = 0;
    inside(start, s.kh, s.dilation_h, in.h, first, last);
    CodeMaxRow row;
    row.x = source + row_at(in, n, b, start + first * s.dilation_h);
    row.rows = last - first;
    row.row_step = s.dilation_h * in.row;
    row.width = in.w;
    row.kernel = s.kw;
    row.stride = s.stride_w;
    row.pad = s.pad_left;
    row.dilation = s.dilation_w;
    row.y = target + row_at(out, n, b, y);
    row.count = out.w;
    row.lowest = lowest;
    kernels.max(row);
  });
}

void code_average_pool(const CodeKernels& kernels, const PoolShape& s, const Quantiser& from, const Map& in, const std::uint8_t* source,
                       const Quantiser& to, const Map& out, std::uint8_t* target, Team& team) {
  // Taps inside the input and its declared padding: those beyond, which ceil_mode can reach, never count.
  const auto padded = [](std::int64_t start, std::int64_t kernel, std::int64_t dilation, std::int64_t size) {
    return std::min(kernel, (size - 1 - start) / dilation + 1);
  };
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::int64_t top = y * s.stride_h - s.pad_top;
    std::int64_t first_row = 0, last_row = 0;
    inside(top, s.kh, s.dilation_h, in.h, first_row, last_row);
    const std::int64_t rows = padded(top, s.kh, s.dilation_h, in.h + s.pad_bottom);
    std::int64_t counted = -1;
    float scale = 0;
    for (std::int64_t p = 0; p < out.w; ++p) {
      const std::int64_t left = p * s.stride_w - s.pad_left;
      std::int64_t first = 0, last = 0;
      inside(left, s.kw, s.dilation_w, in.w, first, last);
      CodeMean window;
      window.rows = last_row - first_row;
      window.columns = last - first;
      window.x = source + row_at(in, n, b, top + first_row * s.dilation_h) + (left + first * s.dilation_w) * 16;
      window.row_step = s.dilation_h * in.row;
      window.column_step = s.dilation_w * 16;
      const std::int64_t taps = window.rows * window.columns;
      window.offset = static_cast<std::int32_t>(-taps * from.zero);
      // Divided once for neighbours that count the same.
      const std::int64_t count = s.include_pad ? rows * padded(left, s.kw, s.dilation_w, in.w + s.pad_right) : taps;
      if (count != counted) {
        counted = count;
        scale = from.scale / (static_cast<float>(count) * to.scale);
      }
      window.scale = scale;
      window.lo = to.lowest();
      window.hi = to.highest();
      window.zero = to.zero;
      window.y = target + row_at(out, n, b, y) + p * 16;
      kernels.mean(window);
    }
  });
}

void code_add(const CodeKernels& kernels, const Quantiser& a_from, const Map& a_map, const std::uint8_t* a, const Quantiser& b_from, const Map& b_map,
              const std::uint8_t* b, const Quantiser& to, float lo, float hi, const Map& y_map, std::uint8_t* y, Team& team) {
  for_rows(y_map, team, [&](std::int64_t n, std::int64_t block, std::int64_t line) {
    CodeAddRow row;
    row.a = a + row_at(a_map, n, block, line);
    row.b = b + row_at(b_map, n, block, line);
    row.y = y + row_at(y_map, n, block, line);
    row.count = y_map.w * y_map.block;
    row.a_zero = static_cast<float>(a_from.zero);
    row.a_scale = a_from.scale / to.scale;
    row.b_zero = static_cast<float>(b_from.zero);
    row.b_scale = b_from.scale / to.scale;
    row.lo = lo;
    row.hi = hi;
    row.zero = to.zero;
    if (a_map.block == y_map.block && b_map.block == y_map.block) return kernels.add(row);
    // A few channels in a block of 4 here, in one of 16 there.
    row.count = y_map.lanes(block);
    for (std::int64_t p = 0; p < y_map.w; ++p, row.a += a_map.block, row.b += b_map.block, row.y += y_map.block) kernels.add(row);
  });
}

void code_table(const CodeKernels& kernels, const std::uint8_t* table, const Map& in, const std::uint8_t* source, const Map& out, std::uint8_t* target,
                Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::uint8_t* x = source + row_at(in, n, b, y);
    std::uint8_t* to = target + row_at(out, n, b, y);
    if (in.block == out.block) return kernels.table({x, table, to, out.w * out.block});
    // A few channels in a block of 4 on one side, in one of 16 on the other.
    for (std::int64_t p = 0; p < out.w; ++p) kernels.table({x + p * in.block, table, to + p * out.block, in.lanes(b)});
  });
}

void code_thresholds(const CodeKernels& kernels, const float* thresholds, std::int64_t steps, const Map& in, const float* source, const Map& out,
                     std::uint8_t* target, Team& team) {
  // Rows of a product are pixels of one block; they are cut, as a map's lines are by themselves.
  constexpr std::int64_t most = 64;
  const std::int64_t pieces = (out.w + most - 1) / most, blocks = (out.c + 15) / 16;
  team.run(static_cast<std::size_t>(out.n * blocks * out.h * pieces), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t first = t % pieces * most, line = t / pieces % out.h, block = t / pieces / out.h % blocks, image = t / pieces / out.h / blocks;
    const auto at = [&](const Map& map) {
      return image * map.image + block * 16 / map.block * map.plane + block * 16 % map.block + line * map.row + first * map.block;
    };
    CodeThresholdRow row;
    row.x = source + at(in);
    row.x_step = in.block;
    row.thresholds = thresholds + block * steps * 16;
    row.steps = steps;
    row.y = target + at(out);
    row.y_step = out.block;
    row.count = std::min(most, out.w - first);
    row.lanes = std::min<std::int64_t>(16, out.c - block * 16);
    kernels.threshold(row);
  });
}

void quantise(const CodeKernels& kernels, const Quantiser& to, const Map& in, const float* source, const Map& out, std::uint8_t* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    kernels.quantise({source + row_at(in, n, b, y), target + row_at(out, n, b, y), out.w * out.block, to.scale, to.lowest(), to.highest(), to.zero});
  });
}

void dequantise(const CodeKernels& kernels, const Quantiser& from, const Map& in, const std::uint8_t* source, const Map& out, float* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    kernels.dequantise({source + row_at(in, n, b, y), target + row_at(out, n, b, y), out.w * out.block, from.scale, 0, 0, from.zero});
  });
}

void quantise_planar(const CodeKernels& kernels, const Quantiser& to, const Map& in, const float* source, const Map& out, std::uint8_t* target,
                     Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    std::uint8_t lanes[16][strip] = {};
    const std::int64_t count = out.lanes(b);
    for (std::int64_t first = 0; first < out.w; first += strip) {
      const std::int64_t pixels = std::min(strip, out.w - first);
      for (std::int64_t lane = 0; lane < count; ++lane) {
        kernels.quantise({source + row_at(in, n, b * out.block + lane, y) + first, lanes[lane], pixels, to.scale, to.lowest(), to.highest(), to.zero});
      }
      std::uint8_t* row = target + row_at(out, n, b, y) + first * out.block;
      if (out.block == 4) {  // the first layer of a network: whole pixels, spare lanes included
        for (std::int64_t p = 0; p < pixels; ++p, row += 4) row[0] = lanes[0][p], row[1] = lanes[1][p], row[2] = lanes[2][p], row[3] = lanes[3][p];
        continue;
      }
      for (std::int64_t p = 0; p < pixels; ++p)
        for (std::int64_t lane = 0; lane < count; ++lane) row[p * out.block + lane] = lanes[lane][p];
    }
  });
}

namespace {

// f(row, count) for runs of rows, some for each task.
template <class F>
void for_runs(std::int64_t rows, std::int64_t k, Team& team, const F& f) {
  const std::int64_t each = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, k));
  team.run(static_cast<std::size_t>((rows + each - 1) / each), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * each;
    f(first, std::min(each, rows - first));
  });
}

}  // namespace

Quantiser dynamic_quantiser(const float* x, std::int64_t count) noexcept {
  // Several minima and maxima, which the compiler keeps in vectors.
  constexpr std::int64_t lanes = 16;
  float lows[lanes] = {}, highs[lanes] = {};
  for (std::int64_t i = 0; i + lanes <= count; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j) {
      lows[j] = x[i + j] < lows[j] ? x[i + j] : lows[j];
      highs[j] = x[i + j] > highs[j] ? x[i + j] : highs[j];
    }
  }
  for (std::int64_t i = count / lanes * lanes; i < count; ++i) {
    lows[0] = x[i] < lows[0] ? x[i] : lows[0];
    highs[0] = x[i] > highs[0] ? x[i] : highs[0];
  }
  const float low = *std::min_element(lows, lows + lanes), high = *std::max_element(highs, highs + lanes);
  const float scale = high > low ? (high - low) / 255.0f : 1.0f;
  const float exact = -low / scale;
  return {scale, exact > 0 ? static_cast<std::int32_t>(std::nearbyint(std::min(exact, 255.0f))) : 0, 0, 255};
}

void quantise_rows(const CodeKernels& kernels, const Quantiser& to, std::int64_t rows, std::int64_t k, const float* source, std::int64_t pitch,
                   std::uint8_t* target, Team& team) {
  for_runs(rows, k, team, [&](std::int64_t first, std::int64_t count) {
    const std::int64_t step = k == pitch ? count : 1;  // rows without gaps are one
    for (std::int64_t r = first; r < first + count; r += step) {
      kernels.quantise({source + r * k, target + r * pitch, step * k, to.scale, to.lowest(), to.highest(), to.zero});
    }
  });
}

void dequantise_rows(const CodeKernels& kernels, const Quantiser& from, std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source,
                     float* target, Team& team) {
  for_runs(rows, k, team, [&](std::int64_t first, std::int64_t count) {
    const std::int64_t step = k == pitch ? count : 1;
    for (std::int64_t r = first; r < first + count; r += step) {
      kernels.dequantise({source + r * pitch, target + r * k, step * k, from.scale, 0, 0, from.zero});
    }
  });
}

void code_softmax_rows(const CodeKernels& kernels, const float* exps, std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source,
                       const Quantiser& to, std::int64_t out_pitch, std::uint8_t* target, float* work, Team& team) {
  if (k == 0) return;
  for_runs(rows, k, team, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t r = first; r < first + count; ++r) {
      const std::uint8_t* x = source + r * pitch;
      float* e = work + r * k;
      const std::uint8_t largest = *std::max_element(x, x + k);
      double sum = 0;
      for (std::int64_t i = 0; i < k; ++i) {
        e[i] = exps[largest - x[i]];
        sum += static_cast<double>(e[i]);
      }
      kernels.quantise({e, target + r * out_pitch, k, static_cast<float>(sum) * to.scale, to.lowest(), to.highest(), to.zero});
    }
  });
}

void interleave_codes(const Map& in, const std::uint8_t* source, std::uint8_t flip, const Map& out, std::uint8_t* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    std::uint8_t* row = target + row_at(out, n, b, y);
    for (std::int64_t lane = 0; lane < out.lanes(b); ++lane) {
      const std::uint8_t* x = source + row_at(in, n, b * out.block + lane, y);
      for (std::int64_t p = 0; p < out.w; ++p) row[p * out.block + lane] = x[p] ^ flip;
    }
  });
}

void separate_codes(const Map& in, const std::uint8_t* source, std::uint8_t flip, const Map& out, std::uint8_t* target, Team& team) {
  for_rows(in, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::uint8_t* row = source + row_at(in, n, b, y);
    for (std::int64_t lane = 0; lane < in.lanes(b); ++lane) {
      std::uint8_t* x = target + row_at(out, n, b * in.block + lane, y);
      for (std::int64_t p = 0; p < in.w; ++p) x[p] = row[p * in.block + lane] ^ flip;
    }
  });
}

void pack_code_rows(std::int64_t rows, std::int64_t k, const std::uint8_t* source, std::uint8_t flip, std::int64_t pitch, std::uint8_t* target) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < k; ++i) target[r * pitch + i] = source[r * k + i] ^ flip;
}

void unpack_code_rows(std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source, std::uint8_t flip, std::uint8_t* target) {
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t i = 0; i < k; ++i) target[r * k + i] = source[r * pitch + i] ^ flip;
}

void fill_code_halo(const Map& map, std::uint8_t code, std::uint8_t* data, Team& team) {
  const auto fill = [&](std::uint8_t* from, std::int64_t count) { std::memset(from, code, static_cast<std::size_t>(count)); };
  team.run(static_cast<std::size_t>(map.n * map.blocks()), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    std::uint8_t* plane = data + t / map.blocks() * map.image + t % map.blocks() * map.plane - map.left * map.block;
    fill(plane - map.top * map.row, map.top * map.row);
    for (std::int64_t y = 0; y < map.h; ++y) {
      fill(plane + y * map.row, map.left * map.block);
      fill(plane + y * map.row + (map.left + map.w) * map.block, map.right * map.block);
    }
    fill(plane + map.h * map.row, map.bottom * map.row);
  });
}

}  // namespace bittern::engine
