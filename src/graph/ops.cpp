#include "graph/ops.h"

#include <algorithm>
#include <cstring>
#include <map>

#include <bittern/error.h>

#include "graph/schema.h"

namespace bittern::graph {

void fail(const Node& node, const std::string& problem, const std::string& remedy) {
  throw Error(ErrorCode::input, "node " + node.name + " (" + node.op + ")", problem, remedy);
}

void require(bool condition, const Node& node, const std::string& problem, const std::string& remedy) {
  if (!condition) fail(node, problem, remedy);
}

const Shape& shape_of(const Node& node, const Inputs& inputs, std::size_t i, std::size_t rank) {
  const Shape& shape = inputs[i]->shape;
  if (rank != 0 && shape.size() != rank) {
    fail(node, "input " + std::to_string(i) + " has shape " + to_string(shape), "a tensor of rank " + std::to_string(rank) + " is needed");
  }
  return shape;
}

std::int64_t normal_axis(const Node& node, std::int64_t axis, std::size_t rank, bool end_allowed) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r + (end_allowed ? 1 : 0)) {
    fail(node, "axis " + std::to_string(axis) + " of a tensor of rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + r : axis;
}

bool given(const Inputs& inputs, std::size_t i) { return i < inputs.size() && inputs[i] != nullptr; }

bool is_integer(DType type) noexcept { return type >= DType::i8 && type <= DType::u64; }

void require_type(const Node& node, const Inputs& inputs, std::size_t i, bool allowed, const char* types) {
  require(allowed, node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") is " + name_of(inputs[i]->dtype), std::string("supported: ") + types);
}

std::vector<std::int64_t> integers(const Node& node, const Inputs& inputs, std::size_t i) {
  auto values = known_integers(*inputs[i]);
  if (!values) {
    fail(node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") must be integers that are known when the network is planned",
         "they may be constants, inputs of the network, or follow from shapes");
  }
  return std::move(*values);
}

std::vector<double> reals(const Node& node, const Inputs& inputs, std::size_t i) {
  auto values = known_reals(*inputs[i]);
  if (!values) {
    fail(node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") must be known when the network is planned",
         "it may be a constant, an input of the network, or follow from shapes");
  }
  return std::move(*values);
}

namespace {

using Types = ValueTypes;

template <class T, class Result>
std::vector<Result> converted(const std::vector<std::byte>& bytes) {
  std::vector<Result> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<Result>(value);
  }
  return values;
}

template <class Result>
std::optional<std::vector<Result>> known_as(const ValueType& type) {
  const std::vector<std::byte>& bytes = *type.known;
  switch (type.dtype) {
    case DType::i8: return converted<std::int8_t, Result>(bytes);
    case DType::u8:
    case DType::boolean: return converted<std::uint8_t, Result>(bytes);
    case DType::i16: return converted<std::int16_t, Result>(bytes);
    case DType::u16: return converted<std::uint16_t, Result>(bytes);
    case DType::i32: return converted<std::int32_t, Result>(bytes);
    case DType::u32: return converted<std::uint32_t, Result>(bytes);
    case DType::i64: return converted<std::int64_t, Result>(bytes);
    case DType::u64: return converted<std::uint64_t, Result>(bytes);
    default: return std::nullopt;
  }
}

Types same(const Node&, const Inputs& in) { return {{in[0]->dtype, in[0]->shape, {}}}; }

Types gemm(const Node& node, const Inputs& in) {
  const Shape& a = shape_of(node, in, 0, 2);
  const Shape& b = shape_of(node, in, 1, 2);
  const bool ta = int_attribute(node, "transA", 0) != 0, tb = int_attribute(node, "transB", 0) != 0;
  const std::int64_t k = tb ? b[1] : b[0], n = tb ? b[0] : b[1], m = ta ? a[1] : a[0];
  require((ta ? a[0] : a[1]) == k, node, "A " + to_string(a) + " and B " + to_string(b) + " do not fit", "the inner sizes must be equal");
  if (in.size() > 2 && in[2] != nullptr) {
    require(broadcast_shape(in[2]->shape, {m, n}, "node " + node.name) == Shape{m, n}, node, "C has shape " + to_string(in[2]->shape),
            "it must broadcast to " + to_string({m, n}));
  }
  return {{DType::f32, {m, n}, {}}};
}

Types matmul(const Node& node, const Inputs& in) {
  const Shape& b = shape_of(node, in, 1, 2);
  Shape y = in[0]->shape;
  require(!y.empty() && y.back() == b[0], node, "A " + to_string(y) + " and B " + to_string(b) + " do not fit", "the inner sizes must be equal");
  y.back() = b[1];
  return {{DType::f32, y, {}}};
}

Types clip(const Node& node, const Inputs& in) {
  for (std::size_t i = 1; i < in.size(); ++i) {
    if (in[i] != nullptr) require(element_count(in[i]->shape, node.name) == 1, node, "bounds must be single numbers");
  }
  return same(node, in);
}

Types binary(const Node& node, const Inputs& in) {
  return {{DType::f32, broadcast_shape(in[0]->shape, in[1]->shape, "node " + node.name + " (" + node.op + ")"), {}}};
}

Types softmax(const Node& node, const Inputs& in) {
  normal_axis(node, int_attribute(node, "axis", -1), std::max<std::size_t>(1, in[0]->shape.size()));
  return same(node, in);
}

const Schemas& schemas() {
  using enum AttributeType;
  static const Schemas table = [&] {
    Schemas t;
    t["Gemm"] = {.min_inputs = 2, .max_inputs = 3, .attributes = {{"alpha", real}, {"beta", real}, {"transA", integer}, {"transB", integer}}, .infer = gemm};
    t["MatMul"] = {.min_inputs = 2, .max_inputs = 2, .infer = matmul};
    t["Relu"] = {.infer = same};
    t["Clip"] = {.max_inputs = 3, .infer = clip};
    t["LeakyRelu"] = {.attributes = {{"alpha", real}}, .infer = same};
    t["Sigmoid"] = {.infer = same};
    t["Tanh"] = {.infer = same};
    t["Softmax"] = {.attributes = {{"axis", integer}}, .infer = softmax};
    for (const char* op : {"Add", "Sub", "Mul", "Div"}) t[op] = {.min_inputs = 2, .max_inputs = 2, .infer = binary};
    t["Dropout"] = {.max_inputs = 3, .attributes = {{"seed", integer}}, .infer = same};
    add_elementwise(t);
    add_move(t);
    add_nn(t);
    add_quantize(t);
    add_sequence(t);
    return t;
  }();
  return table;
}

bool has_type(const Attribute& value, AttributeType type) {
  switch (type) {
    case AttributeType::integer:
      return std::holds_alternative<std::int64_t>(value);
    case AttributeType::real:
      return std::holds_alternative<double>(value) || std::holds_alternative<std::int64_t>(value);
    case AttributeType::text:
      return std::holds_alternative<std::string>(value);
    case AttributeType::integers:
      return std::holds_alternative<std::vector<std::int64_t>>(value);
    case AttributeType::reals:
      return std::holds_alternative<std::vector<double>>(value) || std::holds_alternative<std::vector<std::int64_t>>(value);
  }
  return false;
}

const char* text(AttributeType type) {
  constexpr const char* names[] = {"an integer", "a number", "a string", "a list of integers", "a list of numbers"};
  return names[static_cast<int>(type)];
}

std::string join(const std::vector<std::string>& parts, const char* separator) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : separator) + part;
  return all;
}

}  // namespace

