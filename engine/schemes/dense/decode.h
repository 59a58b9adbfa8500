// Raw numbers as they stand in memory, little endian, at any address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::dense {

enum class Real : std::uint8_t { f32, f16, bf16 };
enum class Integer : std::uint8_t { boolean, u8, i8, u16, i16, u32, i32, i64 };

std::size_t size_of(Real type) noexcept;
std::size_t size_of(Integer type) noexcept;

// Exact: subnormals, infinities and NaN (sign and payload) included.
float from_f16(std::uint16_t bits) noexcept;
float from_bf16(std::uint16_t bits) noexcept;

// data: out.size() numbers of `type`. Fails if `data` has another size.
Status decode(std::span<const std::byte> data, Real type, std::span<float> out) noexcept;

// T is int32_t or int64_t and must hold every value of `type` (int32_t: not u32, not i64). Fails on a boolean above 1.
template <class T>
Status decode(std::span<const std::byte> data, Integer type, std::span<T> out) noexcept;

}  // namespace bittern::engine::schemes::dense
