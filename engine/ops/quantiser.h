// A quantiser of 8-bit codes.
#pragma once

#include <cstdint>

namespace bittern::engine {

// Real numbers as codes: code = round(x / scale) + zero, within lo .. hi; as stored.
struct Quantiser {
  float scale = 1;
  std::int32_t zero = 0, lo = 0, hi = 255;
  bool operator==(const Quantiser&) const = default;
  float lowest() const noexcept { return static_cast<float>(lo - zero); }
  float highest() const noexcept { return static_cast<float>(hi - zero); }
};

}  // namespace bittern::engine
