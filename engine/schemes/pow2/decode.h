// Sums of powers of two: each code holds a sign and a level for every term.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::pow2 {

inline constexpr int max_terms = 4;
inline constexpr int min_bits = 2, max_bits = 8;

// terms: 1..max_terms; bits of each: min_bits..max_bits. scale: [channels]. codes, out: shape.elements(). T: int32_t or int64_t (which
// codes of 32 bits need). Fails on a code beyond terms * bits bits and on a term that is minus zero.
template <class T>
Status decode(std::span<const T> codes, int terms, int bits, std::span<const float> scale, Channels shape, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::pow2
