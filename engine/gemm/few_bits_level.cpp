// Products of one row with weights of 8, 4 and 2 bits, and the expansion of the latter, compiled once per level.
#include "gemm/few_bits.h"
#include "simd/store.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Vectors of 8-bit weights from one group: G = 8 / bits of them.
template <int bits>
inline __attribute__((always_inline)) void unpack(const unsigned char* group, const raw& table, raw* w) {
  const raw codes = load_raw(group);
  if constexpr (bits == 8) {
    w[0] = codes;
  } else if constexpr (bits == 4) {
    w[0] = look_up(table, code_at<0, 15>(codes));
    w[1] = look_up(table, code_at<4, 15>(codes));
  } else {
    w[0] = look_up(table, code_at<0, 3>(codes));
    w[1] = look_up(table, code_at<2, 3>(codes));
    w[2] = look_up(table, code_at<4, 3>(codes));
    w[3] = look_up(table, code_at<6, 3>(codes));
  }
}

template <int bits>
void expand(const ExpandArgs& args) {
  constexpr int count = 8 / bits;
  const raw table = load_table(args.table);
  for (std::int64_t g = 0; g < args.groups; ++g) {
    raw w[count];
    unpack<bits>(args.packed + g * raw_bytes, table, w);
    BITTERN_UNROLL
    for (int i = 0; i < count; ++i) store_raw(args.target + (g * count + i) * raw_bytes, w[i]);
  }
}

// A quad of x meets `vectors` vectors, whole groups. Two sets of sums, so that a product waits for the one before last.
// No prefetch by hand: the weights are one stream, and asking for lines ahead cost a fifth of the bandwidth.
template <IntOut out, int bits, int vectors>
void gemv(const GemvArgs& args) {
  constexpr int count = 8 / bits, groups = vectors / count;
  static_assert(vectors % count == 0);
  vi acc[2][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    acc[0][v] = load_int(args.offset + v * width);
    acc[1][v] = vi{};
  }
  const raw table = bits == 8 ? raw{} : load_table(args.table);
  const unsigned char* w = args.w;
  const auto quad_of = [&](std::int64_t q, vi* sums) {
    const quad x = load_quad(args.x + q * 4);
    BITTERN_UNROLL
    for (int g = 0; g < groups; ++g) {
      raw decoded[count];
      unpack<bits>(w + (q * groups + g) * raw_bytes, table, decoded);
      BITTERN_UNROLL
      for (int i = 0; i < count; ++i) sums[g * count + i] = dot(sums[g * count + i], x, spread(decoded[i]));
    }
  };
  std::int64_t q = 0;
  for (; q + 2 <= args.quads; q += 2) {
    quad_of(q, acc[0]);
    quad_of(q + 1, acc[1]);
  }
  if (q < args.quads) quad_of(q, acc[0]);

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
