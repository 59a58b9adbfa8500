// Where functions that rise cross a bound: the exact numbers, found on the functions themselves.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace bittern::plan {

// The least number for which `reaches`, which holds for all greater finite ones, too; infinity if none of them does, a NaN if even
// that does not.
template <class Reaches>
float least_float(const Reaches& reaches) {
  // Numbers in their order, as integers: negative ones count down.
  const auto number = [](std::int64_t rank) {
    const auto bits = static_cast<std::uint32_t>(rank < 0 ? -rank : rank) | (rank < 0 ? 0x80000000u : 0u);
    return std::bit_cast<float>(bits);
  };
  constexpr std::int64_t infinity = 0x7f800000;
  if (!reaches(number(infinity - 1))) {
    return reaches(number(infinity)) ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  std::int64_t below = -infinity - 1, at = infinity - 1;
  while (at - below > 1) {
    const std::int64_t middle = below + (at - below) / 2;
    (reaches(number(middle)) ? at : below) = middle;
  }
  return number(at);
}

// The least of the whole numbers -most .. most for which `reaches`, which holds for all greater ones, too; most + 1 if it holds for none.
template <class Reaches>
std::int64_t least_integer(std::int64_t most, const Reaches& reaches) {
  std::int64_t below = -most - 1, at = most + 1;
  while (at - below > 1) {
    const std::int64_t middle = below + (at - below) / 2;
    (reaches(middle) ? at : below) = middle;
  }
  return at;
}

}  // namespace bittern::plan
