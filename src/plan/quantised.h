// Which layers run on 8-bit codes: an operator whose inputs come from DequantizeLinear and whose output goes to
// QuantizeLinear computes on the codes themselves.
//
// What it then means: exact integer sums, converted to float32; one multiplication by (x_scale * w_scale) / y_scale, one
// addition if the bias is a real number; rounding half to even; saturation. docs/numerics.md has the details.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "plan/fuse.h"

namespace bittern::plan {

// Sets `codes` of the items that can, and renames their inputs and outputs to the codes; quantisers that nobody needs
// any more vanish. `kept` are values that must exist as they are.
std::vector<Item> use_codes(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants);

}  // namespace bittern::plan
