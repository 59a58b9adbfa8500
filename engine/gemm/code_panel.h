// Weights held as codes of 2, 4 or 8 bits into tables of real numbers: how a panel's codes stand in memory, and their
// expansion into the floats that the tile reads.
//
// The floats of a panel, [k][cols], are cut into vectors of the level. Codes of 2 and 4 bits stand in groups of G = 32 / bits
// vectors: each lane has a word of 32 bits, where vector j of the group has the bits from j * bits on, so that a shift and a
// look-up in registers give a whole vector. Codes of 8 bits stand in the order of the floats, in groups of four vectors.
#pragma once

#include <cstdint>
#include <span>

#include "base/isa.h"

namespace bittern::engine {

// What codes mean: w = table[code] * scale[channel] * fold[channel], rounded after each product, as decoding and folding do.
struct CodeTable {
  const float* entries = nullptr;  // one table, as fill_table() makes it; or `stride` entries for each channel
  std::int64_t count = 0;          // of one table
  std::int64_t stride = 0;         // 0: one table for all
  bool consecutive = false;        // entry i of 8-bit codes is first + i: no table is read
  float first = 0;
  const float* scale = nullptr;    // per padded output channel, or null
  const float* fold = nullptr;     // likewise; only with a scale
  const std::int32_t* scale_rows = nullptr;  // or null: which row of scales, `scale_step` apart, each k of a panel has
  std::int64_t scale_step = 0;
};

struct ExpandPanelArgs {
  const std::uint8_t* codes = nullptr;
  std::int64_t groups = 0, cols = 0;
  CodeTable table;                 // its arrays start at the panel's first channel
  float* target = nullptr;
};

// One tile of the float loop behind the expansion of codes.
struct CodeGemmKernel {
  const char* name;
  Isa isa;
  int bits, rows, cols;            // the tile of that size
  int lanes;
  void (*expand)(const ExpandPanelArgs&);

  std::int64_t group_vectors() const noexcept { return bits == 8 ? 4 : 32 / bits; }
  // Groups that hold so many floats, and their bytes.
  std::int64_t groups(std::int64_t floats) const noexcept {
    const std::int64_t each = group_vectors() * lanes;
    return (floats + each - 1) / each;
  }
  std::int64_t group_bytes() const noexcept { return group_vectors() * lanes * bits / 8; }
};

// Time of one expanded vector, in the units of GemmConv::cost: measured, see code_panel.cpp.
double expansion_cost(const CodeGemmKernel& kernel, const CodeTable& table) noexcept;

// The codes of a panel, one to a byte in the order of its floats, as they stand in memory.
void pack_panel(const CodeGemmKernel& kernel, const std::uint8_t* codes, std::int64_t floats, std::uint8_t* packed) noexcept;

// Entries that a table is filled up to, and such a table: that of 2-bit codes is repeated.
std::int64_t table_room(int bits, std::int64_t count) noexcept;
void fill_table(int bits, std::span<const float> table, float* filled) noexcept;

namespace scalar { const CodeGemmKernel* code_gemm_kernels(int& count); }
namespace avx2 { const CodeGemmKernel* code_gemm_kernels(int& count); }
namespace avx512 { const CodeGemmKernel* code_gemm_kernels(int& count); }

}  // namespace bittern::engine
