// Running over the rows of a map's channel blocks, cut into tasks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/map.h"
#include "base/thread_pool.h"

namespace bittern::engine {

// Elements from the first of a map to row y of block b of image n.
inline std::int64_t row_at(const Map& map, std::int64_t n, std::int64_t b, std::int64_t y) noexcept {
  return n * map.image + b * map.plane + y * map.row;
}

// lines(n, block, first, last) for all rows of a map, an even number to a task.
template <class Lines>
void for_lines(const Map& map, Team& team, const Lines& lines) {
  const std::int64_t chunk = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, map.w * map.block)) * 2;
  const std::int64_t chunks = (map.h + chunk - 1) / chunk, blocks = map.blocks();
  team.run(static_cast<std::size_t>(map.n * blocks * chunks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    lines(t / chunks / blocks, t / chunks % blocks, t % chunks * chunk, std::min(map.h, (t % chunks + 1) * chunk));
  });
}

// row(n, block, y) for all rows of a map.
template <class Row>
void for_rows(const Map& map, Team& team, const Row& row) {
  for_lines(map, team, [&](std::int64_t n, std::int64_t b, std::int64_t first, std::int64_t last) {
    for (std::int64_t y = first; y < last; ++y) row(n, b, y);
  });
}

}  // namespace bittern::engine
