// The panels of the spmm loop on 8-bit codes, compiled once per level.
#include "simd/lanes.h"
#include "simd/store.h"
#include "spmm/int_panel.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

template <int number>
struct constant {
  static constexpr int value = number;
};

template <int vectors>
void panel(const IntSpmmArgs& args) {
  const IntSpmmEntry* entry = args.entries;
  const std::uint8_t* const x = args.x;
  const std::uint16_t* row = args.rows;
  for (std::int64_t g = 0; g < args.group_count; ++g) {
    const SpmmGroup group = args.groups[g];
    for (std::uint32_t i = 0; i < group.rows; ++i) {
      const std::int64_t r = *row++;
      std::int32_t* sums = args.sums + r * vectors * width;
      vi acc[vectors];
      if (args.offset != nullptr) {
        const vi start = set1_int(args.offset[r]);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = start;
      } else {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = load_int(sums + v * width);
      }
      for (const IntSpmmEntry* end = entry + group.entries; entry != end; ++entry) {
        const four_weights w = broadcast_weights(entry->weights);
        const std::uint8_t* input = x + entry->offset;
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = dot_lanes(acc[v], load_whole(input + v * width * 4), w);
      }
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) store_int(sums + v * width, acc[v]);
    }
  }
}

void fill(const IntSpmmFill& args) {
  std::uint8_t* row = args.panel;
  for (std::int64_t s = 0; s < args.source_count; ++s) {
    const IntSpmmSource source = args.sources[s];
    const std::uint8_t* const x = args.x + source.offset;
    const IntSpmmPixels* pixels = args.pixels;
    for (std::int64_t v = 0; v < args.vectors; ++v, pixels += 4) {
      vi a[4];
      BITTERN_UNROLL
      for (int j = 0; j < 4; ++j) a[j] = pixels[j].in_together ? load_whole(x + pixels[j].in[0]) : load_lanes16(x, pixels[j].in);
      transpose_lanes(a);
      std::uint8_t* target = row + v * width * 4;
      BITTERN_UNROLL
      for (int q = 0; q < 4; ++q) {
        if ((source.quads >> q & 1) == 0) continue;
        store_whole(target, a[q]);
        target += args.panel_row;
      }
    }
    row += __builtin_popcount(source.quads) * args.panel_row;
  }
}

// The codes of 16 channels: every step as store_sums() does it, but for a sum with zero. Where the processor's
// rounding gives the least integer for what is out of reach, lower bounds are left to the bytes.
template <bool biased, bool inner, bool residual>
void store_codes(const IntSpmmOut& args) {
  const IntStore how = args.store;
  auto* const y = static_cast<std::uint8_t*>(args.y);
  const IntSpmmPixels* pixels = args.pixels;
  const int least = args.least;
  for (std::int64_t v = 0; v < args.vectors; ++v, pixels += 4) {
    vi r[4], codes[4];
    if constexpr (residual) {
      BITTERN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const std::int64_t* at = pixels[j].residual;
        r[j] = pixels[j].residual_together ? load_whole(how.residual + at[0]) : load_lanes16(how.residual, at);
      }
      transpose_lanes(r);
    }
    BITTERN_UNROLL
    for (int g = 0; g < 4; ++g) {
      vi rows[4];
      const auto row_of = [&](auto index) {
        constexpr int i = decltype(index)::value;
        const int row = 4 * g + i;
        vf value = mul(to_float(load_int(args.sums + row * args.sums_row + v * width)), set1(how.scale[row]));
        if constexpr (biased) value = add(value, set1(how.bias[row]));
        if constexpr (inner) {
          value = min(max(value, set1(how.inner_lo)), set1(how.inner_hi));
          value = mul(round_half_even(value), set1(how.inner_scale));
        }
        if constexpr (residual) value = add(value, mul(byte_less<i>(r[g], how.residual_zero), set1(how.residual_scale)));
#if BITTERN_VEC == 0
        rows[i] = round_int(min(max(value, set1(how.lo)), set1(how.hi)));
#else
        rows[i] = round_int(min(set1(how.hi), value));  // in this order a NaN stays one, whose integer is the least
#endif
      };
      row_of(constant<0>{}), row_of(constant<1>{}), row_of(constant<2>{}), row_of(constant<3>{});
      codes[g] = interleave_rows(rows, how.zero, least);
    }
    transpose_lanes(codes);
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) {
      const IntSpmmPixels& p = pixels[j];
      if (p.count == 0) break;
      __builtin_prefetch(y + p.out[0] + args.next_y, 1);
      if constexpr (residual) __builtin_prefetch(how.residual + p.residual[0] + args.next_residual);
      if (p.out_together) {
        store_whole(y + p.out[0], codes[j]);
      } else {
        store_lanes16(y, p.out, p.count, codes[j]);
      }
    }
  }
}

// Pixel by pixel: few layers need it.
template <IntOut out>
void store_each(const IntSpmmOut& args) {
  const IntStore& how = args.store;
  for (std::int64_t p = 0; p < args.vectors * width; ++p) {
    const std::int64_t in_vector = p % width;
    const IntSpmmPixels& at = args.pixels[p / width * 4 + in_vector % 4];
    const std::int64_t lane = in_vector / 4;
    if (lane >= at.count) continue;
    int sums[16];
    for (int c = 0; c < 16; ++c) sums[c] = args.sums[c * args.sums_row + p];
    for (int c = 0; c < 16 && c < args.valid; c += width) {
      const std::int64_t left = args.valid - c;
      const int lanes = left < width ? static_cast<int>(left) : width;
      const vf scale = out == IntOut::sums ? zero() : load(how.scale + c);
      const vf bias = out == IntOut::sums || how.bias == nullptr ? zero() : load(how.bias + c);
      store_sums<out>(how, load_int(sums + c), scale, bias, args.y, at.out[lane] + c, at.residual[lane] + c, lanes);
    }
  }
}

void store_bytes_of(const IntSpmmOut& args) {
  if (!args.whole) return store_each<IntOut::bytes>(args);
  const IntStore& how = args.store;
  constexpr void (*ways[])(const IntSpmmOut&) = {
      &store_codes<false, false, false>, &store_codes<true, false, false>, &store_codes<false, true, false>, &store_codes<true, true, false>,
      &store_codes<false, false, true>,  &store_codes<true, false, true>,  &store_codes<false, true, true>,  &store_codes<true, true, true>};
  ways[(how.bias != nullptr) + 2 * how.inner + 4 * (how.residual != nullptr)](args);
}

constexpr void (*stores[])(const IntSpmmOut&) = {&store_bytes_of, &store_each<IntOut::floats>, &store_each<IntOut::sums>};

template <int... v>
struct Panels {
  static constexpr void (*list[])(const IntSpmmArgs&) = {&panel<v>...};
};
template <int vectors, int... v>
struct PanelsUpTo : PanelsUpTo<vectors - 1, vectors, v...> {};
template <int... v>
struct PanelsUpTo<0, v...> : Panels<v...> {};

constexpr IntSpmmKernel list[] = {
#define BITTERN_INT_SPMM(level, vectors) \
  BITTERN_ONLY(level, {"spmm_u8_s8_s32_1x" #vectors "v__" #level, Isa::level, vectors, width, PanelsUpTo<vectors>::list, &fill, stores}, )
#include "spmm/int_kernels.inc"
#undef BITTERN_INT_SPMM
};

}  // namespace

const IntSpmmKernel* int_spmm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
