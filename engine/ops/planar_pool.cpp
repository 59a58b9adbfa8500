#include "ops/planar_pool.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bittern::engine {
namespace {

constexpr std::int64_t line_elements = 256;  // outputs of a row that are kept in one go

template <class T>
constexpr T least() {
  return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
}

template <class T>
bool wins(T a, T b) {
  return a > b || a != a;
}

float power(float x, int p) {
  const float a = std::fabs(x);
  return p == 1 ? a : p == 2 ? a * a : std::pow(a, static_cast<float>(p));
}

float root(float sum, int p) { return p == 1 ? sum : p == 2 ? std::sqrt(sum) : std::pow(sum, 1.0f / static_cast<float>(p)); }

struct Range {
  std::int64_t first, last;
  std::int64_t count() const { return last - first; }
};

// The taps t of output o whose inputs o * stride - before + t * dilation lie in [low, high).
Range taps(const PlanarPool& p, std::size_t d, std::int64_t o, std::int64_t low, std::int64_t high) {
  const std::int64_t start = o * p.stride[d] - p.before[d], step = p.dilation[d];
  const std::int64_t first = start < low ? std::min(p.kernel[d], (low - start + step - 1) / step) : 0;
  const std::int64_t last = start >= high ? 0 : std::min(p.kernel[d], (high - 1 - start) / step + 1);
  return {first, std::max(first, last)};
}
Range taps(const PlanarPool& p, std::size_t d, std::int64_t o) { return taps(p, d, o, 0, p.in[d]); }

// Calls row(plane, depth, height) for every row of outputs.
template <class Row>
void each_row(const PlanarPool& p, Team& team, const Row& row) {
  const std::int64_t rows = p.planes * p.out[0] * p.out[1];
  const double work = static_cast<double>(p.out[2]) * static_cast<double>(p.kernel[0] * p.kernel[1]) * static_cast<double>(p.kernel[2]);
  const std::int64_t chunk = work > 16384 ? 1 : static_cast<std::int64_t>(16384 / std::max(1.0, work)) + 1;
  team.run(static_cast<std::size_t>((rows + chunk - 1) / chunk), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk, last = std::min(rows, first + chunk);
    for (std::int64_t r = first; r < last; ++r) row(r / p.out[1] / p.out[0], r / p.out[1] % p.out[0], r % p.out[1]);
  });
}

// Outputs of a row side by side: result = finish(combination of all elements of the window, depth, height, width).
template <class T, class Combine, class Finish>
void pool_rows(const PlanarPool& p, const T* x, T* y, T start, Team& team, const Combine& combine, const Finish& finish) {
  each_row(p, team, [&](std::int64_t plane, std::int64_t depth, std::int64_t height) {
    const T* source = x + plane * p.in[0] * p.in[1] * p.in[2];
    T* target = y + ((plane * p.out[0] + depth) * p.out[1] + height) * p.out[2];
    const Range ds = taps(p, 0, depth), hs = taps(p, 1, height);
    T values[line_elements];
    for (std::int64_t begin = 0; begin < p.out[2]; begin += line_elements) {
      const std::int64_t count = std::min(line_elements, p.out[2] - begin);
      std::fill_n(values, count, start);
      // Taps that any of these outputs has: later windows begin with earlier taps.
      const std::int64_t first_tap = taps(p, 2, begin + count - 1).first, last_tap = taps(p, 2, begin).last;
      for (std::int64_t a = ds.first; a < ds.last; ++a) {
        for (std::int64_t b = hs.first; b < hs.last; ++b) {
          const std::int64_t z = depth * p.stride[0] - p.before[0] + a * p.dilation[0], v = height * p.stride[1] - p.before[1] + b * p.dilation[1];
          const T* line = source + (z * p.in[1] + v) * p.in[2];
          for (std::int64_t c = first_tap; c < last_tap; ++c) {
            const std::int64_t offset = c * p.dilation[2] - p.before[2], stride = p.stride[2];
            std::int64_t q = begin;
            if (offset + q * stride < 0) q = (-offset + stride - 1) / stride;
            const std::int64_t end = offset >= p.in[2] ? q : std::min(begin + count, (p.in[2] - 1 - offset) / stride + 1);
            if (stride == 1) {
              for (; q < end; ++q) values[q - begin] = combine(values[q - begin], line[q + offset]);
            } else {
              for (; q < end; ++q) values[q - begin] = combine(values[q - begin], line[q * stride + offset]);
            }
          }
        }
      }
      for (std::int64_t q = 0; q < count; ++q) target[begin + q] = finish(values[q], depth, height, begin + q);
    }
  });
}

