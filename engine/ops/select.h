// Elements of any type selected by indices that are known at run time only. Negative indices count from the end. No index
// reaches outside: reading takes the nearest element instead, writing leaves the element out.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "ops/move.h"

namespace bittern::engine {

struct Indices {
  const void* data;
  bool wide;  // 64 bits, else 32
  std::int64_t operator[](std::int64_t i) const {
    return wide ? static_cast<const std::int64_t*>(data)[i] : static_cast<const std::int32_t*>(data)[i];
  }
};

// y[o, i] = x[o, indices[i]]: blocks of `bytes` bytes, x of shape [outer, axis], y of shape [outer, count].
struct GatherShape {
  std::int64_t outer, axis, count, bytes;
};
void gather(const GatherShape& s, const void* x, Indices indices, void* y, Team& team);

// Arrays of indices that have the rank of the data: each takes the place of its own coordinate along one axis.
class ElementSelection {
 public:
  // Sizes of indices (below those of the data beside `axis`) and data.
  ElementSelection(std::vector<std::int64_t> indices, const std::vector<std::int64_t>& data, std::size_t axis);
  // Elements of `size` bytes.
  void gather(int size, const void* x, Indices indices, void* y, Team& team) const;
  // y[...] = combine(y[...], updates[...]); in the order of the indices where several name one element.
  // `combine` is called as combine(T& y, T update) and does not throw.
  template <class T, class Combine>
  void scatter(Indices indices, const T* updates, T* y, Team& team, const Combine& combine) const;

 private:
  // Offset of the data element that belongs to row r of the indices with coordinate 0 along the axis and the last dimension.
  std::int64_t row_offset(std::int64_t r) const;

  std::vector<std::int64_t> sizes_, strides_;
  std::size_t axis_;
  std::int64_t limit_, count_ = 1, row_ = 1, rows_ = 0;
  std::int64_t rows_before_ = 1;  // groups of rows that write to different elements
};

// Tuples of indices, each the address of a block of elements of the data.
class TupleSelection {
 public:
  // `indices` without its last size, which is `depth`; the first `batch` sizes are those of the data too.
  TupleSelection(const std::vector<std::int64_t>& indices, const std::vector<std::int64_t>& data, std::size_t batch, std::size_t depth);
  void gather(int size, const void* x, Indices indices, void* y, Team& team) const;
  template <class T, class Combine>
  void scatter(Indices indices, const T* updates, T* y, const Combine& combine) const;

 private:
  std::vector<std::int64_t> sizes_, strides_;  // of the axes that tuples address
  std::int64_t tuples_ = 1, per_batch_ = 1, batch_stride_ = 1, block_ = 1;
};

inline std::int64_t from_front(std::int64_t index, std::int64_t size) { return index < 0 ? index + size : index; }
inline std::int64_t nearest(std::int64_t index, std::int64_t size) {
  index = from_front(index, size);
  return index < 0 ? 0 : index >= size ? size - 1 : index;
}

template <class T, class Combine>
void ElementSelection::scatter(Indices indices, const T* updates, T* y, Team& team, const Combine& combine) const {
  if (count_ == 0) return;
  const bool along = axis_ + 1 == sizes_.size();
  const std::int64_t step = along ? 0 : strides_.back(), scale = strides_[axis_], rows = rows_ / rows_before_;
  in_pieces(team, rows_before_, count_ / rows_before_, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * rows, last = end * rows;
    for (std::int64_t r = first; r < last; ++r) {
      T* target = y + row_offset(r);
      for (std::int64_t i = 0; i < row_; ++i) {
        const std::int64_t at = from_front(indices[r * row_ + i], limit_);
        if (at >= 0 && at < limit_) combine(target[i * step + at * scale], updates[r * row_ + i]);
      }
    }
  });
}

template <class T, class Combine>
void TupleSelection::scatter(Indices indices, const T* updates, T* y, const Combine& combine) const {
  const auto depth = static_cast<std::int64_t>(sizes_.size());
  for (std::int64_t t = 0; t < tuples_; ++t) {
    std::int64_t offset = 0;
    bool inside = true;
    for (std::int64_t j = 0; j < depth; ++j) {
      const std::int64_t size = sizes_[static_cast<std::size_t>(j)], at = from_front(indices[t * depth + j], size);
      inside = inside && at >= 0 && at < size;
      if (inside) offset += at * strides_[static_cast<std::size_t>(j)];
    }
    if (!inside) continue;
    for (std::int64_t i = 0; i < block_; ++i) combine(y[offset + i], updates[t * block_ + i]);
  }
}

}  // namespace bittern::engine
