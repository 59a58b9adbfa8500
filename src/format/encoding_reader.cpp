// Encoding trees: each kind's keys, children, shapes and sizes (docs/format.md).
#include "format/encoding_reader.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "base/checked.h"
#include "schemes/huffman/decode.h"
#include "schemes/packed/decode.h"

namespace bittern::format {

namespace {

using graph::Encoding;
using graph::EncodingKind;
using Child = Encoding::Child;
using Keys = std::span<const char* const>;

constexpr std::int64_t max_elements = std::int64_t{1} << 48;  // so that sizes in bytes never overflow

enum class Want : std::uint8_t { any, real, integer };

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size() && i < 8; ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + (shape.size() > 8 ? ", ...]" : "]");
}

std::int64_t count(const Shape& shape) { return engine::checked_product(shape).value_or(0); }

std::optional<EncodingKind> kind_from(const std::string& name) {
  for (int k = 0; k <= static_cast<int>(EncodingKind::relative_index); ++k) {
    const auto kind = static_cast<EncodingKind>(k);
    if (name == graph::name_of(kind)) return kind;
  }
  return std::nullopt;
}

bool is_pattern(EncodingKind kind) {
  return kind == EncodingKind::bitmap || kind == EncodingKind::csr || kind == EncodingKind::relative_index;
}

// Keys besides "kind" and, at a root, "order".
Keys keys_of(EncodingKind kind) {
  static constexpr std::array dense{"leaf"};
  static constexpr std::array affine{"codes", "scale", "zero_point", "axis", "group"};
  static constexpr std::array codebook{"codes", "table", "axis"};
  static constexpr std::array ternary{"codes", "positive", "negative", "axis"};
  static constexpr std::array signs{"codes", "scale", "axis"};
  static constexpr std::array sparse{"pattern", "values", "shape"};
  static constexpr std::array packed{"leaf", "bits", "signed", "shape"};
  static constexpr std::array huffman{"leaf", "lengths", "length", "offsets", "shape"};
  static constexpr std::array bitmap{"mask"};
  static constexpr std::array csr{"row_ptr", "columns"};
  static constexpr std::array relative_index{"gaps"};
  switch (kind) {
    case EncodingKind::dense: return dense;
    case EncodingKind::affine: return affine;
    case EncodingKind::codebook: return codebook;
    case EncodingKind::ternary: return ternary;
    case EncodingKind::signs: return signs;
    case EncodingKind::sparse: return sparse;
    case EncodingKind::packed: return packed;
    case EncodingKind::huffman: return huffman;
    case EncodingKind::bitmap: return bitmap;
    case EncodingKind::csr: return csr;
    case EncodingKind::relative_index: return relative_index;
  }
  return {};
}

class TreeReader {
 public:
  TreeReader(LeafTable& leaves, const std::string& where, Problems& problems)
      : leaves_(leaves), where_(where), problems_(problems) {}

  Child root(const Json& json) {
    const std::size_t before = problems_.count();
    std::shared_ptr<Encoding> tree = node(json, {}, 1, Want::any, true);
    if (tree == nullptr) return nullptr;
    const std::string path = graph::name_of(tree->kind);
    if (!tree->real && tree->kind != EncodingKind::dense) {
      problem(path, "yields integers; a constant is real, or a dense leaf of integers");
    }
    if (const Json* const order = json.find("order")) permute(*order, path, *tree);
    return problems_.count() == before ? tree : nullptr;
  }

 private:
  // What all readers of a node need. `path`: the kind of the root, then keys: "codebook.codes.pattern".
  struct At {
    const Json& json;
    std::string path;
    int depth;
  };

  void problem(const std::string& path, std::string text) {
    problems_.add(path.empty() ? where_ : where_ + ": " + path, std::move(text));
  }

  void permute(const Json& order, const std::string& path, Encoding& tree) {
    if (order.string() == nullptr || *order.string() != "OHWI") {
      problem(path, "order is " + (order.string() != nullptr ? quote(*order.string()) : order.type_name()) + ", it can only be 'OHWI'");
    } else if (tree.shape.size() != 4) {
      problem(path, "order 'OHWI' needs 4 dimensions, the shape is " + text_of(tree.shape));
    } else {
      tree.ohwi = true;
      tree.shape = {tree.shape[0], tree.shape[3], tree.shape[1], tree.shape[2]};
    }
  }

