// Operators that move, select and reshape: elements of any type.
#include <algorithm>

#include "graph/schema.h"

namespace bittern::graph {
namespace {

using Types = ValueTypes;

Types same(const Node&, const Inputs& in) { return {{in[0]->dtype, in[0]->shape, {}}}; }

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
    for (const std::int64_t axis : integers(node, in, 1)) {
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
  const auto axes = integers(node, in, 1);
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

}  // namespace

void add_move(Schemas& t) {
  using enum AttributeType;
  t["Concat"] = {.max_inputs = many_inputs, .attributes = {{"axis", integer}}, .infer = concat, .required_inputs = many_inputs, .any_type = true};
  t["Flatten"] = {.attributes = {{"axis", integer}}, .infer = flatten, .any_type = true};
  t["Reshape"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"allowzero", integer}}, .infer = reshape, .shape_inputs = {1}, .any_type = true};
  t["Transpose"] = {.attributes = {{"perm", integers}}, .infer = transpose, .any_type = true};
  t["Squeeze"] = {.max_inputs = 2, .infer = squeeze, .shape_inputs = {1}, .any_type = true};
  t["Unsqueeze"] = {.min_inputs = 2, .max_inputs = 2, .infer = unsqueeze, .shape_inputs = {1}, .any_type = true};
  t["Identity"] = {.infer = same, .any_type = true};
}

}  // namespace bittern::graph
