// Where the elements of a 4-D activation stand in memory.
#pragma once

#include <cstdint>

namespace bittern::engine {

// A layout is a value. Channels are cut into blocks of `block`; a pixel's channels of one block are contiguous:
// 1 is planar (NCHW), 16 is NCHW16c, the channel count is channels last. The last block may be partly filled; its
// spare lanes hold numbers that nobody reads. Around each plane there may be a halo of zeros, so that convolutions
// with padding need no border cases. Strides count elements; data pointers point at element (0, 0, 0, 0).
struct Map {
  std::int64_t n = 0, c = 0, h = 0, w = 0;
  std::int64_t block = 1;
  std::int64_t top = 0, left = 0, bottom = 0, right = 0;  // the halo
  std::int64_t row = 0;                                   // from a row to the next; from pixel to pixel it is `block`
  std::int64_t plane = 0;                                 // from a channel block to the next
  std::int64_t image = 0;                                 // from an image to the next

  std::int64_t blocks() const noexcept { return block == 0 ? 0 : (c + block - 1) / block; }
  // Channels present in block b.
  std::int64_t lanes(std::int64_t b) const noexcept { return c - b * block < block ? c - b * block : block; }
  bool has_halo() const noexcept { return (top | left | bottom | right) != 0; }
  // Elements from the first of the halo to element (0, 0, 0, 0).
  std::int64_t origin() const noexcept { return top * row + left * block; }
  std::int64_t elements() const noexcept { return n * image; }
};

// Contiguous storage for the given sizes, block and halo.
inline Map make_map(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t block,
                    std::int64_t top = 0, std::int64_t left = 0, std::int64_t bottom = 0, std::int64_t right = 0) {
  Map map{n, c, h, w, block, top, left, bottom, right, 0, 0, 0};
  map.row = (left + w + right) * block;
  map.plane = (top + h + bottom) * map.row;
  map.image = map.blocks() * map.plane;
  return map;
}

}  // namespace bittern::engine
