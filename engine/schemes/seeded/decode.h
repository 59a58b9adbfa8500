// Fixed random weights of -1, 0 and +1, made from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace bittern::engine::schemes::seeded {

inline constexpr std::uint64_t every = std::uint64_t{1} << 32;  // the threshold that leaves no zeros

// Element i: with r = splitmix64(seed + i * 0x9E3779B97F4A7C15), zero unless (r >> 32) < threshold, else -1 if r is odd, +1 if even.
void decode(std::uint64_t seed, std::uint64_t threshold, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::seeded
