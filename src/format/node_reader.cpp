// Nodes of encoding trees: kinds and their keys, integers, leaves, shapes.
#include "format/node_reader.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/checked.h"

namespace bittern::format {

namespace {

using graph::EncodingKind;
using Keys = std::span<const char* const>;

constexpr std::int64_t max_elements = std::int64_t{1} << 48;  // so that sizes in bytes never overflow

std::optional<EncodingKind> kind_from(const std::string& name) {
  for (int k = 0; k <= static_cast<int>(EncodingKind::n_of_m); ++k) {
    const auto kind = static_cast<EncodingKind>(k);
    if (name == graph::name_of(kind)) return kind;
  }
  return std::nullopt;
}

bool is_pattern(EncodingKind kind) {
  return kind == EncodingKind::bitmap || kind == EncodingKind::csr || kind == EncodingKind::relative_index ||
         kind == EncodingKind::blocks || kind == EncodingKind::n_of_m;
}

// Keys besides "kind" and, at a root, "order".
Keys keys_of(EncodingKind kind) {
  static constexpr std::array dense{"leaf"};
  static constexpr std::array affine{"codes", "scale", "zero_point", "axis", "group"};
  static constexpr std::array codebook{"codes", "table", "axis"};
  static constexpr std::array ternary{"codes", "positive", "negative", "axis"};
  static constexpr std::array signs{"codes", "scale", "axis"};
  static constexpr std::array pow2{"codes", "terms", "bits", "scale", "axis"};
  static constexpr std::array sum{"parts"};
  static constexpr std::array seeded{"seed", "threshold", "shape"};
  static constexpr std::array sparse{"pattern", "values", "shape"};
  static constexpr std::array packed{"leaf", "bits", "signed", "shape"};
  static constexpr std::array trits{"leaf", "shape"};
  static constexpr std::array separable_signs{"leaf", "shape"};
  static constexpr std::array huffman{"leaf", "lengths", "length", "offsets", "shape"};
  static constexpr std::array rans{"leaf", "frequencies", "bits", "offsets", "shape"};
  static constexpr std::array bitmap{"mask"};
  static constexpr std::array csr{"row_ptr", "columns"};
  static constexpr std::array relative_index{"gaps"};
  static constexpr std::array blocks{"height", "width", "pattern"};
  static constexpr std::array n_of_m{"n", "m", "places"};
  switch (kind) {
    case EncodingKind::dense: return dense;
    case EncodingKind::affine: return affine;
    case EncodingKind::codebook: return codebook;
    case EncodingKind::ternary: return ternary;
    case EncodingKind::signs: return signs;
    case EncodingKind::pow2: return pow2;
    case EncodingKind::sum: return sum;
    case EncodingKind::seeded: return seeded;
    case EncodingKind::sparse: return sparse;
    case EncodingKind::packed: return packed;
    case EncodingKind::trits: return trits;
    case EncodingKind::separable_signs: return separable_signs;
    case EncodingKind::huffman: return huffman;
    case EncodingKind::rans: return rans;
    case EncodingKind::bitmap: return bitmap;
    case EncodingKind::csr: return csr;
    case EncodingKind::relative_index: return relative_index;
    case EncodingKind::blocks: return blocks;
    case EncodingKind::n_of_m: return n_of_m;
  }
  return {};
}

}  // namespace

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size() && i < 8; ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + (shape.size() > 8 ? ", ...]" : "]");
}

std::int64_t count(const Shape& shape) { return engine::checked_product(shape).value_or(0); }

void NodeReader::problem(const std::string& path, std::string text) {
  problems_.add(path.empty() ? where_ : where_ + ": " + path, std::move(text));
}

