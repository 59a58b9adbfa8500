// The gemm tile, compiled once per instruction-set level.
#include "gemm/tile.h"
#include "gemm/lists.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Where the activations of a tile's pixels stand. Few pixels have a pointer each, and one offset moves them all. Of many,
// every third has a pointer and the two after it are reached by scaled indexing: the general registers would not suffice.
template <int rows, bool gathers>
struct Pixels {
  static constexpr int step = gathers ? 1 : 3, bases = (rows + step - 1) / step;
  const char* base[bases];
  std::int64_t stride, offset = 0;  // bytes

  inline __attribute__((always_inline)) explicit Pixels(const TileArgs& args) : stride(args.a_stride * element) {
    BITTERN_UNROLL
    for (int i = 0; i < bases; ++i) {
      const bool anywhere = gathers && args.pixels != nullptr;
      base[i] = reinterpret_cast<const char*>(args.a) + (anywhere ? args.pixels[i].a * element : i * step * stride);
    }
  }
  // The same pixels, so many elements further.
  inline __attribute__((always_inline)) Pixels shifted(std::int64_t elements) const {
    Pixels moved = *this;
    moved.advance(elements);
    return moved;
  }
  inline __attribute__((always_inline)) const char* start(int r) const {
    if constexpr (gathers) return base[r] + offset;
    return base[r / 3] + (r % 3) * stride;
  }
  inline __attribute__((always_inline)) vf at(int r, int k) const { return set1(reinterpret_cast<const float*>(start(r))[k]); }
  inline __attribute__((always_inline)) void advance(std::int64_t elements) {
    if constexpr (gathers) {
      offset += elements * element;
    } else {
      BITTERN_UNROLL
      for (int i = 0; i < bases; ++i) base[i] += elements * element;
    }
  }

 private:
  static constexpr std::int64_t element = sizeof(float);
};

// `count` products of every sum.
template <int count, int rows, int vectors, bool gathers>
inline __attribute__((always_inline)) void multiply(vf (&acc)[rows][vectors], const Pixels<rows, gathers>& pixels, const float* b) {
  BITTERN_UNROLL
  for (int k = 0; k < count; ++k, b += vectors * width) {
    // The shorter side of the tile is held in registers, the longer one passes through a single register.
    if constexpr (rows < vectors) {
      vf x[rows];
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) x[r] = pixels.at(r, k);
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const vf w = load(b + v * width);
        BITTERN_UNROLL
        for (int r = 0; r < rows; ++r) acc[r][v] = fma(x[r], w, acc[r][v]);
        keep(w);
      }
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) keep(x[r]);
    } else {
      vf w[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) w[v] = load(b + v * width);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        const vf x = pixels.at(r, k);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[r][v] = fma(x, w[v], acc[r][v]);
        if constexpr (vectors > 1) keep(x);  // else it is better read by the multiply-add itself
      }
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) keep(w[v]);
    }
  }
}

template <int rows, int vectors, bool gathers>
inline __attribute__((always_inline)) void accumulate(vf (&acc)[rows][vectors], Pixels<rows, gathers> pixels, std::int64_t run, const float*& b) {
  // Several steps at a time: counting takes instructions that a core which shares its front end has not to spare. Small
  // tiles take a whole block of channels.
  constexpr int steps = 4, block = 16;
  std::int64_t k = 0;
  if constexpr (gathers) {
    if (run == block) {
      multiply<block>(acc, pixels, b);
      b += block * vectors * width;
      return;
    }
  }
  for (; k + steps <= run; k += steps) {
    multiply<steps>(acc, pixels, b);
    pixels.advance(steps);
    b += steps * vectors * width;
  }
  // Kernels of 3 x 3 and 7 x 7 taps on planes.
  if (k + 3 == run) {
    multiply<3>(acc, pixels, b);
    b += 3 * vectors * width;
    return;
  }
  for (; k < run; ++k) {
    multiply<1>(acc, pixels, b);
    pixels.advance(1);
    b += vectors * width;
  }
}

template <int rows, int vectors, bool gathers>
void tile(const TileArgs& args) {
  vf acc[rows][vectors];
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) acc[r][v] = zero();
  }

  const float* b = args.b;
  const Pixels<rows, gathers> pixels(args);
  const std::int64_t* segment = args.segments;
  for (std::int64_t s = 0; s < args.full; ++s) {
    const std::int64_t offset = *segment++;
    // A segment's pixels are a cache line each, and the next segment's lie elsewhere: a small tile cannot hide the wait for them.
    if (args.run == 16 && s + 1 < args.full) {
      const Pixels<rows, gathers> next = pixels.shifted(*segment);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) __builtin_prefetch(next.start(r));
    }
    accumulate(acc, pixels.shifted(offset), args.run, b);
  }
  for (std::int64_t s = 0; s < args.tail; ++s) accumulate(acc, pixels.shifted(*segment++), args.tail_run, b);

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
      const bool anywhere = gathers && args.pixels != nullptr;
      vf y = add(acc[r][v], bias);
      if (residual != nullptr) {
        const float* p = residual + (anywhere ? args.pixels[r].residual : r * args.residual_pixel);
        y = add(y, lanes == width ? load(p) : load_first(p, lanes));
      }
      y = min(hi, max(lo, y));
      float* p = c + (anywhere ? args.pixels[r].c : r * args.c_pixel);
      if (lanes == width) {
        store(p, y);
      } else {
        store_first(p, y, lanes);
      }
    }
  }
}

// tiles of 1..rows pixels, without std::index_sequence: no standard-library templates here.
template <int rows, int vectors, bool gathers = rows <= most_gathered_rows>
struct Table {
  TileFunction entry[rows];
  constexpr Table() : entry() { fill<rows>(); }
  template <int r>
  constexpr void fill() {
    entry[r - 1] = &tile<r, vectors, gathers>;
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
  BITTERN_ONLY(level, {"gemm_f32_f32_f32_" #rows "x" #cols "__" #level, Isa::level, rows, cols, rows <= most_gathered_rows, table_##rows##x##cols.entry}, )
#include "gemm/kernels.inc"
#undef BITTERN_GEMM
};

}  // namespace

const GemmKernel* gemm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
