// A .bittern file in parts that can be changed one by one and put together again, with the checksum that fits or without.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "json_tree.h"

namespace fuzz {

struct Leaf {
  std::string name, dtype;  // as in the header's JSON
  Value shape;
  std::string bytes;
};

struct Parts {
  Value graph;
  Value metadata;  // all but graph and checksum
  std::vector<Leaf> leaves;
};

// Bytes of one element of a container dtype; 0 if there is no such dtype.
std::size_t width_of(std::string_view dtype);

// Takes apart a file without faults; false if it is none.
bool split(std::string_view file, Parts& out);

// A header for the parts, still to be changed, and the data section.
struct Draft {
  Value header;
  std::string graph, data;
};
Draft draft(const Parts& parts);

// The file: with the checksum of what the draft declares if `seal`, else with the one that is there or none.
std::string assemble(Draft draft, bool seal);

}  // namespace fuzz
