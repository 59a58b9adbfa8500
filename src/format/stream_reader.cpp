// Nodes that are streams of integers: sizes against what the leaves hold.
#include "format/stream_reader.h"

#include <limits>
#include <string>

#include "base/checked.h"
#include "schemes/huffman/decode.h"
#include "schemes/packed/decode.h"
#include "schemes/rans/decode.h"
#include "schemes/seeded/decode.h"
#include "schemes/separable_signs/decode.h"
#include "schemes/trits/decode.h"

namespace bittern::format {

namespace {

using At = NodeReader::At;
using graph::Encoding;

std::string bytes_of(const graph::Leaf& leaf) { return "the leaf " + quote(leaf.name) + " has " + std::to_string(leaf.bytes) + " bytes"; }

// Offsets are there if and only if there is more than one chunk; then one for each. (Both kinds of chunks have 65,536 symbols.)
bool expect_offsets(NodeReader& reader, const At& at, const Encoding& tree, std::size_t chunks) {
  const bool has_offsets = at.json.find("offsets") != nullptr;
  if (has_offsets != (chunks > 1)) {
    reader.problem(at.path, chunks > 1 ? "more than 65536 symbols need offsets" : "offsets are for more than 65536 symbols");
    return false;
  }
  if (!has_offsets || tree.offsets.bytes == chunks * sizeof(std::uint32_t)) return true;
  reader.problem(at.path, "offsets has " + std::to_string(tree.offsets.bytes / sizeof(std::uint32_t)) + " elements, needed are " +
                              std::to_string(chunks));
  return false;
}

}  // namespace

bool read_packed(NodeReader& reader, const At& at, Encoding& tree) {
  tree.real = false;
  const bool has_leaf = reader.read_leaf(at, "leaf", {DType::u8}, tree.leaf);
  const auto bits = reader.integer(at, "bits", 1, 32);
  if (const Json* const json = at.json.find("signed")) {
    if (json->boolean() == nullptr) {
      reader.problem(at.path, std::string("signed is ") + json->type_name() + ", not true or false");
      return false;
    }
    tree.is_signed = *json->boolean();
  }
  if (!reader.read_shape(at, tree.shape) || !bits || !has_leaf) return false;
  tree.bits = static_cast<int>(*bits);
  const auto needed = engine::schemes::packed::bytes_for(static_cast<std::size_t>(count(tree.shape)), tree.bits);
  if (needed == tree.leaf.bytes) return true;
  reader.problem(at.path, bytes_of(tree.leaf) + ", needed are " + (needed ? std::to_string(*needed) : "too many"));
  return false;
}

bool read_trits(NodeReader& reader, const At& at, Encoding& tree) {
  tree.real = false;
  const bool has_leaf = reader.read_leaf(at, "leaf", {DType::u8}, tree.leaf);
  if (!reader.read_shape(at, tree.shape) || !has_leaf) return false;
  const std::size_t needed = engine::schemes::trits::bytes_for(static_cast<std::size_t>(count(tree.shape)));
  if (needed == tree.leaf.bytes) return true;
  reader.problem(at.path, bytes_of(tree.leaf) + ", needed are " + std::to_string(needed));
  return false;
}

bool read_separable_signs(NodeReader& reader, const At& at, Encoding& tree) {
  tree.real = false;
  const bool has_leaf = reader.read_leaf(at, "leaf", {DType::u8}, tree.leaf);
  if (!reader.read_shape(at, tree.shape) || !has_leaf) return false;
  const std::size_t rank = tree.shape.size();
  if (rank < 2 || tree.shape[rank - 2] == 0 || tree.shape[rank - 1] == 0) {
    reader.problem(at.path, "shape " + text_of(tree.shape) + " does not end in the height and width of a kernel");
    return false;
  }
  const auto height = static_cast<std::size_t>(tree.shape[rank - 2]), width = static_cast<std::size_t>(tree.shape[rank - 1]);
  const std::size_t kernels = static_cast<std::size_t>(count(tree.shape)) / (height * width);
  const std::size_t needed = engine::schemes::separable_signs::bytes_for(kernels, height, width);
  if (needed == tree.leaf.bytes) return true;
  reader.problem(at.path, bytes_of(tree.leaf) + ", needed are " + std::to_string(needed));
  return false;
}

bool read_seeded(NodeReader& reader, const At& at, Encoding& tree) {
  const auto seed = reader.integer(at, "seed", 0, std::numeric_limits<std::int64_t>::max());
  const auto threshold = reader.integer(at, "threshold", 0, static_cast<std::int64_t>(engine::schemes::seeded::every));
  if (!reader.read_shape(at, tree.shape) || !seed || !threshold) return false;
  tree.seed = static_cast<std::uint64_t>(*seed);
  tree.threshold = static_cast<std::uint64_t>(*threshold);
  return true;
}

bool read_huffman(NodeReader& reader, const At& at, Encoding& tree) {
  tree.real = false;
  bool complete = reader.read_leaf(at, "leaf", {DType::u8}, tree.leaf);
  complete = reader.read_leaf(at, "lengths", {DType::u8}, tree.lengths) && complete;
  if (at.json.find("offsets") != nullptr) complete = reader.read_leaf(at, "offsets", {DType::u32}, tree.offsets) && complete;
  const auto length = reader.integer(at, "length", 0, std::numeric_limits<std::int64_t>::max());
  if (!reader.read_shape(at, tree.shape) || !length || !complete) return false;

  tree.stream_bits = static_cast<std::uint64_t>(*length);
  const auto n = static_cast<std::uint64_t>(count(tree.shape));
  if (engine::ceil_div(tree.stream_bits, std::uint64_t{8}) != tree.leaf.bytes) {
    reader.problem(at.path, "length is " + std::to_string(*length) + " bits, but " + bytes_of(tree.leaf));
    return false;
  }
  if (n > tree.stream_bits) {
    reader.problem(at.path, "shape " + text_of(tree.shape) + " has more elements than the stream has bits");
    return false;
  }
  return expect_offsets(reader, at, tree, engine::schemes::huffman::chunk_count(n));
}

bool read_rans(NodeReader& reader, const At& at, Encoding& tree) {
  namespace rans = engine::schemes::rans;
  tree.real = false;
  bool complete = reader.read_leaf(at, "leaf", {DType::u16}, tree.leaf);
  complete = reader.read_leaf(at, "frequencies", {DType::u16}, tree.frequencies) && complete;
  if (at.json.find("offsets") != nullptr) complete = reader.read_leaf(at, "offsets", {DType::u32}, tree.offsets) && complete;
  const auto bits = reader.integer(at, "bits", 1, rans::max_bits);
  if (!reader.read_shape(at, tree.shape) || !bits || !complete) return false;

  tree.bits = static_cast<int>(*bits);
  const std::size_t symbols = tree.frequencies.bytes / sizeof(std::uint16_t);
  if (symbols > rans::max_symbols) {
    reader.problem(at.path, "frequencies has " + std::to_string(symbols) + " elements, at most " + std::to_string(rans::max_symbols) +
                                " are allowed");
    return false;
  }
  const std::size_t chunks = rans::chunk_count(static_cast<std::size_t>(count(tree.shape)));
  if (tree.leaf.bytes / sizeof(std::uint16_t) / rans::state_words < chunks) {
    reader.problem(at.path, "shape " + text_of(tree.shape) + " has more elements than the stream can hold");
    return false;
  }
  return expect_offsets(reader, at, tree, chunks);
}

}  // namespace bittern::format
