#include "graph/ops.h"

#include <algorithm>
#include <map>

#include <bittern/error.h>

namespace bittern::graph {
namespace {

constexpr std::size_t max_rank = 8;  // of any tensor; engine/ops/plain.h counts on it

using Types = std::vector<ValueType>;
using Inputs = std::vector<const ValueType*>;

[[noreturn]] void fail(const Node& node, const std::string& problem, const std::string& remedy = {}) {
  throw Error(ErrorCode::input, "node " + node.name + " (" + node.op + ")", problem, remedy);
}

const Shape& shape_of(const Node& node, const Inputs& inputs, std::size_t i, std::size_t rank = 0) {
  const Shape& shape = inputs[i]->shape;
  if (rank != 0 && shape.size() != rank) {
    fail(node, "input " + std::to_string(i) + " has shape " + to_string(shape), "a tensor of rank " + std::to_string(rank) + " is needed");
  }
  return shape;
}

void require(bool condition, const Node& node, const std::string& problem, const std::string& remedy = {}) {
  if (!condition) fail(node, problem, remedy);
}

std::int64_t normal_axis(const Node& node, std::int64_t axis, std::size_t rank, bool end_allowed = false) {
  const auto r = static_cast<std::int64_t>(rank);
  if (axis < -r || axis >= r + (end_allowed ? 1 : 0)) {
    fail(node, "axis " + std::to_string(axis) + " of a tensor of rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + r : axis;
}

const std::vector<std::int64_t>& integers(const Node& node, const Inputs& inputs, std::size_t i) {
  if (!inputs[i]->integers) fail(node, "input " + std::to_string(i) + " must be a constant tensor of integers", "fold it before conversion");
  return *inputs[i]->integers;
}

Types same(const Node&, const Inputs& in) { return {{in[0]->dtype, in[0]->shape, {}}}; }

Types conv(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 4);
  const Shape& w = shape_of(node, in, 1, 4);
  const std::int64_t groups = int_attribute(node, "group", 1);
  require(groups >= 1 && x[1] % groups == 0 && w[0] % groups == 0 && w[1] * groups == x[1], node,
          "input " + to_string(x) + ", weight " + to_string(w) + ", " + std::to_string(groups) + " groups do not fit",
          "input channels must be groups * weight[1], output channels a multiple of groups");
  const auto kernel = ints_attribute(node, "kernel_shape", {w[2], w[3]});
  require(kernel.size() == 2 && kernel[0] == w[2] && kernel[1] == w[3], node,
          "kernel_shape " + to_string(kernel) + " differs from weight " + to_string(w));
  if (in.size() > 2 && in[2] != nullptr) {
    require(in[2]->shape == Shape{w[0]}, node, "bias has shape " + to_string(in[2]->shape), "one element per output channel is needed");
  }
  const Window win = window(node, x, w[2], w[3]);
  return {{DType::f32, {x[0], w[0], win.oh, win.ow}, {}}};
}

Types pool(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 4);
  const auto kernel = ints_attribute(node, "kernel_shape", {});
  require(kernel.size() == 2, node, "kernel_shape " + to_string(kernel), "two sizes are needed");
  require(int_attribute(node, "storage_order", 0) == 0, node, "storage_order 1 is not supported");
  const Window win = window(node, x, kernel[0], kernel[1]);
  const std::int64_t reach_h = kernel[0] * win.dilation_h, reach_w = kernel[1] * win.dilation_w;
  require(std::max(win.pad_top, win.pad_bottom) < reach_h && std::max(win.pad_left, win.pad_right) < reach_w, node,
          "padding as wide as the window", "pads must be smaller than the kernel");
  return {{DType::f32, {x[0], x[1], win.oh, win.ow}, {}}};
}

Types global_pool(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 4);
  require(x[2] > 0 && x[3] > 0, node, "an empty map " + to_string(x));
  return {{DType::f32, {x[0], x[1], 1, 1}, {}}};
}

Types lrn(const Node& node, const Inputs& in) {
  shape_of(node, in, 0, 4);
  const std::int64_t size = int_attribute(node, "size", 0);
  require(size >= 1 && size <= 4096, node, "size " + std::to_string(size), "allowed are 1 to 4096");
  return same(node, in);
}

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

Types batch_norm(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require(x.size() >= 2, node, "input has shape " + to_string(x), "at least rank 2 is needed");
  for (std::size_t i = 1; i < 5; ++i) {
    require(in[i]->shape == Shape{x[1]}, node, "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape),
            "one element per channel (" + std::to_string(x[1]) + ") is needed");
  }
  require(int_attribute(node, "training_mode", 0) == 0, node, "training_mode 1 is not supported", "export the network in inference mode");
  return same(node, in);
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

Types concat(const Node& node, const Inputs& in) {
  Shape y = in[0]->shape;
  require(node.attributes.count("axis") != 0, node, "the attribute axis is missing");
  require(!y.empty(), node, "scalars cannot be concatenated");
  const auto axis = static_cast<std::size_t>(normal_axis(node, int_attribute(node, "axis", 0), y.size()));
  for (std::size_t i = 1; i < in.size(); ++i) {
    Shape other = in[i]->shape;
    require(other.size() == y.size(), node, "inputs have ranks " + std::to_string(y.size()) + " and " + std::to_string(other.size()));
    const std::int64_t added = other[axis];
    other[axis] = y[axis];
    require(other == y, node, "inputs " + to_string(in[0]->shape) + " and " + to_string(in[i]->shape) + " do not fit",
            "sizes may differ along axis " + std::to_string(axis) + " only");
    y[axis] += added;
    element_count(y, "node " + node.name + " (" + node.op + ")");  // each sum stays far below 2^63
  }
  return {{in[0]->dtype, y, {}}};
}

Types flatten(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const std::int64_t axis = normal_axis(node, int_attribute(node, "axis", 1), x.size(), true);
  const Shape head(x.begin(), x.begin() + axis), tail(x.begin() + axis, x.end());
  return {{in[0]->dtype, {element_count(head, node.name), element_count(tail, node.name)}, {}}};
}

Types reshape(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  Shape y = integers(node, in, 1);
  const bool keep_zero = int_attribute(node, "allowzero", 0) != 0;
  std::int64_t unknown = -1, known = 1;
  const std::int64_t total = element_count(x, node.name);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (y[i] == 0 && !keep_zero) {
      require(i < x.size(), node, "shape " + to_string(y) + " copies a size that " + to_string(x) + " does not have");
      y[i] = x[i];
    }
    require(y[i] >= -1, node, "shape " + to_string(y), "sizes are positive, 0 or -1");
    if (y[i] == -1) {
      require(unknown < 0, node, "shape " + to_string(y), "at most one size may be -1");
      unknown = static_cast<std::int64_t>(i);
    } else {
      known = element_count({known, y[i]}, node.name);
    }
  }
  if (unknown >= 0) {
    require(known != 0 && total % known == 0, node, "shape " + to_string(y) + " does not divide " + to_string(x));
    y[static_cast<std::size_t>(unknown)] = total / known;
  }
  require(element_count(y, node.name) == total, node, "shape " + to_string(y) + " does not hold " + to_string(x));
  return {{in[0]->dtype, y, {}}};
}

Types transpose(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  std::vector<std::int64_t> reversed;
  for (std::size_t i = x.size(); i-- > 0;) reversed.push_back(static_cast<std::int64_t>(i));
  const auto perm = ints_attribute(node, "perm", reversed);
  auto sorted = perm;
  std::sort(sorted.begin(), sorted.end());
  std::reverse(reversed.begin(), reversed.end());
  require(sorted == reversed, node, "perm " + to_string(perm) + " is no permutation of the axes of " + to_string(x));
  Shape y;
  for (const std::int64_t axis : perm) y.push_back(x[static_cast<std::size_t>(axis)]);
  return {{in[0]->dtype, y, {}}};
}

Types squeeze(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  std::vector<bool> drop(x.size(), false);
  if (in.size() > 1 && in[1] != nullptr) {
    const auto& axes = integers(node, in, 1);
    require(axes.size() <= max_rank, node, "its list of axes has " + std::to_string(axes.size()) + " elements", "at most 8 are possible");
    for (const std::int64_t axis : axes) {
      const auto a = static_cast<std::size_t>(normal_axis(node, axis, x.size()));
      require(x[a] == 1, node, "axis " + std::to_string(axis) + " of " + to_string(x) + " is not 1");
      drop[a] = true;
    }
  } else {
    for (std::size_t i = 0; i < x.size(); ++i) drop[i] = x[i] == 1;
  }
  Shape y;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!drop[i]) y.push_back(x[i]);
  return {{in[0]->dtype, y, {}}};
}

