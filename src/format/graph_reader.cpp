// The graph: keys and types of every part, then names, producers and order.
#include "format/graph_reader.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace bittern::format {

namespace {

constexpr DType all_types[] = {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i8,  DType::u8,     DType::i16,
                               DType::u16, DType::i32, DType::u32,  DType::i64, DType::u64, DType::boolean};

class GraphReader {
 public:
  GraphReader(LeafTable& leaves, Problems& problems) : leaves_(leaves), problems_(problems) {}

  graph::Graph read(const Json& json) {
    if (!is_object(json, "graph", {"name", "inputs", "outputs", "constants", "nodes", "metadata"})) return {};
    if (const Json* const name = json.find("name")) read_string(*name, "graph", "name", graph_.name);
    read_values(json, "inputs", "input", graph_.inputs);
    read_constants(json.find("constants"));
    read_nodes(json.find("nodes"));
    read_values(json, "outputs", "output", graph_.outputs);
    read_metadata(json.find("metadata"));
    check_names();
    return std::move(graph_);
  }

 private:
  bool is_object(const Json& json, const std::string& where, std::initializer_list<std::string_view> keys) {
    if (json.object() == nullptr) {
      problems_.add(where, std::string("is ") + json.type_name() + ", not an object");
      return false;
    }
    for (const JsonMember& member : *json.object()) {
      if (std::find(keys.begin(), keys.end(), member.name) == keys.end()) {
        problems_.add(where, "unknown key " + quote(member.name));
      }
    }
    return true;
  }

  bool read_string(const Json& json, const std::string& where, const char* what, std::string& out) {
    if (json.string() == nullptr) {
      problems_.add(where, std::string(what) + " is " + json.type_name() + ", not a string");
      return false;
    }
    out = *json.string();
    return true;
  }

  // A name that must be there and not empty.
  bool read_name(const Json& json, const std::string& where, const char* key, std::string& out) {
    const Json* const value = json.find(key);
    if (value == nullptr) {
      problems_.add(where, std::string("has no key '") + key + "'");
      return false;
    }
    if (!read_string(*value, where, key, out)) return false;
    if (out.empty()) problems_.add(where, std::string(key) + " is empty");
    return !out.empty();
  }

  void read_values(const Json& json, const char* key, const char* word, std::vector<graph::ValueInfo>& out) {
    const Json* const list = json.find(key);
    if (list == nullptr || list->array() == nullptr) {
      problems_.add("graph", std::string(key) + " is missing or not a list");
      return;
    }
    for (std::size_t i = 0; i < list->array()->size(); ++i) {
      const Json& entry = (*list->array())[i];
      std::string where = std::string(word) + ' ' + std::to_string(i);
      if (!is_object(entry, where, {"name", "dtype", "shape"})) continue;
      graph::ValueInfo value;
      if (read_name(entry, where, "name", value.name)) where = std::string(word) + ' ' + label(value.name);
      read_type(entry, where, value.dtype);
      // An output need not have one: it follows from the nodes.
      value.any_shape = std::string_view(key) == "outputs" && entry.find("shape") == nullptr;
      if (!value.any_shape) read_dims(entry, where, value.shape);
      out.push_back(std::move(value));
    }
  }

  void read_type(const Json& json, const std::string& where, DType& out) {
    std::string name;
    if (!read_name(json, where, "dtype", name)) return;
    for (const DType type : all_types) {
      if (name == name_of(type)) {
        out = type;
        return;
      }
    }
    problems_.add(where, "unknown dtype " + quote(name));
  }

  void read_dims(const Json& json, const std::string& where, std::vector<graph::Dim>& out) {
    const Json* const shape = json.find("shape");
    if (shape == nullptr || shape->array() == nullptr) {
      problems_.add(where, "shape is missing or not a list");
      return;
    }
    for (const Json& dim : *shape->array()) {
      if (dim.integer() != nullptr && *dim.integer() >= 0) {
        out.push_back({*dim.integer(), {}});
      } else if (dim.string() != nullptr && !dim.string()->empty()) {
        out.push_back({-1, *dim.string()});
      } else {
        problems_.add(where, "shape holds something else than non-negative integers and non-empty symbols");
        return;
      }
    }
  }

  void read_constants(const Json* json) {
    if (json == nullptr) return;
    if (json->object() == nullptr) {
      problems_.add("graph", std::string("constants is ") + json->type_name() + ", not an object");
      return;
    }
    for (const JsonMember& member : *json->object()) {
      const std::string where = "constant " + label(member.name);
      if (member.name.empty()) problems_.add(where, "has no name");
      graph_.constants[member.name] = read_encoding(member.value, leaves_, where, problems_);
    }
  }

  void read_nodes(const Json* json) {
    if (json == nullptr || json->array() == nullptr) {
      problems_.add("graph", "nodes is missing or not a list");
      return;
    }
    for (std::size_t i = 0; i < json->array()->size(); ++i) {
      const Json& entry = (*json->array())[i];
      std::string where = "node " + std::to_string(i);
      if (!is_object(entry, where, {"name", "op", "inputs", "outputs", "attributes"})) continue;
      graph::Node node;
      if (read_name(entry, where, "name", node.name)) where = "node " + label(node.name);
      read_name(entry, where, "op", node.op);
      read_name_list(entry, where, "inputs", node.inputs);
      read_name_list(entry, where, "outputs", node.outputs);
      if (node.outputs.empty()) problems_.add(where, "has no outputs");
      if (const Json* const attributes = entry.find("attributes")) read_attributes(*attributes, where, node);
      graph_.nodes.push_back(std::move(node));
    }
  }

