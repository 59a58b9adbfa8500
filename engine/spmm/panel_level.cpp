// The panels of the spmm loop, compiled once per level.
#include "simd/vec.h"
#include "spmm/panel.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

struct f32 {
  using entry = SpmmEntry;
  static inline std::int64_t offset(const entry& e, const SpmmArgs&) { return e.offset; }
  static inline float weight(const entry& e, const SpmmArgs&) { return e.weight; }
  static constexpr SpmmForm form = SpmmForm::values;
};

struct lut8 {
  using entry = std::uint32_t;
  static inline std::int64_t offset(const entry& e, const SpmmArgs&) { return static_cast<std::int64_t>(e >> 8) * spmm_unit; }
  static inline float weight(const entry& e, const SpmmArgs& args) { return args.table[e & 255]; }
  static constexpr SpmmForm form = SpmmForm::codes;
};

struct tern {
  using entry = std::uint16_t;
  static inline std::int64_t offset(const entry& e, const SpmmArgs& args) { return e * args.unit; }
  static constexpr SpmmForm form = SpmmForm::lists;
};

// Lanes that no piece names may lie outside the map: addresses are numbers here.
inline unsigned long address(const void* map, const SpmmPiece& piece) {
  return reinterpret_cast<unsigned long>(map) + static_cast<unsigned long>(std::int64_t{piece.offset} * 4);
}

// A vector of the output, line by line.
inline const SpmmPiece* store_pieces(const SpmmPiece* piece, vf sum, const float* residual, vf lo, vf hi, float* y) {
  for (bool more = true; more; ++piece) {
    vf value = sum;
    if (residual != nullptr) value = add(value, load_lanes(zero(), reinterpret_cast<const float*>(address(residual, *piece)), piece->lanes));
    store_lanes(reinterpret_cast<float*>(address(y, *piece)), min(hi, max(lo, value)), piece->lanes);
    more = piece->more != 0;
  }
  return piece;
}

struct f32x4 {
  [[maybe_unused]] static constexpr SpmmForm form = SpmmForm::blocks;  // not every level has the kernel
};

// Stores the finished sums of an output channel. In every kernel: sums whose address were taken would leave the registers.
template <int vectors>
__attribute__((always_inline)) inline void finish(const SpmmArgs& args, std::int64_t r, vf (&acc)[vectors], vf lo, vf hi) {
  if (args.scale != nullptr) {
    const vf scale = set1(args.scale[r]), bias = args.bias != nullptr ? set1(args.bias[r]) : zero();
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) acc[v] = fma(scale, acc[v], bias);
  }
  float* y = args.y + r * args.y_row;
  const float* residual = args.residual != nullptr ? args.residual + r * args.residual_row : nullptr;
  if (args.pieces != nullptr) {
    const SpmmPiece* piece = args.pieces;
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) piece = store_pieces(piece, acc[v], residual, lo, hi, y);
    return;
  }
  if (residual != nullptr) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors - 1; ++v) acc[v] = add(acc[v], load(residual + v * width));
    acc[vectors - 1] = add(acc[vectors - 1], load_first(residual + (vectors - 1) * width, args.last_lanes));
  }
  BITTERN_UNROLL
  for (int v = 0; v < vectors - 1; ++v) store(y + v * width, min(hi, max(lo, acc[v])));
  store_first(y + (vectors - 1) * width, min(hi, max(lo, acc[vectors - 1])), args.last_lanes);
}