Types unsqueeze(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto& axes = integers(node, in, 1);
  const std::size_t rank = x.size() + axes.size();
  require(rank <= max_rank, node, "a result of rank " + std::to_string(rank), "at most 8 dimensions are supported");
  std::vector<bool> added(rank, false);
  for (const std::int64_t axis : axes) {
    const auto a = static_cast<std::size_t>(normal_axis(node, axis, rank));
    require(!added[a], node, "axis " + std::to_string(axis) + " occurs twice");
    added[a] = true;
  }
  Shape y;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rank; ++i) y.push_back(added[i] ? 1 : x[next++]);
  return {{in[0]->dtype, y, {}}};
}

enum class Type { integer, real, text, integers };

struct Schema {
  std::size_t min_inputs, max_inputs;
  std::map<std::string, Type> attributes;
  Types (*infer)(const Node&, const Inputs&);
  std::size_t required_inputs = 0;  // the first ones, which may not be omitted; 0: min_inputs
};

constexpr std::size_t many = 1 << 20;

const std::map<std::string, Schema>& schemas() {
  const std::map<std::string, Type> windows = {{"auto_pad", Type::text},     {"dilations", Type::integers}, {"kernel_shape", Type::integers},
                                               {"pads", Type::integers},     {"strides", Type::integers}};
  const auto with = [&](std::map<std::string, Type> more) {
    more.insert(windows.begin(), windows.end());
    return more;
  };
  static const std::map<std::string, Schema> table = {
      {"Conv", {2, 3, with({{"group", Type::integer}}), conv}},
      {"MaxPool", {1, 1, with({{"ceil_mode", Type::integer}, {"storage_order", Type::integer}}), pool}},
      {"AveragePool", {1, 1, with({{"ceil_mode", Type::integer}, {"count_include_pad", Type::integer}}), pool}},
      {"GlobalAveragePool", {1, 1, {}, global_pool}},
      {"GlobalMaxPool", {1, 1, {}, global_pool}},
      {"LRN", {1, 1, {{"alpha", Type::real}, {"beta", Type::real}, {"bias", Type::real}, {"size", Type::integer}}, lrn}},
      {"Gemm", {2, 3, {{"alpha", Type::real}, {"beta", Type::real}, {"transA", Type::integer}, {"transB", Type::integer}}, gemm}},
      {"MatMul", {2, 2, {}, matmul}},
      {"BatchNormalization", {5, 5, {{"epsilon", Type::real}, {"momentum", Type::real}, {"training_mode", Type::integer}}, batch_norm}},
      {"Relu", {1, 1, {}, same}},
      {"Clip", {1, 3, {}, clip}},
      {"LeakyRelu", {1, 1, {{"alpha", Type::real}}, same}},
      {"Sigmoid", {1, 1, {}, same}},
      {"Tanh", {1, 1, {}, same}},
      {"Softmax", {1, 1, {{"axis", Type::integer}}, softmax}},
      {"Add", {2, 2, {}, binary}},
      {"Sub", {2, 2, {}, binary}},
      {"Mul", {2, 2, {}, binary}},
      {"Div", {2, 2, {}, binary}},
      {"Concat", {1, many, {{"axis", Type::integer}}, concat, many}},
      {"Flatten", {1, 1, {{"axis", Type::integer}}, flatten}},
      {"Reshape", {2, 2, {{"allowzero", Type::integer}}, reshape}},
      {"Transpose", {1, 1, {{"perm", Type::integers}}, transpose}},
      {"Squeeze", {1, 2, {}, squeeze}},
      {"Unsqueeze", {2, 2, {}, unsqueeze}},
      {"Identity", {1, 1, {}, same}},
      {"Dropout", {1, 3, {{"seed", Type::integer}}, same}},
  };
  return table;
}

