// Encoding trees: each kind's keys, children, shapes and sizes (docs/format.md).
#include "format/encoding_reader.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/checked.h"
#include "format/node_reader.h"
#include "format/stream_reader.h"
#include "schemes/pow2/decode.h"

namespace bittern::format {

namespace {

using graph::Encoding;
using graph::EncodingKind;
using Child = Encoding::Child;

enum class Want : std::uint8_t { any, real, integer };

class TreeReader : private NodeReader {
 public:
  TreeReader(LeafTable& leaves, const std::string& where, Problems& problems)
      : NodeReader(leaves, where, problems), problems_(problems) {}

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
      case EncodingKind::pow2: complete = pow2(at, *tree); break;
      case EncodingKind::sum: complete = sum(at, *tree); break;
      case EncodingKind::seeded: complete = read_seeded(*this, at, *tree); break;
      case EncodingKind::sparse: complete = sparse(at, *tree); break;
      case EncodingKind::packed: complete = read_packed(*this, at, *tree); break;
      case EncodingKind::trits: complete = read_trits(*this, at, *tree); break;
      case EncodingKind::separable_signs: complete = read_separable_signs(*this, at, *tree); break;
      case EncodingKind::huffman: complete = read_huffman(*this, at, *tree); break;
      case EncodingKind::rans: complete = read_rans(*this, at, *tree); break;
      case EncodingKind::bitmap:
      case EncodingKind::csr:
      case EncodingKind::relative_index:
      case EncodingKind::blocks:
      case EncodingKind::n_of_m: break;
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
    static constexpr std::initializer_list<DType> allowed{DType::f32, DType::f16, DType::bf16, DType::boolean, DType::u8, DType::i8,
                                                          DType::u16, DType::i16, DType::u32, DType::i32, DType::i64};
    const std::string* const name = at.json.string();
    const bool found = name != nullptr ? find_leaf(at, *name, "it", allowed, tree.leaf) : read_leaf(at, "leaf", allowed, tree.leaf);
    if (!found) return false;
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

  bool pow2(const At& at, Encoding& tree) {
    namespace limits = engine::schemes::pow2;
    const bool complete = read_codes(at, tree);
    const auto terms = integer(at, "terms", 1, limits::max_terms);
    const auto bits = integer(at, "bits", limits::min_bits, limits::max_bits);
    tree.scale = child(at, "scale", Want::real);
    if (!complete || !terms || !bits) return false;
    tree.terms = static_cast<int>(*terms);
    tree.bits = static_cast<int>(*bits);
    return expect_shape(at, "scale", tree.scale, parameter_shape(tree));
  }

  bool sum(const At& at, Encoding& tree) {
    const Json* const json = at.json.find("parts");
    const Json::Array* const parts = json != nullptr ? json->array() : nullptr;
    if (parts == nullptr || parts->empty() || parts->size() > graph::max_parts) {
      problem(at.path, "parts is missing or no list of 1 to " + std::to_string(graph::max_parts) + " nodes");
      return false;
    }
    bool complete = true;
    for (std::size_t i = 0; i < parts->size(); ++i) {
      const Child part = node((*parts)[i], at.path + ".parts[" + std::to_string(i) + ']', at.depth + 1, Want::real);
      complete = complete && part != nullptr;
      tree.parts.push_back(part);
    }
    if (!complete) return false;
    tree.shape = tree.parts[0]->shape;
    for (std::size_t i = 1; i < parts->size(); ++i) {
      if (tree.parts[i]->shape == tree.shape) continue;
      problem(at.path, "part " + std::to_string(i) + " has the shape " + text_of(tree.parts[i]->shape) + ", the first has " + text_of(tree.shape));
      return false;
    }
    return true;
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
    tree.pattern = child_pattern(at, tree.shape, tree.values == nullptr ? 0 : count(tree.values->shape), complete);
    return complete && tree.pattern != nullptr;
  }

  Child child_pattern(const At& at, const Shape& shape, std::int64_t entries, bool complete) {
    const Json* const json = at.json.find("pattern");
    if (json != nullptr) return pattern({*json, at.path + ".pattern", at.depth + 1}, shape, entries, complete);
    problem(at.path, "has no key 'pattern'");
    return nullptr;
  }

