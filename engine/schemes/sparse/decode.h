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

}  // namespace bittern::engine::schemes::sparse
