// Winograd's transforms with tiles in the lanes, on planar maps: what stands around the sparse products of every position.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

// Some tiles side by side in one channel, as many as a vector has lanes. Lanes that no mask names may lie outside the map.
struct WinogradTilesIn {
  const float* plane = nullptr;
  std::int64_t corner = 0, row = 0;   // from the plane's first element to the first tile's corner; between lines
  int first_row = 0, last_row = 0;    // lines of the tiles inside the map
  std::uint16_t lanes[8] = {};        // of m vectors that begin at the corner, and of m that begin m columns further on
  bool relu = false;
  float* v = nullptr;
  std::int64_t position = 0;          // elements between positions
  int tiles = 0;                      // to store
};

struct WinogradTilesOut {
  const float* m = nullptr;           // whole vectors are read
  std::int64_t position = 0;
  float* plane = nullptr;             // of the output
  const float* residual = nullptr;    // likewise, or null
  std::int64_t corner = 0, row = 0;   // of the first tile's outputs, in both
  int rows = 0;                       // lines of the tiles inside the map
  std::uint16_t lanes[4] = {};        // of m vectors of outputs
  float bias = 0, lo = 0, hi = 0;
};

struct WinogradTilesKernel {
  const char* name;
  Isa isa;
  int outputs, lanes;                 // m
  void (*input)(const WinogradTilesIn&);
  void (*output)(const WinogradTilesOut&);
};

namespace scalar { const WinogradTilesKernel* winograd_tiles_kernels(int& count); }
namespace avx2 { const WinogradTilesKernel* winograd_tiles_kernels(int& count); }
namespace avx512 { const WinogradTilesKernel* winograd_tiles_kernels(int& count); }

}  // namespace bittern::engine
