// Sparse tensors: clear, then scatter; no position leaves the tensor.
#include "schemes/sparse/decode.h"

#include <algorithm>
#include <limits>

namespace bittern::engine::schemes::sparse {

namespace {

std::int64_t as_limit(std::size_t value) noexcept {
  constexpr auto largest = std::numeric_limits<std::int64_t>::max();
  return value > static_cast<std::size_t>(largest) ? largest : static_cast<std::int64_t>(value);
}

}  // namespace

template <class I, class V>
Status from_bitmap(std::span<const I> mask, std::span<const V> values, std::span<V> out) noexcept {
  if (mask.size() != out.size()) return Status::failure("mask and tensor differ in size");
  std::size_t used = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const I bit = mask[i];
    if (bit < 0 || bit > 1) return Status::outside("a mask element that is neither 0 nor 1", i, bit, 0, 1);
    if (bit == 0) {
      out[i] = V{};
      continue;
    }
    if (used == values.size()) return Status::failure("the mask has more ones than there are values", i);
    out[i] = values[used++];
  }
  if (used != values.size()) return Status::failure("the mask has fewer ones than there are values", used);
  return {};
}

template <class I, class V>
Status from_csr(std::span<const I> row_ptr, std::span<const I> columns, std::span<const V> values, std::size_t rows,
                std::span<V> out) noexcept {
  if (row_ptr.empty() || row_ptr.size() - 1 != rows) return Status::failure("row_ptr needs one element more than rows");
  if (columns.size() != values.size()) return Status::failure("columns and values differ in number");
  if (rows == 0 ? !out.empty() : out.size() % rows != 0) return Status::failure("rows do not divide the tensor");
  const std::size_t width = rows == 0 ? 0 : out.size() / rows;
  const std::int64_t entries = as_limit(columns.size());

  if (row_ptr[0] != 0) return Status::outside("row_ptr does not start at 0", 0, row_ptr[0], 0, 0);
  if (row_ptr[rows] != entries) {
    return Status::outside("row_ptr does not end at the number of values", rows, row_ptr[rows], entries, entries);
  }
  std::fill(out.begin(), out.end(), V{});
  for (std::size_t row = 0; row < rows; ++row) {
    const std::int64_t begin = row_ptr[row];
    const std::int64_t end = row_ptr[row + 1];
    if (end < begin || end > entries) {
      return Status::outside("row_ptr falls or passes the number of values", row + 1, end, begin, entries);
    }
    std::int64_t previous = -1;
    for (auto j = static_cast<std::size_t>(begin); j < static_cast<std::size_t>(end); ++j) {
      const std::int64_t column = columns[j];
      if (column <= previous || column >= as_limit(width)) {
        return Status::outside("a column outside its row, or not rising", j, column, previous + 1, as_limit(width) - 1);
      }
      out[row * width + static_cast<std::size_t>(column)] = values[j];
      previous = column;
    }
  }
  return {};
}

template <class I, class V>
Status from_relative_index(std::span<const I> gaps, std::span<const V> values, std::span<V> out) noexcept {
  if (gaps.size() != values.size()) return Status::failure("gaps and values differ in number");
  std::fill(out.begin(), out.end(), V{});
  std::size_t next = 0;  // the position after the last one taken
  for (std::size_t j = 0; j < gaps.size(); ++j) {
    const std::int64_t gap = gaps[j];
    const std::size_t left = out.size() - next;
    if (gap < 0 || static_cast<std::uint64_t>(gap) >= left) {
      return Status::outside("a gap that leads outside the tensor", j, gap, 0, as_limit(left) - 1);
    }
    next += static_cast<std::size_t>(gap);
    out[next++] = values[j];
  }
  return {};
}

template <class V>
Status from_blocks(std::span<const std::int32_t> grid, std::size_t rows, std::size_t height, std::size_t width,
                   std::span<const V> values, std::span<V> out) noexcept {
  if (rows == 0 ? !out.empty() : out.size() % rows != 0) return Status::failure("rows do not divide the tensor");
  const std::size_t columns = rows == 0 ? 0 : out.size() / rows;
  if (height == 0 || width == 0 || rows % height != 0 || columns % width != 0) return Status::failure("blocks do not divide the tensor");
  const std::size_t across = columns / width;
  if (grid.size() != rows / height * across) return Status::failure("grid and tensor differ in size");
  std::size_t used = 0;
  for (std::size_t row = 0; row < rows && !out.empty(); ++row) {
    for (std::size_t block = 0; block < across; ++block) {
      const std::span<V> part = out.subspan(row * columns + block * width, width);
      if (grid[row / height * across + block] == 0) {
        std::fill(part.begin(), part.end(), V{});
        continue;
      }
      if (values.size() - used < width) return Status::failure("the blocks have more elements than there are values", row * columns);
      std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(used), width, part.begin());
      used += width;
    }
  }
  if (used != values.size()) return Status::failure("the blocks have fewer elements than there are values", used);
  return {};
}

template <class I, class V>
Status from_n_of_m(std::span<const I> places, std::size_t n, std::size_t m, std::span<const V> values,
                   std::span<V> out) noexcept {
  if (n == 0 || n > m || out.size() % m != 0) return Status::failure("groups do not divide the tensor");
  const std::size_t groups = out.size() / m;
  if (places.size() != values.size() || places.size() != groups * n) return Status::failure("places, values and groups differ in number");
  std::fill(out.begin(), out.end(), V{});
  for (std::size_t group = 0; group < groups; ++group) {
    std::int64_t previous = -1;
    for (std::size_t j = group * n; j < (group + 1) * n; ++j) {
      const std::int64_t place = places[j];
      if (place <= previous || place >= as_limit(m)) {
        return Status::outside("a place outside its group, or not rising", j, place, previous + 1, as_limit(m) - 1);
      }
      out[group * m + static_cast<std::size_t>(place)] = values[j];
      previous = place;
    }
  }
  return {};
}

#define BITTERN_INSTANTIATE(I, V)                                                                              \
  template Status from_bitmap(std::span<const I>, std::span<const V>, std::span<V>) noexcept;                  \
  template Status from_csr(std::span<const I>, std::span<const I>, std::span<const V>, std::size_t,            \
                           std::span<V>) noexcept;                                                             \
  template Status from_relative_index(std::span<const I>, std::span<const V>, std::span<V>) noexcept;           \
  template Status from_n_of_m(std::span<const I>, std::size_t, std::size_t, std::span<const V>,                \
                              std::span<V>) noexcept;
BITTERN_INSTANTIATE(std::int32_t, float)
BITTERN_INSTANTIATE(std::int32_t, std::int32_t)
BITTERN_INSTANTIATE(std::int32_t, std::int64_t)
BITTERN_INSTANTIATE(std::int64_t, float)
BITTERN_INSTANTIATE(std::int64_t, std::int32_t)
BITTERN_INSTANTIATE(std::int64_t, std::int64_t)
#undef BITTERN_INSTANTIATE
template Status from_blocks(std::span<const std::int32_t>, std::size_t, std::size_t, std::size_t, std::span<const float>, std::span<float>) noexcept;
template Status from_blocks(std::span<const std::int32_t>, std::size_t, std::size_t, std::size_t, std::span<const std::int32_t>,
                            std::span<std::int32_t>) noexcept;
template Status from_blocks(std::span<const std::int32_t>, std::size_t, std::size_t, std::size_t, std::span<const std::int64_t>,
                            std::span<std::int64_t>) noexcept;

}  // namespace bittern::engine::schemes::sparse
