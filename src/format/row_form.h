// Weights as the kernels of few rows decode them in registers: codes into tables of at most 16 numbers, or signed bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

// element = scale * table[code], with no scale, one, or one for each index of `axis`. Without a table the codes are signed
// bytes that stand for themselves. `tables`: no scales, but a table of 4 entries for each index of `axis`, one after the other.
struct RowForm {
  std::vector<float> table = {};  // at most 16
  std::vector<float> scale = {};
  int axis = -1;  // in the tree's shape
  bool tables = false;
};

// Nothing if the tree is no such product. Throws Error(format) as decode_real() does.
std::optional<RowForm> row_form(const graph::Encoding& tree, const std::string& place);

// The codes of a tree that has the form, in the order of its shape.
std::vector<std::uint8_t> row_codes(const graph::Encoding& tree, const std::string& place);

}  // namespace bittern::format
