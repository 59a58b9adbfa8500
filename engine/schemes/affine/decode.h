// Fixed-point numbers: scale * (code - zero_point).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::affine {

// codes, out: shape.elements(). group 0: one scale per channel. group g > 0: the scales form
// [outer, ceil(channels / g), inner]. zero_points: empty (zero), or as many as scales. T: int32_t or int64_t.
// Fails if a difference leaves int64.
template <class T>
Status decode(std::span<const T> codes, std::span<const float> scales, std::span<const std::int64_t> zero_points,
              Channels shape, std::size_t group, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::affine
