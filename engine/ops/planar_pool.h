// Pooling of planar arrays of three spatial dimensions (fewer: sizes of 1 in front), and of whole maps of any rank.
#pragma once

#include <array>
#include <cstdint>

#include "base/thread_pool.h"

namespace bittern::engine {

struct PlanarPool {
  using Sizes = std::array<std::int64_t, 3>;
  std::int64_t planes = 0;  // images times channels
  Sizes in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1}, before{0, 0, 0}, after{0, 0, 0};
  std::array<std::int64_t, 3> index_strides{0, 0, 1};  // of the position within a plane that an index states
  bool include_pad = false;                            // average: padding counts
};

// The largest element of each window; a NaN wins. A window wholly in padding gives the least value of T, -inf for floats.
// `indices` may be null; it takes the place of the first largest element in the whole input, -1 where there is none.
// For float, std::int8_t and std::uint8_t.
template <class T>
void max_pool(const PlanarPool& pool, const T* x, T* y, std::int64_t* indices, Team& team);

// The mean of each window; NaN where there is nothing to count.
void average_pool(const PlanarPool& pool, const float* x, float* y, Team& team);

// (sum of |x|^p) ^ (1 / p) of each window.
void lp_pool(const PlanarPool& pool, int p, const float* x, float* y, Team& team);

// Of each of `planes` rows of `count` elements.
void whole_max(const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team);
void whole_average(const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team);
void whole_lp(int p, const float* x, float* y, std::int64_t planes, std::int64_t count, Team& team);

}  // namespace bittern::engine
