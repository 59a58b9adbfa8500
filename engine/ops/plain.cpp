#include "ops/plain.h"

#include <algorithm>
#include <cstdint>
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

// NaN passes through, as in the vector kernels.
float clamp(float y, float lo, float hi) {
  y = lo > y ? lo : y;
  return hi < y ? hi : y;
}

// Four-byte elements, contiguous in the target along the last dimension and in the source along another one: squares of
// both dimensions are transposed. False if that is not the case.
bool transpose_copy(std::span<const std::int64_t> shape, const std::byte* source, std::span<const std::int64_t> source_strides, std::byte* target,
                    std::span<const std::int64_t> target_strides) {
  constexpr std::int64_t size = sizeof(float), least = 4;
  const std::size_t last = shape.size() - 1;
  if (target_strides[last] != size || shape[last] < least || source_strides[last] % size != 0) return false;
  std::size_t across = last;
  for (std::size_t d = 0; d < last; ++d)
    if (source_strides[d] == size && shape[d] >= least && target_strides[d] % size == 0) across = d;
  const auto misaligned = [](const std::byte* p) { return reinterpret_cast<std::uintptr_t>(p) % alignof(float) != 0; };
  if (across == last || misaligned(source) || misaligned(target)) return false;
  for (std::size_t d = 0; d < last; ++d)
    if (source_strides[d] % size != 0 || target_strides[d] % size != 0) return false;
  // The other dimensions, and a last one of size 1 that each_outer() leaves to the body.
  std::int64_t outer[max_rank + 1], from_strides[max_rank + 1], to_strides[max_rank + 1];
  std::size_t count = 0;
  for (std::size_t d = 0; d < last; ++d) {
    if (d == across) continue;
    outer[count] = shape[d];
    from_strides[count] = source_strides[d];
    to_strides[count++] = target_strides[d];
  }
  outer[count] = 1;
  from_strides[count] = to_strides[count] = 0;
  ++count;
  each_outer(std::span(outer, count), std::span(from_strides, count), std::span(to_strides, count), [&](std::int64_t from, std::int64_t to) {
    transpose(reinterpret_cast<const float*>(source + from), source_strides[last] / size, shape[last], shape[across],
              reinterpret_cast<float*>(target + to), target_strides[across] / size);
  });
  return true;
}

}  // namespace

void reorder(const Map& from, const float* source, const Map& to, float* target, Team& team) {
  // A task is some rows of one block of the wider layout: all lanes of a row are moved together.
  const std::int64_t block = std::max(from.block, to.block);
  const std::int64_t blocks = block == 0 ? 0 : (from.c + block - 1) / block;
  const std::int64_t chunk = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, from.w * block));
  const std::int64_t chunks = (from.h + chunk - 1) / chunk;
  const auto move_row = [&](std::int64_t n, std::int64_t b, std::int64_t y) {
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
  };
  team.run(static_cast<std::size_t>(from.n * blocks * chunks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t first = t % chunks * chunk, last = std::min(from.h, first + chunk);
    for (std::int64_t y = first; y < last; ++y) move_row(t / chunks / blocks, t / chunks % blocks, y);
  });
}

void channel_shuffle(std::int64_t groups, const Map& from, const float* source, const Map& to, float* target, Team& team) {
  const std::int64_t blocks = to.blocks(), members = to.c / groups;
  team.run(static_cast<std::size_t>(to.n * blocks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t n = t / blocks, block = t % blocks;
    const float* lanes[16];
    for (std::int64_t lane = 0; lane < 16; ++lane) {
      // Spare lanes repeat the last channel: they hold numbers that nobody reads.
      const std::int64_t channel = std::min(block * 16 + lane, to.c - 1), origin = channel % groups * members + channel / groups;
      lanes[lane] = source + n * from.image + origin / 16 * from.plane + origin % 16;
    }
    for (std::int64_t y = 0; y < to.h; ++y) {
      float* d = target + n * to.image + block * to.plane + y * to.row;
      for (std::int64_t x = 0; x < to.w; ++x, d += 16) {
        const std::int64_t at = y * from.row + x * 16;
        for (std::int64_t lane = 0; lane < 16; ++lane) d[lane] = lanes[lane][at];
      }
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
  if (size == 4 && transpose_copy(shape, s, source_strides, d, target_strides)) return;
  each_outer(shape, source_strides, target_strides, [&](std::int64_t from, std::int64_t to) {
    copy_run(size, s + from, source_strides.back(), d + to, target_strides.back(), shape.back());
  });
}

namespace {

// The last dimension: an operand either advances with it or repeats one element; compilers vectorise each case.
template <class Op>
void broadcast_run(Op op, const float* a, bool a_moves, const float* b, bool b_moves, float* y, std::int64_t count, float lo, float hi) {
  if (a_moves && b_moves) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = clamp(op(a[i], b[i]), lo, hi);
  } else if (a_moves) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = clamp(op(a[i], *b), lo, hi);
  } else if (b_moves) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = clamp(op(*a, b[i]), lo, hi);
  } else {
    for (std::int64_t i = 0; i < count; ++i) y[i] = clamp(op(*a, *b), lo, hi);
  }
}

}  // namespace

void broadcast(Eltwise op, std::span<const std::int64_t> shape, const float* a, std::span<const std::int64_t> a_strides, const float* b,
               std::span<const std::int64_t> b_strides, float* y, float lo, float hi) {
  constexpr std::int64_t one[] = {1}, still[] = {0};
  if (shape.empty()) return broadcast(op, one, a, still, b, still, y, lo, hi);
  const std::int64_t length = shape.back();
  const bool a_moves = a_strides.back() != 0, b_moves = b_strides.back() != 0;
  each_outer(shape, a_strides, b_strides, [&](std::int64_t at_a, std::int64_t at_b) {
    const auto run = [&](auto f) { broadcast_run(f, a + at_a, a_moves, b + at_b, b_moves, y, length, lo, hi); };
    switch (op) {
      case Eltwise::add:
        run([](float p, float q) { return p + q; });
        break;
      case Eltwise::sub:
        run([](float p, float q) { return p - q; });
        break;
      case Eltwise::mul:
        run([](float p, float q) { return p * q; });
        break;
      default:
        run([](float p, float q) { return p / q; });
        break;
    }
    y += length;
  });
}

void channel_affine(const float* x, const float* scale, const float* shift, float* y, std::int64_t outer, std::int64_t channels,
                    std::int64_t inner, float lo, float hi) {
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t i = 0; i < inner; ++i) *y++ = clamp(*x++ * scale[c] + shift[c], lo, hi);
}

}  // namespace bittern::engine
