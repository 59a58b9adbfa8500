// The inner statement of the integer gemm loop: acc[pixel][channel] += x[pixel][0..3] . w[channel][0..3] over a register
// tile, unsigned bytes times signed bytes, summed exactly in 32 bits.
//
// As the float tile (gemm/tile.h), with a quad of four neighbouring input channels in the place of a float: output channels
// stand in lanes, a pixel's quad is broadcast, K is a list of segments of `run` quads.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "gemm/int_store.h"
#include "gemm/tile.h"

namespace bittern::engine {

struct IntTileArgs {
  const std::uint8_t* a = nullptr;          // the tile's first pixel
  const std::int64_t* segments = nullptr;   // offsets in quads
  std::int64_t full = 0, run = 0;           // segments of `run` quads
  std::int64_t tail = 0, tail_run = 0;      // segments of the last, partly filled channel block
  std::int64_t a_stride = 0;                // quads between the tile's pixels
  const TilePixel* pixels = nullptr;        // `a` in quads, `c` and `residual` in their elements; or null
  const std::int8_t* b = nullptr;           // packed weights of this panel: [quad][cols][4]

  void* c = nullptr;
  std::int64_t c_pixel = 0, c_block = 0;    // elements between pixels, between blocks of 16 channels
  std::int64_t valid = 0;                   // lanes to store

  const std::int32_t* offset = nullptr;     // `cols` elements: bias in units of the accumulator, and zero points' share
  std::int64_t residual_pixel = 0, residual_block = 0;  // the residual's elements, laid out like c
  IntStore store;                           // its arrays start at the panel's first channel
};

using IntTileFunction = void (*)(const IntTileArgs&);

struct IntGemmKernel {
  const char* name;
  Isa isa;
  int rows, cols;
  const IntTileFunction* tiles;  // tiles[out * rows + r - 1] computes r pixels
};

}  // namespace bittern::engine
