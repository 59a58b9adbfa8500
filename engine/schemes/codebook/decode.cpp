// Shared values: bounded table look-ups.
#include "schemes/codebook/decode.h"

namespace bittern::engine::schemes::codebook {

template <class T>
Status decode(std::span<const T> codes, std::span<const float> table, std::size_t entries, Channels shape,
              std::span<float> out) noexcept {
  if (codes.size() != shape.elements() || out.size() != codes.size()) {
    return Status::failure("codes and shape disagree in size");
  }
  if (table.size() != shape.channels * entries) return Status::failure("wrong size of the table");
  if (out.empty()) return {};  // outer may still be enormous

  std::size_t element = 0;
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t c = 0; c < shape.channels; ++c) {
      const std::span<const float> row = table.subspan(c * entries, entries);
      for (std::size_t i = 0; i < shape.inner; ++i, ++element) {
        const auto code = static_cast<std::uint64_t>(static_cast<std::int64_t>(codes[element]));  // negative: huge
        if (code >= entries) {
          return Status::outside("a code outside the table", element, codes[element], 0,
                                 static_cast<std::int64_t>(entries) - 1);
        }
        out[element] = row[code];
      }
    }
  }
  return {};
}

template Status decode(std::span<const std::int32_t>, std::span<const float>, std::size_t, Channels,
                       std::span<float>) noexcept;
template Status decode(std::span<const std::int64_t>, std::span<const float>, std::size_t, Channels,
                       std::span<float>) noexcept;

}  // namespace bittern::engine::schemes::codebook
