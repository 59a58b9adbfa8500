// Weights as codes into a table of at most 256 numbers, times scales: what look-up kernels compute with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

inline constexpr std::size_t most_entries = 256;

// element = scale * table[code], with no scale, one, or one for each index of `axis`, or as grouped_integer_form() has them.
// Or every index of `axis` has a table of its own, without scales.
struct LookUpForm {
  std::vector<float> table;  // all tables, one after the other
  std::size_t entries = 0;   // of one
  std::vector<float> scale;
  int axis = -1;             // in the tree's shape
  std::int64_t group = 0;    // of a scale along `axis`; 0: none

  bool many_tables() const noexcept { return table.size() > entries; }
};

// Nothing if the tree is no such product. Throws Error(format) as decode_real() does.
std::optional<LookUpForm> look_up_form(const graph::Encoding& tree, const std::string& place);

// The codes of a tree that has the form, in the order of its shape.
std::vector<std::uint8_t> look_up_codes(const graph::Encoding& tree, const std::string& place);

}  // namespace bittern::format
