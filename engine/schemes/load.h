// Loads of little-endian numbers from any address.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>

namespace bittern::engine::schemes {

static_assert(std::endian::native == std::endian::little, "leaves are little endian and are read as they stand");
static_assert(sizeof(std::size_t) == 8, "sizes and bit positions are 64 bits wide");

template <class T>
T load(const std::byte* address) noexcept {
  T value;
  std::memcpy(&value, address, sizeof(T));
  return value;
}

}  // namespace bittern::engine::schemes
