// Weights as codes of few bits, times scales: what kernels that decode in registers compute with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

inline constexpr std::size_t most_entries = 16;

// element = scale * table[code], with no scale, one, or one for each index of `axis`. Without a table the codes are signed
// bytes that stand for themselves. `tables`: no scales, but a table of 4 entries for each index of `axis`, one after the other.
struct LookUpForm {
  std::vector<float> table = {};  // at most 16
  std::vector<float> scale = {};
  int axis = -1;  // in the tree's shape
  bool tables = false;
};

// Nothing if the tree is no such product. Throws Error(format) as decode_real() does.
std::optional<LookUpForm> look_up_form(const graph::Encoding& tree, const std::string& place);

// The codes of a tree that has the form, in the order of its shape.
std::vector<std::uint8_t> look_up_codes(const graph::Encoding& tree, const std::string& place);

}  // namespace bittern::format
