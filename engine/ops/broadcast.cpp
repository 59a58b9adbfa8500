// Which dimensions of broadcast arrays are walked through as one.
#include "ops/broadcast.h"

namespace bittern::engine {

Broadcast::Broadcast(std::span<const std::int64_t> result, std::initializer_list<std::span<const std::int64_t>> operands) {
  // Strides of the operands, last dimension first: dimension d of the result stands rank - 1 - d from the end.
  std::array<std::array<std::int64_t, 3>, 8> strides{};
  std::size_t i = 0;
  for (const std::span<const std::int64_t> shape : operands) {
    std::int64_t stride = 1;
    for (std::size_t d = 0; d < shape.size(); ++d) {
      const std::int64_t size = shape[shape.size() - 1 - d];
      strides[result.size() - 1 - d][i] = size == 1 ? 0 : stride;
      if (size > 1) stride *= size;
    }
    ++i;
  }
  for (const std::int64_t size : result) total_ *= size != 0 ? size : 1;
  if (std::find(result.begin(), result.end(), 0) != result.end()) total_ = 0;
  for (std::size_t d = 0; d < result.size(); ++d) {
    if (result[d] == 1) continue;
    bool alike = rank_ > 0;
    for (i = 0; alike && i < 3; ++i) alike = strides_[rank_ - 1][i] == strides[d][i] * result[d];
    if (!alike) ++rank_;
    sizes_[rank_ - 1] = alike ? sizes_[rank_ - 1] * result[d] : result[d];
    strides_[rank_ - 1] = strides[d];
  }
  if (rank_ == 0) sizes_[rank_++] = 1;
}

}  // namespace bittern::engine
