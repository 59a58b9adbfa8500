// Products of one row with weights of 2 to 6 and 8 bits, and the expansion of the former, compiled once per level.
#include "gemm/few_bits.h"
#include "simd/store.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Vectors of 8-bit weights in a group, and those that hold their codes.
template <int bits>
inline constexpr int group_of = bits == 8 ? 1 : bits % 2 != 0 ? 8 : bits == 4 ? 2 : 4;
template <int bits>
inline constexpr int packed_of = group_of<bits> * bits / 8;

// Vector i of a plane of so many bits.
template <int width, int i>
inline __attribute__((always_inline)) raw plane_at(const raw* plane) {
  return code_at<i % (8 / width) * width, (1 << width) - 1>(plane[i / (8 / width)]);
}

// Weights from the vector i on, of codes with `low` bits in the first plane and the others in a second one.
template <int bits, int low, int i>
inline __attribute__((always_inline)) void unpack_from(const raw* codes, const raw& table, raw* w) {
  if constexpr (i < group_of<bits>) {
    constexpr int high = bits - low, share = 8 / high;
    const raw& above = codes[group_of<bits> * low / 8 + i / share];
    const raw code = either(plane_at<low, i>(codes), placed<i % share * high - low, ((1 << high) - 1) << low>(above));
    w[i] = bits <= 4 ? look_up(table, code) : add(table, code);
    unpack_from<bits, low, i + 1>(codes, table, w);
  }
}

// The vectors of one group.
template <int bits>
inline __attribute__((always_inline)) void unpack(const unsigned char* group, const raw& table, raw* w) {
  raw codes[packed_of<bits>];
  BITTERN_UNROLL
  for (int i = 0; i < packed_of<bits>; ++i) codes[i] = load_raw(group + i * raw_bytes);
  if constexpr (bits == 8) {
    w[0] = codes[0];
  } else if constexpr (bits == 4) {
    w[0] = look_up(table, plane_at<4, 0>(codes));
    w[1] = look_up(table, plane_at<4, 1>(codes));
  } else if constexpr (bits == 2) {
    w[0] = look_up(table, plane_at<2, 0>(codes));
    w[1] = look_up(table, plane_at<2, 1>(codes));
    w[2] = look_up(table, plane_at<2, 2>(codes));
    w[3] = look_up(table, plane_at<2, 3>(codes));
  } else {
    unpack_from<bits, bits == 3 ? 2 : 4, 0>(codes, table, w);
  }
}

template <int bits>
void expand(const ExpandArgs& args) {
  constexpr int count = group_of<bits>;
  const raw table = load_table(args.table);
  for (std::int64_t g = 0; g < args.groups; ++g) {
    raw w[count];
    unpack<bits>(args.packed + g * packed_of<bits> * raw_bytes, table, w);
    BITTERN_UNROLL
    for (int i = 0; i < count; ++i) store_raw(args.target + (g * count + i) * raw_bytes, w[i]);
  }
}

// A quad of x meets `vectors` vectors, whole groups; or two quads meet one group. Two sets of sums, so that a product waits
// for the one before last. No prefetch by hand: the weights are one stream, and asking for lines ahead cost a fifth of the
// bandwidth.
template <IntOut out, int bits, int vectors>
void gemv(const GemvArgs& args) {
  constexpr int count = group_of<bits>, quads = count > vectors ? count / vectors : 1, groups = vectors * quads / count;
  constexpr int step = groups * packed_of<bits> * raw_bytes;  // bytes of those quads
  static_assert(vectors * quads % count == 0 && quads <= 2);
  vi acc[2][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    acc[0][v] = load_int(args.offset + v * width);
    acc[1][v] = vi{};
  }
  const raw table = bits == 8 ? raw{} : load_table(args.table);
  const unsigned char* w = args.w;
  const auto products = [&](const quad& x, const raw* decoded, vi* sums, int some) {
    BITTERN_UNROLL
    for (int i = 0; i < some; ++i) sums[i] = dot(sums[i], x, spread(decoded[i]));
  };
  const auto quad_of = [&](std::int64_t q, vi* sums) {
    const quad x = load_quad(args.x + q * 4);
    BITTERN_UNROLL
    for (int g = 0; g < groups; ++g) {
      raw decoded[count];
      unpack<bits>(w + (q * groups + g) * packed_of<bits> * raw_bytes, table, decoded);
      products(x, decoded, sums + g * count, count);
    }
  };
  std::int64_t q = 0;
  for (; q + 2 <= args.quads; q += 2) {
    if constexpr (quads == 1) {
      quad_of(q, acc[0]);
      quad_of(q + 1, acc[1]);
    } else {
      raw decoded[count];
      unpack<bits>(w + q / 2 * step, table, decoded);
      products(load_quad(args.x + q * 4), decoded, acc[0], vectors);
      products(load_quad(args.x + q * 4 + 4), decoded + vectors, acc[1], vectors);
    }
  }
  if (q < args.quads) {
    if constexpr (quads == 1) {
      quad_of(q, acc[0]);
    } else {
      raw decoded[count];
      unpack<bits>(w + q / 2 * step, table, decoded);
      products(load_quad(args.x + q * 4), decoded, acc[0], vectors);
    }
  }

  const IntStore& how = args.store;
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t left = args.valid - v * width;
    if (left <= 0) break;
    const vf scale = load(how.scale + v * width), bias = how.bias != nullptr ? load(how.bias + v * width) : zero();
    store_sums<out>(how, add(acc[0][v], acc[1][v]), scale, bias, args.c, v * width, v * width, left < width ? static_cast<int>(left) : width);
  }
}

constexpr GemvKernel list[] = {
#define BITTERN_GEMV(level, bits, vectors, cols)                                                                                                     \
  BITTERN_ONLY(level, {"gemv_u8_s" #bits "_s32_1x" #cols "__" #level, Isa::level, bits, cols, raw_bytes, &gemv<IntOut::bytes, bits, vectors>,        \
                       &gemv<IntOut::floats, bits, vectors>, bits == 8 ? nullptr : &expand<bits>}, )
#include "gemm/gemv.inc"
#undef BITTERN_GEMV
};

}  // namespace

const GemvKernel* gemv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
