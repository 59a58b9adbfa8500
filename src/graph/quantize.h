// What quantisers say of their scales, codes and rounding; shared by type inference and planning.
#pragma once

#include "graph/ops.h"
#include "ops/quantize.h"
#include "ops/rounding.h"

namespace bittern::graph {

// How the scales (input 1) belong to the elements of input 0. Throws Error(input) naming the node where shapes do not fit.
engine::ScaleGrid scale_grid(const Node& node, const std::vector<const ValueType*>& inputs);

// The codes that a quantiser writes into elements of this type. Throws Error(input) where `bits` or `narrow` do not fit it.
engine::CodeRange code_range(const Node& node, DType type);

// A zero point of MatMulInteger in a shape that broadcasts to its matrix: one vector of a matrix counts its rows (A) or columns.
Shape matmul_zero_shape(const Shape& matrix, const Shape& zero, bool rows);

// The attribute rounding_mode of the operators of QONNX. Throws Error(input) for a mode that is none.
engine::Rounding rounding_mode(const Node& node, const char* fallback);

// The dimension of MultiThreshold's channels, in a tensor of at least one dimension.
std::size_t threshold_axis(const Node& node, std::size_t rank);

}  // namespace bittern::graph