bool has_type(const Attribute& value, Type type) {
  switch (type) {
    case Type::integer:
      return std::holds_alternative<std::int64_t>(value);
    case Type::real:
      return std::holds_alternative<double>(value) || std::holds_alternative<std::int64_t>(value);
    case Type::text:
      return std::holds_alternative<std::string>(value);
    case Type::integers:
      return std::holds_alternative<std::vector<std::int64_t>>(value);
  }
  return false;
}

const char* text(Type type) {
  constexpr const char* names[] = {"an integer", "a number", "a string", "a list of integers"};
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
    if (node.outputs.size() != 1) wrong.push_back(where + std::to_string(node.outputs.size()) + " outputs, exactly 1 is supported");
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

bool shape_input(const std::string& op, std::size_t input) noexcept {
  return input == 1 && (op == "Reshape" || op == "Squeeze" || op == "Unsqueeze");
}

std::vector<ValueType> infer(const Node& node, const std::vector<const ValueType*>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i] == nullptr || shape_input(node.op, i) || node.op == "Dropout") continue;
    if (inputs[i]->dtype != DType::f32) {
      fail(node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") is " + name_of(inputs[i]->dtype), "only f32 is computed");
    }
  }
  auto types = schemas().at(node.op).infer(node, inputs);
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

Window window(const Node& node, const Shape& x, std::int64_t kh, std::int64_t kw) {
  constexpr std::int64_t most = 1 << 20;  // far beyond any network; keeps every product below 2^63
  const auto pair = [&](const char* name) {
    auto values = ints_attribute(node, name, {1, 1});
    require(values.size() == 2, node, std::string(name) + " " + to_string(values), "two numbers are needed");
    for (const std::int64_t v : values) require(v >= 1 && v <= most, node, std::string(name) + " " + to_string(values), "allowed are 1 to 1048576");
    return values;
  };
  const auto strides = pair("strides"), dilations = pair("dilations");
  require(kh >= 1 && kw >= 1 && kh <= most && kw <= most, node, "kernel of " + std::to_string(kh) + " x " + std::to_string(kw), "allowed are 1 to 1048576");
  Window win{kh, kw, strides[0], strides[1], dilations[0], dilations[1], 0, 0, 0, 0, 0, 0};
  const std::int64_t reach_h = dilations[0] * (kh - 1) + 1, reach_w = dilations[1] * (kw - 1) + 1;

  const std::string automatic = string_attribute(node, "auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
    const auto split = [&](std::int64_t size, std::int64_t stride, std::int64_t reach, std::int64_t& before, std::int64_t& after) {
      const std::int64_t out = (size + stride - 1) / stride;
      const std::int64_t total = std::max<std::int64_t>(0, (out - 1) * stride + reach - size);
      before = automatic == "SAME_UPPER" ? total / 2 : total - total / 2;
      after = total - before;
    };
    split(x[2], win.stride_h, reach_h, win.pad_top, win.pad_bottom);
    split(x[3], win.stride_w, reach_w, win.pad_left, win.pad_right);
  } else if (automatic == "NOTSET") {
    const auto pads = ints_attribute(node, "pads", {0, 0, 0, 0});
    require(pads.size() == 4, node, "pads " + to_string(pads), "four numbers are needed");
    for (const std::int64_t p : pads) require(p >= 0 && p <= most, node, "pads " + to_string(pads), "allowed are 0 to 1048576");
    win.pad_top = pads[0];
    win.pad_left = pads[1];
    win.pad_bottom = pads[2];
    win.pad_right = pads[3];
  } else {
    require(automatic == "VALID", node, "auto_pad " + automatic, "allowed are NOTSET, SAME_UPPER, SAME_LOWER, VALID");
  }

  const bool ceil = int_attribute(node, "ceil_mode", 0) != 0;
  const auto out = [&](std::int64_t size, std::int64_t before, std::int64_t after, std::int64_t reach, std::int64_t stride) {
    const std::int64_t room = size + before + after - reach;
    require(room >= 0, node, "a window of " + std::to_string(reach) + " over " + std::to_string(size + before + after) + " padded elements");
    std::int64_t count = room / stride + 1;
    // A window that ceil_mode adds must start inside the input or its left padding.
    if (ceil && room % stride != 0 && count * stride < size + before) ++count;
    return count;
  };
  win.oh = out(x[2], win.pad_top, win.pad_bottom, reach_h, win.stride_h);
  win.ow = out(x[3], win.pad_left, win.pad_right, reach_w, win.stride_w);
  return win;
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
