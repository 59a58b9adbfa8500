#include "ops/resize.h"

#include <algorithm>

#include "ops/move.h"

namespace bittern::engine {
namespace {

// y = sum of w[t] * (row source[t] of x). Two and four taps (linear, cubic) in one pass.
void weigh_rows(const float* x, const std::int64_t* source, const float* w, std::int64_t taps, std::int64_t inner, float* y) {
  const float *a = x + source[0] * inner, *b = x + source[taps > 1 ? 1 : 0] * inner;
  if (taps == 2) {
    for (std::int64_t i = 0; i < inner; ++i) y[i] = w[0] * a[i] + w[1] * b[i];
    return;
  }
  if (taps == 4) {
    const float *c = x + source[2] * inner, *d = x + source[3] * inner;
    for (std::int64_t i = 0; i < inner; ++i) y[i] = w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i];
    return;
  }
  for (std::int64_t i = 0; i < inner; ++i) y[i] = w[0] * a[i];
  for (std::int64_t t = 1; t < taps; ++t) {
    const float* row = x + source[t] * inner;
    for (std::int64_t i = 0; i < inner; ++i) y[i] += w[t] * row[i];
  }
}

}  // namespace

void resize_axis(const ResizeTaps& taps, std::int64_t outer, std::int64_t inner, const float* x, float other, float* y, Team& team) {
  const auto results = static_cast<std::int64_t>(taps.begin.size()) - 1;
  in_pieces(team, outer * results, inner * 4, [&](std::int64_t first, std::int64_t last) {
    std::int64_t o = first / results, j = first % results;
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t begin = taps.begin[static_cast<std::size_t>(j)], count = taps.begin[static_cast<std::size_t>(j) + 1] - begin;
      const float* from = x + o * taps.in * inner;
      const std::int64_t* source = taps.source.data() + begin;
      const float* weight = taps.weight.data() + begin;
      float* to = y + r * inner;
      if (count == 0) {
        std::fill_n(to, inner, other);
      } else if (inner == 1) {
        float sum = weight[0] * from[source[0]];
        for (std::int64_t t = 1; t < count; ++t) sum += weight[t] * from[source[t]];
        *to = sum;
      } else {
        weigh_rows(from, source, weight, count, inner, to);
      }
      if (++j == results) {
        j = 0;
        ++o;
      }
    }
  });
}

}  // namespace bittern::engine
