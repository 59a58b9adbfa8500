// Sums of tensors, one after the other.
#pragma once

#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::sum {

// out += part, rounded to float32. Fails if the sizes differ.
Status add(std::span<const float> part, std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::sum
