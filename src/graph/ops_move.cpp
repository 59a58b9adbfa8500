// Operators that move, select and reshape: elements of any type.
#include <algorithm>
#include <cstring>

#include "graph/move.h"

namespace bittern::graph {

void require_same_type(const Node& node, const Inputs& in, std::size_t i, std::size_t j) {
  require(in[i]->dtype == in[j]->dtype, node, "input " + std::to_string(i) + " (" + node.inputs[i] + ") is " + name_of(in[i]->dtype) + ", input " +
          std::to_string(j) + " (" + node.inputs[j] + ") " + name_of(in[j]->dtype), "both must have the same type");
}

void require_index_type(const Node& node, const Inputs& in, std::size_t i) {
  require_type(node, in, i, in[i]->dtype == DType::i32 || in[i]->dtype == DType::i64, "i32, i64");
}

void require_single(const Node& node, const Inputs& in, std::size_t i) {
  require(element_count(in[i]->shape, node.name) == 1, node, "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape),
          "one element is needed");
}

std::vector<std::size_t> axes_of(const Node& node, const Inputs& in, std::size_t i, std::size_t rank) {
  std::vector<std::size_t> axes;
  if (!given(in, i)) {
    for (std::size_t d = 0; d < rank; ++d) axes.push_back(d);
    return axes;
  }
  for (const std::int64_t axis : integers(node, in, i)) {
    const auto a = static_cast<std::size_t>(normal_axis(node, axis, rank));
    require(std::find(axes.begin(), axes.end(), a) == axes.end(), node, "axis " + std::to_string(axis) + " occurs twice");
    axes.push_back(a);
  }
  return axes;
}

Around around(const Shape& shape, std::size_t axis) {
  Around a;
  for (std::size_t d = 0; d < shape.size(); ++d) (d < axis ? a.outer : d == axis ? a.axis : a.inner) *= shape[d];
  return a;
}

std::vector<Slice> slices(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto starts = integers(node, in, 1), ends = integers(node, in, 2);
  std::vector<std::size_t> axes = given(in, 3) ? axes_of(node, in, 3, x.size()) : std::vector<std::size_t>{};
  if (!given(in, 3)) {
    for (std::size_t d = 0; d < starts.size(); ++d) axes.push_back(d);
  }
  const std::vector<std::int64_t> steps = given(in, 4) ? integers(node, in, 4) : std::vector<std::int64_t>(starts.size(), 1);
  require(starts.size() == axes.size() && ends.size() == axes.size() && steps.size() == axes.size() && axes.size() <= x.size(), node,
          std::to_string(starts.size()) + " starts, " + std::to_string(ends.size()) + " ends, " + std::to_string(axes.size()) + " axes and " +
          std::to_string(steps.size()) + " steps for " + to_string(x), "one of each is needed for each axis");
  std::vector<Slice> result;
  for (const std::int64_t d : x) result.push_back({0, 1, d});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t size = x[axes[i]];
    // Sizes are below 2^44: larger steps than 2^62 take one element too, and their negatives exist.
    const std::int64_t step = std::clamp(steps[i], -(std::int64_t{1} << 62), std::int64_t{1} << 62);
    require(step != 0, node, "a step of 0");
    const auto from_front = [&](std::int64_t at, std::int64_t low, std::int64_t high) { return std::clamp(at < 0 ? at + size : at, low, high); };
    Slice& slice = result[axes[i]];
    if (size == 0) continue;
    if (step > 0) {
      const std::int64_t start = from_front(starts[i], 0, size), end = from_front(ends[i], 0, size);
      slice = {start, step, end > start ? (end - start - 1) / step + 1 : 0};
    } else {
      const std::int64_t start = from_front(starts[i], 0, size - 1), end = from_front(ends[i], -1, size - 1);
      slice = {start, step, start > end ? (start - end - 1) / -step + 1 : 0};
    }
  }
  return result;
}

