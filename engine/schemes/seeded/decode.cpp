// Random ternary weights: a counter through the mixing function of splitmix64.
#include "schemes/seeded/decode.h"

namespace bittern::engine::schemes::seeded {

namespace {

constexpr std::uint64_t step = 0x9E3779B97F4A7C15;

// One output of splitmix64 whose state is `state` before the step.
constexpr std::uint64_t splitmix64(std::uint64_t state) noexcept {
  std::uint64_t z = state + step;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
  z = (z ^ z >> 27) * 0x94D049BB133111EB;
  return z ^ z >> 31;
}

static_assert(splitmix64(0) == 0xE220A8397B1DCDAF);

}  // namespace

void decode(std::uint64_t seed, std::uint64_t threshold, std::span<float> out) noexcept {
  std::uint64_t state = seed;
  for (float& value : out) {
    const std::uint64_t r = splitmix64(state);
    value = r >> 32 >= threshold ? 0.0F : (r & 1) != 0 ? -1.0F : 1.0F;
    state += step;
  }
}

}  // namespace bittern::engine::schemes::seeded
