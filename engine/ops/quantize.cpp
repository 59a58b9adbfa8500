#include "ops/quantize.h"

#include <cmath>

#include "ops/broadcast.h"

namespace bittern::engine {

template <class T>
void quantize(const ScaleGrid& grid, CodeRange range, const float* x, const float* scales, const T* zero_points, T* y, Team& team) {
  // A double holds the sum of any rounded float that is not far outside the range and a zero point exactly.
  const auto low = static_cast<double>(range.low), high = static_cast<double>(range.high);
  split(team, grid.elements(), [&](std::size_t from, std::size_t size) {
    const auto run = [&](std::int64_t element, std::int64_t scale, std::int64_t step, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t at = scale + i * step;
        const auto zero = zero_points == nullptr ? 0.0 : static_cast<double>(zero_points[at]);
        const double code = static_cast<double>(std::nearbyint(x[element + i] / scales[at])) + zero;
        y[element + i] = static_cast<T>(code > low ? std::min(code, high) : low);  // NaN is not above anything
      }
    };
    for_scale_runs(grid, static_cast<std::int64_t>(from), static_cast<std::int64_t>(size), run);
  });
}

template <class T>
void dequantize(const ScaleGrid& grid, const T* x, const float* scales, const T* zero_points, float* y, Team& team) {
  split(team, grid.elements(), [&](std::size_t from, std::size_t size) {
    const auto run = [&](std::int64_t element, std::int64_t scale, std::int64_t step, std::int64_t count) {
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t at = scale + i * step;
        const std::int64_t zero = zero_points == nullptr ? 0 : zero_points[at];
        y[element + i] = static_cast<float>(x[element + i] - zero) * scales[at];
      }
    };
    for_scale_runs(grid, static_cast<std::int64_t>(from), static_cast<std::int64_t>(size), run);
  });
}

#define BITTERN_CODES(T)                                                                                              \
  template void quantize<T>(const ScaleGrid&, CodeRange, const float*, const float*, const T*, T*, Team&);             \
  template void dequantize<T>(const ScaleGrid&, const T*, const float*, const T*, float*, Team&);
BITTERN_CODES(std::int8_t)
BITTERN_CODES(std::uint8_t)
BITTERN_CODES(std::int16_t)
BITTERN_CODES(std::uint16_t)
BITTERN_CODES(std::int32_t)
#undef BITTERN_CODES

}  // namespace bittern::engine
