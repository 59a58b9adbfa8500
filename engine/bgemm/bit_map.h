// Where the bits of a 4-D activation stand in memory.
#pragma once

#include <cstdint>

namespace bittern::engine {

// Codes of `planes` bits, a plane for each bit, the lowest first. A pixel has its planes one after the other, a plane its channels in
// words of 32 bits, the first channel the lowest bit; spare bits of the last word are zero. Around each image there may be a halo of
// pixels that hold one code. Strides count words; pointers point at pixel (0, 0) of image 0.
struct BitMap {
  std::int64_t n = 0, c = 0, h = 0, w = 0;
  std::int64_t planes = 1;
  std::int64_t words = 0;                                 // of one plane
  std::int64_t top = 0, left = 0, bottom = 0, right = 0;  // the halo
  std::int64_t pixel = 0, row = 0, image = 0;

  bool has_halo() const noexcept { return (top | left | bottom | right) != 0; }
  std::int64_t origin() const noexcept { return top * row + left * pixel; }
  std::int64_t elements() const noexcept { return n * image; }
};

inline constexpr std::int64_t word_bits = 32;

inline BitMap make_bit_map(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t planes,
                           std::int64_t top = 0, std::int64_t left = 0, std::int64_t bottom = 0, std::int64_t right = 0) {
  BitMap map{n, c, h, w, planes, 0, top, left, bottom, right, 0, 0, 0};
  map.words = (c + word_bits - 1) / word_bits;
  map.pixel = planes * map.words;
  map.row = (left + w + right) * map.pixel;
  map.image = (top + h + bottom) * map.row;
  return map;
}

}  // namespace bittern::engine
