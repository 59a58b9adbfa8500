// Maps of bits as a whole: making them of real numbers, pooling, halos.
#pragma once

#include <cstdint>

#include "base/map.h"
#include "base/thread_pool.h"
#include "bgemm/bit_map.h"
#include "bgemm/bit_tile.h"
#include "ops/maps.h"

namespace bittern::engine {

// Every pixel of the halo gets `code`.
void fill_bit_halo(const BitMap& map, std::int64_t code, std::uint32_t* bits);

// The codes of real numbers: how many of its channel's thresholds x * sign reaches; a NaN reaches none.
struct BitSteps {
  const float* sign = nullptr;        // [channels rounded up to 32]
  const float* thresholds = nullptr;  // [count][channels rounded up to 32]
  std::int64_t count = 0;
};
// In blocks of 16 channels, or in one block of all of them.
void pack_bits(const BitPackKernel& kernel, const BitSteps& steps, const Map& in, const float* x, const BitMap& out, std::uint32_t* bits, Team& team);

// The greatest code of each window, or the least in channels whose bit in `flips` (or null) is set; what lies outside the map does not
// count. Windows lie inside it at least in part.
void max_pool_bits(const PoolShape& shape, const BitMap& in, const std::uint32_t* x, const std::uint32_t* flips, const BitMap& out, std::uint32_t* y,
                   Team& team);

// A map inside a border of one code, which starts `top` rows above and `left` pixels before it.
void pad_bits(const BitMap& in, const std::uint32_t* x, std::int64_t code, std::int64_t top, std::int64_t left, const BitMap& out, std::uint32_t* y);

}  // namespace bittern::engine
