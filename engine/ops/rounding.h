// Numbers to whole numbers in seven ways; each is exact.
#pragma once

#include <cmath>
#include <cstdint>

namespace bittern::engine {

// Ties to even; up; down; away from zero; towards zero; ties away from zero; ties towards zero.
enum class Rounding : std::uint8_t { half_even, ceiling, floor, up, down, half_up, half_down };

inline float rounded(float x, Rounding how) noexcept {
  switch (how) {
    case Rounding::ceiling: return std::ceil(x);
    case Rounding::floor: return std::floor(x);
    case Rounding::up: return x < 0 ? std::floor(x) : std::ceil(x);
    case Rounding::down: return std::trunc(x);
    case Rounding::half_up: return std::round(x);
    case Rounding::half_down: {
      const float whole = std::trunc(x);  // what is left is exact
      return std::fabs(x - whole) > 0.5f ? whole + std::copysign(1.0f, x) : whole;
    }
    default: return std::nearbyint(x);
  }
}

}  // namespace bittern::engine
