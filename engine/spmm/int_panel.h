// The inner statement of the spmm loop on 8-bit codes: y[row, pixels] += w[0..3] . x[input, pixels][0..3] over a panel of pixels,
// unsigned bytes times signed bytes, summed exactly in 32 bits.
//
// As the float panel (spmm/panel.h), with a quad of four neighbouring input channels in the place of an input: a pixel's quad
// stands in a lane of 32 bits, a row's four weights are broadcast, and a quad without weights is left out. Maps of codes have
// blocks of 16 channels: panels are filled, and sums are stored, by transposing them in registers (simd/lanes.h).
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "gemm/int_store.h"
#include "spmm/panel.h"

namespace bittern::engine {

inline constexpr std::int64_t spmm_block = 16;  // channels of a block, and quads times four
inline constexpr int spmm_most_lanes = 4;       // pixels of a vector that holds 16 channels of each

// Four weights and where their quad stands in the panel, in bytes.
struct IntSpmmEntry {
  std::uint32_t offset = 0;
  std::uint32_t weights = 0;  // the first channel's in the lowest byte
};

// Pixels that fill a vector with 16 channels of each. Those behind the last stand where the last one does, and are not stored.
struct IntSpmmPixels {
  std::int64_t in[spmm_most_lanes] = {}, out[spmm_most_lanes] = {}, residual[spmm_most_lanes] = {};  // in elements
  std::int32_t count = 0;                                                      // to be stored
  bool in_together = false, out_together = false, residual_together = false;  // side by side, and as many as the vector holds
};

// 16 channels of the input as one tap of the kernel meets them.
struct IntSpmmSource {
  std::int64_t offset = 0;    // in bytes, from the image's first pixel on
  std::uint32_t quads = 0;    // a bit for each that some weight meets: these become rows of the panel
};

struct IntSpmmArgs {
  const std::uint8_t* x = nullptr;         // the panel
  const IntSpmmEntry* entries = nullptr;
  const SpmmGroup* groups = nullptr;
  std::int64_t group_count = 0;
  const std::uint16_t* rows = nullptr;     // of each row of the groups: its number
  const std::int32_t* offset = nullptr;    // of each row: where the sums start; null: at what they are
  std::int32_t* sums = nullptr;            // row r: `vectors` vectors from r * vectors * width on; aligned
};

struct IntSpmmFill {
  const std::uint8_t* x = nullptr;         // the image's first pixel
  const IntSpmmPixels* pixels = nullptr;   // four for each vector
  std::int64_t vectors = 0;
  const IntSpmmSource* sources = nullptr;
  std::int64_t source_count = 0;
  std::uint8_t* panel = nullptr;
  std::int64_t panel_row = 0;              // bytes
};

// Sums of 16 channels to the map.
struct IntSpmmOut {
  const std::int32_t* sums = nullptr;
  std::int64_t sums_row = 0;               // elements
  std::int64_t vectors = 0;
  const IntSpmmPixels* pixels = nullptr;
  void* y = nullptr;                       // the block's first pixel of the image
  IntStore store;                          // arrays start at the block's first channel; the residual as y
  int least = 0;                           // code
  std::int64_t next_y = 0, next_residual = 0;  // elements to the 16 channels that come next, which are fetched meanwhile
  bool whole = false;                      // all 16 channels are stored, side by side
  std::int64_t valid = 0;                  // else so many
};

struct IntSpmmKernel {
  const char* name;
  Isa isa;
  int vectors, lanes;                      // the widest panel
  void (*const* panels)(const IntSpmmArgs&);  // panels[v - 1] is v vectors wide
  void (*fill)(const IntSpmmFill&);
  void (*const* store)(const IntSpmmOut&);    // of each IntOut
};

namespace scalar { const IntSpmmKernel* int_spmm_kernels(int& count); }
namespace avx2 { const IntSpmmKernel* int_spmm_kernels(int& count); }
namespace avx2vnni { const IntSpmmKernel* int_spmm_kernels(int& count); }
namespace avx512 { const IntSpmmKernel* int_spmm_kernels(int& count); }
namespace avx512vnni { const IntSpmmKernel* int_spmm_kernels(int& count); }

}  // namespace bittern::engine