// Sums of four output channels wait in registers together: a vector of the panel is loaded once for them.
template <int vectors>
void panel_of_blocks(const SpmmArgs& args) {
  constexpr int rows = static_cast<int>(spmm_rows(SpmmForm::blocks));
  const auto* entry = static_cast<const SpmmBlock*>(args.entries);
  const auto* x = reinterpret_cast<const char*>(args.x);
  const std::uint16_t* row = args.rows;
  const vf lo = set1(args.lo), hi = set1(args.hi);
  for (std::int64_t g = 0; g < args.group_count; ++g) {
    const SpmmGroup group = args.groups[g];
    for (std::uint32_t i = 0; i < group.rows; ++i) {
      const std::int64_t first = std::int64_t{*row++} * rows;
      float* sums = args.sums + first * vectors * width;
      vf acc[rows][vectors];
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        const vf bias = args.bias != nullptr ? set1(args.bias[first + r]) : zero();
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[r][v] = args.first ? bias : load(sums + (r * vectors + v) * width);
      }
      for (const auto* end = entry + group.entries; entry != end; ++entry) {
        const auto* input = reinterpret_cast<const float*>(x + entry->offset);
        vf pixels[vectors];
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) pixels[v] = load(input + v * width);
        BITTERN_UNROLL
        for (int r = 0; r < rows; ++r) {
          const vf w = set1(entry->weight[r]);
          BITTERN_UNROLL
          for (int v = 0; v < vectors; ++v) acc[r][v] = fma(w, pixels[v], acc[r][v]);
        }
      }
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) store(sums + (r * vectors + v) * width, acc[r][v]);
      }
      // One after the other: less code, for a step that a channel takes once.
      for (int r = 0; args.last && r < rows; ++r) {
        vf sum[vectors];
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) sum[v] = load(sums + (r * vectors + v) * width);
        finish<vectors>(args, first + r, sum, lo, hi);
      }
    }
  }
}

template <class Weight, int vectors>
void panel_of_rows(const SpmmArgs& args) {
  const auto* entry = static_cast<const typename Weight::entry*>(args.entries);
  const auto* x = reinterpret_cast<const char*>(args.x);
  const std::uint16_t* row = args.rows;
  const vf lo = set1(args.lo), hi = set1(args.hi);
  for (std::int64_t g = 0; g < args.group_count; ++g) {
    const SpmmGroup group = args.groups[g];
    for (std::uint32_t i = 0; i < group.rows; ++i) {
      const std::int64_t r = *row++;
      float* sums = args.sums + r * vectors * width;
      vf acc[vectors];
      // The inputs of a list, added up.
      const auto add_inputs = [&](std::uint32_t count) {
        for (const auto* end = entry + count; entry != end; ++entry) {
          const auto* input = reinterpret_cast<const float*>(x + Weight::offset(*entry, args));
          BITTERN_UNROLL
          for (int v = 0; v < vectors; ++v) acc[v] = add(acc[v], load(input + v * width));
        }
      };
      if constexpr (Weight::form == SpmmForm::lists) {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = zero();
        add_inputs(group.second);
        const vf ratio = set1(args.ratio[r]);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = fma(ratio, acc[v], args.first ? zero() : load(sums + v * width));
        add_inputs(group.entries);
      } else if (args.first) {
        const vf bias = args.bias != nullptr && args.scale == nullptr ? set1(args.bias[r]) : zero();
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = bias;
      } else {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = load(sums + v * width);
      }
      if constexpr (Weight::form != SpmmForm::lists) {
        for (const auto* end = entry + group.entries; entry != end; ++entry) {
          const vf w = set1(Weight::weight(*entry, args));
          const auto* input = reinterpret_cast<const float*>(x + Weight::offset(*entry, args));
          BITTERN_UNROLL
          for (int v = 0; v < vectors; ++v) acc[v] = fma(w, load(input + v * width), acc[v]);
        }
      }
      if (!args.last) {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) store(sums + v * width, acc[v]);
        continue;
      }
      finish<vectors>(args, r, acc, lo, hi);
    }
  }
}

