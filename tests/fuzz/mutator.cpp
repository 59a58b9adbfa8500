#include "mutator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <set>

#include "surgeon.h"
#include "words.h"

namespace fuzz {
namespace {

// Wrong declarations of leaves and metadata.
void change_header(Value& header, Rng& rng, const Corpus& corpus) {
  std::vector<std::size_t> leaves;
  for (std::size_t i = 0; i < header.keys.size(); ++i) {
    if (header.keys[i] != "__metadata__") leaves.push_back(i);
  }
  Value* const entry = leaves.empty() ? nullptr : &header.items[rng.pick(leaves)];
  switch (rng.below(9)) {
    case 0:
    case 1:
    case 2:
      if (entry != nullptr) {
        if (Value* const offsets = entry->find("data_offsets"); offsets != nullptr && !offsets->items.empty()) {
          Value& offset = offsets->items[rng.below(offsets->items.size())];
          const auto old = std::strtoull(offset.raw.c_str(), nullptr, 10);
          offset.raw = rng.chance(50) ? number(rng) : std::to_string(rng.chance(50) ? old + rng.below(9) : old - rng.below(9));
        }
      }
      return;
    case 3:
    case 4:
      if (entry != nullptr) {
        if (Value* const shape = entry->find("shape")) {
          if (shape->items.empty() || rng.chance(30)) shape->items.push_back(Value::atom(number(rng)));
          shape->items[rng.below(shape->items.size())] = Value::atom(number(rng));
        }
      }
      return;
    case 5:
      if (entry != nullptr) (*entry)["dtype"] = Value::text(rng.pick(dtypes));
      return;
    case 6:
      if (!leaves.empty()) header.keys[rng.pick(leaves)] = odd_text(rng, corpus.strings);
      return;
    case 7:
      if (leaves.size() > 1) {
        const std::size_t second = rng.pick(leaves), first = rng.pick(leaves);
        std::swap(header.items[first], header.items[second]);
      }
      return;
    default: {
      Value* const metadata = header.find("__metadata__");
      if (metadata == nullptr) return;
      static constexpr const char* keys[] = {"format", "version", "graph", "checksum", "note"};
      (*metadata)[rng.pick(keys)] = rng.chance(80) ? Value::text(odd_text(rng, corpus.strings)) : Value::atom(number(rng));
    }
  }
}

// Damage that knows no structure.
void change_raw(std::string& file, Rng& rng) {
  for (std::size_t n = rng.below(3) + 1; n > 0 && !file.empty(); --n) {
    const std::size_t at = rng.below(file.size());
    switch (rng.below(8)) {
      case 0:
      case 1: file[at] = static_cast<char>(static_cast<unsigned char>(file[at]) ^ (1u << rng.below(8))); break;
      case 2: file[at] = static_cast<char>(rng.below(256)); break;
      case 3: file.resize(at); break;
      case 4: file.erase(at, rng.below(64) + 1); break;
      case 5: {  // in two steps: the order of a call's arguments is the compiler's choice
        const auto byte = static_cast<char>(rng.below(256));
        file.insert(at, std::string(rng.below(64) + 1, byte));
        break;
      }
      case 6: {
        const std::size_t count = rng.below(200);
        file.insert(at, file.substr(rng.below(file.size()), count));
        break;
      }
      default: {
        const std::uint64_t length = rng.chance(50) ? rng.below(file.size() + 20) : std::uint64_t{1} << rng.below(64);
        if (file.size() >= sizeof length) std::memcpy(file.data(), &length, sizeof length);
      }
    }
  }
}

}  // namespace

bool Corpus::add(std::string name, std::string bytes) {
  Seed seed;
  if (!split(bytes, seed.parts)) return false;
  seed.name = std::move(name);
  seed.bytes = std::move(bytes);
  seeds.push_back(std::move(seed));
  return true;
}

void Corpus::finish() {
  std::set<std::string> all_operators, all_attributes, all_strings, all_keys;
  for (Seed& seed : seeds) {
    if (const Value* const nodes = seed.parts.graph.find("nodes")) {
      for (const Value& node : nodes->items) {
        if (const Value* const op = node.find("op")) all_operators.insert(op->raw);
        if (const Value* const own = node.find("attributes")) all_attributes.insert(own->keys.begin(), own->keys.end());
      }
    }
    for (Value* const value : all_of(seed.parts.graph)) {
      if (value->kind == Value::Kind::text && value->raw.size() < 40 && all_strings.size() < 2000) all_strings.insert(value->raw);
      if (value->keys.size() < 12) all_keys.insert(value->keys.begin(), value->keys.end());
    }
  }
  operators.assign(all_operators.begin(), all_operators.end());
  attributes.assign(all_attributes.begin(), all_attributes.end());
  strings.assign(all_strings.begin(), all_strings.end());
  keys.assign(all_keys.begin(), all_keys.end());
}

Mutant mutate(const Corpus& corpus, std::uint64_t seed, std::uint64_t index) {
  Rng rng(seed, index);
  Mutant mutant;
  const Corpus::Seed& origin = rng.pick(corpus.seeds);
  mutant.story = origin.name;
  if (rng.chance(6)) {
    mutant.story += ", raw";
    mutant.bytes = origin.bytes;
    change_raw(mutant.bytes, rng);
    return mutant;
  }
  Parts parts = origin.parts;
  const bool header_too = rng.chance(10);
  Surgeon surgeon(corpus, parts, rng, mutant.story);
  const std::size_t changes = header_too && rng.chance(70) ? 0 : rng.chance(60) ? 1 : rng.below(5) + 1;
  for (std::size_t i = 0; i < changes; ++i) surgeon.once();
  Draft draft = fuzz::draft(parts);
  if (header_too) {
    mutant.story += ", header";
    change_header(draft.header, rng, corpus);
  }
  mutant.sealed = rng.chance(97);
  mutant.bytes = assemble(std::move(draft), mutant.sealed);
  if (rng.chance(1)) {
    mutant.story += ", raw";
    change_raw(mutant.bytes, rng);
    mutant.sealed = false;
  }
  return mutant;
}

std::string mutate_structure(const Corpus& corpus, const Parts& parts, Rng& rng) {
  Parts copy = parts;
  std::string story;
  Surgeon surgeon(corpus, copy, rng, story);
  for (std::size_t n = rng.below(3) + 1; n > 0; --n) surgeon.once();
  return assemble(draft(copy), true);
}

}  // namespace fuzz
