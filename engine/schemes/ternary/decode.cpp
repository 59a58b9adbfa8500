// Three values per channel, chosen by a code of 0, 1 or 2.
#include "schemes/ternary/decode.h"

namespace bittern::engine::schemes::ternary {

template <class T>
Status decode(std::span<const T> codes, std::span<const float> positive, std::span<const float> negative,
              Channels shape, std::span<float> out) noexcept {
  if (codes.size() != shape.elements() || out.size() != codes.size()) {
    return Status::failure("codes and shape disagree in size");
  }
  if (positive.size() != shape.channels || negative.size() != shape.channels) {
    return Status::failure("wrong number of values per channel");
  }
  if (out.empty()) return {};  // outer may still be enormous

  std::size_t element = 0;
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t c = 0; c < shape.channels; ++c) {
      const float values[3] = {0.0F, positive[c], -negative[c]};
      for (std::size_t i = 0; i < shape.inner; ++i, ++element) {
        const T code = codes[element];
        if (code < 0 || code > 2) return Status::outside("a code that is not ternary", element, code, 0, 2);
        out[element] = values[code];
      }
    }
  }
  return {};
}

template Status decode(std::span<const std::int32_t>, std::span<const float>, std::span<const float>, Channels,
                       std::span<float>) noexcept;
template Status decode(std::span<const std::int64_t>, std::span<const float>, std::span<const float>, Channels,
                       std::span<float>) noexcept;

}  // namespace bittern::engine::schemes::ternary