// What a piece says is read once for `count` channels.
template <int columns, int count>
inline void expand_some(const SpmmExpand& args, const float* channel, float* panel) {
  const unsigned long plane = static_cast<unsigned long>(args.plane) * 4;
  for (std::int64_t c = 0; c < args.copy_count; ++c) {
    const std::int32_t copy = args.copies[c], halo = args.halo[copy];
    const SpmmPiece* piece = args.pieces + args.first[copy];
    for (std::int64_t v = 0; v < args.vectors + halo; ++v) {
      vf pixels[count];
      BITTERN_UNROLL
      for (int i = 0; i < count; ++i) pixels[i] = zero();
      for (bool more = true; more; ++piece) {
        const unsigned long at = address(channel, *piece);
        const auto of_channel = [&](int i) { return reinterpret_cast<const float*>(at + static_cast<unsigned long>(i) * plane); };
        if (piece->whole != 0) {
          BITTERN_UNROLL
          for (int i = 0; i < count; ++i) pixels[i] = load_part<columns>(pixels[i], of_channel(i), piece->lanes);
        } else {
          BITTERN_UNROLL
          for (int i = 0; i < count; ++i) pixels[i] = load_lanes(pixels[i], of_channel(i), piece->lanes);
        }
        more = piece->more != 0;
      }
      BITTERN_UNROLL
      for (int i = 0; i < count; ++i) store(panel + i * args.panel_channel + v * width, pixels[i]);
    }
    panel += (args.panel_vectors + halo) * width;
  }
}

template <int columns>
void expand_parts(const SpmmExpand& args) {
  constexpr int together = 4;
  std::int64_t c = 0;
  for (; c + together <= args.channels; c += together) {
    expand_some<columns, together>(args, args.channel + c * args.plane, args.panel + c * args.panel_channel);
  }
  for (; c < args.channels; ++c) expand_some<columns, 1>(args, args.channel + c * args.plane, args.panel + c * args.panel_channel);
}

void expand(const SpmmExpand& args) {
  if (args.columns == 4) return expand_parts<4>(args);
  if constexpr (width > 8) {
    if (args.columns == 8) return expand_parts<8>(args);
  }
  expand_parts<width>(args);
}

void pick(const float* x, std::int64_t stride, std::int64_t count, float* y) {
  if (stride == 1) {
    __builtin_memcpy(y, x, static_cast<unsigned long>(count) * sizeof(float));
  } else if (stride == 2) {
    for (std::int64_t i = 0; i < count; ++i) y[i] = x[2 * i];
  } else {
    for (std::int64_t i = 0; i < count; ++i) y[i] = x[i * stride];
  }
}

void copy(const float* x, std::int64_t row, std::int64_t rows, std::int64_t count, float* panel, std::int64_t panel_row) {
  const std::int64_t whole = count / width * width;
  for (std::int64_t r = 0; r < rows; ++r, x += row, panel += panel_row) {
    for (std::int64_t i = 0; i < whole; i += width) store(panel + i, load(x + i));
    if (whole < count) store(panel + whole, load_first(x + whole, static_cast<int>(count - whole)));
  }
}

template <class Weight, int vectors>
void panel(const SpmmArgs& args) {
  if constexpr (Weight::form == SpmmForm::blocks) {
    panel_of_blocks<vectors>(args);
  } else {
    panel_of_rows<Weight, vectors>(args);
  }
}

template <class Weight, int... v>
struct Panels {
  static constexpr SpmmFunction list[] = {&panel<Weight, v>...};
};
template <class Weight, int vectors, int... v>
struct PanelsUpTo : PanelsUpTo<Weight, vectors - 1, vectors, v...> {};
template <class Weight, int... v>
struct PanelsUpTo<Weight, 0, v...> : Panels<Weight, v...> {};

constexpr SpmmKernel list[] = {
#define BITTERN_SPMM(level, weight, vectors)                                                                                                      \
  BITTERN_ONLY(level, {"spmm_f32_" #weight "_f32_1x" #vectors "v__" #level, Isa::level, vectors, width, weight::form,                            \
                       PanelsUpTo<weight, vectors>::list, &expand, &copy, &pick}, )
#include "spmm/kernels.inc"
#undef BITTERN_SPMM
};

}  // namespace

const SpmmKernel* spmm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
