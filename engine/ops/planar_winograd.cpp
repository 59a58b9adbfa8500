#include "ops/planar_winograd.h"

#include <algorithm>

namespace bittern::engine {
namespace {

constexpr std::int64_t most = 6;  // T of F(4 x 4)

constexpr float input2[4][most] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
constexpr float input4[6][most] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                   {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
constexpr float output2[2][most] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
constexpr float output4[4][most] = {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

// result = a d a^T, `rows` x T times T x T.
void both_sides(const float (*a)[most], std::int64_t rows, std::int64_t side, const float (&d)[most][most], float (&result)[most][most]) {
  float half[most][most] = {};
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t k = 0; k < side; ++k)
      for (std::int64_t j = 0; j < side; ++j) half[i][j] += a[i][k] * d[k][j];
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < rows; ++j) {
      float sum = 0;
      for (std::int64_t k = 0; k < side; ++k) sum += a[j][k] * half[i][k];
      result[i][j] = sum;
    }
  }
}

}  // namespace

std::int64_t PlanarWinograd::chunk() const noexcept {
  const std::int64_t room = (std::int64_t{1} << 18) / std::max<std::int64_t>(1, positions() * (c + oc));
  return std::min(tiles(), std::max<std::int64_t>(16, room));
}

void PlanarWinograd::transform_input(const float* x, std::int64_t first, std::int64_t count, std::int64_t channel, float* v) const {
  const std::int64_t cols = (ow + m - 1) / m, rows = (oh + m - 1) / m, side = m + 2, all = chunk();
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t tile = first + t, image = tile / (rows * cols);
    const std::int64_t y0 = tile / cols % rows * m - top, x0 = tile % cols * m - left;
    const float* plane = x + (image * c + channel) * h * w;
    float d[most][most] = {}, transformed[most][most];
    for (std::int64_t i = std::max<std::int64_t>(0, -y0); i < std::min(side, h - y0); ++i)
      for (std::int64_t j = std::max<std::int64_t>(0, -x0); j < std::min(side, w - x0); ++j) d[i][j] = plane[(y0 + i) * w + x0 + j];
    both_sides(m == 2 ? input2 : input4, side, side, d, transformed);
    for (std::int64_t i = 0; i < side; ++i) {
      for (std::int64_t j = 0; j < side; ++j) {
        const float value = transformed[i][j];
        v[(i * side + j) * c * all + t] = relu && value < 0 ? 0.0f : value;
      }
    }
  }
}

void PlanarWinograd::transform_output(const float* products, std::int64_t first, std::int64_t count, std::int64_t channel, float bias, float* y) const {
  const std::int64_t cols = (ow + m - 1) / m, rows = (oh + m - 1) / m, side = m + 2, all = chunk();
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t tile = first + t, image = tile / (rows * cols);
    const std::int64_t y0 = tile / cols % rows * m, x0 = tile % cols * m;
    float d[most][most] = {}, result[most][most];
    for (std::int64_t i = 0; i < side; ++i)
      for (std::int64_t j = 0; j < side; ++j) d[i][j] = products[(i * side + j) * all + t];
    both_sides(m == 2 ? output2 : output4, m, side, d, result);
    float* plane = y + (image * oc + channel) * oh * ow;
    for (std::int64_t i = 0; i < std::min(m, oh - y0); ++i)
      for (std::int64_t j = 0; j < std::min(m, ow - x0); ++j) plane[(y0 + i) * ow + x0 + j] = result[i][j] + bias;
  }
}

void PlanarWinograd::run(const float* x, const float* weights, const float* bias, float* y, float* scratch, Team& team) const {
  const std::int64_t all = chunk(), places = positions();
  float* const products = scratch + places * c * all;
  for (std::int64_t first = 0; first < tiles(); first += all) {
    const std::int64_t count = std::min(all, tiles() - first);
    team.run(static_cast<std::size_t>(c), [&](std::size_t channel) {
      transform_input(x, first, count, static_cast<std::int64_t>(channel), scratch + static_cast<std::int64_t>(channel) * all);
    });
    team.run(static_cast<std::size_t>(oc), [&](std::size_t task) {
      const auto k = static_cast<std::int64_t>(task);
      float* const own = products + k * places * all;
      for (std::int64_t p = 0; p < places; ++p) {
        float* const sums = own + p * all;
        std::fill(sums, sums + count, 0.0f);
        for (std::int64_t i = 0; i < c; ++i) {
          const float q = weights[(k * c + i) * places + p];
          const float* const v = scratch + (p * c + i) * all;
          for (std::int64_t t = 0; t < count; ++t) sums[t] += q * v[t];
        }
      }
      transform_output(own, first, count, k, bias != nullptr ? bias[k] : 0.0f, y);
    });
  }
}

}  // namespace bittern::engine
