// Operators on each element, on arrays broadcast together, and along axes.
#include <algorithm>
#include <string>
#include <vector>

#include "graph/schema.h"

namespace bittern::graph {
namespace {

using Types = ValueTypes;

constexpr DType all_types[] = {DType::f32, DType::i8,  DType::u8,  DType::i16, DType::u16,
                               DType::i32, DType::u32, DType::i64, DType::u64, DType::boolean};
constexpr const char* numbers = "f32, i8, u8, i16, u16, i32, u32, i64, u64";
constexpr const char* whole_numbers = "i8, u8, i16, u16, i32, u32, i64, u64";

bool is_number(DType type) { return type == DType::f32 || is_integer(type); }

void require_number(const Node& node, const Inputs& in, std::size_t i) { require_type(node, in, i, is_number(in[i]->dtype), numbers); }

void require_same_type(const Node& node, const Inputs& in, std::size_t i, std::size_t as) {
  require(in[i]->dtype == in[as]->dtype, node,
          "inputs " + std::to_string(as) + " and " + std::to_string(i) + " are " + name_of(in[as]->dtype) + " and " + name_of(in[i]->dtype),
          "they must be of one type: convert one with Cast");
}

std::string place(const Node& node) { return "node " + node.name + " (" + node.op + ")"; }

Types same(const Node&, const Inputs& in) { return {{in[0]->dtype, in[0]->shape, {}}}; }

Types same_number(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  return same(node, in);
}

Types same_integer(const Node& node, const Inputs& in) {
  require_type(node, in, 0, is_integer(in[0]->dtype), whole_numbers);
  return same(node, in);
}

Types same_boolean(const Node& node, const Inputs& in) {
  require_type(node, in, 0, in[0]->dtype == DType::boolean, "bool");
  return same(node, in);
}

Types gelu(const Node& node, const Inputs& in) {
  const std::string how = string_attribute(node, "approximate", "none");
  require(how == "none" || how == "tanh", node, "approximate " + how, "allowed are none, tanh");
  return same(node, in);
}

Types test(const Node&, const Inputs& in) { return {{DType::boolean, in[0]->shape, {}}}; }

Types clip(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  for (std::size_t i = 1; i < in.size(); ++i) {
    if (in[i] == nullptr) continue;
    require_same_type(node, in, i, 0);
    require(element_count(in[i]->shape, node.name) == 1, node, "bounds must be single numbers");
  }
  return same(node, in);
}

// All inputs, which are of one type, broadcast together.
Types broadcast(const Node& node, const Inputs& in) {
  Shape y = in[0]->shape;
  for (std::size_t i = 1; i < in.size(); ++i) {
    require_same_type(node, in, i, 0);
    y = broadcast_shape(y, in[i]->shape, place(node));
  }
  return {{in[0]->dtype, y, {}}};
}

Types of_numbers(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  return broadcast(node, in);
}

Types of_integers(const Node& node, const Inputs& in) {
  require_type(node, in, 0, is_integer(in[0]->dtype), whole_numbers);
  return broadcast(node, in);
}

Types of_booleans(const Node& node, const Inputs& in) {
  require_type(node, in, 0, in[0]->dtype == DType::boolean, "bool");
  return broadcast(node, in);
}

Types comparison(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  return {{DType::boolean, broadcast(node, in)[0].shape, {}}};
}

Types equal(const Node& node, const Inputs& in) {
  require_type(node, in, 0, is_number(in[0]->dtype) || in[0]->dtype == DType::boolean, "f32, integers and bool");
  return {{DType::boolean, broadcast(node, in)[0].shape, {}}};
}

Types power(const Node& node, const Inputs& in) {
  const DType base = in[0]->dtype;
  require_type(node, in, 0, base == DType::f32 || base == DType::i32 || base == DType::i64, "f32, i32, i64");
  require_number(node, in, 1);
  return {{base, broadcast_shape(in[0]->shape, in[1]->shape, place(node)), {}}};
}

Types prelu(const Node& node, const Inputs& in) {
  const Types y = of_numbers(node, in);
  require(y[0].shape == in[0]->shape, node, "slope " + to_string(in[1]->shape) + " for an input " + to_string(in[0]->shape),
          "the slope must broadcast to the input");
  return y;
}

Types shift(const Node& node, const Inputs& in) {
  const std::string direction = string_attribute(node, "direction", "");
  require(direction == "LEFT" || direction == "RIGHT", node, "direction '" + direction + "'", "allowed are LEFT, RIGHT");
  return of_integers(node, in);
}

Types where(const Node& node, const Inputs& in) {
  require_type(node, in, 0, in[0]->dtype == DType::boolean, "bool");
  require_same_type(node, in, 2, 1);
  const Shape chosen = broadcast_shape(in[1]->shape, in[2]->shape, place(node));
  return {{in[1]->dtype, broadcast_shape(in[0]->shape, chosen, place(node)), {}}};
}

bool is_supported(DType type) { return std::find(std::begin(all_types), std::end(all_types), type) != std::end(all_types); }

Types cast_to(const Node& node, const Inputs& in, DType to) {
  require_type(node, in, 0, is_supported(in[0]->dtype), "f32, integers and bool");
  require(is_supported(to), node, std::string("a conversion to ") + name_of(to), "supported: f32, integers and bool");
  return {{to, in[0]->shape, {}}};
}

Types cast(const Node& node, const Inputs& in) {
  const std::string to = string_attribute(node, "to", "");
  for (const DType type : all_types)
    if (to == name_of(type)) return cast_to(node, in, type);
  fail(node, "a conversion to '" + to + "'", std::string("the attribute to must be one of ") + numbers + ", bool");
}

Types cast_like(const Node& node, const Inputs& in) { return cast_to(node, in, in[1]->dtype); }

Types reduce(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const bool booleans = node.op == "ReduceMax" || node.op == "ReduceMin";
  require_type(node, in, 0, is_number(in[0]->dtype) || (booleans && in[0]->dtype == DType::boolean), booleans ? "f32, integers and bool" : numbers);
  const auto axes = given(in, 1) ? integers(node, in, 1) : std::vector<std::int64_t>{};
  std::vector<bool> gone(x.size(), axes.empty() && int_attribute(node, "noop_with_empty_axes", 0) == 0);
  for (const std::int64_t axis : axes) {
    const auto a = static_cast<std::size_t>(normal_axis(node, axis, x.size()));
    require(!gone[a], node, "axis " + std::to_string(axis) + " occurs twice");
    gone[a] = true;
  }
  const bool keep = int_attribute(node, "keepdims", 1) != 0;
  Shape y;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (!gone[d]) y.push_back(x[d]);
    if (gone[d] && keep) y.push_back(1);
  }
  return {{in[0]->dtype, y, {}}};
}

Types arg_extreme(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  Shape y = in[0]->shape;
  const auto axis = normal_axis(node, int_attribute(node, "axis", 0), std::max<std::size_t>(1, y.size()));
  if (y.empty()) return {{DType::i64, y, {}}};
  const auto at = y.begin() + axis;
  require(*at > 0, node, "axis " + std::to_string(axis) + " of " + to_string(y) + " is empty", "there must be an element to point at");
  if (int_attribute(node, "keepdims", 1) != 0) {
    *at = 1;
  } else {
    y.erase(at);
  }
  return {{DType::i64, y, {}}};
}

std::int64_t single(const Node& node, const Inputs& in, std::size_t i, const char* what) {
  const auto values = integers(node, in, i);
  require(values.size() == 1, node, std::to_string(values.size()) + " numbers for " + what, "one is needed");
  return values[0];
}

Types top_k(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  Shape y = in[0]->shape;
  const auto axis = normal_axis(node, int_attribute(node, "axis", -1), std::max<std::size_t>(1, y.size()));
  const std::int64_t k = single(node, in, 1, "k"), size = y.empty() ? 1 : y[static_cast<std::size_t>(axis)];
  require(k >= 0 && k <= size, node, "k is " + std::to_string(k) + " for " + std::to_string(size) + " elements",
          "allowed are 0 to the size of the axis");
  if (y.empty()) {
    require(k == 1, node, "k is 0 for a scalar");
  } else {
    y[static_cast<std::size_t>(axis)] = k;
  }
  return {{in[0]->dtype, y, {}}, {DType::i64, y, {}}};
}

Types running_sum(const Node& node, const Inputs& in) {
  require_number(node, in, 0);
  normal_axis(node, single(node, in, 1, "the axis"), std::max<std::size_t>(1, in[0]->shape.size()));
  return same(node, in);
}

}  // namespace

