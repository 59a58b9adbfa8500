// Convolution by weights given for Winograd's transformed tiles, on planar arrays: any weights, also computed at run time.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"

namespace bittern::engine {

// F(m x m, 3 x 3) of arXiv 1509.09308, interpolated at 0, +-1, (+-2,) infinity: Y = A^T [sum_c Q_kc . act(B^T d_c B)] A for tiles d of
// (m + 2)^2 pixels, m apart, of the padded map. What a tile has beyond it is zero.
struct PlanarWinograd {
  std::int64_t n = 1, c = 0, h = 0, w = 0, oc = 0, oh = 0, ow = 0;
  std::int64_t top = 0, left = 0;  // padding
  std::int64_t m = 2;
  bool relu = false;               // of the transformed tiles

  // None without outputs: nothing else bounds their number then.
  std::int64_t tiles() const noexcept { return oc == 0 ? 0 : n * ((oh + m - 1) / m) * ((ow + m - 1) / m); }
  std::int64_t positions() const noexcept { return (m + 2) * (m + 2); }
  std::int64_t scratch_elements() const noexcept { return positions() * (c + oc) * chunk(); }
  // `weights` are [oc, c, m + 2, m + 2]; `bias` may be null.
  void run(const float* x, const float* weights, const float* bias, float* y, float* scratch, Team& team) const;

 private:
  std::int64_t chunk() const noexcept;  // tiles worked on at a time
  void transform_input(const float* x, std::int64_t first, std::int64_t count, std::int64_t channel, float* v) const;
  void transform_output(const float* products, std::int64_t first, std::int64_t count, std::int64_t channel, float bias, float* y) const;
};

}  // namespace bittern::engine
