// Sums of powers of two: a table of each term's values, float32 additions in order, one multiplication.
#include "schemes/pow2/decode.h"

#include <array>
#include <cmath>

namespace bittern::engine::schemes::pow2 {

template <class T>
Status decode(std::span<const T> codes, int terms, int bits, std::span<const float> scale, Channels shape, std::span<float> out) noexcept {
  if (terms < 1 || terms > max_terms) return Status::outside("a number of terms out of range", 0, terms, 1, max_terms);
  if (bits < min_bits || bits > max_bits) return Status::outside("bits of a term out of range", 0, bits, min_bits, max_bits);
  if (codes.size() != shape.elements() || out.size() != codes.size()) {
    return Status::failure("codes and shape disagree in size");
  }
  if (scale.size() != shape.channels) return Status::failure("wrong number of scales");
  if (out.empty()) return {};  // outer may still be enormous

  const auto count = static_cast<unsigned>(terms), width = static_cast<unsigned>(bits);
  const std::size_t minus = std::size_t{1} << (width - 1);  // a sign without a level
  std::array<std::array<float, std::size_t{1} << max_bits>, max_terms> values{};
  for (unsigned n = 0; n < count; ++n) {
    for (std::size_t level = 1; level < minus; ++level) {
      const float power = std::ldexp(1.0F, 1 - static_cast<int>(n) - static_cast<int>(level));
      values[n][level] = power;
      values[n][level | minus] = -power;
    }
  }

  const std::int64_t last = (std::int64_t{1} << (count * width)) - 1;
  const std::size_t mask = 2 * minus - 1;
  std::size_t element = 0;
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t c = 0; c < shape.channels; ++c) {
      for (std::size_t i = 0; i < shape.inner; ++i, ++element) {
        const std::int64_t code = codes[element];
        if (code < 0 || code > last) return Status::outside("a code wider than its terms", element, code, 0, last);
        float sum = 0.0F;
        for (unsigned n = 0; n < count; ++n) {
          const std::size_t term = static_cast<std::size_t>(code) >> (n * width) & mask;
          if (term == minus) return Status::failure("a term that is minus zero", element);
          sum += values[n][term];
        }
        out[element] = scale[c] * sum;
      }
    }
  }
  return {};
}

template Status decode(std::span<const std::int32_t>, int, int, std::span<const float>, Channels, std::span<float>) noexcept;
template Status decode(std::span<const std::int64_t>, int, int, std::span<const float>, Channels, std::span<float>) noexcept;

}  // namespace bittern::engine::schemes::pow2