void add_elementwise(Schemas& t) {
  using enum AttributeType;
  for (const char* op : {"Exp", "Log", "Sqrt", "Reciprocal", "Erf", "Softplus", "Softsign", "HardSwish", "Mish", "Sin", "Cos", "Tan", "Asin", "Acos",
                         "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Floor", "Ceil", "Round"})
    t[op] = {.infer = same};
  for (const char* op : {"Elu", "Celu", "ThresholdedRelu", "Swish"}) t[op] = {.attributes = {{"alpha", real}}, .infer = same};
  t["Selu"] = {.attributes = {{"alpha", real}, {"gamma", real}}, .infer = same};
  t["Shrink"] = {.attributes = {{"bias", real}, {"lambd", real}}, .infer = same};
  t["HardSigmoid"] = {.attributes = {{"alpha", real}, {"beta", real}}, .infer = same};
  t["Gelu"] = {.attributes = {{"approximate", text}}, .infer = gelu};
  t["IsNaN"] = {.infer = test};
  t["IsInf"] = {.attributes = {{"detect_negative", integer}, {"detect_positive", integer}}, .infer = test};
  for (const char* op : {"Abs", "Neg", "Sign", "Relu"}) t[op] = {.infer = same_number, .any_type = true};
  t["Clip"] = {.max_inputs = 3, .infer = clip, .any_type = true};
  t["Not"] = {.infer = same_boolean, .any_type = true};
  t["BitwiseNot"] = {.infer = same_integer, .any_type = true};

  for (const char* op : {"Add", "Sub", "Mul", "Div"}) t[op] = {.min_inputs = 2, .max_inputs = 2, .infer = of_numbers, .any_type = true};
  for (const char* op : {"Min", "Max", "Sum"}) {
    t[op] = {.max_inputs = many_inputs, .infer = of_numbers, .required_inputs = many_inputs, .any_type = true};
  }
  t["Mean"] = {.max_inputs = many_inputs, .infer = broadcast, .required_inputs = many_inputs};
  t["Pow"] = {.min_inputs = 2, .max_inputs = 2, .infer = power, .any_type = true};
  t["Mod"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"fmod", integer}}, .infer = of_numbers, .any_type = true};
  t["PRelu"] = {.min_inputs = 2, .max_inputs = 2, .infer = prelu, .any_type = true};
  t["BitShift"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"direction", text}}, .infer = shift, .any_type = true};
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor"}) t[op] = {.min_inputs = 2, .max_inputs = 2, .infer = of_integers, .any_type = true};
  for (const char* op : {"And", "Or", "Xor"}) t[op] = {.min_inputs = 2, .max_inputs = 2, .infer = of_booleans, .any_type = true};
  t["Equal"] = {.min_inputs = 2, .max_inputs = 2, .infer = equal, .any_type = true};
  for (const char* op : {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}) {
    t[op] = {.min_inputs = 2, .max_inputs = 2, .infer = comparison, .any_type = true};
  }
  t["Where"] = {.min_inputs = 3, .max_inputs = 3, .infer = where, .any_type = true};

  // What does not fit always saturates; there are no types here that round_mode is for.
  const std::map<std::string, AttributeType> ignored = {{"saturate", integer}, {"round_mode", text}};
  t["CastLike"] = {.min_inputs = 2, .max_inputs = 2, .attributes = ignored, .infer = cast_like, .any_type = true};
  t["Cast"] = {.attributes = ignored, .infer = cast, .any_type = true};
  t["Cast"].attributes["to"] = text;

  for (const char* op : {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
                         "ReduceSumSquare"}) {
    t[op] = {.max_inputs = 2,
             .attributes = {{"keepdims", integer}, {"noop_with_empty_axes", integer}},
             .infer = reduce,
             .shape_inputs = {1},
             .any_type = true};
  }
  for (const char* op : {"ArgMax", "ArgMin"}) {
    t[op] = {.attributes = {{"axis", integer}, {"keepdims", integer}, {"select_last_index", integer}}, .infer = arg_extreme, .any_type = true};
  }
  t["TopK"] = {.min_inputs = 2,
               .max_inputs = 2,
               .attributes = {{"axis", integer}, {"largest", integer}, {"sorted", integer}},
               .infer = top_k,
               .max_outputs = 2,
               .shape_inputs = {1},
               .any_type = true};
  t["CumSum"] = {.min_inputs = 2,
                 .max_inputs = 2,
                 .attributes = {{"exclusive", integer}, {"reverse", integer}},
                 .infer = running_sum,
                 .shape_inputs = {1},
                 .any_type = true};
}

}  // namespace bittern::graph
