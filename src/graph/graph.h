// The network as the file states it: values, nodes in topological order, constants as encoding trees.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include <bittern/tensor.h>

#include "graph/encoding.h"

namespace bittern::graph {

// A size, or a symbol that stands for one.
struct Dim {
  std::int64_t value = -1;
  std::string symbol;  // empty if `value` is known
};

struct ValueInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<Dim> shape;
  bool any_shape = false;  // of an output: the file does not say
};

using Attribute = std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>>;

struct Node {
  std::string name;
  std::string op;
  std::vector<std::string> inputs;   // "" is an omitted optional input
  std::vector<std::string> outputs;
  std::map<std::string, Attribute> attributes;
};

struct Graph {
  std::string name;
  std::vector<ValueInfo> inputs, outputs;
  std::map<std::string, std::shared_ptr<const Encoding>> constants;
  std::vector<Node> nodes;
  std::map<std::string, std::string> metadata;
};

}  // namespace bittern::graph
