// Numbers to codes of a few bits and back: a scale and a zero point per tensor, per entry of an axis, or per block of entries.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/thread_pool.h"

namespace bittern::engine {

// Which scale each element has. The tensor is [outer, axis, inner]; scales are one per entry of the axis (`axis` 1: one for
// all), or, with blocks, an array [outer, ceil(axis / block), inner].
struct ScaleGrid {
  std::int64_t outer = 1, axis = 1, inner = 1;
  std::int64_t block = 0;  // 0: no blocks

  std::int64_t elements() const noexcept { return outer * axis * inner; }
};

// Codes saturate to these, which the type of the codes holds.
struct CodeRange {
  std::int64_t low = 0, high = 255;
};

// Calls body(element, scale, step, count) for runs that together are [from, from + size): the scale of element + i is that at
// scale + i * step.
template <class Body>
void for_scale_runs(const ScaleGrid& grid, std::int64_t from, std::int64_t size, const Body& body) {
  const std::int64_t end = from + size;
  while (from < end) {
    const std::int64_t i = from % grid.inner, row = from / grid.inner, a = row % grid.axis, o = row / grid.axis;
    std::int64_t scale = a, step = 0, count = grid.inner - i;
    if (grid.block != 0) {
      const std::int64_t blocks = (grid.axis - 1) / grid.block + 1;
      scale = (o * blocks + a / grid.block) * grid.inner + i;
      step = grid.inner == 1 ? 0 : 1;
      if (grid.inner == 1) count = std::min(grid.block - a % grid.block, grid.axis - a);
    }
    count = std::min(count, end - from);
    body(from, scale, step, count);
    from += count;
  }
}

// y = saturate(x / scale, rounded half to even, + zero point); NaN becomes the lowest code. `zero_points` may be null.
// T: 8- or 16-bit integers, or std::int32_t.
template <class T>
void quantize(const ScaleGrid& grid, CodeRange range, const float* x, const float* scales, const T* zero_points, T* y, Team& team);

// y = float(x - zero point) * scale.
template <class T>
void dequantize(const ScaleGrid& grid, const T* x, const float* scales, const T* zero_points, float* y, Team& team);

}  // namespace bittern::engine
