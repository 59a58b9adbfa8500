// What happens to exact integer sums when they are stored: the same few steps for every integer kernel and level.
#pragma once

#include <cstdint>

namespace bittern::engine {

enum class IntOut : int { bytes, floats, sums };  // codes of 8 bits; real numbers; the accumulators themselves
inline constexpr int int_out_count = 3;

// y = float(sum) * scale + bias
// inner: y = clamp(round(y), inner_lo, inner_hi) * inner_scale             a quantiser between the layer and what follows
// residual: y = y + (residual - residual_zero) * residual_scale
// bytes: code = round(clamp(y, lo, hi)) + zero; floats: clamp(y, lo, hi)
//
// Every product and sum is rounded on its own and rounding is half to even, so that all levels give the same codes. Bounds
// are those of codes before `zero` is added; a NaN becomes the lowest code, and stays a NaN among real numbers.
struct IntStore {
  const float* scale = nullptr;            // per output channel
  const float* bias = nullptr;             // per output channel, or null
  bool inner = false;
  float inner_lo = 0, inner_hi = 0, inner_scale = 0;
  const std::uint8_t* residual = nullptr;  // codes, or null
  float residual_scale = 0, residual_zero = 0;
  float lo = 0, hi = 0;
  std::int32_t zero = 0;
};

}  // namespace bittern::engine
