// A .bittern file: from bytes to a graph whose leaves point into them.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "graph/graph.h"

namespace bittern::format {

// `place` names the source in messages; `verify`: compare the checksum. The bytes must outlive the graph.
// Throws Error: format (damage: the first; graph: all problems together), unsupported (another version).
// Values inside the leaves are not looked at: see decode.h.
graph::Graph read_graph(std::span<const std::byte> file, const std::string& place, bool verify = true);

// The container's own checks and the checksum. Throws Error (format, unsupported).
void verify_checksum(std::span<const std::byte> file, const std::string& place);

}  // namespace bittern::format
