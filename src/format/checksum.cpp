// CRC-32, eight bytes at a time ("slicing by eight").
#include "format/checksum.h"

#include <array>
#include <bit>
#include <cstring>

namespace bittern::format {

namespace {

static_assert(std::endian::native == std::endian::little, "the eight-byte step reads little-endian words");

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: the remainder of byte b followed by k zero bytes (reflected polynomial 0x04C11DB7).
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t remainder = byte;
    for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1u) != 0 ? 0xEDB88320u : 0u);
    tables[0][byte] = remainder;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t previous = tables[k - 1][byte];
      tables[k][byte] = (previous >> 8) ^ tables[0][previous & 0xFFu];
    }
  }
  return tables;
}

constexpr Tables tables = make_tables();

}  // namespace

void Crc32::update(std::span<const std::byte> bytes) noexcept {
  std::uint32_t state = state_;
  std::size_t i = 0;
  for (; bytes.size() - i >= 8; i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, sizeof(word));
    word ^= state;
    state = 0;
    for (std::size_t k = 0; k < 8; ++k) state ^= tables[7 - k][(word >> (8 * k)) & 0xFFu];
  }
  for (; i < bytes.size(); ++i) {
    state = (state >> 8) ^ tables[0][(state ^ std::to_integer<std::uint32_t>(bytes[i])) & 0xFFu];
  }
  state_ = state;
}

}  // namespace bittern::format
