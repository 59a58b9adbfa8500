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
  std::vector<float> scale;
  int axis = -1;                             // in the tree's shape; -1: one scale
  std::int64_t least = 0, greatest = 0;      // no value is outside
  std::vector<std::int16_t> alphabet;        // all values there may be, rising, if they are at most 256; else empty
};

// Nothing if the tree is no such product. Decodes scales and tables, not the weights. Throws Error(format) as
// decode_real() does.
std::optional<IntegerForm> integer_form(const graph::Encoding& tree, const std::string& place);

// The same of an affine tree whose scales and zero points are those of groups along its axis (docs/format.md): `scale` has
// them as they are stored.
std::optional<IntegerForm> grouped_integer_form(const graph::Encoding& tree, const std::string& place);

// A tree as the sum of such products: one of a tree that has the form itself, two of ternary weights with two values (the plus and the
// minus), those of all parts of a sum. Element = the sum of scale * value, up to the rounding of what decode_real() adds. Empty if it
// is none, or of more than graph::max_parts.
std::vector<IntegerForm> integer_parts(const graph::Encoding& tree, const std::string& place);

// The values of one of them, in the order of the tree's shape.
std::vector<std::int16_t> part_values(const graph::Encoding& tree, std::size_t part, const std::string& place);

// The values of a tree that has one of these forms within 16 bits, in the order of its shape.
std::vector<std::int16_t> integer_values(const graph::Encoding& tree, const std::string& place);

// The values of a small one, such as a bias of 32 bits.
std::vector<std::int64_t> wide_integer_values(const graph::Encoding& tree, const std::string& place);

}  // namespace bittern::format