void validate(const Graph& graph, const std::string& place) {
  std::vector<std::string> unknown, wrong;
  const auto check_rank = [&](const std::string& what, std::size_t rank) {
    if (rank > max_rank) unknown.push_back(what + " has " + std::to_string(rank) + " dimensions, at most " + std::to_string(max_rank) + " are supported");
  };
  for (const ValueInfo& input : graph.inputs) check_rank("input " + input.name, input.shape.size());
  for (const auto& [name, encoding] : graph.constants) check_rank("constant " + name, encoding->shape.size());
  for (const Node& node : graph.nodes) {
    const std::string where = "node " + node.name + " (" + node.op + "): ";
    const auto schema = schemas().find(node.op);
    if (schema == schemas().end()) {
      unknown.push_back(where + "unknown operator");
      continue;
    }
    const Schema& s = schema->second;
    if (node.inputs.size() < s.min_inputs || node.inputs.size() > s.max_inputs) {
      wrong.push_back(where + std::to_string(node.inputs.size()) + " inputs, " + std::to_string(s.min_inputs) + " to " +
                      std::to_string(s.max_inputs) + " are allowed");
    }
    const std::size_t required = s.required_inputs != 0 ? s.required_inputs : s.min_inputs;
    for (std::size_t i = 0; i < std::min(required, node.inputs.size()); ++i) {
      if (node.inputs[i].empty()) wrong.push_back(where + "input " + std::to_string(i) + " may not be omitted");
    }
    if (node.outputs.empty() || node.outputs.size() > s.max_outputs) {
      wrong.push_back(where + std::to_string(node.outputs.size()) + " outputs, 1 to " + std::to_string(s.max_outputs) + " are allowed");
    }
    for (const auto& [name, value] : node.attributes) {
      const auto rule = s.attributes.find(name);
      if (rule == s.attributes.end()) {
        unknown.push_back(where + "unknown attribute " + name);
      } else if (!has_type(value, rule->second)) {
        wrong.push_back(where + "attribute " + name + " must be " + text(rule->second));
      }
    }
  }
  if (!unknown.empty()) {
    unknown.insert(unknown.end(), wrong.begin(), wrong.end());
    throw Error(ErrorCode::unsupported, place, join(unknown, "; "), "this build does not run such a network");
  }
  if (!wrong.empty()) throw Error(ErrorCode::format, place, join(wrong, "; "), "the file was not written correctly");
}

