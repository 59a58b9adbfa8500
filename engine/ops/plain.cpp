#include "ops/plain.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/transpose.h"

namespace bittern::engine {
namespace {

// Copies `count` elements of type T between strided places.
template <class T>
void copy_strided(const std::byte* source, std::int64_t source_stride, std::byte* target, std::int64_t target_stride, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(target + i * target_stride, source + i * source_stride, sizeof(T));
}

void copy_run(int size, const std::byte* source, std::int64_t source_stride, std::byte* target, std::int64_t target_stride, std::int64_t count) {
  if (source_stride == size && target_stride == size) {
    std::memcpy(target, source, static_cast<std::size_t>(count * size));
    return;
  }
  switch (size) {
    case 1:
      return copy_strided<std::uint8_t>(source, source_stride, target, target_stride, count);
    case 2:
      return copy_strided<std::uint16_t>(source, source_stride, target, target_stride, count);
    case 4:
      return copy_strided<std::uint32_t>(source, source_stride, target, target_stride, count);
    default:
      return copy_strided<std::uint64_t>(source, source_stride, target, target_stride, count);
  }
}

// Calls body(offset_a, offset_b) for every index of the outer dimensions, the last one left to the body.
template <class Body>
void each_outer(std::span<const std::int64_t> shape, std::span<const std::int64_t> a, std::span<const std::int64_t> b, const Body& body) {
  const int outer = static_cast<int>(shape.size()) - 1;
  for (const std::int64_t d : shape)
    if (d == 0) return;
  std::int64_t index[max_rank] = {}, at_a = 0, at_b = 0;
  while (true) {
    body(at_a, at_b);
    int d = outer - 1;
    for (; d >= 0; --d) {
      const auto i = static_cast<std::size_t>(d);
      at_a += a[i];
      at_b += b[i];
      if (++index[d] < shape[i]) break;
      at_a -= a[i] * shape[i];
      at_b -= b[i] * shape[i];
      index[d] = 0;
    }
    if (d < 0) return;
  }
}

float apply(Eltwise op, float a, float b) {
  switch (op) {
    case Eltwise::add:
      return a + b;
    case Eltwise::sub:
      return a - b;
    case Eltwise::mul:
      return a * b;
    default:
      return a / b;
  }
}

// NaN passes through, as in the vector kernels.
float clamp(float y, float lo, float hi) {
  y = lo > y ? lo : y;
  return hi < y ? hi : y;
}

}  // namespace

void reorder(const Map& from, const float* source, const Map& to, float* target, Team& team) {
  // A task is one image row of one block of the wider layout: all its lanes are moved pixel by pixel.
  const std::int64_t block = std::max(from.block, to.block);
  const std::int64_t blocks = block == 0 ? 0 : (from.c + block - 1) / block;
  team.run(static_cast<std::size_t>(from.n * blocks * from.h), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t y = t % from.h, b = t / from.h % blocks, n = t / from.h / blocks;
    const std::int64_t lanes = std::min(block, from.c - b * block);
    const float* s = source + n * from.image + b * (block / from.block) * from.plane + y * from.row;
    float* d = target + n * to.image + b * (block / to.block) * to.plane + y * to.row;
    if (from.block == to.block) {
      std::memcpy(d, s, static_cast<std::size_t>(from.w * from.block) * sizeof(float));
    } else if (from.block == 1) {
      transpose(s, from.plane, lanes, from.w, d, to.block);
      for (std::int64_t x = 0; lanes < to.block && x < from.w; ++x)
        for (std::int64_t l = lanes; l < to.block; ++l) d[x * to.block + l] = 0.0f;
    } else {
      transpose(s, from.block, from.w, lanes, d, to.plane);
    }
  });
}

void clear_halo(const Map& map, float* data, Team& team) {
  const auto zero = [](float* from, std::int64_t count) { std::memset(from, 0, static_cast<std::size_t>(count) * sizeof(float)); };
  const std::int64_t blocks = map.blocks();
  team.run(static_cast<std::size_t>(map.n * blocks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    float* plane = data + t / blocks * map.image + t % blocks * map.plane;
    const std::int64_t left = map.left * map.block, right = map.right * map.block, inner = map.w * map.block;
    zero(plane - map.top * map.row - left, map.top * map.row);
    for (std::int64_t y = 0; y < map.h; ++y) {
      float* row = plane + y * map.row;
      if (left != 0) zero(row - left, left);
      if (right != 0) zero(row + inner, right);
    }
    zero(plane + map.h * map.row - left, map.bottom * map.row);
  });
}

void strided_copy(std::span<const std::int64_t> shape, int size, const void* source, std::span<const std::int64_t> source_strides,
                  void* target, std::span<const std::int64_t> target_strides) {
  const auto* s = static_cast<const std::byte*>(source);
  auto* d = static_cast<std::byte*>(target);
  if (shape.empty()) {
    std::memcpy(d, s, static_cast<std::size_t>(size));
    return;
  }
  each_outer(shape, source_strides, target_strides, [&](std::int64_t from, std::int64_t to) {
    copy_run(size, s + from, source_strides.back(), d + to, target_strides.back(), shape.back());
  });
}

void broadcast(Eltwise op, std::span<const std::int64_t> shape, const float* a, std::span<const std::int64_t> a_strides, const float* b,
               std::span<const std::int64_t> b_strides, float* y, float lo, float hi) {
  if (shape.empty()) {
    *y = clamp(apply(op, *a, *b), lo, hi);
    return;
  }
  const std::int64_t length = shape.back(), step_a = a_strides.back(), step_b = b_strides.back();
  each_outer(shape, a_strides, b_strides, [&](std::int64_t at_a, std::int64_t at_b) {
    for (std::int64_t i = 0; i < length; ++i) *y++ = clamp(apply(op, a[at_a + i * step_a], b[at_b + i * step_b]), lo, hi);
  });
}

void channel_affine(const float* x, const float* scale, const float* shift, float* y, std::int64_t outer, std::int64_t channels,
                    std::int64_t inner, float lo, float hi) {
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t i = 0; i < inner; ++i) *y++ = clamp(*x++ * scale[c] + shift[c], lo, hi);
}

void sigmoid(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    // exp of a non-positive number only: no overflow, full accuracy on both sides.
    const float e = std::exp(-std::fabs(x[i]));
    y[i] = x[i] >= 0 ? 1.0f / (1.0f + e) : e / (1.0f + e);
  }
}

void tanh(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = std::tanh(x[i]);
}

void softmax(const float* x, float* y, std::int64_t outer, std::int64_t axis, std::int64_t inner, Team& team) {
  if (axis == 0 || inner == 0) return;
  const std::int64_t rows = outer * inner, chunk = std::max<std::int64_t>(1, 4096 / axis);
  team.run(static_cast<std::size_t>((rows + chunk - 1) / chunk), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk, last = std::min(rows, first + chunk);
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t base = r / inner * axis * inner + r % inner;
      float largest = x[base];
      for (std::int64_t i = 1; i < axis; ++i) largest = std::max(largest, x[base + i * inner]);
      float sum = 0;
      for (std::int64_t i = 0; i < axis; ++i) {
        const float e = std::exp(x[base + i * inner] - largest);
        y[base + i * inner] = e;
        sum += e;
      }
      for (std::int64_t i = 0; i < axis; ++i) y[base + i * inner] /= sum;
    }
  });
}

}  // namespace bittern::engine
