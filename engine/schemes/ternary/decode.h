// Three values per channel: zero, +positive, -negative.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::ternary {

// positive, negative: [channels]. codes, out: shape.elements(). T: int32_t or int64_t. Fails on a code outside 0..2.
template <class T>
Status decode(std::span<const T> codes, std::span<const float> positive, std::span<const float> negative,
              Channels shape, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::ternary
