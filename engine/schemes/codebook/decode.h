// Shared values: each code names an entry of a table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::codebook {

// table: [channels, entries], C order. codes, out: shape.elements(). T: int32_t or int64_t.
// Fails on a code outside 0..entries-1.
template <class T>
Status decode(std::span<const T> codes, std::span<const float> table, std::size_t entries, Channels shape,
              std::span<float> out) noexcept;

}  // namespace bittern::engine::schemes::codebook
