// Plain operators: elements of any type moved along a pattern that is known when a plan is made.
#include "plan/plain_move.h"

#include <algorithm>
#include <array>

#include <bittern/error.h>

#include "graph/move.h"
#include "ops/move.h"

namespace bittern::plan {

std::vector<std::int64_t> strides_of(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) strides[d - 1] = strides[d] * shape[d];
  return strides;
}

void check_table(const PlainNode& p, std::int64_t count) {
  constexpr std::int64_t most = std::int64_t{1} << 27;
  if (count > most) {
    throw Error(ErrorCode::resource, "node " + p.node.name + " (" + p.node.op + ")", "an axis of " + std::to_string(count) + " elements",
                "at most 2^27 are supported for this operator");
  }
  if (p.charge != nullptr) p.charge->take(2 * sizeof(std::int64_t) * static_cast<std::uint64_t>(count), "node " + p.node.name + " (" + p.node.op + ")");
}

std::vector<std::int64_t> position_table(const PlainNode& p, std::int64_t count) {
  check_table(p, count);
  return std::vector<std::int64_t>(static_cast<std::size_t>(count));
}

namespace {

using engine::Take;
using engine::TakeAxis;

bool is_empty(const graph::ValueType& type) { return graph::element_count(type.shape, "a value") == 0; }

// A kernel that does nothing: there are no elements.
PlainKernel nothing() {
  return {[](const PlainArrays&) {}};
}

PlainKernel take(const PlainNode& p, std::vector<TakeAxis> axes, std::int64_t first = 0) {
  if (is_empty(p.outputs[0])) return nothing();
  return {[take = Take(std::move(axes), first, element_size(p.outputs[0]))](const PlainArrays& a) { take.run(a.in[0], nullptr, a.out[0], *a.team); }};
}

PlainKernel prepare_copy(const PlainNode& p) {
  return {[bytes = bytes_of(p.outputs[0])](const PlainArrays& a) { engine::copy(a.in[0], a.out[0], bytes, *a.team); }};
}

PlainKernel prepare_dropout(const PlainNode& p) {
  const std::int64_t bytes = bytes_of(p.outputs[0]);
  const std::int64_t mask = p.outputs.size() > 1 ? graph::element_count(p.outputs[0].shape, "mask") : 0;
  return {[=](const PlainArrays& a) {
    engine::copy(a.in[0], a.out[0], bytes, *a.team);
    const std::uint8_t kept = 1;
    if (mask != 0 && a.out[1] != nullptr) engine::fill(a.out[1], &kept, 1, mask);
  }};
}

PlainKernel prepare_concat(const PlainNode& p) {
  const Shape& y = p.outputs[0].shape;
  std::int64_t axis = graph::int_attribute(p.node, "axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(y.size());
  std::vector<std::int64_t> bytes;
  for (const graph::ValueType* input : p.inputs) {
    const graph::Around s = graph::around(input->shape, static_cast<std::size_t>(axis));
    bytes.push_back(s.axis * s.inner * element_size(*input));
  }
  if (is_empty(p.outputs[0])) return nothing();
  return {[bytes = std::move(bytes), outer = graph::around(y, static_cast<std::size_t>(axis)).outer](const PlainArrays& a) {
    engine::concatenate({a.in, bytes.size()}, bytes, outer, a.out[0], *a.team);
  }};
}

PlainKernel prepare_transpose(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const auto strides = strides_of(x);
  std::vector<std::int64_t> reversed;
  for (std::size_t i = x.size(); i-- > 0;) reversed.push_back(static_cast<std::int64_t>(i));
  std::vector<TakeAxis> axes;
  for (const std::int64_t axis : graph::ints_attribute(p.node, "perm", reversed)) {
    axes.push_back({x[static_cast<std::size_t>(axis)], strides[static_cast<std::size_t>(axis)], {}});
  }
  return take(p, std::move(axes));
}

PlainKernel prepare_split(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  std::int64_t axis = graph::int_attribute(p.node, "axis", 0);
  if (axis < 0) axis += static_cast<std::int64_t>(x.size());
  const graph::Around s = graph::around(x, static_cast<std::size_t>(axis));
  std::vector<Take> parts;
  std::int64_t first = 0;
  for (const graph::ValueType& part : p.outputs) {
    const std::int64_t size = part.shape.empty() ? 0 : part.shape[static_cast<std::size_t>(axis)];
    parts.emplace_back(std::vector<TakeAxis>{{s.outer, s.axis * s.inner, {}}, {size * s.inner, 1, {}}}, first * s.inner, element_size(*p.inputs[0]));
    first += size;
  }
  return {[parts = std::move(parts)](const PlainArrays& a) {
    for (std::size_t i = 0; i < parts.size(); ++i)
      if (a.out[i] != nullptr) parts[i].run(a.in[0], nullptr, a.out[i], *a.team);
  }};
}

PlainKernel prepare_slice(const PlainNode& p) {
  const auto strides = strides_of(p.inputs[0]->shape);
  std::vector<TakeAxis> axes;
  std::int64_t first = 0;
  if (is_empty(p.outputs[0])) return nothing();
  for (const graph::Slice& s : graph::slices(p.node, p.inputs)) {
    const std::size_t d = axes.size();
    first += s.start * strides[d];
    axes.push_back({s.count, s.count == 1 ? 0 : s.step * strides[d], {}});  // a step beyond the array times a stride could overflow
  }
  return take(p, std::move(axes), first);
}

PlainKernel prepare_pad(const PlainNode& p) {
  if (is_empty(p.outputs[0])) return nothing();
  const std::string mode = graph::string_attribute(p.node, "mode", "constant");
  const auto strides = strides_of(p.inputs[0]->shape);
  std::vector<TakeAxis> axes;
  std::int64_t first = 0;
  for (const graph::Padding& pad : graph::paddings(p.node, p.inputs)) {
    const std::int64_t stride = strides[axes.size()], size = pad.kept;
    first += pad.cut_front * stride;
    if (pad.size() == size) {
      axes.push_back({size, stride, {}});
      continue;
    }
    auto table = position_table(p, pad.size());
    const std::int64_t before = std::max<std::int64_t>(0, pad.before);
    const std::int64_t period = std::max<std::int64_t>(1, mode == "reflect" ? 2 * (size - 1) : size);
    for (std::size_t i = 0; i < table.size(); ++i) {
      std::int64_t at = static_cast<std::int64_t>(i) - before;
      if (mode == "edge") {
        at = std::clamp<std::int64_t>(at, 0, size - 1);
      } else if (mode != "constant") {
        at = (at % period + period) % period;
        if (at >= size) at = period - at;
      }
      table[i] = at < 0 || at >= size ? Take::nothing : at * stride;
    }
    axes.push_back({pad.size(), 0, std::move(table)});
  }
  const bool given = graph::given(p.inputs, 2);
  return {[take = Take(std::move(axes), first, element_size(p.outputs[0])), given](const PlainArrays& a) {
    constexpr std::array<std::byte, sizeof(std::uint64_t)> zero{};
    take.run(a.in[0], given ? a.in[2] : zero.data(), a.out[0], *a.team);
  }};
}

PlainKernel prepare_expand(const PlainNode& p) {
  const Shape &x = p.inputs[0]->shape, &y = p.outputs[0].shape;
  const auto strides = strides_of(x);
  std::vector<TakeAxis> axes;
  for (std::size_t d = 0; d < y.size(); ++d) {
    const std::size_t missing = y.size() - x.size();
    axes.push_back({y[d], d < missing || x[d - missing] == 1 ? 0 : strides[d - missing], {}});
  }
  return take(p, std::move(axes));
}

PlainKernel prepare_tile(const PlainNode& p) {
  const Shape &x = p.inputs[0]->shape, &y = p.outputs[0].shape;
  if (is_empty(p.outputs[0])) return nothing();
  const auto strides = strides_of(x);
  std::vector<TakeAxis> axes;
  for (std::size_t d = 0; d < y.size(); ++d) {
    TakeAxis axis{y[d], x[d] == 1 ? 0 : strides[d], {}};
    if (x[d] != 1 && y[d] != x[d]) {
      axis.table = position_table(p, y[d]);
      for (std::size_t i = 0; i < axis.table.size(); ++i) axis.table[i] = static_cast<std::int64_t>(i) % x[d] * strides[d];
    }
    axes.push_back(std::move(axis));
  }
  return take(p, std::move(axes));
}

// Axes of the result as pairs of size and stride in the input.
PlainKernel rearrange(const PlainNode& p, std::initializer_list<std::array<std::int64_t, 2>> list) {
  std::vector<TakeAxis> axes;
  for (const auto& [count, stride] : list) axes.push_back({count, stride, {}});
  return take(p, std::move(axes));
}

PlainKernel prepare_depth_to_space(const PlainNode& p) {
  if (is_empty(p.outputs[0])) return nothing();  // products of sizes beside a zero may be large
  const Shape &x = p.inputs[0]->shape, &y = p.outputs[0].shape;
  const std::int64_t b = graph::int_attribute(p.node, "blocksize", 1), w = x[3], plane = x[2] * w;
  const bool depth_first = graph::string_attribute(p.node, "mode", "DCR") == "DCR";
  const std::int64_t channel = depth_first ? plane : plane * b * b, column = depth_first ? plane * y[1] : plane, row = column * b;
  return rearrange(p, {{y[0], plane * x[1]}, {y[1], channel}, {x[2], w}, {b, row}, {w, 1}, {b, column}});
}

PlainKernel prepare_space_to_depth(const PlainNode& p) {
  if (is_empty(p.outputs[0])) return nothing();  // products of sizes beside a zero may be large
  const Shape &x = p.inputs[0]->shape, &y = p.outputs[0].shape;
  const std::int64_t b = graph::int_attribute(p.node, "blocksize", 1), w = x[3], plane = x[2] * w;
  if (graph::string_attribute(p.node, "mode", "DCR") == "DCR") {
    return rearrange(p, {{y[0], plane * x[1]}, {b, w}, {b, 1}, {x[1], plane}, {y[2], w * b}, {y[3], b}});
  }
  return rearrange(p, {{y[0], plane * x[1]}, {x[1], plane}, {b, w}, {b, 1}, {y[2], w * b}, {y[3], b}});
}

}  // namespace

void add_plain_move(PlainOperators& t) {
  for (const char* op : {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}) t[op] = prepare_copy;
  t["Dropout"] = prepare_dropout;
  t["Concat"] = prepare_concat;
  t["Transpose"] = prepare_transpose;
  t["Split"] = prepare_split;
  t["Slice"] = prepare_slice;
  t["Pad"] = prepare_pad;
  t["Expand"] = prepare_expand;
  t["Tile"] = prepare_tile;
  t["DepthToSpace"] = prepare_depth_to_space;
  t["SpaceToDepth"] = prepare_space_to_depth;
  add_plain_select(t);
  add_plain_resize(t);
}

}  // namespace bittern::plan
