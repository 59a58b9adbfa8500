// Codes 0, 1 and 2: the digits of bytes to base 3.
#include "schemes/trits/decode.h"

#include <algorithm>

namespace bittern::engine::schemes::trits {

template <class T>
Status decode(std::span<const std::byte> data, std::span<T> out) noexcept {
  if (data.size() != bytes_for(out.size())) return Status::failure("the leaf's size does not match the codes");
  for (std::size_t b = 0; b < data.size(); ++b) {
    unsigned rest = std::to_integer<unsigned>(data[b]);
    if (rest > 242) return Status::outside("a byte that is no five trits", b, rest, 0, 242);
    const std::size_t first = b * per_byte, end = std::min(first + per_byte, out.size());
    for (std::size_t i = first; i < end; ++i, rest /= 3) out[i] = static_cast<T>(rest % 3);
    if (rest != 0) return Status::failure("spare trits that are not zero", b);
  }
  return {};
}

template Status decode(std::span<const std::byte>, std::span<std::int32_t>) noexcept;
template Status decode(std::span<const std::byte>, std::span<std::int64_t>) noexcept;

}  // namespace bittern::engine::schemes::trits
