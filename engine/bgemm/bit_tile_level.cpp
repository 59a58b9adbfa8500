// The bgemm tile, compiled once per instruction-set level.
#include "bgemm/bit_tile.h"
#include "simd/bits.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// The ones of one plane of activations with one of weights.
template <bool conjunction, int rows, int vectors>
inline __attribute__((always_inline)) void count_planes(const BitTileArgs& args, const unsigned* const (&base)[rows], const unsigned* b,
                                                        vi (&sums)[rows][vectors]) {
  counts part[rows][vectors];
  const auto clear = [&] {
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) part[r][v] = no_counts();
    }
  };
  const auto add_up = [&] {
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) sums[r][v] = add(sums[r][v], flush(part[r][v]));
    }
  };
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) sums[r][v] = no_sums();
  }
  clear();
  int counted = 0;
  for (std::int64_t tap = 0; tap < args.taps; ++tap) {
    std::int64_t at = args.segments[tap];
    for (std::int64_t k = 0; k < args.run; ++k, ++at, b += vectors * width) {
      if (most_counted < (1 << 30) && counted == most_counted) {
        add_up();
        clear();
        counted = 0;
      }
      ++counted;
      bits w[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) w[v] = load_bits(b + v * width);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        const bits x = broadcast_bits(base[r] + at);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) part[r][v] = count(part[r][v], conjunction ? both(w[v], x) : differ(w[v], x));
      }
    }
  }
  add_up();
}

inline constexpr int per_word = 32 / width;  // vectors

// A bit for each of 32 channels whose number reaches its threshold.
inline __attribute__((always_inline)) unsigned reached_by_word(const int* numbers, const std::int32_t* thresholds) {
  unsigned hit = 0;
  BITTERN_UNROLL
  for (int i = 0; i < per_word; ++i) hit |= reached(load_int(numbers + i * width), load_int(thresholds + i * width)) << (i * width);
  return hit;
}

// Codes count up by one where a threshold is reached: an addition in planes.
inline void count_up(unsigned (&planes)[8], std::int64_t count, unsigned hit) {
  for (std::int64_t p = 0; p < count; ++p) {
    const unsigned carry = planes[p] & hit;
    planes[p] ^= hit;
    hit = carry;
  }
}

// The codes of the tile's pixels, as words of each plane.
template <int vectors>
__attribute__((noinline)) void store_codes(const BitTileArgs& args, const int* counted, int rows) {
  const BitStore& how = args.store;
  const std::int64_t pattern_step = how.thresholds_count * how.threshold_step;
  for (int r = 0; r < rows; ++r, counted += vectors * width) {
    const std::int32_t* const thresholds = how.thresholds + args.pixels[r].pattern * pattern_step;
    unsigned* const to = args.bits + args.pixels[r].bits;
    BITTERN_UNROLL
    for (int word = 0; word < vectors / per_word; ++word) {
      if (word >= args.words) break;
      if (how.thresholds_count == 1) {
        to[word] = reached_by_word(counted + word * 32, thresholds + word * 32) ^ how.flips[word];
        for (std::int64_t p = 1; p < how.planes; ++p) to[p * how.plane_step + word] = 0;
        continue;
      }
      unsigned planes[8] = {};
      for (std::int64_t j = 0; j < how.thresholds_count; ++j) {
        count_up(planes, how.planes, reached_by_word(counted + word * 32, thresholds + j * how.threshold_step + word * 32) ^ how.flips[word]);
      }
      for (std::int64_t p = 0; p < how.planes; ++p) to[p * how.plane_step + word] = planes[p];
    }
  }
}

// Real numbers of the tile's counts.
template <int vectors>
__attribute__((noinline)) void store_floats(const BitTileArgs& args, const int* counted, int rows) {
  const BitStore& how = args.store;
  vi factor[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) factor[v] = load_int(how.factor + v * width);
  for (int r = 0; r < rows; ++r, counted += vectors * width) {
    const BitPixel& pixel = args.pixels[r];
    const std::int32_t* const offset = how.offset + pixel.pattern * how.offset_step;
    vi whole[vectors];
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) whole[v] = add(load_int(offset + v * width), mul_int(load_int(counted + v * width), factor[v]));
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t left = args.valid - v * width;
      if (left <= 0) break;
      const int lanes = left < width ? static_cast<int>(left) : width;
      const std::int64_t block = v * width / 16, lane = v * width % 16;
      vf y = add(mul(to_float(whole[v]), load(how.scale + v * width)), load(how.bias + v * width));
      if (args.residual != nullptr) {
        const float* const other = args.residual + pixel.residual + block * args.residual_block + lane;
        y = add(y, lanes == width ? load(other) : load_first(other, lanes));
      }
      if (args.factors != nullptr) {
        y = mul(y, set1(args.factors[pixel.factor]));
        if (const std::int64_t real = args.channels - v * width; real < width) {  // zeros behind the last channel stay, even times infinity
          float first[width];
          store(first, y);
          y = load_first(first, real > 0 ? static_cast<int>(real) : 0);
        }
      }
      y = min(set1(how.hi), max(set1(how.lo), y));  // in this order a NaN stays one
      float* const c = args.c + pixel.floats + block * args.c_block + lane;
      if (lanes == width) {
        store(c, y);
      } else {
        store_first(c, y, lanes);
      }
    }
  }
}