std::vector<Padding> paddings(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto pads = integers(node, in, 1);
  const auto axes = axes_of(node, in, 3, x.size());
  require(pads.size() == 2 * axes.size(), node, std::to_string(pads.size()) + " pads for " + std::to_string(axes.size()) + " axes",
          "two for each axis are needed");
  const std::string mode = string_attribute(node, "mode", "constant");
  require(mode == "constant" || mode == "reflect" || mode == "edge" || mode == "wrap", node, "mode " + mode,
          "allowed are constant, reflect, edge, wrap");
  std::vector<Padding> result;
  for (const std::int64_t d : x) result.push_back({0, 0, 0, d});
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t before = pads[i], after = pads[axes.size() + i], size = x[axes[i]];
    const std::string both = "pads " + std::to_string(before) + " and " + std::to_string(after), where = " axis " + std::to_string(axes[i]);
    require(std::min(before, after) >= -most_elements && std::max(before, after) <= most_elements, node, both,
            "at most 2^44 elements are supported");
    Padding& pad = result[axes[i]];
    pad.before = before;
    pad.after = after;
    pad.cut_front = before < 0 ? -before : 0;
    pad.kept = size - pad.cut_front + std::min<std::int64_t>(after, 0);
    require(pad.kept >= 0, node, both + " cut more than the " + std::to_string(size) + " elements of" + where);
    require(mode == "constant" || pad.kept > 0 || pad.size() == 0, node, "mode " + mode + " needs elements to repeat along" + where);
  }
  return result;
}

std::vector<std::int64_t> split_sizes(const Node& node, const Inputs& in, std::size_t axis) {
  const Shape& x = in[0]->shape;
  const auto count = static_cast<std::int64_t>(node.outputs.size());
  if (!given(in, 1)) {
    const std::int64_t parts = int_attribute(node, "num_outputs", count);
    require(parts == count, node, "num_outputs " + std::to_string(parts) + " for " + std::to_string(count) + " outputs", "both must be equal");
    const std::int64_t size = (x[axis] + count - 1) / count;
    std::vector<std::int64_t> sizes;
    for (std::int64_t left = x[axis]; static_cast<std::int64_t>(sizes.size()) < count; left -= sizes.back()) sizes.push_back(std::min(size, left));
    return sizes;
  }
  auto sizes = integers(node, in, 1);
  require(static_cast<std::int64_t>(sizes.size()) == count, node,
          std::to_string(sizes.size()) + " sizes for " + std::to_string(count) + " outputs", "both must be equal");
  std::int64_t left = x[axis];
  bool fits = true;
  for (const std::int64_t size : sizes) {
    fits = fits && size >= 0 && size <= left;
    if (fits) left -= size;
  }
  require(fits && left == 0, node, "sizes " + to_string(sizes) + " of axis " + std::to_string(axis) + " of " + to_string(x),
          "they must add up to it");
  return sizes;
}

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
    require_same_type(node, in, 0, i);
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

// Values that follow from the shape of the input alone.
ValueType known_integers_of(Shape shape, const std::vector<std::int64_t>& values) {
  auto bytes = std::make_shared<std::vector<std::byte>>(values.size() * sizeof(std::int64_t));
  if (!values.empty()) std::memcpy(bytes->data(), values.data(), bytes->size());
  return {DType::i64, std::move(shape), std::move(bytes)};
}

Types shape_op(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto rank = static_cast<std::int64_t>(x.size());
  const auto bound = [&](const char* name, std::int64_t fallback) {
    const std::int64_t at = int_attribute(node, name, fallback);
    return std::clamp<std::int64_t>(at < 0 ? at + rank : at, 0, rank);
  };
  const std::int64_t start = bound("start", 0), end = bound("end", rank);
  const Shape part = end > start ? Shape(x.begin() + start, x.begin() + end) : Shape{};
  return {known_integers_of({static_cast<std::int64_t>(part.size())}, part)};
}

Types size_op(const Node& node, const Inputs& in) { return {known_integers_of({}, {element_count(in[0]->shape, node.name)})}; }

Types split(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto axis = static_cast<std::size_t>(normal_axis(node, int_attribute(node, "axis", 0), x.size()));
  Types parts;
  for (const std::int64_t size : split_sizes(node, in, axis)) {
    Shape shape = x;
    shape[axis] = size;
    parts.push_back({in[0]->dtype, std::move(shape), {}});
  }
  return parts;
}

Types slice(const Node& node, const Inputs& in) {
  Shape y;
  for (const Slice& s : slices(node, in)) y.push_back(s.count);
  return {{in[0]->dtype, y, {}}};
}

Types pad(const Node& node, const Inputs& in) {
  if (given(in, 2)) {
    require_same_type(node, in, 0, 2);
    require_single(node, in, 2);
  }
  Shape y;
  for (const Padding& p : paddings(node, in)) y.push_back(p.size());
  return {{in[0]->dtype, y, {}}};
}

