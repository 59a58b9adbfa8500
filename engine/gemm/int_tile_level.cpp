// The integer gemm tile, compiled once per instruction-set level.
#include "gemm/int_tile.h"
#include "gemm/lists.h"
#include "simd/store.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

template <IntOut out, int rows, int vectors, bool gathers>
void tile(const IntTileArgs& args) {
  vi acc[rows][vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const vi offset = load_int(args.offset + v * width);
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) acc[r][v] = offset;
  }
  constexpr int step = gathers ? 1 : 3, bases = (rows + step - 1) / step;
  const std::int64_t stride = args.a_stride * 4;
  const unsigned char* base[bases];
  BITTERN_UNROLL
  for (int i = 0; i < bases; ++i) base[i] = args.a + (gathers && args.pixels != nullptr ? args.pixels[i].a * 4 : i * step * stride);

  const signed char* b = args.b;
  const std::int64_t* segment = args.segments;
  for (std::int64_t s = 0; s < args.full + args.tail; ++s) {
    std::int64_t at = *segment++ * 4;
    const std::int64_t run = s < args.full ? args.run : args.tail_run;
    for (std::int64_t k = 0; k < run; ++k, at += 4, b += vectors * width * 4) {
      quads w[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) w[v] = load_quads(b + v * width * 4);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        const quad x = load_quad(base[r / step] + (r % step) * stride + at);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[r][v] = dot(acc[r][v], x, w[v]);
        if constexpr (vectors > 1) keep(x);
      }
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) keep(w[v]);
    }
  }

  // Whole vectors where 16 channels are a block; fewer lanes only where a row of all channels ends.
  const IntStore& how = args.store;
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t left = args.valid - v * width;
    if (left <= 0) break;
    const int lanes = left < width ? static_cast<int>(left) : width;
    const std::int64_t block = v * width / 16, lane = v * width % 16;
    const vf scale = out == IntOut::sums ? zero() : load(how.scale + v * width);
    const vf bias = out == IntOut::sums || how.bias == nullptr ? zero() : load(how.bias + v * width);
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      const bool anywhere = gathers && args.pixels != nullptr;
      const std::int64_t c_at = block * args.c_block + lane + (anywhere ? args.pixels[r].c : r * args.c_pixel);
      const std::int64_t residual_at = block * args.residual_block + lane + (anywhere ? args.pixels[r].residual : r * args.residual_pixel);
      store_sums<out>(how, acc[r][v], scale, bias, args.c, c_at, residual_at, lanes);
    }
  }
}

template <int rows, int vectors, bool gathers = rows <= most_gathered_rows>
struct Table {
  IntTileFunction entry[int_out_count * rows];
  constexpr Table() : entry() { fill<rows>(); }
  template <int r>
  constexpr void fill() {
    entry[static_cast<int>(IntOut::bytes) * rows + r - 1] = &tile<IntOut::bytes, r, vectors, gathers>;
    entry[static_cast<int>(IntOut::floats) * rows + r - 1] = &tile<IntOut::floats, r, vectors, gathers>;
    entry[static_cast<int>(IntOut::sums) * rows + r - 1] = &tile<IntOut::sums, r, vectors, gathers>;
    if constexpr (r > 1) fill<r - 1>();
  }
};

#define BITTERN_INT_GEMM(level, rows, vectors, cols)                        \
  BITTERN_ONLY(level, constexpr Table<rows, vectors> table_##rows##x##cols; \
               static_assert(vectors * width == cols);)
#include "gemm/int_kernels.inc"
#undef BITTERN_INT_GEMM

constexpr IntGemmKernel list[] = {
#define BITTERN_INT_GEMM(level, rows, vectors, cols) \
  BITTERN_ONLY(level, {"gemm_u8_s8_s32_" #rows "x" #cols "__" #level, Isa::level, rows, cols, table_##rows##x##cols.entry}, )
#include "gemm/int_kernels.inc"
#undef BITTERN_INT_GEMM
};

}  // namespace

const IntGemmKernel* int_gemm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
