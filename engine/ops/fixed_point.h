// TensorFlow Lite's integer arithmetic behind the exact sums: real scales as integers of 31 bits and shifts, rounded once,
// halves up (docs/numerics.md).
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "ops/maps.h"
#include "ops/quantiser.h"

namespace bittern::engine {

// x * m * 2^-total, rounded to the nearest, halves up.
struct FixedScale {
  std::int64_t m = 0;
  int total = 1;

  std::int64_t operator()(std::int64_t x) const noexcept { return (x * m + (std::int64_t{1} << (total - 1))) >> total; }
};

// From 2^30 on, what is no zero saturates; what is not positive, or no number, gives zero.
FixedScale fixed_scale(double real) noexcept;

// Sums to codes: saturate(scale[c](sum) + zero), within lo .. hi as stored. Both maps have the same sizes and block.
void fixed_requantise(const FixedScale* scales, std::int32_t zero, std::int32_t lo, std::int32_t hi, const Map& in, const std::int32_t* sums,
                      const Map& out, std::uint8_t* target, Team& team);

// The sum of two maps of codes: both on a common scale with 20 more bits first.
struct FixedAdd {
  FixedScale a, b, sum;
  std::int32_t a_zero = 0, b_zero = 0, zero = 0, lo = 0, hi = 255;
};
FixedAdd fixed_add_of(const Quantiser& a, const Quantiser& b, const Quantiser& to) noexcept;
void fixed_add(const FixedAdd& how, const Map& a_map, const std::uint8_t* a, const Map& b_map, const std::uint8_t* b, const Map& y_map, std::uint8_t* y,
               Team& team);

// The mean of the codes inside each window, halves away from the code `flip` (0 of a signed tensor); input and output have
// one quantiser.
void fixed_average_pool(const PoolShape& shape, std::uint8_t flip, const Map& in, const std::uint8_t* source, const Map& out, std::uint8_t* target,
                        Team& team);

}  // namespace bittern::engine
