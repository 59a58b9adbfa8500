// The probe of integer arithmetic, compiled once per instruction-set level.
#include "measure/probes.h"
#include "simd/dot.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// A register tile as the integer gemm has it: pixels times vectors of channels, enough sums to cover the latency of all units,
// and few enough to stay in registers beside their operands.
#if BITTERN_VEC == 0
constexpr int rows = 2, vectors = 4;
#elif BITTERN_VEC == 1
constexpr int rows = 4, vectors = 2;
#elif BITTERN_VEC == 2 || BITTERN_VEC == 3
constexpr int rows = 6, vectors = 2;
#else
constexpr int rows = 12, vectors = 2;
#endif
static_assert(rows * vectors * width <= largest_state);

void dots(std::int64_t rounds, const unsigned char* x, const signed char* w, int* state) {
  quad pixel = load_quad(x);
  signed char weights[4 * width];
  for (int i = 0; i < 4 * width; ++i) weights[i] = w[i % 4];
  quads channel[vectors];
  vi sum[rows][vectors];
  BITTERN_UNROLL
  for (int j = 0; j < vectors; ++j) {
    channel[j] = load_quads(weights);
    vary(channel[j]);
  }
  BITTERN_UNROLL
  for (int i = 0; i < rows; ++i) {
    BITTERN_UNROLL
    for (int j = 0; j < vectors; ++j) sum[i][j] = load_int(state + (i * vectors + j) * width);
  }
  for (std::int64_t round = 0; round < rounds; ++round) {
    BITTERN_UNROLL
    for (int i = 0; i < rows; ++i) {
      vary(pixel);  // else the products, always the same, would be computed once
      BITTERN_UNROLL
      for (int j = 0; j < vectors; ++j) sum[i][j] = dot(sum[i][j], pixel, channel[j]);
    }
  }
  BITTERN_UNROLL
  for (int i = 0; i < rows; ++i) {
    BITTERN_UNROLL
    for (int j = 0; j < vectors; ++j) store_int(state + (i * vectors + j) * width, sum[i][j]);
  }
}

constexpr DotProbe probe = {.isa = Isa::BITTERN_LEVEL, .ops = std::int64_t{2} * 4 * rows * vectors * width, .dots = dots};

}  // namespace

const DotProbe& dot_probe() { return probe; }

}  // namespace bittern::engine::BITTERN_LEVEL
