// Encoding trees: from JSON to checked nodes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/json.h"
#include "format/problems.h"
#include "graph/encoding.h"

namespace bittern::format {

inline constexpr int max_tree_depth = 16;

// The leaves of a container, by name, and which of them some tree uses.
class LeafTable {
 public:
  explicit LeafTable(std::vector<graph::Leaf> leaves);  // sorted by name, as read_container returns them

  const graph::Leaf* use(std::string_view name);  // nullptr if there is none
  std::vector<std::string> unused() const;

 private:
  std::vector<graph::Leaf> leaves_;
  std::vector<bool> used_;
};

// The tree of one constant. Checks kinds, keys, dtypes, shapes, sizes against the leaves' bytes, depth. Returns nullptr
// and adds at least one problem if something is wrong. Values inside the leaves are checked when they are decoded.
std::shared_ptr<const graph::Encoding> read_encoding(const Json& json, LeafTable& leaves, const std::string& where,
                                                     Problems& problems);

}  // namespace bittern::format
