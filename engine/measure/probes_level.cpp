// The probes, compiled once per instruction-set level.
#include "measure/probes.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

template <int chains>
void multiply_add(std::int64_t rounds, float a, float b, float* state) {
  static_assert(chains * width <= largest_state);
  const vf factor = set1(a), term = set1(b);
  vf x[chains];
  BITTERN_UNROLL
  for (int i = 0; i < chains; ++i) x[i] = load(state + i * width);
  for (std::int64_t round = 0; round < rounds; ++round) {
    BITTERN_UNROLL
    for (int i = 0; i < chains; ++i) x[i] = fma(x[i], factor, term);
  }
  BITTERN_UNROLL
  for (int i = 0; i < chains; ++i) store(state + i * width, x[i]);
}

float sum(const float* data, std::int64_t count) {
  constexpr int chains = 8;
  static_assert(load_step % (chains * width) == 0);
  vf x[chains];
  BITTERN_UNROLL
  for (int i = 0; i < chains; ++i) x[i] = zero();
  for (std::int64_t at = 0; at < count; at += chains * width) {
    BITTERN_UNROLL
    for (int i = 0; i < chains; ++i) x[i] = add(x[i], load(data + at + i * width));
  }
  for (int i = 1; i < chains; ++i) x[0] = add(x[0], x[i]);
  float lanes[width], total = 0;
  store(lanes, x[0]);
  for (int i = 0; i < width; ++i) total += lanes[i];
  return total;
}

template <int vectors>
void walk(const PanelWalk& args, std::int64_t rounds) {
  const auto* panel = reinterpret_cast<const char*>(args.panel);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const PanelEntry* entry = args.list;
    for (std::int64_t r = 0; r < args.rows; ++r) {
      float* sums = args.sums + r * vectors * width;
      vf acc[vectors];
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) acc[v] = load(sums + v * width);
      for (const PanelEntry* end = entry + args.entries; entry != end; ++entry) {
        const vf w = set1(entry->weight);
        const auto* input = reinterpret_cast<const float*>(panel + entry->offset);
        BITTERN_UNROLL
        for (int v = 0; v < vectors; ++v) acc[v] = fma(w, load(input + v * width), acc[v]);
      }
      BITTERN_UNROLL
      for (int v = 0; v < vectors; ++v) store(sums + v * width, acc[v]);
    }
  }
}

template <int... v>
struct Walks {
  static constexpr PanelFunction list[] = {&walk<v>...};
};
template <int vectors, int... v>
struct WalksUpTo : WalksUpTo<vectors - 1, vectors, v...> {};
template <int... v>
struct WalksUpTo<0, v...> : Walks<v...> {};

constexpr Probes list[] = {
#define BITTERN_PROBES(level_, chains_, vectors_)                                                                                  \
  BITTERN_ONLY(level_, {.isa = Isa::level_, .chains = chains_, .flops = 2 * chains_ * width, .fma = multiply_add<chains_>,         \
                        .load = sum, .lanes = width, .vectors = vectors_, .panels = WalksUpTo<vectors_>::list}, )
#include "measure/probes.inc"
#undef BITTERN_PROBES
};

}  // namespace

const Probes* probes(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