std::optional<EncodingKind> NodeReader::read_kind(const At& at, bool is_root, bool pattern) {
  if (at.depth > max_tree_depth) {
    problem(at.path, "nested deeper than " + std::to_string(max_tree_depth) + " nodes");
    return std::nullopt;
  }
  if (at.json.string() != nullptr && !pattern) return EncodingKind::dense;  // the short form: the name of the leaf
  if (at.json.object() == nullptr) {
    problem(at.path, std::string("is ") + at.json.type_name() + ", not an object");
    return std::nullopt;
  }
  const Json* const name = at.json.find("kind");
  if (name == nullptr || name->string() == nullptr) {
    problem(at.path, "kind is missing or not a string");
    return std::nullopt;
  }
  const auto kind = kind_from(*name->string());
  if (!kind) {
    problem(at.path, "unknown kind " + quote(*name->string()));
    return std::nullopt;
  }
  if (is_pattern(*kind) != pattern) {
    const char* const reason = pattern ? " is no pattern (bitmap, csr, relative_index, blocks, n_of_m)"
                                       : " is a pattern and yields no numbers; use it in a sparse node";
    problem(at.path, quote(*name->string()) + reason);
    return std::nullopt;
  }
  const Keys keys = keys_of(*kind);
  for (const JsonMember& member : *at.json.object()) {
    if (member.name == "kind" || (is_root && member.name == "order")) continue;
    if (std::none_of(keys.begin(), keys.end(), [&](const char* key) { return member.name == key; })) {
      problem(at.path.empty() ? *name->string() : at.path, "unknown key " + quote(member.name));
    }
  }
  return kind;
}

std::optional<std::int64_t> NodeReader::integer(const At& at, const char* key, std::int64_t low, std::int64_t high) {
  const Json* const json = at.json.find(key);
  if (json == nullptr) {
    problem(at.path, std::string("has no key '") + key + "'");
  } else if (json->integer() == nullptr) {
    problem(at.path, std::string(key) + " is " + json->type_name() + ", not an integer");
  } else if (*json->integer() < low || *json->integer() > high) {
    problem(at.path, std::string(key) + " is " + std::to_string(*json->integer()) + " (allowed: " +
                         std::to_string(low) + " to " + std::to_string(high) + ")");
  } else {
    return *json->integer();
  }
  return std::nullopt;
}

bool NodeReader::read_leaf(const At& at, const char* key, std::initializer_list<DType> allowed, graph::Leaf& out) {
  const Json* const json = at.json.find(key);
  if (json == nullptr || json->string() == nullptr) {
    problem(at.path, std::string(key) + " is missing or not the name of a leaf");
    return false;
  }
  return find_leaf(at, *json->string(), key, allowed, out);
}

bool NodeReader::find_leaf(const At& at, const std::string& name, const char* key, std::initializer_list<DType> allowed,
                           graph::Leaf& out) {
  const graph::Leaf* const leaf = leaves_.use(name);
  if (leaf == nullptr) {
    problem(at.path, std::string(key) + " names no leaf of the file: " + quote(name));
    return false;
  }
  if (std::find(allowed.begin(), allowed.end(), leaf->dtype) == allowed.end()) {
    std::string names;
    for (const DType type : allowed) {
      if (!names.empty()) names += ", ";
      names += name_of(type);
    }
    problem(at.path, "the leaf " + quote(leaf->name) + " is of type " + name_of(leaf->dtype) +
                         " (allowed: " + names + ")");
    return false;
  }
  out = *leaf;
  return true;
}

bool NodeReader::read_shape(const At& at, Shape& out) {
  const Json* const json = at.json.find("shape");
  if (json == nullptr || json->array() == nullptr) {
    problem(at.path, "shape is missing or not a list");
    return false;
  }
  for (const Json& size : *json->array()) {
    if (size.integer() == nullptr || *size.integer() < 0) {
      problem(at.path, "shape holds something else than non-negative integers");
      return false;
    }
    out.push_back(*size.integer());
  }
  const auto elements = engine::checked_product(out);
  const bool small = std::all_of(out.begin(), out.end(), [](std::int64_t size) { return size <= max_elements; });
  if (!elements || *elements > max_elements || !small) {
    problem(at.path, "shape " + text_of(out) + " has too many elements");
    return false;
  }
  return true;
}

}  // namespace bittern::format
