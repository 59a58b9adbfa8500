// CRC-32 with the polynomial of zlib and PNG.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace bittern::format {

class Crc32 {
 public:
  void update(std::span<const std::byte> bytes) noexcept;
  void update(std::string_view text) noexcept { update(std::as_bytes(std::span(text.data(), text.size()))); }
  std::uint32_t value() const noexcept { return ~state_; }

 private:
  std::uint32_t state_ = 0xFFFFFFFFu;
};

}  // namespace bittern::format