Types expand(const Node& node, const Inputs& in) {
  const Shape target = integers(node, in, 1);
  element_count(target, "node " + node.name + " (" + node.op + ")");
  return {{in[0]->dtype, broadcast_shape(in[0]->shape, target, "node " + node.name + " (" + node.op + ")"), {}}};
}

Types tile(const Node& node, const Inputs& in) {
  Shape y = in[0]->shape;
  const auto repeats = integers(node, in, 1);
  require(repeats.size() == y.size(), node, std::to_string(repeats.size()) + " repeats for " + to_string(y), "one for each axis is needed");
  for (std::size_t d = 0; d < y.size(); ++d) y[d] = element_count({y[d], repeats[d]}, "node " + node.name + " (" + node.op + ")");
  return {{in[0]->dtype, y, {}}};
}

std::int64_t block_size(const Node& node) {
  const std::int64_t block = int_attribute(node, "blocksize", 0);
  require(block >= 1 && block <= 1 << 20, node, "blocksize " + std::to_string(block), "allowed are 1 to 1048576");
  const std::string mode = string_attribute(node, "mode", "DCR");
  require(mode == "DCR" || mode == "CRD", node, "mode " + mode, "allowed are DCR, CRD");
  return block;
}

Types depth_to_space(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 4);
  const std::int64_t b = block_size(node);
  require(x[1] % (b * b) == 0, node, "input " + to_string(x) + " with blocksize " + std::to_string(b),
          "the channels must be a multiple of its square");
  return {{in[0]->dtype, {x[0], x[1] / (b * b), element_count({x[2], b}, node.name), element_count({x[3], b}, node.name)}, {}}};
}

Types space_to_depth(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 4);
  const std::int64_t b = block_size(node);
  require(x[2] % b == 0 && x[3] % b == 0, node, "input " + to_string(x) + " with blocksize " + std::to_string(b),
          "height and width must be multiples of it");
  return {{in[0]->dtype, {x[0], element_count({x[1], b, b}, node.name), x[2] / b, x[3] / b}, {}}};
}

Types dropout(const Node& node, const Inputs& in) {
  const bool training = given(in, 2) && !integers(node, in, 2).empty() && integers(node, in, 2)[0] != 0;
  if (training) {
    const std::vector<double> ratio = given(in, 1) ? reals(node, in, 1) : std::vector<double>{0.5};
    require(!ratio.empty() && ratio[0] == 0, node, "training_mode is true", "export the network in inference mode; ratio 0 is allowed");
  }
  return {{in[0]->dtype, in[0]->shape, {}}, {DType::boolean, in[0]->shape, {}}};
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
  t["Dropout"] = {.max_inputs = 3, .attributes = {{"seed", integer}}, .infer = dropout, .max_outputs = 2, .shape_inputs = {1, 2}, .any_type = true};
  t["Shape"] = {.attributes = {{"end", integer}, {"start", integer}}, .infer = shape_op, .any_type = true};
  t["Size"] = {.infer = size_op, .any_type = true};
  t["Split"] = {.max_inputs = 2,
                .attributes = {{"axis", integer}, {"num_outputs", integer}},
                .infer = split,
                .max_outputs = many_inputs,
                .shape_inputs = {1},
                .any_type = true};
  t["Slice"] = {.min_inputs = 3, .max_inputs = 5, .infer = slice, .shape_inputs = {1, 2, 3, 4}, .any_type = true};
  t["Pad"] = {.min_inputs = 2, .max_inputs = 4, .attributes = {{"mode", text}}, .infer = pad, .shape_inputs = {1, 3}, .any_type = true};
  t["Expand"] = {.min_inputs = 2, .max_inputs = 2, .infer = expand, .shape_inputs = {1}, .any_type = true};
  t["Tile"] = {.min_inputs = 2, .max_inputs = 2, .infer = tile, .shape_inputs = {1}, .any_type = true};
  t["DepthToSpace"] = {.attributes = {{"blocksize", integer}, {"mode", text}}, .infer = depth_to_space, .any_type = true};
  t["SpaceToDepth"] = {.attributes = {{"blocksize", integer}, {"mode", text}}, .infer = space_to_depth, .any_type = true};
  add_select(t);
  add_resize(t);
}

}  // namespace bittern::graph
