// What one operator takes and gives: a row of the table of operators. For the files that fill the table.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "graph/ops.h"

namespace bittern::graph {

using ValueTypes = std::vector<ValueType>;
using Inputs = std::vector<const ValueType*>;  // one per input, null where omitted

enum class AttributeType { integer, real, text, integers, reals };

struct Schema {
  std::size_t min_inputs = 1, max_inputs = 1;
  std::map<std::string, AttributeType> attributes = {};
  // Types of all outputs that the node names. May rely on what validate() has checked: numbers of inputs and outputs, names
  // and types of attributes, required inputs being there.
  ValueTypes (*infer)(const Node&, const Inputs&) = nullptr;
  std::size_t required_inputs = 0;                // the first ones, which may not be omitted; 0: min_inputs
  std::size_t max_outputs = 1;
  std::vector<std::size_t> shape_inputs = {};        // inputs whose values decide shapes: known when a plan is made
  bool any_type = false;                          // the rule checks element types itself; else all but shape inputs are f32
};

using Schemas = std::map<std::string, Schema>;

constexpr std::size_t max_rank = 8;  // of any tensor; engine/ops/plain.h counts on it
constexpr std::size_t many_inputs = 1 << 20;

// One function per family of operators: ops.cpp, ops_elementwise.cpp, ops_move.cpp, ops_nn.cpp, ops_quantize.cpp, ops_sequence.cpp.
void add_elementwise(Schemas& schemas);
void add_move(Schemas& schemas);
void add_nn(Schemas& schemas);
void add_quantize(Schemas& schemas);
void add_sequence(Schemas& schemas);

[[noreturn]] void fail(const Node& node, const std::string& problem, const std::string& remedy = {});
void require(bool condition, const Node& node, const std::string& problem, const std::string& remedy = {});
// The shape of an input, of this rank unless `rank` is 0.
const Shape& shape_of(const Node& node, const Inputs& inputs, std::size_t i, std::size_t rank = 0);
// -rank <= axis < rank (or = rank) as a number from 0.
std::int64_t normal_axis(const Node& node, std::int64_t axis, std::size_t rank, bool end_allowed = false);
// The values of an input that must be known: integers or booleans; numbers. Fail where they are not.
std::vector<std::int64_t> integers(const Node& node, const Inputs& inputs, std::size_t i);
std::vector<double> reals(const Node& node, const Inputs& inputs, std::size_t i);
bool given(const Inputs& inputs, std::size_t i);
// What a convolution gives (ops_nn.cpp), the shape of a product of matrices (ops_sequence.cpp); types are not looked at.
ValueTypes conv_types(const Node& node, const Inputs& inputs);
Shape matmul_shape(const Node& node, const Shape& a, const Shape& b);
bool is_integer(DType type) noexcept;  // not booleans
void require_type(const Node& node, const Inputs& inputs, std::size_t i, bool allowed, const char* types);

}  // namespace bittern::graph
