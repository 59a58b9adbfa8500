// Raw numbers: exact conversion to float32 or to a wide enough integer.
#include "schemes/dense/decode.h"

#include <bit>
#include <cstring>
#include <type_traits>

#include "schemes/load.h"

namespace bittern::engine::schemes::dense {

namespace {

constexpr Status wrong_size = Status::failure("the leaf's size does not match its shape");

template <class Source, class T>
Status convert(std::span<const std::byte> data, std::span<T> out) noexcept {
  if (data.size() / sizeof(Source) != out.size() || data.size() % sizeof(Source) != 0) return wrong_size;
  if constexpr (sizeof(Source) < sizeof(T) || std::is_same_v<Source, T>) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<T>(load<Source>(data.data() + i * sizeof(Source)));
    }
    return {};
  } else {
    return Status::failure("an integer type wider than the decoder's");
  }
}

}  // namespace

std::size_t size_of(Real type) noexcept { return type == Real::f32 ? 4 : 2; }

std::size_t size_of(Integer type) noexcept {
  switch (type) {
    case Integer::boolean:
    case Integer::u8:
    case Integer::i8: return 1;
    case Integer::u16:
    case Integer::i16: return 2;
    case Integer::u32:
    case Integer::i32: return 4;
    case Integer::i64: return 8;
  }
  return 0;
}

float from_f16(std::uint16_t bits) noexcept {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1Fu;
  std::uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  if (mantissa == 0) return std::bit_cast<float>(sign);
  // Subnormal: shift until the hidden bit appears. No arithmetic, so flush-to-zero modes do not matter.
  const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21;
  mantissa = (mantissa << shift) & 0x3FFu;
  return std::bit_cast<float>(sign | ((113 - shift) << 23) | (mantissa << 13));
}

float from_bf16(std::uint16_t bits) noexcept { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

Status decode(std::span<const std::byte> data, Real type, std::span<float> out) noexcept {
  const std::size_t width = size_of(type);
  if (data.size() / width != out.size() || data.size() % width != 0) return wrong_size;
  switch (type) {
    case Real::f32:
      if (!out.empty()) std::memcpy(out.data(), data.data(), data.size());
      break;
    case Real::f16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = from_f16(load<std::uint16_t>(data.data() + 2 * i));
      break;
    case Real::bf16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = from_bf16(load<std::uint16_t>(data.data() + 2 * i));
      break;
  }
  return {};
}

template <class T>
Status decode(std::span<const std::byte> data, Integer type, std::span<T> out) noexcept {
  switch (type) {
    case Integer::boolean: {
      const Status status = convert<std::uint8_t>(data, out);
      if (!status.ok()) return status;
      for (std::size_t i = 0; i < out.size(); ++i) {
        if (out[i] > 1) return Status::outside("a boolean that is neither 0 nor 1", i, out[i], 0, 1);
      }
      return {};
    }
    case Integer::u8: return convert<std::uint8_t>(data, out);
    case Integer::i8: return convert<std::int8_t>(data, out);
    case Integer::u16: return convert<std::uint16_t>(data, out);
    case Integer::i16: return convert<std::int16_t>(data, out);
    case Integer::u32: return convert<std::uint32_t>(data, out);
    case Integer::i32: return convert<std::int32_t>(data, out);
    case Integer::i64: return convert<std::int64_t>(data, out);
  }
  return Status::failure("an unknown integer type");
}

template Status decode(std::span<const std::byte>, Integer, std::span<std::int32_t>) noexcept;
template Status decode(std::span<const std::byte>, Integer, std::span<std::int64_t>) noexcept;

}  // namespace bittern::engine::schemes::dense
