// Windows that slide over the inputs of one row: which weights of some output channels are met together.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace bittern::engine {

// Inputs of a window, where windows may begin, and the slots that stand together.
struct Windows {
  std::int64_t inputs, step, together;
};

// Calls body(steps, at, taken) for the slots of the output channels [first, last), in order: a window begins `steps` behind the
// one before, at the input `at`; `taken` has the entry of each channel, or -1. Returns the slots with those that fill the last
// ones up. `rows` has `first`, where the entries of each channel begin, and their `position`, rising, below `padded`.
template <class Rows, class Body>
std::int64_t each_slot(const Windows& windows, const Rows& rows, std::int64_t first, std::int64_t last, std::int64_t padded, const Body& body) {
  const std::int64_t longest = 255 * windows.step;
  std::vector<std::int64_t> next(rows.first.begin() + first, rows.first.begin() + last), taken(next.size());
  const std::vector<std::int64_t> none(next.size(), -1);
  std::int64_t slots = 0, before = 0;
  for (;; ++slots) {
    std::int64_t lowest = padded;
    for (std::size_t r = 0; r < next.size(); ++r) {
      if (next[r] < rows.first[static_cast<std::size_t>(first) + r + 1]) {
        lowest = std::min<std::int64_t>(lowest, rows.position[static_cast<std::size_t>(next[r])]);
      }
    }
    if (lowest == padded) break;
    const std::int64_t at = std::min(lowest / windows.step * windows.step, padded - windows.inputs);
    for (; at - before > longest; before += longest, ++slots) body(longest / windows.step, before + longest, none);
    for (std::size_t r = 0; r < next.size(); ++r) {
      const bool inside = next[r] < rows.first[static_cast<std::size_t>(first) + r + 1] &&
                          rows.position[static_cast<std::size_t>(next[r])] < at + windows.inputs;
      taken[r] = inside ? next[r]++ : -1;
    }
    body((at - before) / windows.step, at, taken);
    before = at;
  }
  return (slots + windows.together - 1) / windows.together * windows.together;
}

}  // namespace bittern::engine
