// Codes of 1 to 32 bits, one after the other in a bit stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::packed {

// Bytes that n codes take; nothing if that does not fit.
std::optional<std::size_t> bytes_for(std::size_t n, int bits) noexcept;

// data: bytes_for(out.size(), bits). bits: 1..32. T is int32_t or int64_t; unsigned codes of 32 bits need int64_t.
// Fails on another size and on spare bits that are not zero.
template <class T>
Status decode(std::span<const std::byte> data, int bits, bool is_signed, std::span<T> out) noexcept;

}  // namespace bittern::engine::schemes::packed
