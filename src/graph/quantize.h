// What QuantizeLinear and DequantizeLinear say of their scales and codes; shared by type inference and planning.
#pragma once

#include "graph/ops.h"
#include "ops/quantize.h"

namespace bittern::graph {

// How the scales (input 1) belong to the elements of input 0. Throws Error(input) naming the node where shapes do not fit.
engine::ScaleGrid scale_grid(const Node& node, const std::vector<const ValueType*>& inputs);

// The codes that a quantiser writes into elements of this type. Throws Error(input) where `bits` or `narrow` do not fit it.
engine::CodeRange code_range(const Node& node, DType type);

}  // namespace bittern::graph
