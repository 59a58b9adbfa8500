// Codes 0, 1 and 2, five to a byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::trits {

inline constexpr std::size_t per_byte = 5;

constexpr std::size_t bytes_for(std::size_t n) noexcept { return n / per_byte + (n % per_byte != 0 ? 1 : 0); }

// data: bytes_for(out.size()). T: int32_t or int64_t. Fails on another size, on a byte above 242 and on spare trits that are not zero.
template <class T>
Status decode(std::span<const std::byte> data, std::span<T> out) noexcept;

}  // namespace bittern::engine::schemes::trits
