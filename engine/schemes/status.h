// What a decoder found wrong with its data, and how elements map to channels: shared by all schemes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bittern::engine::schemes {

// Success, or the first problem: a static text, the element it stands at, what was found and the limits.
struct Status {
  const char* problem = nullptr;
  std::size_t index = 0;
  bool has_range = false;  // `found`, `low` and `high` mean something
  std::int64_t found = 0, low = 0, high = 0;

  constexpr bool ok() const noexcept { return problem == nullptr; }

  static constexpr Status failure(const char* problem, std::size_t index = 0) noexcept {
    return {problem, index, false, 0, 0, 0};
  }
  static constexpr Status outside(const char* problem, std::size_t index, std::int64_t found, std::int64_t low,
                                  std::int64_t high) noexcept {
    return {problem, index, true, found, low, high};
  }
};

// A tensor seen as [outer, channels, inner]: parameters are given per channel. The whole tensor is {1, 1, n}.
struct Channels {
  std::size_t outer = 1, channels = 1, inner = 0;

  constexpr std::size_t elements() const noexcept { return outer * channels * inner; }
};

}  // namespace bittern::engine::schemes
