// Sums of tensors: one float32 addition for each element of each part after the first.
#include "schemes/sum/decode.h"

#include <cstddef>

namespace bittern::engine::schemes::sum {

Status add(std::span<const float> part, std::span<float> out) noexcept {
  if (part.size() != out.size()) return Status::failure("the parts of a sum differ in size");
  for (std::size_t i = 0; i < out.size(); ++i) out[i] += part[i];
  return {};
}

}  // namespace bittern::engine::schemes::sum
