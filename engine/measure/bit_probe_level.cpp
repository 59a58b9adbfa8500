// The probe of counting bits, compiled once per level that has kernels for it.
#include "measure/probes.h"
#include "simd/bits.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// A register tile as the bgemm loop has it.
#if BITTERN_VEC == 0
constexpr int rows = 1, vectors = 8;
#elif BITTERN_VEC <= 2
constexpr int rows = 2, vectors = 4;
#elif BITTERN_VEC <= 4
constexpr int rows = 4, vectors = 4;
#else
constexpr int rows = 6, vectors = 4;
#endif
static_assert(rows * vectors * width <= largest_state);
constexpr int inner = 24;  // words between two additions of the counts

static inline void vary(bits& a) {
#if BITTERN_VEC == 0
  __asm__("" : "+m"(a.v));
#elif BITTERN_VEC <= 2
  __asm__("" : "+x"(a.v));
#else
  __asm__("" : "+v"(a.v));
#endif
}

void ones(std::int64_t rounds, const unsigned* x, const unsigned* w, int* state) {
  bits channel[vectors];
  unsigned words[width], pixels[inner + rows];
  for (int i = 0; i < width; ++i) words[i] = *w + static_cast<unsigned>(i);
  for (int i = 0; i < inner + rows; ++i) pixels[i] = *x + static_cast<unsigned>(i);
  vi sum[rows][vectors];
  BITTERN_UNROLL
  for (int i = 0; i < rows; ++i) {
    BITTERN_UNROLL
    for (int j = 0; j < vectors; ++j) sum[i][j] = load_int(state + (i * vectors + j) * width);
  }
  const unsigned* from = pixels;
  for (std::int64_t round = 0; round < rounds; ++round) {
    __asm__ volatile("" : "+r"(from) : : "memory");  // else the counts, always the same, would be made once
    BITTERN_UNROLL
    for (int j = 0; j < vectors; ++j) {
      channel[j] = load_bits(words);
      vary(channel[j]);
    }
    counts part[rows][vectors];
    BITTERN_UNROLL
    for (int i = 0; i < rows; ++i) {
      BITTERN_UNROLL
      for (int j = 0; j < vectors; ++j) part[i][j] = no_counts();
    }
    for (int k = 0; k < inner; ++k) {
      BITTERN_UNROLL
      for (int j = 0; j < vectors; ++j) vary(channel[j]);  // weights are others with every word
      BITTERN_UNROLL
      for (int i = 0; i < rows; ++i) {
        const bits pixel = broadcast_bits(from + k + i);
        BITTERN_UNROLL
        for (int j = 0; j < vectors; ++j) part[i][j] = count(part[i][j], differ(channel[j], pixel));
      }
    }
    BITTERN_UNROLL
    for (int i = 0; i < rows; ++i) {
      BITTERN_UNROLL
      for (int j = 0; j < vectors; ++j) sum[i][j] = add(sum[i][j], flush(part[i][j]));
    }
  }
  BITTERN_UNROLL
  for (int i = 0; i < rows; ++i) {
    BITTERN_UNROLL
    for (int j = 0; j < vectors; ++j) store_int(state + (i * vectors + j) * width, sum[i][j]);
  }
}

constexpr BitProbe probe = {.isa = Isa::BITTERN_LEVEL, .ops = std::int64_t{2} * 32 * rows * vectors * width * inner, .ones = ones};

}  // namespace

const BitProbe& bit_probe() { return probe; }

}  // namespace bittern::engine::BITTERN_LEVEL
