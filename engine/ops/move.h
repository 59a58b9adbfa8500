// Elements of any type moved along a fixed pattern: transpose, slice, pad, repeat, concatenate.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "base/thread_pool.h"

namespace bittern::engine {

// Calls body(first, last) for pieces of [0, rows), on all threads of the team if there is enough work for them.
template <class Body>
void in_pieces(Team& team, std::int64_t rows, std::int64_t row_elements, const Body& body) {
  constexpr std::int64_t grain = 1 << 15, most_pieces = 256;
  const std::int64_t least = std::max<std::int64_t>(1, grain / std::max<std::int64_t>(1, row_elements));
  const std::int64_t piece = std::max(least, (rows + most_pieces - 1) / most_pieces);
  team.run(static_cast<std::size_t>((rows + piece - 1) / piece), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * piece;
    body(first, std::min(rows, first + piece));
  });
}

// Calls body with the size of an element (1, 2, 4 or 8) as a constant, so that copies of one element become single moves.
template <class Body>
void with_size(int size, const Body& body) {
  switch (size) {
    case 1: return body(std::integral_constant<std::size_t, 1>{});
    case 2: return body(std::integral_constant<std::size_t, 2>{});
    case 4: return body(std::integral_constant<std::size_t, 4>{});
    default: return body(std::integral_constant<std::size_t, 8>{});
  }
}

// Elements of `size` bytes set to one value.
void fill(void* y, const void* value, int size, std::int64_t count);

// Copies bytes, on all threads if there are many.
void copy(const void* x, void* y, std::int64_t bytes, Team& team);

// One axis of a result: where its indices lie in the source, in elements.
struct TakeAxis {
  std::int64_t count = 0;
  std::int64_t stride = 0;               // where there is no table
  std::vector<std::int64_t> table = {};  // an offset for each index; Take::nothing where there is no source
};

// y[i, j, ...] = x[first + axis_0(i) + axis_1(j) + ...], y in C order; or a value where an axis has no source.
class Take {
 public:
  static constexpr std::int64_t nothing = -1;

  Take(std::vector<TakeAxis> axes, std::int64_t first, int size);
  // `value` is one element; only read if a table says `nothing`.
  void run(const void* x, const void* value, void* y, Team& team) const;

 private:
  struct Run {
    std::int64_t count, source;
  };
  void run_affine(const std::byte* x, std::byte* y, Team& team) const;
  void row(const std::byte* x, const void* value, std::byte* y) const;

  std::vector<TakeAxis> axes_;
  std::vector<Run> runs_;                       // of the last axis, if its table is mostly contiguous
  std::vector<std::int64_t> shape_, from_, to_;  // without tables: sizes and strides in bytes
  std::int64_t first_, total_ = 1;
  std::size_t size_;
};

// y[o] = the rows x_0[o], x_1[o], ... behind each other; `bytes` are those of one row of each source.
void concatenate(std::span<const void* const> x, std::span<const std::int64_t> bytes, std::int64_t outer, void* y, Team& team);

}  // namespace bittern::engine
