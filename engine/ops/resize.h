// One axis of an array resized: each result is a weighted sum of elements along it.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

namespace bittern::engine {

struct ResizeTaps {
  std::int64_t in = 0;
  std::vector<std::int64_t> begin;   // where the taps of each result start; one more than there are results
  std::vector<std::int64_t> source;  // positions along the axis
  std::vector<float> weight;
};

// x of shape [outer, in, inner] to y of shape [outer, results, inner]; results without taps become `other`.
void resize_axis(const ResizeTaps& taps, std::int64_t outer, std::int64_t inner, const float* x, float other, float* y, Team& team);

}  // namespace bittern::engine
