// One bit per number: +scale or -scale.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::signs {

// scale: [channels]. codes, out: shape.elements(). T: int32_t or int64_t. Fails on a code outside 0..1.
template <class T>
Status decode(std::span<const T> codes, std::span<const float> scale, Channels shape, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::signs
