// Shared by the files of plain operators that move elements.
#pragma once

#include "plan/plain.h"

namespace bittern::plan {

inline int element_size(const graph::ValueType& type) { return static_cast<int>(size_of(type.dtype)); }

// In elements, C order.
std::vector<std::int64_t> strides_of(const Shape& shape);

// A table of positions along one axis. Throws Error(resource) if it would be larger than any network needs.
void check_table(const PlainNode& p, std::int64_t count);
std::vector<std::int64_t> position_table(const PlainNode& p, std::int64_t count);

// The parts of add_plain_move().
void add_plain_select(PlainOperators& operators);  // plain_select.cpp
void add_plain_resize(PlainOperators& operators);  // plain_resize.cpp

}  // namespace bittern::plan
