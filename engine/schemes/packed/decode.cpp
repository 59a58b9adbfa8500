// Bit streams of fixed-width codes, least significant bit first.
#include "schemes/packed/decode.h"

#include <limits>
#include <type_traits>

#include "base/checked.h"
#include "schemes/load.h"

namespace bittern::engine::schemes::packed {

namespace {

// Codes that fill whole bytes need no bit arithmetic.
template <class Code, class T>
Status copy(std::span<const std::byte> data, std::span<T> out) noexcept {
  if constexpr (sizeof(Code) < sizeof(T) || std::is_same_v<Code, T>) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<T>(load<Code>(data.data() + i * sizeof(Code)));
    return {};
  } else {
    return Status::failure("codes wider than the decoder's integers");
  }
}

// 64 bits from any bit position hold a code of up to 32 bits (and 57 of them are sure to be there).
template <class T>
void unpack(std::span<const std::byte> data, unsigned bits, std::uint64_t flip, std::span<T> out) noexcept {
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  // Flipping the sign bit and subtracting it again extends the sign; flip is 0 for unsigned codes.
  const auto code = [&](std::uint64_t word) {
    return static_cast<T>(static_cast<std::int64_t>((word & mask) ^ flip) - static_cast<std::int64_t>(flip));
  };
  std::size_t byte = 0;
  unsigned shift = 0;
  std::size_t i = 0;
  for (; i < out.size() && data.size() - byte >= 8; ++i) {
    out[i] = code(load<std::uint64_t>(data.data() + byte) >> shift);
    shift += bits;
    byte += shift / 8;
    shift %= 8;
  }
  for (; i < out.size(); ++i) {  // the last bytes, one by one
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < 8 && k < data.size() - byte; ++k) {
      word |= static_cast<std::uint64_t>(data[byte + k]) << (8 * k);
    }
    out[i] = code(word >> shift);
    shift += bits;
    byte += shift / 8;
    shift %= 8;
  }
}

}  // namespace

std::optional<std::size_t> bytes_for(std::size_t n, int bits) noexcept {
  if (bits < 1 || bits > 32) return std::nullopt;
  const auto whole = checked_mul(n / 8, static_cast<std::size_t>(bits));  // 8 codes take `bits` bytes
  if (!whole) return std::nullopt;
  return checked_add(*whole, ceil_div((n % 8) * static_cast<std::size_t>(bits), std::size_t{8}));
}

template <class T>
Status decode(std::span<const std::byte> data, int bits, bool is_signed, std::span<T> out) noexcept {
  if (bits < 1 || bits > 32) return Status::outside("a code width out of range", 0, bits, 1, 32);
  if (bytes_for(out.size(), bits) != data.size()) return Status::failure("the leaf's size does not match the codes");
  const unsigned spare = static_cast<unsigned>((8 - (out.size() % 8) * static_cast<std::size_t>(bits) % 8) % 8);
  if (spare != 0 && std::to_integer<unsigned>(data.back()) >> (8 - spare) != 0) {
    return Status::failure("spare bits that are not zero", data.size() - 1);
  }
  switch (bits) {
    case 8: return is_signed ? copy<std::int8_t>(data, out) : copy<std::uint8_t>(data, out);
    case 16: return is_signed ? copy<std::int16_t>(data, out) : copy<std::uint16_t>(data, out);
    case 32: return is_signed ? copy<std::int32_t>(data, out) : copy<std::uint32_t>(data, out);
    default:
      unpack(data, static_cast<unsigned>(bits), is_signed ? std::uint64_t{1} << (bits - 1) : 0, out);
      return {};
  }
}

template Status decode(std::span<const std::byte>, int, bool, std::span<std::int32_t>) noexcept;
template Status decode(std::span<const std::byte>, int, bool, std::span<std::int64_t>) noexcept;

}  // namespace bittern::engine::schemes::packed
