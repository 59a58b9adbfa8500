// The panels of the spmm loop, compiled once per level.
#include "simd/vec.h"
#include "spmm/panel.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

struct f32 {
  using entry = SpmmEntry;
  static inline std::int64_t offset(const entry& e, const SpmmArgs&) { return e.offset; }
  static inline float weight(const entry& e, const SpmmArgs&) { return e.weight; }
  static constexpr bool codes = false;
};

struct lut8 {
  using entry = std::uint32_t;
  static inline std::int64_t offset(const entry& e, const SpmmArgs&) { return static_cast<std::int64_t>(e >> 8) * spmm_unit; }
  static inline float weight(const entry& e, const SpmmArgs& args) { return args.table[e & 255]; }
  static constexpr bool codes = true;
};

template <class Weight, int vectors>
void panel(const SpmmArgs& args) {
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
      if (args.first) {
        const vf bias = args.bias != nullptr && args.scale == nullptr ? set1(args.bias[r]) : zero();
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = bias;
      } else {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = load(sums + v * width);
      }
      for (const auto* end = entry + group.entries; entry != end; ++entry) {
        const vf w = set1(Weight::weight(*entry, args));
        const auto* input = reinterpret_cast<const float*>(x + Weight::offset(*entry, args));
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = fma(w, load(input + v * width), acc[v]);
      }
      if (!args.last) {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) store(sums + v * width, acc[v]);
        continue;
      }
      if (args.scale != nullptr) {
        const vf scale = set1(args.scale[r]), bias = args.bias != nullptr ? set1(args.bias[r]) : zero();
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = fma(scale, acc[v], bias);
      }
      float* y = args.y + r * args.y_row;
      if (args.residual != nullptr) {
        const float* residual = args.residual + r * args.residual_row;
        BITTERN_UNROLL
        for (int v = 0; v < vectors - 1; ++v) acc[v] = add(acc[v], load(residual + v * width));
        acc[vectors - 1] = add(acc[vectors - 1], load_first(residual + (vectors - 1) * width, args.last_lanes));
      }
      BITTERN_UNROLL
      for (int v = 0; v < vectors - 1; ++v) store(y + v * width, min(hi, max(lo, acc[v])));
      store_first(y + (vectors - 1) * width, min(hi, max(lo, acc[vectors - 1])), args.last_lanes);
    }
  }
}

// Columns stride * i + phase of a padded line, without its zeros: to[i - first] for those inside the image.
void split_line(const float* line, std::int64_t columns, std::int64_t left, std::int64_t stride, std::int64_t phase, std::int64_t length, float* to) {
  // Column x of the image is stride * i + phase - left.
  const std::int64_t lead = left > phase ? (left - phase + stride - 1) / stride : 0;
  const std::int64_t start = lead * stride + phase - left;
  std::int64_t inside = columns > start ? (columns - start + stride - 1) / stride : 0;
  const std::int64_t zeros = lead < length ? lead : length;
  if (inside > length - zeros) inside = length - zeros;
  for (std::int64_t i = 0; i < zeros; ++i) to[i] = 0;
  const float* from = line + start;
  float* target = to + zeros;
  if (stride == 1) {
    __builtin_memcpy(target, from, static_cast<unsigned long>(inside) * sizeof(float));
  } else {
    for (std::int64_t i = 0; i < inside; ++i) target[i] = from[i * stride];
  }
  for (std::int64_t i = zeros + inside; i < length; ++i) to[i] = 0;
}

void expand(const SpmmExpand& args) {
  for (std::int64_t phase = 0; phase < args.stride; ++phase) {
    if (!args.phase_used[phase]) continue;
    for (std::int64_t line = 0; line < args.lines; ++line) {
      if (!args.line_used[line]) continue;
      float* to = args.padded + (phase * args.lines + line) * args.length;
      const std::int64_t y = args.first_line + line;
      const std::int64_t columns = y < 0 || y >= args.height ? 0 : args.width;
      split_line(args.plane + (columns == 0 ? 0 : y * args.row), columns, args.left, args.stride, phase, args.length, to);
    }
  }
  for (std::int64_t t = 0; t < args.tap_count; ++t) {
    const float* tap = args.padded + args.taps[t];
    float* row = args.panel + t * args.panel_row;
    for (std::int64_t s = 0; s < args.segment_count; ++s) {
      const SpmmSegment segment = args.segments[s];
      for (std::int64_t i = 0; i < segment.count; i += width) store(row + segment.to + i, load(tap + segment.from + i));
    }
  }
}

void copy(const float* x, std::int64_t row, std::int64_t rows, std::int64_t count, float* panel, std::int64_t panel_row) {
  const std::int64_t whole = count / width * width;
  for (std::int64_t r = 0; r < rows; ++r, x += row, panel += panel_row) {
    for (std::int64_t i = 0; i < whole; i += width) store(panel + i, load(x + i));
    if (whole < count) store(panel + whole, load_first(x + whole, static_cast<int>(count - whole)));
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
  BITTERN_ONLY(level, {"spmm_f32_" #weight "_f32_1x" #vectors "v__" #level, Isa::level, vectors, width, weight::codes,                            \
                       PanelsUpTo<weight, vectors>::list, &expand, &copy}, )
#include "spmm/kernels.inc"
#undef BITTERN_SPMM
};

}  // namespace

const SpmmKernel* spmm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
