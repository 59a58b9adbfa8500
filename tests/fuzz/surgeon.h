// Changes one copy of a seed's parts, by knowledge of the format.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "mutator.h"
#include "words.h"

namespace fuzz {

class Surgeon {
 public:
  Surgeon(const Corpus& corpus, Parts& parts, Rng& rng, std::string& story) : corpus_(corpus), parts_(parts), rng_(rng), story_(story) {}

  void once() {
    struct Way {
      unsigned weight;
      const char* name;
      void (Surgeon::*change)();
    };
    static constexpr Way ways[] = {
        {12, "number", &Surgeon::change_number}, {6, "nudge", &Surgeon::nudge_number},
        {8, "string", &Surgeon::change_string}, {6, "delete", &Surgeon::remove},
        {5, "duplicate", &Surgeon::duplicate}, {4, "swap", &Surgeon::exchange},
        {4, "copy", &Surgeon::copy_subtree}, {2, "wrap", &Surgeon::wrap},
        {4, "type", &Surgeon::change_type}, {2, "repeat", &Surgeon::repeat},
        {4, "key", &Surgeon::change_key}, {8, "attribute", &Surgeon::set_attribute},
        {7, "operator", &Surgeon::change_operator}, {7, "rewire", &Surgeon::rewire},
        {7, "dimension", &Surgeon::change_dimension}, {5, "transplant", &Surgeon::transplant},
        {3, "chain", &Surgeon::chain}, {2, "nest", &Surgeon::nest},
        {3, "output", &Surgeon::change_outputs}, {9, "resize", &Surgeon::resize},
        {5, "reshape leaf", &Surgeon::reshape_leaf}, {14, "bytes", &Surgeon::change_bytes},
        {3, "dtype", &Surgeon::change_dtype}, {3, "clone", &Surgeon::clone_node},
        {2, "kind", &Surgeon::change_kind}, {4, "graft", &Surgeon::graft},
    };
    static const unsigned total = [] {
      unsigned sum = 0;
      for (const Way& way : ways) sum += way.weight;
      return sum;
    }();
    auto ticket = static_cast<unsigned>(rng_.below(total));
    for (const Way& way : ways) {
      if (ticket < way.weight) {
        story_ += std::string(", ") + way.name;
        return (this->*way.change)();
      }
      ticket -= way.weight;
    }
  }

 private:
  using Kind = Value::Kind;

  // Any value of the graph for which `fits` holds; null if there is none.
  template <class Fits>
  Value* choose(Value& root, const Fits& fits) {
    std::vector<Value*> found;
    for (Value* const value : all_of(root)) {
      if (fits(*value)) found.push_back(value);
    }
    return found.empty() ? nullptr : found[rng_.below(found.size())];
  }
  template <class Fits>
  Value* choose(const Fits& fits) { return choose(parts_.graph, fits); }

  std::vector<Value>* list(const char* key) {
    Value* const found = parts_.graph.find(key);
    return found == nullptr || found->kind != Kind::array || found->items.empty() ? nullptr : &found->items;
  }
  Value* a_node() {
    std::vector<Value>* const nodes = list("nodes");
    if (nodes == nullptr) return nullptr;
    Value& node = (*nodes)[rng_.below(nodes->size())];
    return node.kind == Kind::object ? &node : nullptr;
  }
  std::vector<std::string> value_names() {
    std::vector<std::string> names;
    for (const char* key : {"inputs", "outputs"}) {
      if (std::vector<Value>* const values = list(key)) {
        for (Value& value : *values) {
          if (const Value* const name = value.find("name")) names.push_back(name->raw);
        }
      }
    }
    if (const Value* const constants = parts_.graph.find("constants")) names.insert(names.end(), constants->keys.begin(), constants->keys.end());
    if (std::vector<Value>* const nodes = list("nodes")) {
      for (Value& node : *nodes) {
        if (const Value* const outputs = node.find("outputs")) {
          for (const Value& output : outputs->items) names.push_back(output.raw);
        }
      }
    }
    return names;
  }
  Value random_value() {
    switch (rng_.below(8)) {
      case 0: return Value::text(odd_text(rng_, corpus_.strings));
      case 1: return Value::atom(rng_.chance(50) ? "true" : "null");
      case 2: return rng_.chance(50) ? Value::array() : Value::object();
      case 3:
      case 4: {
        Value values = Value::array();
        for (std::size_t n = rng_.below(6); n > 0; --n)
          values.items.push_back(Value::atom(rng_.chance(70) ? std::to_string(rng_.below(5)) : number(rng_)));
        return values;
      }
      default: return Value::atom(number(rng_));
    }
  }

