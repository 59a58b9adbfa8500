// Walks up to three arrays that are broadcast to the shape of a fourth, row by row. All arrays are in C order.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/checked.h"
#include "base/thread_pool.h"

namespace bittern::engine {

// A row: elements that lie side by side in the result. An operand either moves along with it or stays at one element.
struct BroadcastRow {
  std::array<std::int64_t, 3> at = {};  // of the operands
  std::int64_t to = 0;                  // of the result
  std::size_t size = 0;
};

class Broadcast {
 public:
  // Each operand's shape broadcasts to `result`, whose product fits (graph::element_count).
  Broadcast(std::span<const std::int64_t> result, std::initializer_list<std::span<const std::int64_t>> operands);

  std::int64_t total() const noexcept { return total_; }
  bool moves(std::size_t operand) const noexcept { return strides_[rank_ - 1][operand] != 0; }

  // Calls body(row) for rows that together are the result, on all threads of the team.
  template <class Body>
  void run(Team& team, const Body& body) const {
    if (total_ == 0) return;
    constexpr std::int64_t least = 1 << 15;  // elements worth a task
    const std::int64_t inner = sizes_[rank_ - 1], block = std::min(inner, least), blocks = ceil_div(inner, block);
    const std::int64_t pieces = total_ / inner * blocks;
    const std::int64_t each = total_ <= 2 * least ? pieces : std::max<std::int64_t>(1, least / block);
    team.run(static_cast<std::size_t>(ceil_div(pieces, each)), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * each, end = std::min(pieces, first + each);
      std::int64_t row = first / blocks, part = first % blocks;
      std::array<std::int64_t, 8> index{};
      std::array<std::int64_t, 3> start{};
      for (std::size_t d = rank_ - 1, rest = static_cast<std::size_t>(row); d-- > 0;) {
        const auto size = static_cast<std::size_t>(sizes_[d]);
        index[d] = static_cast<std::int64_t>(rest % size);
        rest /= size;
        for (std::size_t i = 0; i < 3; ++i) start[i] += index[d] * strides_[d][i];
      }
      for (std::int64_t piece = first; piece < end; ++piece) {
        const std::int64_t from = part * block;
        BroadcastRow it;
        for (std::size_t i = 0; i < 3; ++i) it.at[i] = start[i] + from * strides_[rank_ - 1][i];
        it.to = row * inner + from;
        it.size = static_cast<std::size_t>(std::min(block, inner - from));
        body(static_cast<const BroadcastRow&>(it));
        if (++part < blocks) continue;
        part = 0;
        ++row;
        for (std::size_t d = rank_ - 1; d-- > 0;) {
          for (std::size_t i = 0; i < 3; ++i) start[i] += strides_[d][i];
          if (++index[d] < sizes_[d]) break;
          for (std::size_t i = 0; i < 3; ++i) start[i] -= sizes_[d] * strides_[d][i];
          index[d] = 0;
        }
      }
    });
  }

 private:
  // Dimensions of the result that every operand walks through alike are one. At least one; the last is the row's.
  std::size_t rank_ = 0;
  std::array<std::int64_t, 8> sizes_ = {};
  std::array<std::array<std::int64_t, 3>, 8> strides_ = {};  // of the operands, in elements; 0 where they stay
  std::int64_t total_ = 1;
};

// y[i] = f(a[i], b[i]) along a row, where operands that do not move are read once. `y` may be `a`.
template <class A, class B, class R, class F>
void combine_row(const A* a, bool a_moves, const B* b, bool b_moves, R* y, std::size_t n, const F& f) {
  if (a_moves && b_moves) {
    for (std::size_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
  } else if (a_moves) {
    const B value = *b;
    for (std::size_t i = 0; i < n; ++i) y[i] = f(a[i], value);
  } else if (b_moves) {
    const A value = *a;
    for (std::size_t i = 0; i < n; ++i) y[i] = f(value, b[i]);
  } else {
    std::fill(y, y + n, f(*a, *b));
  }
}

// Calls body(from, size) for parts of [0, count), on all threads of the team. What is computed must not depend on the parts.
template <class Body>
void split(Team& team, std::int64_t count, const Body& body) {
  constexpr std::int64_t least = 1 << 15;
  const std::int64_t each = count <= 2 * least ? std::max<std::int64_t>(1, count) : least;
  team.run(static_cast<std::size_t>(ceil_div(count, each)), [&](std::size_t task) {
    const std::int64_t from = static_cast<std::int64_t>(task) * each;
    body(static_cast<std::size_t>(from), static_cast<std::size_t>(std::min(each, count - from)));
  });
}

}  // namespace bittern::engine
