// Weights as whole numbers times scales: what integer kernels compute with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

// element = scale * value exactly as decode_real() has it, with one scale or one for each index of `axis`.
struct IntegerForm {
  std::vector<std::int32_t> values;  // in the order of the tree's shape
  std::vector<float> scale;
  int axis = -1;                     // in the tree's shape; -1: one scale
};

// Nothing if the tree is no such product (or its numbers leave 32 bits). Throws Error(format) as decode_real() does.
std::optional<IntegerForm> integer_form(const graph::Encoding& tree, const std::string& place);

// Whether there is one, as far as the tree's nodes tell without being decoded.
bool may_have_integer_form(const graph::Encoding& tree) noexcept;

}  // namespace bittern::format