  // Any JSON.
  void change_number() {
    if (Value* const value = choose([](const Value& v) { return v.is_number(); })) value->raw = number(rng_);
  }
  void nudge_number() {
    Value* const value = choose([](const Value& v) { return v.is_number(); });
    if (value == nullptr) return;
    const long long old = std::strtoll(value->raw.c_str(), nullptr, 10);
    const auto bits = static_cast<std::uint64_t>(old);
    const std::uint64_t changed[] = {bits + 1, bits - 1, bits * 2, 0 - bits, bits / 2, bits + 8, bits * 1000};
    value->raw = std::to_string(static_cast<long long>(rng_.pick(changed)));
  }
  void change_string() {
    Value* const value = choose([](const Value& v) { return v.kind == Kind::text; });
    if (value == nullptr) return;
    const std::vector<std::string> own = value_names();
    value->raw = rng_.chance(60) && !own.empty() ? rng_.pick(own) : odd_text(rng_, corpus_.strings);
  }
  void remove() {
    Value* const value = choose([](const Value& v) { return !v.items.empty(); });
    if (value == nullptr) return;
    const auto at = static_cast<std::ptrdiff_t>(rng_.below(value->items.size()));
    value->items.erase(value->items.begin() + at);
    if (value->kind == Kind::object) value->keys.erase(value->keys.begin() + at);
  }
  void duplicate() {
    Value* const value = choose([](const Value& v) { return !v.items.empty(); });
    if (value == nullptr) return;
    const std::size_t at = rng_.below(value->items.size());
    const Value copy = value->items[at];
    if (value->kind == Kind::object) {
      const std::string key = value->keys[at];
      value->keys.push_back(rng_.chance(50) ? key : key + "2");
    }
    value->items.push_back(copy);
  }
  void exchange() {
    const std::vector<Value*> all = all_of(parts_.graph);
    Value &a = *all[rng_.below(all.size())], &b = *all[rng_.below(all.size())];
    const Value first = a, second = b;  // one may lie inside the other, and b is gone if it lay in a
    a = second;
    if (!first.is_container()) b = first;
  }
  void copy_subtree() {
    const std::vector<Value*> all = all_of(parts_.graph);
    const Value from = *all[rng_.below(all.size())];
    *all[rng_.below(all.size())] = from;
  }
  void wrap() {
    Value* const value = choose([](const Value&) { return true; });
    const std::size_t depth = rng_.chance(70) ? 1 : rng_.below(80);
    for (std::size_t i = 0; i < depth; ++i) {
      Value inner = std::move(*value);
      *value = rng_.chance(50) ? Value::array() : Value::object();
      if (value->kind == Kind::object) value->keys.push_back(rng_.chance(80) && !corpus_.keys.empty() ? rng_.pick(corpus_.keys) : "a");
      value->items.push_back(std::move(inner));
    }
  }
  void change_type() {
    Value* const value = choose([](const Value& v) { return v.items.size() < 4; });
    if (value != nullptr) *value = random_value();
  }
  void repeat() {
    Value* const value = choose([](const Value& v) { return v.kind == Kind::array && !v.items.empty(); });
    if (value == nullptr) return;
    std::string one;
    write(value->items.back(), one);
    const std::size_t room = largest_file / 4 / (one.size() + 1);
    const std::size_t count = std::min(room, rng_.chance(80) ? rng_.below(20) : rng_.below(3000));
    const Value last = value->items.back();
    for (std::size_t i = 0; i < count; ++i) value->items.push_back(last);
  }
  void change_key() {
    Value* const value = choose([](const Value& v) { return !v.keys.empty(); });
    if (value == nullptr) return;
    if (rng_.chance(50)) {
      value->keys[rng_.below(value->keys.size())] = rng_.chance(80) ? rng_.pick(corpus_.keys) : odd_text(rng_, corpus_.strings);
    } else {
      (*value)[rng_.pick(corpus_.keys)] = random_value();
    }
  }

