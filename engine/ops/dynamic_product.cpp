#include "ops/dynamic_product.h"

#include <algorithm>
#include <limits>

#include "ops/codes.h"

namespace bittern::engine {

void DynamicProduct::pack(const WholeRows& weights, float* packed) const {
  std::fill(packed, packed + packed_floats(), 0.0f);
  const IntWeights values{weights.values, k_, 1};
  const bool bytes = kernel_->bits == 8;
  layer_.pack(values, bytes ? std::span<const std::int16_t>{} : weights.alphabet, reinterpret_cast<std::uint8_t*>(packed));
  if (!bytes) code_table(weights.alphabet, reinterpret_cast<std::int8_t*>(packed + table_at()));
  sum_offsets(values, n_, k_, nullptr, -1, reinterpret_cast<std::int32_t*>(packed + sums_at()));
  for (std::int64_t c = 0; c < n_; ++c) packed[scales_at() + c] = weights.scale[weights.scale.size() == 1 ? 0 : static_cast<std::size_t>(c)];
}

void DynamicProduct::run(const float* x, const float* packed, const float* added, std::int64_t added_step, float* y, float* scratch, Team& team) const {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Quantiser of_x = dynamic_quantiser(x, m_ * k_);
  auto* offset = reinterpret_cast<std::int32_t*>(scratch);
  float* scale = scratch + channels();
  auto* codes = reinterpret_cast<std::uint8_t*>(scale + channels());
  const auto* sums = reinterpret_cast<const std::int32_t*>(packed + sums_at());
  for (std::int64_t c = 0; c < channels(); ++c) {
    offset[c] = -of_x.zero * sums[c];
    scale[c] = of_x.scale * packed[scales_at() + c];
  }
  quantise_rows(*codes_, of_x, m_, k_, x, pitch(), codes, team);
  IntEpilogue epilogue;
  epilogue.offset = offset;
  epilogue.store.scale = scale;
  epilogue.store.lo = -infinity;
  epilogue.store.hi = infinity;
  for (std::int64_t row = 0; row < m_; ++row) {
    float* to = y + row * n_;
    layer_.run(codes + row * pitch(), reinterpret_cast<const std::uint8_t*>(packed), reinterpret_cast<const std::int8_t*>(packed + table_at()), epilogue,
               IntOut::floats, to, team);
    if (added == nullptr) continue;
    // Here, since the kernel reads whole vectors of what it adds.
    const float* from = added + row * added_step;
    for (std::int64_t c = 0; c < n_; ++c) to[c] += from[c];
  }
}

}  // namespace bittern::engine
