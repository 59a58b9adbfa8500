#include "ops/normalise.h"

#include <cmath>

namespace bittern::engine {
namespace {

// In double and in lanes, so that long rows lose nothing and the loop becomes vectors; always in the same order.
template <class F>
double sum(const float* x, std::int64_t count, const F& f) {
  constexpr std::int64_t lanes = 8;
  double parts[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    for (std::int64_t l = 0; l < lanes; ++l) parts[l] += f(static_cast<double>(x[i + l]));
  for (; i < count; ++i) parts[0] += f(static_cast<double>(x[i]));
  return ((parts[0] + parts[4]) + (parts[1] + parts[5])) + ((parts[2] + parts[6]) + (parts[3] + parts[7]));
}

}  // namespace

Statistics statistics(const float* x, std::int64_t count, float epsilon, bool centred) {
  const double n = static_cast<double>(count);
  const double mean = centred ? sum(x, count, [](double v) { return v; }) / n : 0.0;
  const double variance = sum(x, count, [mean](double v) { return (v - mean) * (v - mean); }) / n;
  return {static_cast<float>(mean), static_cast<float>(1.0 / std::sqrt(variance + static_cast<double>(epsilon)))};
}

void normalise(const float* x, float* y, std::int64_t count, const Statistics& s, const float* scale, const float* bias) {
  if (y == nullptr) return;
  if (scale == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - s.mean) * s.inverse;
  } else if (bias == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - s.mean) * s.inverse * scale[i];
  } else {
    for (std::int64_t i = 0; i < count; ++i) y[i] = (x[i] - s.mean) * s.inverse * scale[i] + bias[i];
  }
}

}  // namespace bittern::engine
