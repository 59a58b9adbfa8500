// The meaning of encoding trees: every tree decodes to plain numbers.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

// All functions: `place` names the constant in messages, e.g. "net.bittern: constant conv1.weight"; they throw Error
// (format) that names the node if the leaves hold values their node does not allow. Trees come from read_graph.

// A real tree, elements in the order of `tree.shape` (OHWI roots are permuted). out: exactly that many.
void decode_real(const graph::Encoding& tree, std::span<float> out, const std::string& place);
std::vector<float> decode_real(const graph::Encoding& tree, const std::string& place);

// An integer or boolean tree of any kind, likewise.
std::vector<std::int64_t> decode_integers(const graph::Encoding& tree, const std::string& place);

// An integer tree whose values fit 32 bits, piece by piece in the order of storage: without room for all of them where
// the codes stand packed or plain in the file.
void decode_in_pieces(const graph::Encoding& tree, const std::string& place, const std::function<void(std::span<const std::int32_t>)>& use);

// Whether some value of an integer tree may need more than 32 bits with sign.
bool is_wide(const graph::Encoding& tree) noexcept;

// Decodes and drops the result. Patterns cannot stand alone.
void check(const graph::Encoding& tree, const std::string& place);

// An upper bound of the bytes that decoding takes, result and scratch together; UINT64_MAX if that overflows.
// Never allocates, so it can be compared with a limit first.
std::uint64_t decode_cost(const graph::Encoding& tree) noexcept;

// Elements of a tree (of the tensor, for a pattern).
std::int64_t elements(const graph::Encoding& tree) noexcept;

// The shape in the order of storage: differs from tree.shape for OHWI roots. `axis` counts in this shape.
Shape stored_shape(const graph::Encoding& tree);

}  // namespace bittern::format
