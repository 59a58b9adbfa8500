// Kernels of signs that are the product of a column and a row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::separable_signs {

// Bytes for kernels of height x width, both at least 1: at most a bit for each element, so nothing overflows where elements do not.
constexpr std::size_t bytes_for(std::size_t kernels, std::size_t height, std::size_t width) noexcept {
  return (kernels * (height + width - 1) + 7) / 8;
}

// out: whole kernels of height x width elements, 1 for a plus. data: bytes_for that many. T: int32_t or int64_t. Fails on other sizes and
// on spare bits that are not zero.
template <class T>
Status decode(std::span<const std::byte> data, std::size_t height, std::size_t width, std::span<T> out) noexcept;

}  // namespace bittern::engine::schemes::separable_signs
