// Weights that are not zero, row by row, and what they become for the forms of the sparse kernels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bittern::engine {

// The weights that are not zero, output channel by output channel, positions rising: (i * kh + r) * kw + s inside the group.
struct SparseRows {
  std::vector<std::int64_t> first;       // of each row, and the end
  std::vector<std::int32_t> position;
  std::vector<float> value;              // of each row in blocks, or
  std::vector<std::uint8_t> code;        // codes into a table; of lists 0 or 1, the first value of its row or the second

  std::int64_t entries() const noexcept { return static_cast<std::int64_t>(position.size()); }
};

std::int64_t count_nonzero(std::span<const float> weights) noexcept;
SparseRows sparse_rows(const float* weights, std::int64_t rows, std::int64_t columns);

// Rows from `first` on.
SparseRows part_of(const SparseRows& rows, std::int64_t first, std::int64_t count);

// The table of at most 256 values that the rows' values come from, and their codes into it; false if there are more.
bool to_codes(SparseRows& rows, std::vector<float>& table);

// Whether each row has at most two values besides zero.
bool two_values(std::span<const float> weights, std::int64_t rows) noexcept;

// Blocks of four rows and a column with some value in them, and what the rows become as such blocks: a quarter of them, whose entries
// have four values. The number of rows is a multiple of four.
std::int64_t count_blocks(std::span<const float> weights, std::int64_t rows) noexcept;
SparseRows to_blocks(const SparseRows& rows);

// For rows of at most two values each, as those of ternary weights: the first value of each row and the second over the first. False
// if a row has more, or two of so different magnitudes that their ratio would lose bits. Where both are whole numbers, or if `exact`,
// sums of whole numbers must stay exact: then it must be a power of two.
struct SparseLists {
  std::vector<float> scale, ratio;
};
bool to_lists(SparseRows& rows, bool exact, SparseLists& lists);

}  // namespace bittern::engine
