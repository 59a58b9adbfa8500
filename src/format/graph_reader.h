// The graph: from JSON to values, constants and nodes.
#pragma once

#include "format/encoding_reader.h"
#include "format/json.h"
#include "format/problems.h"
#include "graph/graph.h"

namespace bittern::format {

// Checks structure: keys, types, names, one producer per value, topological order. Operators and their attributes are
// not looked at. Adds every problem it finds; the result is meaningful if there is none.
graph::Graph read_graph_json(const Json& json, LeafTable& leaves, Problems& problems);

}  // namespace bittern::format
