// LSTM, GRU and RNN as checked: sizes, direction, activations. Shared by type inference and planning.
#pragma once

#include <vector>

#include "graph/ops.h"
#include "ops/recurrent.h"

namespace bittern::graph {

// Throws Error(input) naming the node where inputs or attributes do not fit. Types of elements have been checked.
engine::RecurrentShape recurrent_of(const Node& node, const std::vector<const ValueType*>& inputs);

}  // namespace bittern::graph