template <bool conjunction, BitOut out, int rows, int vectors>
void tile(const BitTileArgs& args) {
  const unsigned* base[rows];
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) base[r] = args.a + args.pixels[r].a;
  const std::int64_t plane_words = args.taps * args.run * vectors * width;
  int total[rows * vectors * width];
  for (std::int64_t pair = 0; pair < args.planes * args.weight_planes; ++pair) {
    vi sums[rows][vectors];
    count_planes<conjunction, rows, vectors>(args, base, args.b + pair / args.planes * plane_words, sums);
    const auto store_all = [&](const auto& weighted) {
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) {
          int* const at = total + (r * vectors + v) * width;
          store_int(at, weighted(sums[r][v], at));
        }
      }
    };
    const vi coefficient = set_int(args.coefficients[pair]);
    if (pair == 0 && args.coefficients[0] == 1) {
      store_all([](vi sum, const int*) { return sum; });
    } else if (pair == 0) {
      store_all([&](vi sum, const int*) { return mul_int(sum, coefficient); });
    } else {
      store_all([&](vi sum, const int* at) { return add(load_int(at), mul_int(sum, coefficient)); });
    }
    const std::int64_t next = (pair + 1) % args.planes * args.plane_step;
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) base[r] = args.a + args.pixels[r].a + next;
  }
  if constexpr (out == BitOut::bits) {
    store_codes<vectors>(args, total, rows);
  } else {
    store_floats<vectors>(args, total, rows);
  }
}

template <bool conjunction, int rows, int vectors>
struct Table {
  BitTileFunction entry[bit_out_count * rows];
  constexpr Table() : entry() { fill<rows>(); }
  template <int r>
  constexpr void fill() {
    entry[static_cast<int>(BitOut::bits) * rows + r - 1] = &tile<conjunction, BitOut::bits, r, vectors>;
    entry[static_cast<int>(BitOut::floats) * rows + r - 1] = &tile<conjunction, BitOut::floats, r, vectors>;
    if constexpr (r > 1) fill<r - 1>();
  }
};

#define BITTERN_BGEMM(level, rows, vectors, cols, tenths)                              \
  BITTERN_ONLY(level, constexpr Table<false, rows, vectors> differ_##rows##x##cols;    \
               constexpr Table<true, rows, vectors> both_##rows##x##cols;              \
               static_assert(vectors * width == cols && cols % 32 == 0 && rows <= most_bit_rows);)
#include "bgemm/kernels.inc"
#undef BITTERN_BGEMM

constexpr BitGemmKernel list[] = {
#define BITTERN_BGEMM(level, rows, vectors, cols, tenths)                                                                                      \
  BITTERN_ONLY(level, {"bgemm_b1_s1_s32_" #rows "x" #cols "__" #level, Isa::level, false, rows, cols, tenths * 0.1, width, differ_##rows##x##cols.entry}, \
               {"bgemm_b1_b1_s32_" #rows "x" #cols "__" #level, Isa::level, true, rows, cols, tenths * 0.1, width, both_##rows##x##cols.entry}, )
#include "bgemm/kernels.inc"
#undef BITTERN_BGEMM
};

void pack(const BitPackArgs& args) {
  const std::int64_t words = (args.channels + 31) / 32;
  for (std::int64_t p = 0; p < args.pixels; ++p) {
    const float* const x = args.x + p * args.x_step;
    unsigned* const to = args.bits + p * args.bits_step;
    for (std::int64_t word = 0; word < words; ++word) {
      vf values[per_word];
      for (int i = 0; i < per_word; ++i) {
        const std::int64_t channel = word * 32 + i * width, left = args.channels - channel;
        const float* const from = x + channel / 16 * args.block + channel % 16;
        vf value = left >= width ? load(from) : left > 0 ? load_first(from, static_cast<int>(left)) : zero();
        values[i] = mul(value, load(args.sign + channel));
      }
      unsigned planes[8] = {};
      for (std::int64_t j = 0; j < args.count; ++j) {
        unsigned hit = 0;
        for (int i = 0; i < per_word; ++i) {
          hit |= reached(values[i], load(args.thresholds + j * args.threshold_step + word * 32 + i * width)) << (i * width);
        }
        count_up(planes, args.planes, hit);
      }
      const std::int64_t left = args.channels - word * 32;
      const unsigned present = left >= 32 ? ~0u : (1u << left) - 1u;
      for (std::int64_t q = 0; q < args.planes; ++q) to[q * args.plane_step + word] = planes[q] & present;
    }
  }
}

#define BITTERN_NAME_(level) "pack_f32_b1__" #level
#define BITTERN_NAME(level) BITTERN_NAME_(level)
constexpr BitPackKernel packer = {BITTERN_NAME(BITTERN_LEVEL), Isa::BITTERN_LEVEL, pack};

}  // namespace

const BitGemmKernel* bit_gemm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

const BitPackKernel& bit_pack_kernel() { return packer; }

}  // namespace bittern::engine::BITTERN_LEVEL
