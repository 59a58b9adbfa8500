// Non-zero values and the positions they belong to, in three ways of writing positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::sparse {

// Each function clears `out` (the tensor, flat, C order) and puts `values` in their places.
// I (indices): int32_t or int64_t. V (values): float, int32_t or int64_t. After a failure `out` is unspecified.

// mask: out.size() elements in 0..1, with exactly values.size() ones.
template <class I, class V>
Status from_bitmap(std::span<const I> mask, std::span<const V> values, std::span<V> out) noexcept;

// row_ptr: rows + 1, from 0 to values.size(), never falling. columns: values.size(), strictly increasing in each row,
// in 0..out.size()/rows-1. out.size() is a multiple of rows.
template <class I, class V>
Status from_csr(std::span<const I> row_ptr, std::span<const I> columns, std::span<const V> values, std::size_t rows,
                std::span<V> out) noexcept;

// gaps: values.size(), each >= 0. Starting at -1, each entry moves the position on by gap + 1; all below out.size().
template <class I, class V>
Status from_relative_index(std::span<const I> gaps, std::span<const V> values, std::span<V> out) noexcept;

// grid: a tensor of rows / height by (elements of a row / width) blocks, 1 where there is one, else 0. values: those of
// all elements that lie in a block, in the order of the tensor. height and width divide the rows and their elements.
template <class V>
Status from_blocks(std::span<const std::int32_t> grid, std::size_t rows, std::size_t height, std::size_t width,
                   std::span<const V> values, std::span<V> out) noexcept;

// places: n for each group of m elements, strictly rising, in 0..m-1. 1 <= n <= m, which divides out.size().
template <class I, class V>
Status from_n_of_m(std::span<const I> places, std::size_t n, std::size_t m, std::span<const V> values,
                   std::span<V> out) noexcept;

}  // namespace bittern::engine::schemes::sparse
