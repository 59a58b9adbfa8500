// A quantiser of 8-bit codes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace bittern::engine {

// Real numbers as codes: code = round(x / scale) + zero, within lo .. hi; as stored.
struct Quantiser {
  float scale = 1;
  std::int32_t zero = 0, lo = 0, hi = 255;
  bool operator==(const Quantiser&) const = default;
  float lowest() const noexcept { return static_cast<float>(lo - zero); }
  float highest() const noexcept { return static_cast<float>(hi - zero); }
  // The code of a number, as stored less `zero`. A NaN becomes the lowest, in this order of the bounds.
  float step_of(float x) const noexcept { return std::nearbyint(std::min(std::max(lowest(), x / scale), highest())); }
};

}  // namespace bittern::engine
