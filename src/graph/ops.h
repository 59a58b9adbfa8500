// The operators: which attributes and inputs they take, and the shapes they give.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace bittern::graph {

// What is known of a value when shapes are inferred.
struct ValueType {
  DType dtype = DType::f32;
  Shape shape;
  // Its elements in C order, if they are known when a plan is made: small constants, and what follows from shapes.
  std::shared_ptr<const std::vector<std::byte>> known;
};

// The known elements as integers (integers and booleans only) or as numbers; nothing if they are not known or of another type.
std::optional<std::vector<std::int64_t>> known_integers(const ValueType& type);
std::optional<std::vector<double>> known_reals(const ValueType& type);

// Checks ranks, operators, attributes and the number of inputs and outputs of every node. Throws one Error that lists all
// problems: `unsupported` if there are unknown operators or attributes or too many dimensions, else `format`.
void validate(const Graph& graph, const std::string& place);

// True if the values of this input of this operator decide shapes, or how its plan is made.
bool shape_input(const std::string& op, std::size_t input) noexcept;

// Types of the node's outputs. `inputs` has one entry per input, null where omitted. Throws Error(input) naming the node.
std::vector<ValueType> infer(const Node& node, const std::vector<const ValueType*>& inputs);

// Attributes with their defaults; validate() has checked names and types.
std::int64_t int_attribute(const Node& node, const char* name, std::int64_t fallback);
float float_attribute(const Node& node, const char* name, float fallback);
std::string string_attribute(const Node& node, const char* name, const char* fallback);
std::vector<std::int64_t> ints_attribute(const Node& node, const char* name, std::vector<std::int64_t> fallback);

std::vector<double> reals_attribute(const Node& node, const char* name, std::vector<double> fallback);

// A shape of rank 3 as the map of height 1 that it is to layers: [n, c, 1, w]. Others are returned as they are.
Shape map_shape(const Shape& shape);

// Windows of 1-D (as height 1) and 2-D convolution and pooling, with automatic padding resolved.
struct Window {
  std::int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t oh = 0, ow = 0;
};
// `input` has rank 3 or 4; attributes have one or two sizes accordingly.
Window window(const Node& node, const Shape& input, std::int64_t kh, std::int64_t kw);

// True if pooling with these attributes is within what tuned kernels do: windows that padding does not fill.
bool tuned_pool(const Node& node, const Shape& input);

// Product of the sizes; throws Error(resource) beyond what any machine addresses, Error(input) for a negative size.
std::int64_t element_count(const Shape& shape, const std::string& place);

std::string to_string(const Shape& shape);  // "[1, 3, 8, 8]"

// The shape of a and b broadcast together; throws Error(input) naming `place`.
Shape broadcast_shape(const Shape& a, const Shape& b, const std::string& place);

}  // namespace bittern::graph
