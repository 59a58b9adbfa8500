// The gemm tile, compiled once per instruction-set level.
#include "gemm/tile.h"
#include "gemm/lists.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

template <int rows, int vectors>
inline __attribute__((always_inline)) void accumulate(vf (&acc)[rows][vectors], const float* a, std::int64_t stride_bytes,
                                                      std::int64_t run, const float*& b) {
  // Every third pixel has a pointer of its own and the two after it are reached by scaled indexing: `rows` pointers
  // would not fit in the general registers.
  constexpr int bases = (rows + 2) / 3;
  const char* base[bases];
  BITTERN_UNROLL
  for (int i = 0; i < bases; ++i) base[i] = reinterpret_cast<const char*>(a) + 3 * i * stride_bytes;
  for (std::int64_t k = 0; k < run; ++k) {
    const auto pixel = [&](int r) { return set1(*reinterpret_cast<const float*>(base[r / 3] + (r % 3) * stride_bytes)); };
    // The shorter side of the tile is held in registers, the longer one passes through a single register.
    if constexpr (rows < vectors) {
      vf x[rows];
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) x[r] = pixel(r);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const vf w = load(b + v * width);
        BITTERN_UNROLL
        for (int r = 0; r < rows; ++r) acc[r][v] = fma(x[r], w, acc[r][v]);
      }
    } else {
      vf w[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) w[v] = load(b + v * width);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        const vf x = pixel(r);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[r][v] = fma(x, w[v], acc[r][v]);
      }
    }
    b += vectors * width;
    BITTERN_UNROLL
    for (int i = 0; i < bases; ++i) base[i] += sizeof(float);
  }
}

template <int rows, int vectors>
void tile(const TileArgs& args) {
  vf acc[rows][vectors];
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) acc[r][v] = zero();
  }

  const float* b = args.b;
  const std::int64_t stride_bytes = args.a_stride * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t* segment = args.segments;
  for (std::int64_t s = 0; s < args.full; ++s) {
    const float* a = args.a + *segment++;
    // A segment's pixels are a cache line each, and the next segment's lie elsewhere: a small tile cannot hide the wait for them.
    if (args.run == 16 && s + 1 < args.full) {
      const char* next = reinterpret_cast<const char*>(args.a + *segment);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) __builtin_prefetch(next + r * stride_bytes);
    }
    accumulate(acc, a, stride_bytes, args.run, b);
  }
  for (std::int64_t s = 0; s < args.tail; ++s) accumulate(acc, args.a + *segment++, stride_bytes, args.tail_run, b);

  const vf lo = set1(args.lo), hi = set1(args.hi);
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    const std::int64_t left = args.valid - v * width;
    if (left <= 0) break;
    const int lanes = left < width ? static_cast<int>(left) : width;
    const std::int64_t block = v * width / 16, lane = v * width % 16;
    float* c = args.c + block * args.c_block + lane;
    const vf bias = args.bias != nullptr ? load(args.bias + v * width) : zero();
    const float* residual = args.residual != nullptr ? args.residual + block * args.residual_block + lane : nullptr;
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      vf y = add(acc[r][v], bias);
      if (residual != nullptr) {
        const float* p = residual + r * args.residual_pixel;
        y = add(y, lanes == width ? load(p) : load_first(p, lanes));
      }
      y = min(hi, max(lo, y));
      float* p = c + r * args.c_pixel;
      if (lanes == width) {
        store(p, y);
      } else {
        store_first(p, y, lanes);
      }
    }
  }
}

// tiles of 1..rows pixels, without std::index_sequence: no standard-library templates here.
template <int rows, int vectors>
struct Table {
  TileFunction entry[rows];
  constexpr Table() : entry() { fill<rows>(); }
  template <int r>
  constexpr void fill() {
    entry[r - 1] = &tile<r, vectors>;
    if constexpr (r > 1) fill<r - 1>();
  }
};

#define BITTERN_GEMM(level, rows, vectors, cols)                    \
  BITTERN_ONLY(level, constexpr Table<rows, vectors> table_##rows##x##cols; \
               static_assert(vectors * width == cols);)
#include "gemm/kernels.inc"
#undef BITTERN_GEMM

constexpr GemmKernel list[] = {
#define BITTERN_GEMM(level, rows, vectors, cols) \
  BITTERN_ONLY(level, {"gemm_f32_f32_f32_" #rows "x" #cols "__" #level, Isa::level, rows, cols, table_##rows##x##cols.entry}, )
#include "gemm/kernels.inc"
#undef BITTERN_GEMM
};

}  // namespace

const GemmKernel* gemm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
