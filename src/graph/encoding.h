// Encoding trees: how the elements of a constant are written (docs/format.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <bittern/tensor.h>

namespace bittern::graph {

// A raw tensor of the file. `data` points into the mapped file, which the Model keeps alive; it may be unaligned.
struct Leaf {
  std::string name;
  DType dtype = DType::u8;
  Shape shape;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
};

enum class EncodingKind : std::uint8_t {
  dense, affine, codebook, ternary, signs, pow2, sum, seeded, sparse, packed, trits, separable_signs, huffman, rans, bitmap, csr, relative_index, blocks,
  n_of_m
};

const char* name_of(EncodingKind kind) noexcept;

inline constexpr std::size_t max_parts = 8;  // of a sum

// One node. Which members are used follows from `kind`; the reader has checked that they are present and agree.
struct Encoding {
  EncodingKind kind = EncodingKind::dense;
  bool real = true;               // else integer (patterns: neither, `real` is false)
  DType dtype = DType::f32;       // dense: the leaf's type
  Shape shape;                    // what the node yields (patterns: the shape of the tensor they index)
  bool ohwi = false;              // root only: elements are stored O,H,W,I; `shape` is O,I,H,W already

  Leaf leaf;                      // dense, packed, trits, separable_signs, huffman, rans
  Leaf offsets;                   // huffman, rans
  Leaf lengths;                   // huffman
  Leaf frequencies;               // rans
  std::uint64_t stream_bits = 0;  // huffman
  int bits = 0;                   // packed; pow2: of a term; rans: of the frequencies
  int terms = 0;                  // pow2
  bool is_signed = false;         // packed
  int axis = -1;                  // affine, codebook, ternary, signs, pow2; -1: whole tensor
  std::int64_t group = 0;         // affine; 0: none
  std::int64_t height = 0, width = 0;  // blocks
  std::int64_t n = 0, m = 0;      // n_of_m
  std::uint64_t seed = 0, threshold = 0;  // seeded; the threshold counts in 2^-32

  using Child = std::shared_ptr<const Encoding>;
  Child codes;                    // affine, codebook, ternary, signs, pow2
  Child scale, zero_point;        // affine; signs and pow2 have a scale
  Child table;                    // codebook
  Child positive, negative;       // ternary
  Child pattern, values;          // sparse; blocks have a pattern, whose shape is that of the grid
  Child mask;                     // bitmap
  Child row_ptr, columns;         // csr
  Child gaps;                     // relative_index
  Child places;                   // n_of_m
  std::vector<Child> parts;       // sum
};

// "codebook(sparse(relative_index(huffman), huffman))": what reports and plans show.
std::string describe(const Encoding& tree);

// Bytes of all leaves of the tree, each counted once.
std::size_t encoded_bytes(const Encoding& tree);

}  // namespace bittern::graph
