// Kernels of signs: each element is plus where the signs of its row and its column agree.
#include "schemes/separable_signs/decode.h"

namespace bittern::engine::schemes::separable_signs {

template <class T>
Status decode(std::span<const std::byte> data, std::size_t height, std::size_t width, std::span<T> out) noexcept {
  if (height == 0 || width == 0 || out.size() % height != 0 || out.size() / height % width != 0) {
    return Status::failure("the elements are no whole kernels");
  }
  const std::size_t kernels = out.size() / height / width;
  if (data.size() != bytes_for(kernels, height, width)) return Status::failure("the leaf's size does not match the kernels");
  const std::size_t bits = kernels * (height + width - 1);
  if (bits % 8 != 0 && std::to_integer<unsigned>(data.back()) >> bits % 8 != 0) return Status::failure("spare bits that are not zero", kernels);

  const auto bit = [&](std::size_t at) { return std::to_integer<unsigned>(data[at / 8]) >> at % 8 & 1U; };
  std::size_t element = 0;
  for (std::size_t k = 0; k < kernels; ++k) {
    const std::size_t first = k * (height + width - 1), row = first + height - 1;
    for (std::size_t r = 0; r < height; ++r) {
      const unsigned sign = r == 0 ? 1U : bit(first + r - 1);  // the first row is always plus
      for (std::size_t s = 0; s < width; ++s) out[element++] = sign == bit(row + s) ? 1 : 0;
    }
  }
  return {};
}

template Status decode(std::span<const std::byte>, std::size_t, std::size_t, std::span<std::int32_t>) noexcept;
template Status decode(std::span<const std::byte>, std::size_t, std::size_t, std::span<std::int64_t>) noexcept;

}  // namespace bittern::engine::schemes::separable_signs
