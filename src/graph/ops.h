// The operators: which attributes and inputs they take, and the shapes they give.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace bittern::graph {

// What is known of a value when shapes are inferred: its integers too, if it is a small integer constant.
struct ValueType {
  DType dtype = DType::f32;
  Shape shape;
  std::optional<std::vector<std::int64_t>> integers;
};

// Checks ranks, operators, attributes and the number of inputs and outputs of every node. Throws one Error that lists all
// problems: `unsupported` if there are unknown operators or attributes or too many dimensions, else `format`.
void validate(const Graph& graph, const std::string& place);

// True if the integers of this input of this operator decide shapes.
bool shape_input(const std::string& op, std::size_t input) noexcept;

// Types of the node's outputs. `inputs` has one entry per input, null where omitted. Throws Error(input) naming the node.
std::vector<ValueType> infer(const Node& node, const std::vector<const ValueType*>& inputs);

// Attributes with their defaults; validate() has checked names and types.
std::int64_t int_attribute(const Node& node, const char* name, std::int64_t fallback);
float float_attribute(const Node& node, const char* name, float fallback);
std::string string_attribute(const Node& node, const char* name, const char* fallback);
std::vector<std::int64_t> ints_attribute(const Node& node, const char* name, std::vector<std::int64_t> fallback);

// Windows of 2-D convolution and pooling, with automatic padding resolved.
struct Window {
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t oh = 0, ow = 0;
};
Window window(const Node& node, const Shape& input, std::int64_t kh, std::int64_t kw);

// Product of the sizes; throws Error(resource) beyond what any machine addresses, Error(input) for a negative size.
std::int64_t element_count(const Shape& shape, const std::string& place);

std::string to_string(const Shape& shape);  // "[1, 3, 8, 8]"

// The shape of a and b broadcast together; throws Error(input) naming `place`.
Shape broadcast_shape(const Shape& a, const Shape& b, const std::string& place);

}  // namespace bittern::graph
