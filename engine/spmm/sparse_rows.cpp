#include "spmm/sparse_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "spmm/panel.h"

namespace bittern::engine {

std::int64_t count_nonzero(std::span<const float> weights) noexcept {
  return static_cast<std::int64_t>(weights.size()) - std::count(weights.begin(), weights.end(), 0.0f);
}

SparseRows sparse_rows(const float* weights, std::int64_t rows, std::int64_t columns) {
  SparseRows sparse;
  sparse.first.push_back(0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const float w = weights[r * columns + c];
      if (w == 0.0f) continue;
      sparse.position.push_back(static_cast<std::int32_t>(c));
      sparse.value.push_back(w);
    }
    sparse.first.push_back(sparse.entries());
  }
  return sparse;
}

SparseRows part_of(const SparseRows& rows, std::int64_t first, std::int64_t count) {
  SparseRows part;
  const auto at = [&](std::int64_t row) { return rows.first[static_cast<std::size_t>(row)]; };
  const std::int64_t begin = at(first), end = at(first + count);
  for (std::int64_t r = first; r <= first + count; ++r) part.first.push_back(at(r) - begin);
  part.position.assign(rows.position.begin() + begin, rows.position.begin() + end);
  if (!rows.value.empty()) part.value.assign(rows.value.begin() + begin, rows.value.begin() + end);
  if (!rows.code.empty()) part.code.assign(rows.code.begin() + begin, rows.code.begin() + end);
  return part;
}

bool to_codes(SparseRows& rows, std::vector<float>& table) {
  std::unordered_map<std::uint32_t, std::uint8_t> codes;
  table.clear();
  rows.code.clear();
  rows.code.reserve(rows.value.size());
  for (const float value : rows.value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto found = codes.find(bits);
    if (found != codes.end()) {
      rows.code.push_back(found->second);
      continue;
    }
    if (table.size() == 256) return false;
    const auto code = static_cast<std::uint8_t>(table.size());
    codes.emplace(bits, code);
    table.push_back(value);
    rows.code.push_back(code);
  }
  return true;
}

bool two_values(std::span<const float> weights, std::int64_t rows) noexcept {
  const std::size_t columns = weights.size() / static_cast<std::size_t>(std::max<std::int64_t>(1, rows));
  for (std::size_t at = 0; at < weights.size(); at += columns) {
    float first = 0, second = 0;
    for (const float value : weights.subspan(at, columns)) {
      if (value == 0.0f || value == first || value == second) continue;
      if (second != 0.0f) return false;
      (first == 0.0f ? first : second) = value;
    }
  }
  return true;
}

std::int64_t count_blocks(std::span<const float> weights, std::int64_t rows) noexcept {
  constexpr std::int64_t together = spmm_rows(SpmmForm::blocks);
  const std::int64_t columns = rows == 0 ? 0 : static_cast<std::int64_t>(weights.size()) / rows;
  std::int64_t count = 0;
  for (std::int64_t r = 0; r + together <= rows; r += together) {
    for (std::int64_t c = 0; c < columns; ++c) {
      bool any = false;
      for (std::int64_t i = 0; i < together; ++i) any = any || weights[static_cast<std::size_t>((r + i) * columns + c)] != 0.0f;
      count += any;
    }
  }
  return count;
}

SparseRows to_blocks(const SparseRows& rows) {
  constexpr std::size_t together = spmm_rows(SpmmForm::blocks);
  SparseRows blocks;
  blocks.first.push_back(0);
  std::size_t next[together], end[together];
  for (std::size_t r = 0; r + together < rows.first.size(); r += together) {
    for (std::size_t i = 0; i < together; ++i) {
      next[i] = static_cast<std::size_t>(rows.first[r + i]);
      end[i] = static_cast<std::size_t>(rows.first[r + i + 1]);
    }
    for (;;) {
      constexpr std::int32_t none = std::numeric_limits<std::int32_t>::max();
      std::int32_t least = none;
      for (std::size_t i = 0; i < together; ++i) {
        if (next[i] < end[i]) least = std::min(least, rows.position[next[i]]);
      }
      if (least == none) break;
      blocks.position.push_back(least);
      for (std::size_t i = 0; i < together; ++i) {
        const bool here = next[i] < end[i] && rows.position[next[i]] == least;
        blocks.value.push_back(here ? rows.value[next[i]++] : 0.0f);
      }
    }
    blocks.first.push_back(blocks.entries());
  }
  return blocks;
}

bool to_lists(SparseRows& rows, bool exact, SparseLists& lists) {
  constexpr float apart = 0x1p20f;
  const std::size_t count = rows.first.size() - 1;
  lists.scale.assign(count, 1.0f);
  lists.ratio.assign(count, 1.0f);
  rows.code.assign(rows.value.size(), 0);
  for (std::size_t r = 0; r < count; ++r) {
    const auto begin = static_cast<std::size_t>(rows.first[r]), end = static_cast<std::size_t>(rows.first[r + 1]);
    if (begin == end) continue;
    float first = rows.value[begin], second = first;
    for (std::size_t e = begin; e < end; ++e) {
      const float value = rows.value[e];
      if (second == first) second = value;
      if (value != first && value != second) return false;
    }
    // A ratio below 1 cannot overflow. Signs alone are split the same way in every row.
    if (std::abs(second) > std::abs(first) || (std::abs(second) == std::abs(first) && second > first)) std::swap(first, second);
    if (!std::isfinite(first) || !std::isfinite(second) || std::abs(first) > std::abs(second) * apart) return false;
    const float ratio = second / first;
    int exponent = 0;
    const bool whole = first == std::nearbyint(first) && second == std::nearbyint(second);
    if ((exact || whole) && std::abs(std::frexp(ratio, &exponent)) != 0.5f) return false;
    for (std::size_t e = begin; e < end; ++e) rows.code[e] = rows.value[e] == first ? 0 : 1;
    lists.scale[r] = first;
    lists.ratio[r] = ratio;
  }
  return true;
}

}  // namespace bittern::engine
