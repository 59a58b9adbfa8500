// Nodes of encoding trees: what the readers of all kinds share.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>

#include "format/encoding_reader.h"
#include "format/json.h"
#include "format/problems.h"
#include "graph/encoding.h"

namespace bittern::format {

std::string text_of(const Shape& shape);
std::int64_t count(const Shape& shape);  // elements; shapes that were read have few enough

class NodeReader {
 public:
  // What all readers of a node need. `path`: the kind of the root, then keys: "codebook.codes.pattern".
  struct At {
    const Json& json;
    std::string path;
    int depth;
  };

  NodeReader(LeafTable& leaves, const std::string& where, Problems& problems) : leaves_(leaves), where_(where), problems_(problems) {}

  void problem(const std::string& path, std::string text);

  // Each of these reads one thing, or adds a problem.
  std::optional<graph::EncodingKind> read_kind(const At& at, bool is_root, bool pattern);  // checks the node's keys too
  std::optional<std::int64_t> integer(const At& at, const char* key, std::int64_t low, std::int64_t high);
  bool read_leaf(const At& at, const char* key, std::initializer_list<DType> allowed, graph::Leaf& out);
  bool find_leaf(const At& at, const std::string& name, const char* key, std::initializer_list<DType> allowed, graph::Leaf& out);
  bool read_shape(const At& at, Shape& out);

 private:
  LeafTable& leaves_;
  const std::string& where_;
  Problems& problems_;
};

}  // namespace bittern::format