// The same of whole planes.
template <class Function>
void whole(const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team, const Function& function) {
  team.run(static_cast<std::size_t>(planes), [&](std::size_t task) { y[task] = function(x + static_cast<std::int64_t>(task) * count); });
}

}  // namespace

template <class T>
void max_pool(const PlanarPool& p, const T* x, T* y, std::int64_t* indices, Team& team) {
  if (indices == nullptr) {
    const auto finish = [](T v, std::int64_t, std::int64_t, std::int64_t) { return v; };
    return pool_rows(p, x, y, least<T>(), team, [](T a, T b) { return wins(b, a) ? b : a; }, finish);
  }
  each_row(p, team, [&](std::int64_t plane, std::int64_t depth, std::int64_t height) {
    const std::int64_t size = p.in[0] * p.in[1] * p.in[2], at = ((plane * p.out[0] + depth) * p.out[1] + height) * p.out[2];
    const T* source = x + plane * size;
    const Range ds = taps(p, 0, depth), hs = taps(p, 1, height);
    for (std::int64_t width = 0; width < p.out[2]; ++width) {
      const Range ws = taps(p, 2, width);
      T best = least<T>();
      std::int64_t found = -1;
      for (std::int64_t a = ds.first; a < ds.last; ++a) {
        for (std::int64_t b = hs.first; b < hs.last; ++b) {
          for (std::int64_t c = ws.first; c < ws.last; ++c) {
            const std::int64_t z = depth * p.stride[0] - p.before[0] + a * p.dilation[0], v = height * p.stride[1] - p.before[1] + b * p.dilation[1];
            const std::int64_t w = width * p.stride[2] - p.before[2] + c * p.dilation[2];
            const T value = source[(z * p.in[1] + v) * p.in[2] + w];
            if (found >= 0 && (best != best || !wins(value, best))) continue;
            best = value;
            found = plane * size + z * p.index_strides[0] + v * p.index_strides[1] + w * p.index_strides[2];
          }
        }
      }
      y[at + width] = best;
      indices[at + width] = found;
    }
  });
}

template void max_pool(const PlanarPool&, const float*, float*, std::int64_t*, Team&);
template void max_pool(const PlanarPool&, const std::int8_t*, std::int8_t*, std::int64_t*, Team&);
template void max_pool(const PlanarPool&, const std::uint8_t*, std::uint8_t*, std::int64_t*, Team&);

void average_pool(const PlanarPool& p, const float* x, float* y, Team& team) {
  const auto counted = [&](std::size_t d, std::int64_t o) {
    // Elements behind the padding, which ceil_mode can reach, are never counted.
    return (p.include_pad ? taps(p, d, o, -p.before[d], p.in[d] + p.after[d]) : taps(p, d, o)).count();
  };
  pool_rows(p, x, y, 0.0f, team, [](float a, float b) { return a + b; }, [&](float sum, std::int64_t depth, std::int64_t height, std::int64_t width) {
    return sum / static_cast<float>(counted(0, depth) * counted(1, height) * counted(2, width));
  });
}

void lp_pool(const PlanarPool& p, int exponent, const float* x, float* y, Team& team) {
  const auto finish = [=](float sum, std::int64_t, std::int64_t, std::int64_t) { return root(sum, exponent); };
  pool_rows(p, x, y, 0.0f, team, [=](float a, float b) { return a + power(b, exponent); }, finish);
}

void whole_max(const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team) {
  whole(x, y, planes, count, team, [=](const float* plane) {
    float best = least<float>();
    for (std::int64_t i = 0; i < count; ++i) best = wins(plane[i], best) ? plane[i] : best;
    return best;
  });
}

void whole_average(const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team) {
  whole(x, y, planes, count, team, [=](const float* plane) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += plane[i];
    return static_cast<float>(sum / static_cast<double>(count));
  });
}

void whole_lp(int p, const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team) {
  whole(x, y, planes, count, team, [=](const float* plane) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += power(plane[i], p);
    return root(static_cast<float>(sum), p);
  });
}

}  // namespace bittern::engine
