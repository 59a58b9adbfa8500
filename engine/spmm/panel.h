// The inner statement of the spmm loop: y[row, pixels] += w * x[input, pixels] over a panel of pixels.
//
// Pixels stand in the lanes; a weight is broadcast. A panel holds, for every input that some weight meets, `vectors`
// vectors of pixels side by side, small enough that a block of inputs stays in the first-level cache. A row's sums live
// in registers while its weights of the block pass by:
//
//   entries of a block     row a: (offset, w) (offset, w) (offset, w) | row b: (offset, w) ... | ...
//   groups                 rows of the same number of entries stand together: the length of the inner loop changes
//                          once per group, so that branches are foreseen
//
// Rows of at most two values (ternary weights) need none in their entries: inputs that meet the second value are added up,
// times the ratio of the values, then those that meet the first; the sum is scaled at the end.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

enum class SpmmForm : std::uint8_t {
  values,  // SpmmEntry
  codes,   // spmm_code, into a table of at most 256
  lists,   // 16 bits: where the input stands, in steps of SpmmArgs::unit; two lists a row
  blocks,  // SpmmBlock: four output channels, a row of the kernel, share the loads of an input
};
inline constexpr std::int64_t spmm_rows(SpmmForm form) noexcept { return form == SpmmForm::blocks ? 4 : 1; }

// Rows of `entries` weights each, and of `second` ones in front of them in the form of lists.
struct SpmmGroup {
  std::uint32_t entries = 0, rows = 0, second = 0;
};

// A weight and where its input stands in the panel, in bytes.
struct SpmmEntry {
  std::uint32_t offset = 0;
  float weight = 0;
};

struct SpmmBlock {
  std::uint32_t offset = 0;
  float weight[4] = {};
};

constexpr std::int64_t entry_bytes(SpmmForm form) noexcept {
  switch (form) {
    case SpmmForm::values: return sizeof(SpmmEntry);
    case SpmmForm::codes: return sizeof(std::uint32_t);
    case SpmmForm::lists: return sizeof(std::uint16_t);
    default: return sizeof(SpmmBlock);
  }
}

// A code of 8 bits below the offset in units of spmm_unit bytes, for weights from a table of at most 256.
inline constexpr std::int64_t spmm_unit = 16;
inline constexpr std::int64_t most_list_places = 1 << 16;  // that an entry of a list can name
inline constexpr std::uint32_t spmm_code(std::int64_t offset, std::uint8_t code) noexcept {
  return static_cast<std::uint32_t>(offset / spmm_unit) << 8 | code;
}

// Pixels of one vector of a panel that stand in one line of a map.
struct SpmmPiece {
  std::int32_t offset = 0;      // of lane 0, in elements from the channel's first; lanes not named may lie anywhere
  std::uint16_t lanes = 0;      // a bit each; none: all of the vector is padding
  std::uint8_t more = 0;        // the next piece belongs to the same vector
  std::uint8_t whole = 0;       // all lanes of a part (SpmmExpand::columns), whose first one the offset is of
};

struct SpmmArgs {
  const float* x = nullptr;               // the panel
  const void* entries = nullptr;          // as the form says
  const float* table = nullptr;           // 256, for codes
  std::int64_t unit = 0;                  // bytes, for lists
  const float* ratio = nullptr;           // of each row, for lists: the second value over the first, whose factor `scale` has
  const SpmmGroup* groups = nullptr;
  std::int64_t group_count = 0;
  const std::uint16_t* rows = nullptr;    // of each row of the groups: its number
  float* sums = nullptr;                  // output channel r: `vectors` vectors from r * vectors * width on; aligned
  bool first = false, last = false;       // block: starts from the bias; stores into y
  const float* scale = nullptr;           // of each row, or null: y = scale * (w x) + bias
  const float* bias = nullptr;            // of each row, or null
  float* y = nullptr;                     // the panel's first pixel of row 0
  std::int64_t y_row = 0;                 // elements between rows
  const float* residual = nullptr;        // like y, or null
  std::int64_t residual_row = 0;
  int last_lanes = 0;                     // pixels of the last vector
  const SpmmPiece* pieces = nullptr;      // of y's vectors, counted from y; or null: they follow each other
  float lo = 0, hi = 0;
};

// Fills the rows of a panel, copies of one channel or of neighbours that need the same ones.
struct SpmmExpand {
  const float* channel = nullptr;
  std::int64_t channels = 1, plane = 0;   // elements between channels
  const SpmmPiece* pieces = nullptr;
  const std::int32_t* first = nullptr;    // piece of each copy
  const std::int32_t* halo = nullptr;     // vectors of each copy beyond the panel's
  const std::int32_t* copies = nullptr;   // to fill
  std::int64_t copy_count = 0;
  std::int64_t vectors = 0;               // of the panel
  std::int64_t columns = 0;               // of a vector's parts
  float* panel = nullptr;                 // channel by channel, copy by copy
  std::int64_t panel_vectors = 0;         // of the widest panel: copies stand so far apart, and their halo
  std::int64_t panel_channel = 0;         // elements between channels
};

using SpmmFunction = void (*)(const SpmmArgs&);

struct SpmmKernel {
  const char* name;
  Isa isa;
  int vectors, lanes;           // the widest panel
  SpmmForm form;                // of the entries
  const SpmmFunction* panels;   // panels[v - 1] is v vectors wide
  void (*expand)(const SpmmExpand&);
  // Rows of `count` elements `row` apart, to rows of the panel; whole vectors are written.
  void (*copy)(const float* x, std::int64_t row, std::int64_t rows, std::int64_t count, float* panel, std::int64_t panel_row);
  // y[i] = x[i * stride].
  void (*pick)(const float* x, std::int64_t stride, std::int64_t count, float* y);
};

namespace scalar { const SpmmKernel* spmm_kernels(int& count); }
namespace avx2 { const SpmmKernel* spmm_kernels(int& count); }
namespace avx512 { const SpmmKernel* spmm_kernels(int& count); }

}  // namespace bittern::engine
