// The inner statement of the gemm loop: acc[pixel][channel] += x[pixel] * w[channel] over a register tile.
//
// Output channels stand in the lanes; an activation is broadcast. The K dimension is a list of segments: for each
// segment the activations of `run` consecutive k stand side by side, `segments[i]` elements after the tile's first
// pixel. So the same tile serves 1x1 and k x k convolution in any layout (segments are the taps and channel blocks)
// and fully connected layers (one segment).
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

// Where a pixel of the tile stands, in elements from the tile's pointers.
struct TilePixel {
  std::int64_t a = 0, c = 0, residual = 0;
};

struct TileArgs {
  const float* a = nullptr;                 // the tile's first pixel
  const std::int64_t* segments = nullptr;   // `full` offsets, then `tail` offsets, in elements
  std::int64_t full = 0, run = 0;           // segments of `run` elements
  std::int64_t tail = 0, tail_run = 0;      // segments of the last, partly filled channel block
  std::int64_t a_stride = 0;                // elements between the tile's pixels
  const TilePixel* pixels = nullptr;        // kernels that gather: one for each of the tile's pixels, or null for equal distances
  const float* b = nullptr;                 // packed weights of this panel: [k][cols]

  float* c = nullptr;                       // the tile's first output
  std::int64_t c_pixel = 0, c_block = 0;    // elements between pixels, between blocks of 16 channels
  std::int64_t valid = 0;                   // lanes of the panel to store: the rest does not exist

  // Epilogue: y = min(hi, max(lo, acc + bias + residual)).
  const float* bias = nullptr;              // `cols` elements, or null
  const float* residual = nullptr;          // like c, or null
  std::int64_t residual_pixel = 0, residual_block = 0;
  float lo = 0, hi = 0;
};

using TileFunction = void (*)(const TileArgs&);

// As many pixels can have a pointer each.
inline constexpr int most_gathered_rows = 7;

struct GemmKernel {
  const char* name;
  Isa isa;
  int rows, cols;              // the largest tile: pixels and output channels
  bool gathers;                // pixels may stand anywhere: a tile goes on in the next line of the image
  const TileFunction* tiles;   // tiles[r - 1] computes r pixels, for r in 1..rows
};

}  // namespace bittern::engine
