#include "ops/integer_conv.h"

#include <algorithm>

#include "base/checked.h"

namespace bittern::engine {
namespace {

// y[o] += factor * x[o * stride + shift] wherever that is inside the input.
void add_tap(std::uint32_t factor, const std::uint32_t* x, std::int64_t size, std::int64_t stride, std::int64_t shift, std::uint32_t* y,
             std::int64_t outputs) {
  const std::int64_t first = shift >= 0 ? 0 : ceil_div(-shift, stride);
  const std::int64_t end = shift >= size ? 0 : std::min(outputs, (size - 1 - shift) / stride + 1);
  for (std::int64_t o = first; o < end; ++o) y[o] += factor * x[o * stride + shift];
}

}  // namespace

void integer_conv(const PlanarConvShape& s, const std::uint32_t* x, const std::uint32_t* weights, std::uint32_t* y, Team& team) {
  const std::int64_t rows = s.out[0] * s.out[1], taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  const std::int64_t inputs = s.c / s.groups, outputs = s.oc / s.groups, pixels = s.in[0] * s.in[1] * s.in[2];
  team.run(static_cast<std::size_t>(s.n * s.oc * rows), [&](std::size_t task) {
    const std::int64_t index = static_cast<std::int64_t>(task), row = index % rows, plane = index / rows;
    const std::int64_t output = plane % s.oc, image = plane / s.oc;
    std::uint32_t* to = y + index * s.out[2];
    std::fill(to, to + s.out[2], 0U);
    for (std::int64_t i = 0; i < inputs; ++i) {
      const std::uint32_t* map = x + (image * s.c + output / outputs * inputs + i) * pixels;
      const std::uint32_t* factors = weights + (output * inputs + i) * taps;
      for (std::int64_t d = 0; d < s.kernel[0]; ++d) {
        const std::int64_t depth = row / s.out[1] * s.stride[0] + d * s.dilation[0] - s.before[0];
        if (depth < 0 || depth >= s.in[0]) continue;
        for (std::int64_t h = 0; h < s.kernel[1]; ++h) {
          const std::int64_t line = row % s.out[1] * s.stride[1] + h * s.dilation[1] - s.before[1];
          if (line < 0 || line >= s.in[1]) continue;
          for (std::int64_t w = 0; w < s.kernel[2]; ++w) {
            add_tap(factors[(d * s.kernel[1] + h) * s.kernel[2] + w], map + (depth * s.in[1] + line) * s.in[2], s.in[2], s.stride[2],
                    w * s.dilation[2] - s.before[2], to, s.out[2]);
          }
        }
      }
    }
  });
}

}  // namespace bittern::engine