  void read_name_list(const Json& json, const std::string& where, const char* key, std::vector<std::string>& out) {
    const Json* const list = json.find(key);
    if (list == nullptr || list->array() == nullptr) {
      problems_.add(where, std::string(key) + " is missing or not a list");
      return;
    }
    for (const Json& name : *list->array()) {
      std::string text;
      if (read_string(name, where, key, text)) out.push_back(std::move(text));
    }
  }

  void read_attributes(const Json& json, const std::string& where, graph::Node& node) {
    if (json.object() == nullptr) {
      problems_.add(where, std::string("attributes is ") + json.type_name() + ", not an object");
      return;
    }
    for (const JsonMember& member : *json.object()) {
      if (auto value = attribute(member.value)) {
        node.attributes[member.name] = std::move(*value);
      } else {
        problems_.add(where, "the attribute " + quote(member.name) + " is " + member.value.type_name() +
                                 " (allowed: integer, float, string, list of integers, list of floats)");
      }
    }
  }

  static std::optional<graph::Attribute> attribute(const Json& json) {
    if (json.integer() != nullptr) return *json.integer();
    if (json.real() != nullptr) return *json.real();
    if (json.string() != nullptr) return *json.string();
    if (json.array() == nullptr) return std::nullopt;
    // One number with a point makes it a list of floats; an empty list is one of integers.
    std::vector<std::int64_t> integers;
    std::vector<double> reals;
    for (const Json& element : *json.array()) {
      if (element.integer() != nullptr) {
        integers.push_back(*element.integer());
        reals.push_back(static_cast<double>(*element.integer()));
      } else if (element.real() != nullptr) {
        reals.push_back(*element.real());
      } else {
        return std::nullopt;
      }
    }
    if (integers.size() == reals.size()) return integers;
    return reals;
  }

  void read_metadata(const Json* json) {
    if (json == nullptr) return;
    if (json->object() == nullptr) {
      problems_.add("graph", std::string("metadata is ") + json->type_name() + ", not an object");
      return;
    }
    for (const JsonMember& member : *json->object()) {
      if (member.value.string() == nullptr) {
        problems_.add("metadata " + label(member.name),
                      std::string("is ") + member.value.type_name() + ", not a string");
      } else {
        graph_.metadata[member.name] = *member.value.string();
      }
    }
  }

  // One producer per value, producers before users, unique node and output names.
  void check_names() {
    std::unordered_map<std::string, std::string> producer;  // value -> who makes it
    const auto produce = [&](const std::string& value, const std::string& where) {
      const auto [at, is_new] = producer.emplace(value, where);
      if (!is_new) problems_.add(where, "makes the value " + quote(value) + ", which " + at->second + " makes already");
    };
    for (const graph::ValueInfo& input : graph_.inputs) {
      if (!input.name.empty()) produce(input.name, "input " + label(input.name));
    }
    for (const auto& [name, tree] : graph_.constants) {
      if (!name.empty()) produce(name, "constant " + label(name));
    }
    std::unordered_map<std::string, std::size_t> maker_of;
    for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
      for (const std::string& output : graph_.nodes[i].outputs) maker_of.emplace(output, i);
    }
    std::set<std::string> node_names;
    for (std::size_t index = 0; index < graph_.nodes.size(); ++index) {
      const graph::Node& node = graph_.nodes[index];
      const std::string where = "node " + label(node.name);
      if (!node.name.empty() && !node_names.insert(node.name).second) {
        problems_.add(where, "has the name of another node");
      }
      for (const std::string& input : node.inputs) {
        if (input.empty() || producer.contains(input)) continue;
        const auto found = maker_of.find(input);
        std::string reason = "is made by nothing";
        if (found != maker_of.end()) {
          const std::string& maker = graph_.nodes[found->second].name;
          reason = found->second == index ? "is its own output"
                                          : "is made by the later node " + quote(maker) + ": no topological order";
        }
        problems_.add(where, "its input " + quote(input) + ' ' + reason);
      }
      for (const std::string& output : node.outputs) {
        if (output.empty()) {
          problems_.add(where, "an output has no name");
        } else {
          produce(output, where);
        }
      }
    }
    std::set<std::string> output_names;
    for (const graph::ValueInfo& output : graph_.outputs) {
      if (output.name.empty()) continue;
      const std::string where = "output " + label(output.name);
      if (!producer.contains(output.name)) problems_.add(where, "is made by nothing");
      if (!output_names.insert(output.name).second) problems_.add(where, "is listed twice");
    }
    if (graph_.outputs.empty()) problems_.add("graph", "has no outputs");
  }

  LeafTable& leaves_;
  Problems& problems_;
  graph::Graph graph_;
};

}  // namespace

graph::Graph read_graph_json(const Json& json, LeafTable& leaves, Problems& problems) {
  return GraphReader(leaves, problems).read(json);
}

}  // namespace bittern::format
