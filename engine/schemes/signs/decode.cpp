// Signs: plus or minus one scale per channel.
#include "schemes/signs/decode.h"

namespace bittern::engine::schemes::signs {

template <class T>
Status decode(std::span<const T> codes, std::span<const float> scale, Channels shape, std::span<float> out) noexcept {
  if (codes.size() != shape.elements() || out.size() != codes.size()) {
    return Status::failure("codes and shape disagree in size");
  }
  if (scale.size() != shape.channels) return Status::failure("wrong number of scales");
  if (out.empty()) return {};  // outer may still be enormous

  std::size_t element = 0;
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t c = 0; c < shape.channels; ++c) {
      const float values[2] = {-scale[c], scale[c]};
      for (std::size_t i = 0; i < shape.inner; ++i, ++element) {
        const T code = codes[element];
        if (code < 0 || code > 1) return Status::outside("a sign code that is neither 0 nor 1", element, code, 0, 1);
        out[element] = values[code];
      }
    }
  }
  return {};
}

template Status decode(std::span<const std::int32_t>, std::span<const float>, Channels, std::span<float>) noexcept;
template Status decode(std::span<const std::int64_t>, std::span<const float>, Channels, std::span<float>) noexcept;

}  // namespace bittern::engine::schemes::signs
