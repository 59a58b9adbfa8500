// What the attributes and inputs of operators that move elements come to, for rules of types and for planning.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "graph/schema.h"

namespace bittern::graph {

constexpr std::int64_t most_elements = std::int64_t{1} << 44;  // as element_count() has it

void require_same_type(const Node& node, const Inputs& inputs, std::size_t i, std::size_t j);
void require_index_type(const Node& node, const Inputs& inputs, std::size_t i);
// One element, of any rank.
void require_single(const Node& node, const Inputs& inputs, std::size_t i);
// Axes from 0 that an input lists, each at most once; all axes if it is omitted.
std::vector<std::size_t> axes_of(const Node& node, const Inputs& inputs, std::size_t i, std::size_t rank);

struct Slice {
  std::int64_t start = 0, step = 1, count = 0;
};
std::vector<Slice> slices(const Node& node, const Inputs& inputs);  // one per axis of input 0

// Elements added in front and behind; negative ones are cut off, before any are added.
struct Padding {
  std::int64_t before = 0, after = 0;
  std::int64_t cut_front = 0, kept = 0;  // what is left of the axis
  std::int64_t size() const { return kept + (before > 0 ? before : 0) + (after > 0 ? after : 0); }
};
std::vector<Padding> paddings(const Node& node, const Inputs& inputs);

std::vector<std::int64_t> split_sizes(const Node& node, const Inputs& inputs, std::size_t axis);

// Sizes of an array [outer, axis, inner].
struct Around {
  std::int64_t outer = 1, axis = 1, inner = 1;
};
Around around(const Shape& shape, std::size_t axis);

// Positions that Compress keeps, along its axis or in the flattened input.
std::vector<std::int64_t> kept_positions(const Node& node, const Inputs& inputs);

struct ResizeAxis {
  double scale = 1;
  std::int64_t in = 0, out = 0;
  double roi_start = 0, roi_end = 1;
  bool same = false;  // nothing changes along this axis
};
std::vector<ResizeAxis> resize_axes(const Node& node, const Inputs& inputs);  // one per axis of input 0

// The parts of add_move().
void add_select(Schemas& schemas);  // ops_select.cpp
void add_resize(Schemas& schemas);  // ops_resize.cpp

}  // namespace bittern::graph
