// From bytes to a graph: container, checksum, trees and nodes in this order.
#include "format/reader.h"

#include <utility>

#include "format/container.h"
#include "format/encoding_reader.h"
#include "format/graph_reader.h"
#include "format/json.h"
#include "format/problems.h"

namespace bittern::format {

graph::Graph read_graph(std::span<const std::byte> file, const std::string& place, bool verify) {
  Container container = read_container(file, place);
  if (verify) verify_checksum(container, place);

  LeafTable leaves(std::move(container.leaves));
  Problems problems(place);
  graph::Graph graph = read_graph_json(parse_json(container.graph, place + ": graph"), leaves, problems);
  if (problems.empty()) {  // a tree that could not be read may have been the user of a leaf
    for (const std::string& name : leaves.unused()) {
      problems.add("leaf " + label(name), "is used by no constant");
    }
  }
  problems.throw_if_any();
  return graph;
}

void verify_checksum(std::span<const std::byte> file, const std::string& place) {
  verify_checksum(read_container(file, place), place);
}

}  // namespace bittern::format