  // The kind, if it is known and fits; checks the keys too.
  std::optional<EncodingKind> read_kind(const At& at, bool is_root, bool pattern) {
    if (at.json.object() == nullptr) {
      problem(at.path, std::string("is ") + at.json.type_name() + ", not an object");
      return std::nullopt;
    }
    if (at.depth > max_tree_depth) {
      problem(at.path, "nested deeper than " + std::to_string(max_tree_depth) + " nodes");
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
      const char* const reason = pattern ? " is no pattern (bitmap, csr, relative_index)"
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

  std::shared_ptr<Encoding> node(const Json& json, std::string path, int depth, Want want, bool is_root = false) {
    At at{json, std::move(path), depth};
    const auto kind = read_kind(at, is_root, false);
    if (!kind) return nullptr;
    if (is_root) at.path = graph::name_of(*kind);
    auto tree = std::make_shared<Encoding>();
    tree->kind = *kind;
    bool complete = false;
    switch (*kind) {
      case EncodingKind::dense: complete = dense(at, *tree); break;
      case EncodingKind::affine: complete = affine(at, *tree); break;
      case EncodingKind::codebook: complete = codebook(at, *tree); break;
      case EncodingKind::ternary: complete = ternary(at, *tree); break;
      case EncodingKind::signs: complete = signs(at, *tree); break;
      case EncodingKind::sparse: complete = sparse(at, *tree); break;
      case EncodingKind::packed: complete = packed(at, *tree); break;
      case EncodingKind::huffman: complete = huffman(at, *tree); break;
      case EncodingKind::bitmap:
      case EncodingKind::csr:
      case EncodingKind::relative_index: break;
    }
    if (!complete) return nullptr;
    if (want != Want::any && tree->real != (want == Want::real)) {
      problem(at.path, want == Want::real ? "yields integers where real numbers are needed"
                                          : "yields real numbers where integers are needed");
      return nullptr;
    }
    return tree;
  }

  Child child(const At& at, const char* key, Want want, bool required = true) {
    const Json* const json = at.json.find(key);
    if (json != nullptr) return node(*json, at.path + '.' + key, at.depth + 1, want);
    if (required) problem(at.path, std::string("has no key '") + key + "'");
    return nullptr;
  }

  std::optional<std::int64_t> integer(const At& at, const char* key, std::int64_t low, std::int64_t high) {
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

  bool read_leaf(const At& at, const char* key, std::initializer_list<DType> allowed, graph::Leaf& out) {
    const Json* const json = at.json.find(key);
    if (json == nullptr || json->string() == nullptr) {
      problem(at.path, std::string(key) + " is missing or not the name of a leaf");
      return false;
    }
    const graph::Leaf* const leaf = leaves_.use(*json->string());
    if (leaf == nullptr) {
      problem(at.path, std::string(key) + " names no leaf of the file: " + quote(*json->string()));
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

  bool read_shape(const At& at, Shape& out) {
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

  // `codes`, `axis`, and with them the shape: the same for all kinds that have codes.
  bool read_codes(const At& at, Encoding& tree) {
    tree.codes = child(at, "codes", Want::integer);
    if (tree.codes == nullptr) return false;
    tree.shape = tree.codes->shape;
    if (at.json.find("axis") != nullptr) {
      if (tree.shape.empty()) {
        problem(at.path, "axis needs codes of at least one dimension");
        return false;
      }
      const auto axis = integer(at, "axis", 0, static_cast<std::int64_t>(tree.shape.size()) - 1);
      if (!axis) return false;
      tree.axis = static_cast<int>(*axis);
    }
    return true;
  }

  // A parameter: one value, or one per channel, or (affine) one per group.
  bool expect_shape(const At& at, const char* key, const Child& parameter, const Shape& expected) {
    if (parameter == nullptr) return false;
    if (parameter->shape == expected) return true;
    problem(at.path, std::string(key) + " has the shape " + text_of(parameter->shape) + ", needed is " +
                         text_of(expected));
    return false;
  }

  static Shape parameter_shape(const Encoding& tree) {
    if (tree.axis < 0) return {};
    const auto axis = static_cast<std::size_t>(tree.axis);
    if (tree.group == 0) return {tree.shape[axis]};
    Shape shape = tree.shape;
    shape[axis] = engine::ceil_div(shape[axis], tree.group);
    return shape;
  }

  bool dense(const At& at, Encoding& tree) {
    if (!read_leaf(at, "leaf",
                   {DType::f32, DType::f16, DType::bf16, DType::boolean, DType::u8, DType::i8, DType::u16, DType::i16,
                    DType::u32, DType::i32, DType::i64},
                   tree.leaf)) {
      return false;
    }
    tree.dtype = tree.leaf.dtype;
    tree.real = tree.dtype == DType::f32 || tree.dtype == DType::f16 || tree.dtype == DType::bf16;
    tree.shape = tree.leaf.shape;
    return true;
  }

  bool affine(const At& at, Encoding& tree) {
    bool complete = read_codes(at, tree);
    tree.scale = child(at, "scale", Want::real);
    tree.zero_point = child(at, "zero_point", Want::integer, false);
    const bool has_zero_point = at.json.find("zero_point") != nullptr;
    if (at.json.find("group") != nullptr) {
      const auto group = integer(at, "group", 1, std::numeric_limits<std::int64_t>::max());
      if (at.json.find("axis") == nullptr) problem(at.path, "group needs an axis");
      if (!group || at.json.find("axis") == nullptr) return false;
      tree.group = *group;
    }
    if (!complete) return false;
    const Shape expected = parameter_shape(tree);
    complete = expect_shape(at, "scale", tree.scale, expected);
    if (has_zero_point) complete = expect_shape(at, "zero_point", tree.zero_point, expected) && complete;
    return complete;
  }

  bool codebook(const At& at, Encoding& tree) {
    const bool complete = read_codes(at, tree);
    tree.table = child(at, "table", Want::real);
    if (!complete || tree.table == nullptr) return false;
    Shape expected = parameter_shape(tree);
    if (tree.table->shape.size() == expected.size() + 1) {
      expected.push_back(tree.table->shape.back());
      return expect_shape(at, "table", tree.table, expected);
    }
    std::string needed = "[K]";
    if (tree.axis >= 0) needed.insert(1, std::to_string(expected[0]) + ", ");
    problem(at.path, "table has the shape " + text_of(tree.table->shape) + ", needed is " + needed);
    return false;
  }

  bool ternary(const At& at, Encoding& tree) {
    const bool complete = read_codes(at, tree);
    tree.positive = child(at, "positive", Want::real);
    tree.negative = child(at, "negative", Want::real);
    if (!complete) return false;
    const bool fits = expect_shape(at, "positive", tree.positive, parameter_shape(tree));
    return expect_shape(at, "negative", tree.negative, parameter_shape(tree)) && fits;
  }

  bool signs(const At& at, Encoding& tree) {
    const bool complete = read_codes(at, tree);
    tree.scale = child(at, "scale", Want::real);
    return complete && expect_shape(at, "scale", tree.scale, parameter_shape(tree));
  }

  bool sparse(const At& at, Encoding& tree) {
    bool complete = read_shape(at, tree.shape);
    tree.values = child(at, "values", Want::any);
    if (tree.values == nullptr) {
      complete = false;
    } else {
      tree.real = tree.values->real;
      if (tree.values->shape.size() != 1) {
        problem(at.path, "values have the shape " + text_of(tree.values->shape) + ", needed is one dimension");
        complete = false;
      }
    }
    const Json* const json = at.json.find("pattern");
    if (json == nullptr) {
      problem(at.path, "has no key 'pattern'");
      return false;
    }
    tree.pattern = pattern({*json, at.path + ".pattern", at.depth + 1}, tree, complete);
    return complete && tree.pattern != nullptr;
  }

  // `complete`: the tensor's shape and values are known, so sizes can be compared.
  Child pattern(const At& at, const Encoding& tensor, bool complete) {
    const auto kind = read_kind(at, false, true);
    if (!kind) return nullptr;
    auto tree = std::make_shared<Encoding>();
    tree->kind = *kind;
    tree->real = false;
    tree->shape = tensor.shape;
    if (*kind == EncodingKind::bitmap) {
      tree->mask = child(at, "mask", Want::integer);
      if (tree->mask == nullptr || !complete) return nullptr;
      if (!expect_count(at, "mask", tree->mask, count(tensor.shape))) return nullptr;
    } else if (*kind == EncodingKind::csr) {
      tree->row_ptr = child(at, "row_ptr", Want::integer);
      tree->columns = child(at, "columns", Want::integer);
      if (tree->row_ptr == nullptr || tree->columns == nullptr || !complete) return nullptr;
      if (tensor.shape.empty()) {
        problem(at.path, "needs a tensor of at least one dimension");
        return nullptr;
      }
      const bool fits = expect_count(at, "columns", tree->columns, count(tensor.values->shape));
      if (!expect_count(at, "row_ptr", tree->row_ptr, tensor.shape[0] + 1) || !fits) return nullptr;
    } else {
      tree->gaps = child(at, "gaps", Want::integer);
      if (tree->gaps == nullptr || !complete) return nullptr;
      if (!expect_count(at, "gaps", tree->gaps, count(tensor.values->shape))) return nullptr;
    }
    return tree;
  }

  bool expect_count(const At& at, const char* key, const Child& tree, std::int64_t needed) {
    const std::int64_t found = count(tree->shape);
    if (found == needed) return true;
    problem(at.path, std::string(key) + " has " + std::to_string(found) + " elements, needed are " +
                         std::to_string(needed));
    return false;
  }

  bool packed(const At& at, Encoding& tree) {
    tree.real = false;
    const bool has_leaf = read_leaf(at, "leaf", {DType::u8}, tree.leaf);
    const auto bits = integer(at, "bits", 1, 32);
    if (const Json* const json = at.json.find("signed")) {
      if (json->boolean() == nullptr) {
        problem(at.path, std::string("signed is ") + json->type_name() + ", not true or false");
        return false;
      }
      tree.is_signed = *json->boolean();
    }
    if (!read_shape(at, tree.shape) || !bits || !has_leaf) return false;
    tree.bits = static_cast<int>(*bits);
    const auto needed = engine::schemes::packed::bytes_for(static_cast<std::size_t>(count(tree.shape)), tree.bits);
    if (needed == tree.leaf.bytes) return true;
    problem(at.path, "the leaf " + quote(tree.leaf.name) + " has " + std::to_string(tree.leaf.bytes) +
                         " bytes, needed are " + (needed ? std::to_string(*needed) : "too many"));
    return false;
  }

  bool huffman(const At& at, Encoding& tree) {
    tree.real = false;
    bool complete = read_leaf(at, "leaf", {DType::u8}, tree.leaf);
    complete = read_leaf(at, "lengths", {DType::u8}, tree.lengths) && complete;
    const bool has_offsets = at.json.find("offsets") != nullptr;
    if (has_offsets) complete = read_leaf(at, "offsets", {DType::u32}, tree.offsets) && complete;
    const auto length = integer(at, "length", 0, std::numeric_limits<std::int64_t>::max());
    if (!read_shape(at, tree.shape) || !length || !complete) return false;

    tree.stream_bits = static_cast<std::uint64_t>(*length);
    const auto n = static_cast<std::uint64_t>(count(tree.shape));
    if (engine::ceil_div(tree.stream_bits, std::uint64_t{8}) != tree.leaf.bytes) {
      problem(at.path, "length is " + std::to_string(*length) + " bits, but the leaf " + quote(tree.leaf.name) +
                           " has " + std::to_string(tree.leaf.bytes) + " bytes");
      return false;
    }
    if (n > tree.stream_bits) {
      problem(at.path, "shape " + text_of(tree.shape) + " has more elements than the stream has bits");
      return false;
    }
    const std::size_t chunks = engine::schemes::huffman::chunk_count(n);
    if (has_offsets != (chunks > 1)) {
      problem(at.path, chunks > 1 ? "more than 65536 symbols need offsets" : "offsets are for more than 65536 symbols");
      return false;
    }
    if (has_offsets && tree.offsets.bytes != chunks * sizeof(std::uint32_t)) {
      problem(at.path, "offsets has " + std::to_string(tree.offsets.bytes / sizeof(std::uint32_t)) +
                           " elements, needed are " + std::to_string(chunks));
      return false;
    }
    return true;
  }

  LeafTable& leaves_;
  const std::string& where_;
  Problems& problems_;
};

}  // namespace

LeafTable::LeafTable(std::vector<graph::Leaf> leaves) : leaves_(std::move(leaves)), used_(leaves_.size()) {}

const graph::Leaf* LeafTable::use(std::string_view name) {
  const auto found = std::lower_bound(leaves_.begin(), leaves_.end(), name,
                                      [](const graph::Leaf& leaf, std::string_view key) { return leaf.name < key; });
  if (found == leaves_.end() || found->name != name) return nullptr;
  used_[static_cast<std::size_t>(found - leaves_.begin())] = true;
  return &*found;
}

std::vector<std::string> LeafTable::unused() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    if (!used_[i]) names.push_back(leaves_[i].name);
  }
  return names;
}

std::shared_ptr<const graph::Encoding> read_encoding(const Json& json, LeafTable& leaves, const std::string& where,
                                                     Problems& problems) {
  return TreeReader(leaves, where, problems).root(json);
}

}  // namespace bittern::format