  // The meaning of graphs.
  void set_attribute() {
    Value* const node = a_node();
    if (node == nullptr || corpus_.attributes.empty()) return;
    Value& attributes = (*node)["attributes"];
    if (attributes.kind != Kind::object) attributes = Value::object();
    const bool known = !attributes.keys.empty() && rng_.chance(60);
    const std::string key = known ? rng_.pick(attributes.keys) : rng_.pick(corpus_.attributes);
    Value& value = attributes[key];
    if (value.kind == Kind::array && !value.items.empty() && rng_.chance(70)) {
      value.items[rng_.below(value.items.size())] = Value::atom(rng_.chance(70) ? std::to_string(rng_.below(7)) : number(rng_));
    } else {
      value = random_value();
    }
  }
  void change_operator() {
    if (Value* const node = a_node(); node != nullptr && !corpus_.operators.empty()) (*node)["op"] = Value::text(rng_.pick(corpus_.operators));
  }
  void rewire() {
    Value* const node = a_node();
    const std::vector<std::string> names = value_names();
    if (node == nullptr || names.empty()) return;
    Value& inputs = (*node)["inputs"];
    if (inputs.kind != Kind::array) inputs = Value::array();
    const Value name = Value::text(rng_.chance(95) ? rng_.pick(names) : "");
    if (inputs.items.empty() || rng_.chance(20)) {
      inputs.items.push_back(name);
    } else {
      inputs.items[rng_.below(inputs.items.size())] = name;
    }
  }
  void change_dimension() {
    Value* const dims = choose([](const Value& v) {
      return v.kind == Kind::array && std::all_of(v.items.begin(), v.items.end(),
                                                             [](const Value& i) { return i.is_number() || i.kind == Kind::text; });
    });
    if (dims == nullptr) return;
    const Value size = rng_.chance(20) ? Value::text(rng_.chance(50) ? "N" : "M")
                                       : Value::atom(rng_.chance(70) ? std::to_string(rng_.below(70)) : number(rng_));
    if (dims->items.empty() || rng_.chance(20)) {
      dims->items.push_back(size);
    } else {
      dims->items[rng_.below(dims->items.size())] = size;
    }
  }
  // A constant's tree, or a part of one, from another seed, with its leaves under new names.
  void graft() {
    const Corpus::Seed& donor = rng_.pick(corpus_.seeds);
    const Value* const theirs = donor.parts.graph.find("constants");
    if (theirs == nullptr || theirs->items.empty()) return;
    Value tree = theirs->items[rng_.below(theirs->items.size())];
    const auto is_tree = [](const Value& v) { return v.kind == Kind::object && v.find("kind") != nullptr; };
    if (rng_.chance(40)) {
      if (Value* const part = choose(tree, is_tree)) {
        const Value taken = *part;
        tree = taken;
      }
    }
    std::set<std::string> taken;
    for (Value* const value : all_of(tree)) {
      if (value->kind != Kind::text) continue;
      for (const Leaf& leaf : donor.parts.leaves) {
        if (leaf.name != value->raw) continue;
        value->raw = "g." + leaf.name;
        if (!taken.insert(value->raw).second) break;
        if (std::none_of(parts_.leaves.begin(), parts_.leaves.end(), [&](const Leaf& mine) { return mine.name == value->raw; })) {
          parts_.leaves.push_back(leaf);
          parts_.leaves.back().name = value->raw;
        }
        break;
      }
    }
    Value* const place = choose(is_tree);
    if (place != nullptr && rng_.chance(60)) {
      *place = tree;
      drop_unused();
    } else if (Value* const constants = parts_.graph.find("constants"); constants != nullptr && constants->kind == Kind::object) {
      (*constants)["grafted"] = tree;
    }
  }
  void drop_unused() {
    std::set<std::string> used;
    for (Value* const value : all_of(parts_.graph)) {
      if (value->kind == Kind::text) used.insert(value->raw);
    }
    parts_.leaves.erase(std::remove_if(parts_.leaves.begin(), parts_.leaves.end(), [&](const Leaf& leaf) { return used.count(leaf.name) == 0; }),
                        parts_.leaves.end());
  }
  // Nodes of another seed behind this one's.
  void transplant() {
    const Corpus::Seed& donor = rng_.pick(corpus_.seeds);
    const Value* const theirs = donor.parts.graph.find("nodes");
    Value* const mine = parts_.graph.find("nodes");
    const std::vector<std::string> names = value_names();
    if (theirs == nullptr || theirs->items.empty() || mine == nullptr || mine->kind != Kind::array || names.empty()) return;
    Value node = theirs->items[rng_.below(theirs->items.size())];
    const std::string fresh = "t" + std::to_string(mine->items.size());
    node["name"] = Value::text(fresh);
    if (Value* const inputs = node.find("inputs")) {
      for (Value& input : inputs->items) {
        if (std::find(names.begin(), names.end(), input.raw) == names.end() || rng_.chance(20)) input = Value::text(rng_.pick(names));
      }
    }
    if (Value* const outputs = node.find("outputs")) {
      for (std::size_t i = 0; i < outputs->items.size(); ++i) outputs->items[i] = Value::text(fresh + "." + std::to_string(i));
    }
    mine->items.push_back(std::move(node));
    redirect_output(fresh + ".0");
  }
  void redirect_output(const std::string& name) {
    std::vector<Value>* const outputs = list("outputs");
    if (outputs == nullptr || rng_.chance(30)) return;
    Value& output = outputs->front();
    if (output.kind != Kind::object) return;
    output["name"] = Value::text(name);
    if (rng_.chance(70)) {  // sizes that fit whatever comes out
      Value& shape = output["shape"];
      const std::size_t rank = rng_.chance(60) ? shape.items.size() : rng_.below(6);
      shape = Value::array();
      for (std::size_t i = 0; i < rank; ++i) shape.items.push_back(Value::text("S" + std::to_string(i)));
    }
  }
  void clone_node() {
    std::vector<Value>* const nodes = list("nodes");
    if (nodes == nullptr) return;
    const std::size_t at = rng_.below(nodes->size());
    Value copy = (*nodes)[at];
    if (copy.kind != Kind::object) return;
    copy["name"] = Value::text("clone" + std::to_string(nodes->size()));
    const std::string value = "clone" + std::to_string(nodes->size()) + ".y";
    copy["outputs"] = Value::array({Value::text(value)});
    nodes->insert(nodes->begin() + static_cast<std::ptrdiff_t>(at), copy);
    if (rng_.chance(70)) redirect_output(value);
  }
  // Many nodes one behind the other, or side by side: work that grows faster than the file would show.
  void chain() {
    Value* const nodes = parts_.graph.find("nodes");
    const std::vector<std::string> names = value_names();
    if (nodes == nullptr || nodes->kind != Kind::array || names.empty()) return;
    static constexpr const char* links[] = {"Identity", "Relu", "Add", "Concat", "Dropout", "Sigmoid", "Mul", "MaxPool"};
    const std::string op = rng_.chance(80) || corpus_.operators.empty() ? rng_.pick(links) : rng_.pick(corpus_.operators);
    const std::size_t count = rng_.chance(90) ? rng_.below(12) + 1 : rng_.below(700);
    std::string last = rng_.pick(names);
    const bool twice = op == "Add" || op == "Concat" || op == "Mul", wide = rng_.chance(20);
    for (std::size_t i = 0; i < count; ++i) {
      const std::string made = "chain" + std::to_string(nodes->items.size());
      Value node = Value::object(), attributes = Value::object();
      if (op == "Concat") attributes["axis"] = Value::atom(std::to_string(rng_.below(2)));
      if (op == "MaxPool") {
        attributes["kernel_shape"] = Value::array({Value::atom("2"), Value::atom("1")});
        attributes["pads"] = Value::array(std::vector<Value>(4, Value::atom("1")));
      }
      node["name"] = Value::text(made);
      node["op"] = Value::text(op);
      node["inputs"] = Value::array(twice ? std::vector<Value>{Value::text(last), Value::text(last)} : std::vector<Value>{Value::text(last)});
      node["outputs"] = Value::array({Value::text(made)});
      node["attributes"] = attributes;
      nodes->items.push_back(std::move(node));
      if (!wide) last = made;
    }
    redirect_output(nodes->items.empty() ? last : "chain" + std::to_string(nodes->items.size() - 1));
  }
  // A tree inside itself, again and again.
  void nest() {
    const auto is_tree = [](const Value& v) { return v.kind == Kind::object && v.find("kind") != nullptr; };
    Value* const tree = choose(is_tree);
    if (tree == nullptr) return;
    const Value whole = *tree;
    const std::size_t depth = rng_.chance(70) ? rng_.below(4) + 1 : rng_.below(20);
    for (std::size_t i = 0; i < depth; ++i) {
      std::vector<Value*> inner;
      for (Value* const value : all_of(*tree)) {
        if (is_tree(*value) && value->find("leaf") != nullptr) inner.push_back(value);
      }
      if (inner.empty() || inner.size() > 200) return;
      *inner[rng_.below(inner.size())] = whole;
    }
  }
  void change_outputs() {
    Value* const outputs = parts_.graph.find("outputs");
    const std::vector<std::string> names = value_names();
    if (outputs == nullptr || outputs->kind != Kind::array || outputs->items.empty() || names.empty()) return;
    if (rng_.chance(40)) return redirect_output(rng_.pick(names));
    Value more = outputs->items.front();
    if (more.kind != Kind::object) return;
    more["name"] = Value::text(rng_.pick(names));
    Value shape = Value::array();
    for (std::size_t n = rng_.below(5); n > 0; --n) shape.items.push_back(Value::text("S" + std::to_string(n)));
    more["shape"] = shape;
    outputs->items.push_back(std::move(more));
  }
  void change_kind() {
    if (Value* const tree = choose([](const Value& v) { return v.kind == Kind::object && v.find("kind") != nullptr; })) {
      (*tree)["kind"] = Value::text(rng_.pick(kinds));
    }
  }

  // Leaves, and sizes that stay consistent: such files are accepted and run. In surgeon_leaves.cpp.
  Leaf* a_leaf() { return parts_.leaves.empty() ? nullptr : &parts_.leaves[rng_.below(parts_.leaves.size())]; }
  static bool count_of(const Value& shape, std::size_t& count);
  void fit(Leaf& leaf);
  void resize();
  void reshape_leaf();
  void change_dtype();
  void change_bytes();

  const Corpus& corpus_;
  Parts& parts_;
  Rng& rng_;
  std::string& story_;
};

}  // namespace fuzz
