// Operators that select by index or position, and that make arrays out of few numbers.
#include <algorithm>
#include <cmath>

#include "graph/move.h"

namespace bittern::graph {
namespace {

using Types = ValueTypes;

std::string place_of(const Node& node) { return "node " + node.name + " (" + node.op + ")"; }

std::size_t axis_of(const Node& node, const Shape& x, std::int64_t fallback) {
  return static_cast<std::size_t>(normal_axis(node, int_attribute(node, "axis", fallback), x.size()));
}

// Indices into nothing cannot be answered.
void require_elements(const Node& node, std::int64_t elements, const Shape& x, const Shape& y) {
  require(elements != 0 || element_count(y, place_of(node)) == 0, node, "elements of " + to_string(x) + " are selected, which has none");
}

Types gather(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  const Shape& x = in[0]->shape;
  const std::size_t axis = axis_of(node, x, 0);
  const auto at = static_cast<std::ptrdiff_t>(axis);
  Shape y(x.begin(), x.begin() + at);
  y.insert(y.end(), in[1]->shape.begin(), in[1]->shape.end());
  y.insert(y.end(), x.begin() + at + 1, x.end());
  require_elements(node, x[axis], x, y);
  return {{in[0]->dtype, y, {}}};
}

// Indices of the rank of x and within it beside `axis`.
void require_fitting_indices(const Node& node, const Shape& x, const Shape& indices, std::size_t axis) {
  bool fits = x.size() == indices.size();
  for (std::size_t d = 0; fits && d < x.size(); ++d) fits = d == axis || indices[d] <= x[d];
  require(fits, node, "indices " + to_string(indices) + " for data " + to_string(x),
          "sizes may be larger along axis " + std::to_string(axis) + " only");
}

Types gather_elements(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  const Shape &x = in[0]->shape, &y = in[1]->shape;
  const std::size_t axis = axis_of(node, x, 0);
  require_fitting_indices(node, x, y, axis);
  require_elements(node, x[axis], x, y);
  return {{in[0]->dtype, y, {}}};
}

Types gather_nd(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  const Shape &x = in[0]->shape, &indices = in[1]->shape;
  const std::int64_t batch = int_attribute(node, "batch_dims", 0);
  const auto rank = static_cast<std::int64_t>(std::min(x.size(), indices.size()));
  require(!x.empty() && !indices.empty() && batch >= 0 && batch < rank, node,
          "data " + to_string(x) + ", indices " + to_string(indices) + " and batch_dims " + std::to_string(batch),
          "batch_dims must be below both ranks");
  require(std::equal(x.begin(), x.begin() + batch, indices.begin()), node, "data " + to_string(x) + " and indices " + to_string(indices),
          "the first " + std::to_string(batch) + " sizes must be equal");
  const std::int64_t depth = indices.back();
  require(depth >= 1 && depth <= static_cast<std::int64_t>(x.size()) - batch, node, "indices " + to_string(indices) + " for data " + to_string(x),
          "their last size is the number of axes that they select");
  Shape y(indices.begin(), indices.end() - 1);
  y.insert(y.end(), x.begin() + batch + depth, x.end());
  require_elements(node, element_count(Shape(x.begin() + batch, x.begin() + batch + depth), place_of(node)), x, y);
  return {{in[0]->dtype, y, {}}};
}

void require_reduction(const Node& node) {
  const std::string reduction = string_attribute(node, "reduction", "none");
  require(reduction == "none" || reduction == "add" || reduction == "mul" || reduction == "min" || reduction == "max", node, "reduction " + reduction,
          "allowed are none, add, mul, min, max");
}

Types scatter_elements(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  require_same_type(node, in, 0, 2);
  require_reduction(node);
  const Shape &x = in[0]->shape, &indices = in[1]->shape;
  require_fitting_indices(node, x, indices, axis_of(node, x, 0));
  require(in[2]->shape == indices, node, "updates " + to_string(in[2]->shape) + " for indices " + to_string(indices),
          "both must have the same shape");
  return {{in[0]->dtype, x, {}}};
}

Types scatter_nd(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  require_same_type(node, in, 0, 2);
  require_reduction(node);
  const Shape &x = in[0]->shape, &indices = in[1]->shape;
  require(!indices.empty() && indices.back() >= 1 && indices.back() <= static_cast<std::int64_t>(x.size()), node,
          "indices " + to_string(indices) + " for data " + to_string(x), "their last size is the number of axes that they select");
  Shape wanted(indices.begin(), indices.end() - 1);
  wanted.insert(wanted.end(), x.begin() + indices.back(), x.end());
  require(in[2]->shape == wanted, node, "updates " + to_string(in[2]->shape), "they must be " + to_string(wanted));
  return {{in[0]->dtype, x, {}}};
}

Types one_hot(const Node& node, const Inputs& in) {
  require_type(node, in, 0, in[0]->dtype == DType::f32 || is_integer(in[0]->dtype), "f32, integers");
  require_single(node, in, 1);
  const double depth = reals(node, in, 1)[0];
  require(depth >= 0 && depth <= static_cast<double>(most_elements), node, "a depth of " + std::to_string(depth), "allowed are 0 to 2^44");
  require(in[2]->shape == Shape{2}, node, "values " + to_string(in[2]->shape), "two are needed: off and on");
  Shape y = in[0]->shape;
  const std::int64_t axis = normal_axis(node, int_attribute(node, "axis", -1), y.size() + 1);
  y.insert(y.begin() + axis, static_cast<std::int64_t>(depth));
  return {{in[2]->dtype, y, {}}};
}

Types constant_of_shape(const Node& node, const Inputs& in) {
  require_single(node, in, 1);
  const Shape shape = integers(node, in, 0);
  return {{in[1]->dtype, shape, {}}};
}

Types range(const Node& node, const Inputs& in) {
  const DType type = in[0]->dtype;
  require_type(node, in, 0, type == DType::f32 || (is_integer(type) && type != DType::u64), "f32, integers but u64");
  for (std::size_t i = 0; i < 3; ++i) {
    require_same_type(node, in, 0, i);
    require_single(node, in, i);
  }
  std::int64_t count = 0;
  if (type == DType::f32) {
    const double start = reals(node, in, 0)[0], limit = reals(node, in, 1)[0], delta = reals(node, in, 2)[0];
    const double steps = std::ceil((limit - start) / delta);
    require(delta != 0 && std::isfinite(delta) && std::isfinite(start) && steps <= static_cast<double>(most_elements), node,
            "from " + std::to_string(start) + " to " + std::to_string(limit) + " in steps of " + std::to_string(delta),
            "at most 2^44 elements are supported");
    count = steps > 0 ? static_cast<std::int64_t>(steps) : 0;
  } else {
    const std::int64_t start = integers(node, in, 0)[0], limit = integers(node, in, 1)[0], delta = integers(node, in, 2)[0];
    require(delta != 0, node, "a delta of 0");
    const bool up = delta > 0;
    // Without sign: differences of any two 64-bit numbers fit.
    const auto low = static_cast<std::uint64_t>(up ? start : limit), high = static_cast<std::uint64_t>(up ? limit : start);
    const std::uint64_t step = up ? static_cast<std::uint64_t>(delta) : 0 - static_cast<std::uint64_t>(delta);
    const std::uint64_t steps = (up ? limit > start : start > limit) ? (high - low - 1) / step + 1 : 0;
    require(steps <= static_cast<std::uint64_t>(most_elements), node, std::to_string(steps) + " elements", "at most 2^44 elements are supported");
    count = static_cast<std::int64_t>(steps);
  }
  return {{type, {count}, {}}};
}

Types eye_like(const Node& node, const Inputs& in) {
  const Shape& x = shape_of(node, in, 0, 2);
  const std::string wanted = string_attribute(node, "dtype", name_of(in[0]->dtype));
  using enum DType;
  for (const DType type : {f32, i8, u8, i16, u16, i32, u32, i64, u64, boolean}) {
    if (wanted == name_of(type)) return {{type, x, {}}};
  }
  fail(node, "dtype " + wanted, "allowed are f32, integers and bool");
}

Types trilu(const Node& node, const Inputs& in) {
  require(in[0]->shape.size() >= 2, node, "input has shape " + to_string(in[0]->shape), "at least rank 2 is needed");
  if (given(in, 1)) {
    require_single(node, in, 1);
    integers(node, in, 1);
  }
  return {{in[0]->dtype, in[0]->shape, {}}};
}

Types reverse_sequence(const Node& node, const Inputs& in) {
  require_index_type(node, in, 1);
  const Shape& x = in[0]->shape;
  const std::int64_t time = int_attribute(node, "time_axis", 0), batch = int_attribute(node, "batch_axis", 1);
  require(x.size() >= 2, node, "input has shape " + to_string(x), "at least rank 2 is needed");
  require((time == 0 && batch == 1) || (time == 1 && batch == 0), node,
          "time_axis " + std::to_string(time) + " and batch_axis " + std::to_string(batch),
          "one must be 0, the other 1");
  require(in[1]->shape == Shape{x[static_cast<std::size_t>(batch)]}, node, "sequence_lens " + to_string(in[1]->shape),
          "one for each batch is needed");
  return {{in[0]->dtype, x, {}}};
}

Types compress(const Node& node, const Inputs& in) {
  const auto kept = static_cast<std::int64_t>(kept_positions(node, in).size());
  Shape y = in[0]->shape;
  if (node.attributes.count("axis") == 0) return {{in[0]->dtype, {kept}, {}}};
  y[axis_of(node, y, 0)] = kept;
  return {{in[0]->dtype, y, {}}};
}

Types non_zero(const Node& node, const Inputs& in) {
  std::int64_t count = 0;
  for (const double value : reals(node, in, 0)) count += value != 0 ? 1 : 0;
  return {{DType::i64, {static_cast<std::int64_t>(in[0]->shape.size()), count}, {}}};
}

}  // namespace

std::vector<std::int64_t> kept_positions(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto condition = integers(node, in, 1);
  const bool flat = node.attributes.count("axis") == 0;
  const std::int64_t size = flat ? element_count(x, place_of(node)) : x[axis_of(node, x, 0)];
  require(in[1]->shape.size() == 1 && static_cast<std::int64_t>(condition.size()) <= size, node,
          "condition " + to_string(in[1]->shape) + " for " + std::to_string(size) + " elements", "at most one truth value for each is allowed");
  std::vector<std::int64_t> kept;
  for (std::size_t i = 0; i < condition.size(); ++i)
    if (condition[i] != 0) kept.push_back(static_cast<std::int64_t>(i));
  return kept;
}

void add_select(Schemas& t) {
  using enum AttributeType;
  t["Gather"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"axis", integer}}, .infer = gather, .any_type = true};
  t["GatherElements"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"axis", integer}}, .infer = gather_elements, .any_type = true};
  t["GatherND"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"batch_dims", integer}}, .infer = gather_nd, .any_type = true};
  t["ScatterElements"] = {.min_inputs = 3,
                          .max_inputs = 3,
                          .attributes = {{"axis", integer}, {"reduction", text}},
                          .infer = scatter_elements,
                          .any_type = true};
  t["ScatterND"] = {.min_inputs = 3, .max_inputs = 3, .attributes = {{"reduction", text}}, .infer = scatter_nd, .any_type = true};
  t["OneHot"] = {.min_inputs = 3, .max_inputs = 3, .attributes = {{"axis", integer}}, .infer = one_hot, .shape_inputs = {1}, .any_type = true};
  t["ConstantOfShape"] = {.min_inputs = 2, .max_inputs = 2, .infer = constant_of_shape, .shape_inputs = {0}, .any_type = true};
  t["Range"] = {.min_inputs = 3, .max_inputs = 3, .infer = range, .shape_inputs = {0, 1, 2}, .any_type = true};
  t["EyeLike"] = {.attributes = {{"dtype", text}, {"k", integer}}, .infer = eye_like, .any_type = true};
  t["Trilu"] = {.max_inputs = 2, .attributes = {{"upper", integer}}, .infer = trilu, .shape_inputs = {1}, .any_type = true};
  t["ReverseSequence"] = {.min_inputs = 2,
                          .max_inputs = 2,
                          .attributes = {{"batch_axis", integer}, {"time_axis", integer}},
                          .infer = reverse_sequence,
                          .any_type = true};
  t["Compress"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"axis", integer}}, .infer = compress, .shape_inputs = {1}, .any_type = true};
  t["NonZero"] = {.infer = non_zero, .shape_inputs = {0}, .any_type = true};
}

}  // namespace bittern::graph