  // `complete`: the tensor's shape and the number of entries are known, so sizes can be compared.
  Child pattern(const At& at, const Shape& shape, std::int64_t entries, bool complete) {
    const auto kind = read_kind(at, false, true);
    if (!kind) return nullptr;
    auto tree = std::make_shared<Encoding>();
    tree->kind = *kind;
    tree->real = false;
    tree->shape = shape;
    if (*kind == EncodingKind::blocks) return blocks(at, *tree, entries, complete) ? tree : nullptr;
    if (*kind == EncodingKind::n_of_m) return n_of_m(at, *tree, entries, complete) ? tree : nullptr;
    if (*kind == EncodingKind::bitmap) {
      tree->mask = child(at, "mask", Want::integer);
      if (tree->mask == nullptr || !complete) return nullptr;
      if (!expect_count(at, "mask", tree->mask, count(shape))) return nullptr;
    } else if (*kind == EncodingKind::csr) {
      tree->row_ptr = child(at, "row_ptr", Want::integer);
      tree->columns = child(at, "columns", Want::integer);
      if (tree->row_ptr == nullptr || tree->columns == nullptr || !complete) return nullptr;
      if (!has_rows(at, shape)) return nullptr;
      const bool fits = expect_count(at, "columns", tree->columns, entries);
      if (!expect_count(at, "row_ptr", tree->row_ptr, shape[0] + 1) || !fits) return nullptr;
    } else {
      tree->gaps = child(at, "gaps", Want::integer);
      if (tree->gaps == nullptr || !complete) return nullptr;
      if (!expect_count(at, "gaps", tree->gaps, entries)) return nullptr;
    }
    return tree;
  }

  bool has_rows(const At& at, const Shape& shape) {
    if (shape.empty()) problem(at.path, "needs a tensor of at least one dimension");
    return !shape.empty();
  }

  // Elements of a row: all dimensions but the first.
  static std::int64_t width_of(const Shape& shape) { return count(Shape(shape.begin() + 1, shape.end())); }

  bool blocks(const At& at, Encoding& tree, std::int64_t entries, bool complete) {
    if (!complete || !has_rows(at, tree.shape)) return false;
    const std::int64_t rows = tree.shape[0], columns = width_of(tree.shape);
    const auto height = integer(at, "height", 1, std::max<std::int64_t>(1, rows));
    const auto width = integer(at, "width", 1, std::max<std::int64_t>(1, columns));
    if (!height || !width) return false;
    tree.height = *height;
    tree.width = *width;
    if (rows % *height != 0 || columns % *width != 0) {
      problem(at.path, "blocks of " + std::to_string(*height) + " x " + std::to_string(*width) + " do not divide " +
                           std::to_string(rows) + " rows of " + std::to_string(columns) + " elements");
      return false;
    }
    const std::int64_t size = *height * *width;  // at most the tensor's elements, or 1
    if (entries % size != 0) {
      problem(at.path, std::to_string(entries) + " values are no whole number of blocks of " + std::to_string(size));
      return false;
    }
    tree.pattern = child_pattern(at, {rows / *height, columns / *width}, entries / size, true);
    return tree.pattern != nullptr;
  }

  bool n_of_m(const At& at, Encoding& tree, std::int64_t entries, bool complete) {
    const auto m = integer(at, "m", 2, 256), n = integer(at, "n", 1, m ? *m : 256);
    tree.places = child(at, "places", Want::integer);
    if (!m || !n || tree.places == nullptr || !complete || !has_rows(at, tree.shape)) return false;
    tree.n = *n;
    tree.m = *m;
    if (width_of(tree.shape) % *m != 0) {
      problem(at.path, "rows of " + std::to_string(width_of(tree.shape)) + " elements are no whole number of groups of " + std::to_string(*m));
      return false;
    }
    const std::int64_t needed = count(tree.shape) / *m * *n;
    const bool fits = expect_count(at, "places", tree.places, needed);
    if (entries != needed) problem(at.path, std::to_string(entries) + " values, needed are " + std::to_string(needed));
    return fits && entries == needed;
  }

  bool expect_count(const At& at, const char* key, const Child& tree, std::int64_t needed) {
    const std::int64_t found = count(tree->shape);
    if (found == needed) return true;
    problem(at.path, std::string(key) + " has " + std::to_string(found) + " elements, needed are " +
                         std::to_string(needed));
    return false;
  }

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
