// Encoding trees: names, a one-line description, and size.
#include "graph/encoding.h"

#include <set>

namespace bittern::graph {

namespace {

// Leaves are the same if they stand at the same place; empty ones weigh nothing.
void add_leaf(const Leaf& leaf, std::set<const std::byte*>& seen, std::size_t& bytes) {
  if (leaf.bytes != 0 && seen.insert(leaf.data).second) bytes += leaf.bytes;
}

void add_bytes(const Encoding* tree, std::set<const std::byte*>& seen, std::size_t& bytes) {
  if (tree == nullptr) return;
  add_leaf(tree->leaf, seen, bytes);
  add_leaf(tree->lengths, seen, bytes);
  add_leaf(tree->frequencies, seen, bytes);
  add_leaf(tree->offsets, seen, bytes);
  for (const Encoding::Child* child :
       {&tree->codes, &tree->scale, &tree->zero_point, &tree->table, &tree->positive, &tree->negative, &tree->pattern,
        &tree->values, &tree->mask, &tree->row_ptr, &tree->columns, &tree->gaps, &tree->places}) {
    add_bytes(child->get(), seen, bytes);
  }
  for (const Encoding::Child& part : tree->parts) add_bytes(part.get(), seen, bytes);
}

}  // namespace

const char* name_of(EncodingKind kind) noexcept {
  switch (kind) {
    case EncodingKind::dense: return "dense";
    case EncodingKind::affine: return "affine";
    case EncodingKind::codebook: return "codebook";
    case EncodingKind::ternary: return "ternary";
    case EncodingKind::signs: return "signs";
    case EncodingKind::pow2: return "pow2";
    case EncodingKind::sum: return "sum";
    case EncodingKind::seeded: return "seeded";
    case EncodingKind::sparse: return "sparse";
    case EncodingKind::packed: return "packed";
    case EncodingKind::trits: return "trits";
    case EncodingKind::separable_signs: return "separable_signs";
    case EncodingKind::huffman: return "huffman";
    case EncodingKind::rans: return "rans";
    case EncodingKind::bitmap: return "bitmap";
    case EncodingKind::csr: return "csr";
    case EncodingKind::relative_index: return "relative_index";
    case EncodingKind::blocks: return "blocks";
    case EncodingKind::n_of_m: return "n_of_m";
  }
  return "?";
}

std::string describe(const Encoding& tree) {
  const std::string name = name_of(tree.kind);
  switch (tree.kind) {
    case EncodingKind::dense:
      // float32 is what every reader expects; other types are worth a word.
      return tree.dtype == DType::f32 ? name : name + '(' + bittern::name_of(tree.dtype) + ')';
    case EncodingKind::affine:
    case EncodingKind::codebook:
    case EncodingKind::ternary:
    case EncodingKind::signs:
    case EncodingKind::pow2: return name + '(' + describe(*tree.codes) + ')';
    case EncodingKind::sum: {
      std::string text = name + '(';
      for (std::size_t i = 0; i < tree.parts.size(); ++i) text += (i == 0 ? "" : ", ") + describe(*tree.parts[i]);
      return text + ')';
    }
    case EncodingKind::sparse: return name + '(' + describe(*tree.pattern) + ", " + describe(*tree.values) + ')';
    case EncodingKind::packed: return name + '(' + std::to_string(tree.bits) + ')';
    case EncodingKind::seeded:
    case EncodingKind::trits:
    case EncodingKind::separable_signs:
    case EncodingKind::huffman:
    case EncodingKind::rans: return name;
    case EncodingKind::bitmap: return name + '(' + describe(*tree.mask) + ')';
    case EncodingKind::csr: return name + '(' + describe(*tree.columns) + ')';
    case EncodingKind::relative_index: return name + '(' + describe(*tree.gaps) + ')';
    case EncodingKind::blocks:
      return name + '(' + std::to_string(tree.height) + 'x' + std::to_string(tree.width) + ", " + describe(*tree.pattern) + ')';
    case EncodingKind::n_of_m:
      return name + '(' + std::to_string(tree.n) + ':' + std::to_string(tree.m) + ", " + describe(*tree.places) + ')';
  }
  return name;
}

std::size_t encoded_bytes(const Encoding& tree) {
  std::set<const std::byte*> seen;
  std::size_t bytes = 0;
  add_bytes(&tree, seen, bytes);
  return bytes;
}

}  // namespace bittern::graph
