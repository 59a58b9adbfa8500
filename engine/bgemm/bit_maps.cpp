#include "bgemm/bit_maps.h"

#include <algorithm>

namespace bittern::engine {

namespace {

// `pixels` neighbours of one code.
void fill_pixels(const BitMap& map, std::int64_t code, std::uint32_t* first, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) {
    for (std::int64_t plane = 0; plane < map.planes; ++plane) {
      std::uint32_t* const words = first + i * map.pixel + plane * map.words;
      const bool set = ((code >> plane) & 1) != 0;
      std::fill(words, words + map.words, set ? ~0u : 0u);
      const std::int64_t left = map.c % word_bits;
      if (set && left != 0) words[map.words - 1] = (1u << left) - 1u;
    }
  }
}

}  // namespace

void fill_bit_halo(const BitMap& map, std::int64_t code, std::uint32_t* bits) {
  const auto fill = [&](std::uint32_t* first, std::int64_t pixels) { fill_pixels(map, code, first, pixels); };
  const std::int64_t width = map.left + map.w + map.right;
  for (std::int64_t n = 0; n < map.n; ++n) {
    std::uint32_t* const image = bits + n * map.image;
    for (std::int64_t y = -map.top; y < map.h + map.bottom; ++y) {
      std::uint32_t* const row = image + y * map.row;
      if (y < 0 || y >= map.h) {
        fill(row - map.left * map.pixel, width);
      } else {
        fill(row - map.left * map.pixel, map.left);
        fill(row + map.w * map.pixel, map.right);
      }
    }
  }
}

void pack_bits(const BitPackKernel& kernel, const BitSteps& steps, const Map& in, const float* x, const BitMap& out, std::uint32_t* bits, Team& team) {
  const std::int64_t padded = out.words * word_bits;
  // Rows of one pixel are all one row.
  const std::int64_t strip = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, padded)), strips = (out.w + strip - 1) / strip;
  team.run(static_cast<std::size_t>(out.n * out.h * strips), [&](std::size_t task) {
    const auto index = static_cast<std::int64_t>(task);
    const std::int64_t n = index / strips / out.h, y = index / strips % out.h, first = index % strips * strip;
    BitPackArgs args;
    args.x = x + n * in.image + y * in.row + first * in.block;
    args.block = in.block == 16 ? in.plane : 16;
    args.channels = out.c;
    args.sign = steps.sign;
    args.thresholds = steps.thresholds;
    args.threshold_step = padded;
    args.count = steps.count;
    args.planes = out.planes;
    args.bits = bits + n * out.image + y * out.row + first * out.pixel;
    args.pixels = std::min(strip, out.w - first);
    args.x_step = in.block;
    args.bits_step = out.pixel;
    args.plane_step = out.words;
    kernel.pack(args);
  });
}

void max_pool_bits(const PoolShape& s, const BitMap& in, const std::uint32_t* x, const std::uint32_t* flips, const BitMap& out, std::uint32_t* y,
                   Team& team) {
  team.run(static_cast<std::size_t>(out.n * out.h), [&](std::size_t task) {
    const auto index = static_cast<std::int64_t>(task);
    const std::int64_t n = index / out.h, line = index % out.h;
    const std::int64_t start = line * s.stride_h - s.pad_top;
    for (std::int64_t column = 0; column < out.w; ++column) {
      const std::int64_t left = column * s.stride_w - s.pad_left;
      std::uint32_t* const to = y + n * out.image + line * out.row + column * out.pixel;
      std::fill(to, to + out.pixel, 0u);
      for (std::int64_t ky = 0; ky < s.kh; ++ky) {
        const std::int64_t row = start + ky * s.dilation_h;
        if (row < 0 || row >= in.h) continue;
        for (std::int64_t kx = 0; kx < s.kw; ++kx) {
          const std::int64_t at = left + kx * s.dilation_w;
          if (at < 0 || at >= in.w) continue;
          const std::uint32_t* const from = x + n * in.image + row * in.row + at * in.pixel;
          if (in.planes == 1) {
            for (std::int64_t word = 0; word < in.words; ++word) to[word] |= from[word] ^ (flips != nullptr ? flips[word] : 0u);
            continue;
          }
          for (std::int64_t word = 0; word < in.words; ++word) {
            // From the highest plane down: where all were equal so far, the one that has the bit is greater.
            const std::uint32_t flip = flips != nullptr ? flips[word] : 0u;
            std::uint32_t greater = 0, equal = ~0u;
            for (std::int64_t p = in.planes; p-- > 0;) {
              const std::uint32_t a = from[p * in.words + word] ^ flip, b = to[p * out.words + word];
              greater |= equal & a & ~b;
              equal &= ~(a ^ b);
            }
            for (std::int64_t p = 0; p < in.planes; ++p) {
              std::uint32_t& b = to[p * out.words + word];
              b = ((from[p * in.words + word] ^ flip) & greater) | (b & ~greater);
            }
          }
        }
      }
      for (std::int64_t p = 0; flips != nullptr && p < in.planes; ++p)
        for (std::int64_t word = 0; word < in.words; ++word) to[p * out.words + word] ^= flips[word];
    }
  });
}

void pad_bits(const BitMap& in, const std::uint32_t* x, std::int64_t code, std::int64_t top, std::int64_t left, const BitMap& out, std::uint32_t* y) {
  for (std::int64_t n = 0; n < out.n; ++n) {
    for (std::int64_t line = 0; line < out.h; ++line) {
      std::uint32_t* const row = y + n * out.image + line * out.row;
      fill_pixels(out, code, row, out.w);
      if (line < top || line >= top + in.h) continue;
      const std::uint32_t* const from = x + n * in.image + (line - top) * in.row;
      std::copy(from, from + in.w * in.pixel, row + left * out.pixel);
    }
  }
}

}  // namespace bittern::engine
