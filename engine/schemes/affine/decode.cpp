// Fixed-point numbers: an exact integer difference, one conversion, one multiplication.
#include "schemes/affine/decode.h"

#include "base/checked.h"

namespace bittern::engine::schemes::affine {

namespace {

constexpr const char* overflow = "code minus zero point leaves 64 bits";

}  // namespace

template <class T>
Status decode(std::span<const T> codes, std::span<const float> scales, std::span<const std::int64_t> zero_points,
              Channels shape, std::size_t group, std::span<float> out) noexcept {
  if (codes.size() != shape.elements() || out.size() != codes.size()) {
    return Status::failure("codes and shape disagree in size");
  }
  const std::size_t groups = group == 0 ? 0 : ceil_div(shape.channels, group);
  const std::size_t expected = group == 0 ? shape.channels : shape.outer * groups * shape.inner;
  if (scales.size() != expected) return Status::failure("wrong number of scales");
  if (!zero_points.empty() && zero_points.size() != expected) return Status::failure("wrong number of zero points");
  if (out.empty()) return {};  // outer may still be enormous

  std::size_t element = 0;
  for (std::size_t o = 0; o < shape.outer; ++o) {
    for (std::size_t c = 0; c < shape.channels; ++c) {
      const std::size_t row = group == 0 ? c : (o * groups + c / group) * shape.inner;
      for (std::size_t i = 0; i < shape.inner; ++i, ++element) {
        const std::size_t entry = group == 0 ? row : row + i;
        const std::int64_t zero_point = zero_points.empty() ? 0 : zero_points[entry];
        const auto difference = checked_sub<std::int64_t>(codes[element], zero_point);
        if (!difference) return Status::failure(overflow, element);
        out[element] = scales[entry] * static_cast<float>(*difference);
      }
    }
  }
  return {};
}

template Status decode(std::span<const std::int32_t>, std::span<const float>, std::span<const std::int64_t>, Channels,
                       std::size_t, std::span<float>) noexcept;
template Status decode(std::span<const std::int64_t>, std::span<const float>, std::span<const std::int64_t>, Channels,
                       std::size_t, std::span<float>) noexcept;

}  // namespace bittern::engine::schemes::affine