std::optional<std::vector<std::int64_t>> known_integers(const ValueType& type) {
  if (type.known == nullptr) return std::nullopt;
  return known_as<std::int64_t>(type);
}

std::optional<std::vector<double>> known_reals(const ValueType& type) {
  if (type.known == nullptr) return std::nullopt;
  if (type.dtype == DType::f32) return converted<float, double>(*type.known);
  return known_as<double>(type);
}

bool shape_input(const std::string& op, std::size_t input) noexcept {
  const auto schema = schemas().find(op);
  if (schema == schemas().end()) return false;
  const auto& inputs = schema->second.shape_inputs;
  return std::find(inputs.begin(), inputs.end(), input) != inputs.end();
}

std::vector<ValueType> infer(const Node& node, const std::vector<const ValueType*>& inputs) {
  const Schema& schema = schemas().at(node.op);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || schema.any_type || shape_input(node.op, i)) continue;
    if (inputs[i]->dtype != DType::f32) {
      fail(node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") is " + name_of(inputs[i]->dtype), "only f32 is computed");
    }
  }
  auto types = schema.infer(node, inputs);
  require(types.size() >= node.outputs.size(), node, std::to_string(node.outputs.size()) + " outputs, it gives " + std::to_string(types.size()));
  types.resize(node.outputs.size());
  for (const ValueType& type : types) {
    require(type.shape.size() <= max_rank, node, "a result of shape " + to_string(type.shape), "at most 8 dimensions are supported");
    element_count(type.shape, "node " + node.name + " (" + node.op + ")");
  }
  return types;
}

std::int64_t int_attribute(const Node& node, const char* name, std::int64_t fallback) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? fallback : std::get<std::int64_t>(found->second);
}

float float_attribute(const Node& node, const char* name, float fallback) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fallback;
  if (const auto* integer = std::get_if<std::int64_t>(&found->second)) return static_cast<float>(*integer);
  return static_cast<float>(std::get<double>(found->second));
}

std::string string_attribute(const Node& node, const char* name, const char* fallback) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? fallback : std::get<std::string>(found->second);
}

std::vector<std::int64_t> ints_attribute(const Node& node, const char* name, std::vector<std::int64_t> fallback) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? std::move(fallback) : std::get<std::vector<std::int64_t>>(found->second);
}

std::vector<double> reals_attribute(const Node& node, const char* name, std::vector<double> fallback) {
  const auto found = node.attributes.find(name);
  if (found == node.attributes.end()) return fallback;
  if (const auto* whole = std::get_if<std::vector<std::int64_t>>(&found->second)) return {whole->begin(), whole->end()};
  return std::get<std::vector<double>>(found->second);
}

Shape map_shape(const Shape& shape) {
  return shape.size() == 3 ? Shape{shape[0], shape[1], 1, shape[2]} : shape;
}

std::int64_t element_count(const Shape& shape, const std::string& place) {
  // Sizes beside a zero count too, so that the product of any part of an accepted shape fits as well.
  constexpr std::int64_t most = std::int64_t{1} << 44;
  std::int64_t count = 1;
  bool empty = false;
  for (const std::int64_t d : shape) {
    if (d < 0) throw Error(ErrorCode::input, place, "a tensor of shape " + to_string(shape), "sizes cannot be negative");
    if (d == 0) {
      empty = true;
    } else if (d > most / count) {
      throw Error(ErrorCode::resource, place, "a tensor of shape " + to_string(shape), "at most 2^44 elements are supported");
    } else {
      count *= d;
    }
  }
  return empty ? 0 : count;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

Shape broadcast_shape(const Shape& a, const Shape& b, const std::string& place) {
  const std::size_t rank = std::max(a.size(), b.size());
  Shape y(rank, 1);
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t da = i < rank - a.size() ? 1 : a[i - (rank - a.size())];
    const std::int64_t db = i < rank - b.size() ? 1 : b[i - (rank - b.size())];
    if (da != db && da != 1 && db != 1) {
      throw Error(ErrorCode::input, place, "shapes " + to_string(a) + " and " + to_string(b) + " cannot be broadcast together", "sizes must be equal or 1");
    }
    y[i] = da == 1 ? db : da;
  }
  return y;
}

}  // namespace bittern::graph
