// Products of rows that are quantised to 8 bits as they come with weights of whole numbers times scales: exact sums.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "gemm/few_bits.h"
#include "ops/code_rows.h"

namespace bittern::engine {

// n rows of k whole numbers within -128 .. 127, with one scale or one for each row. `alphabet`: all values there may be, or
// empty where they are more than codes of fewer than 8 bits have.
struct WholeRows {
  const std::int16_t* values = nullptr;
  std::span<const float> scale;
  std::span<const std::int16_t> alphabet;
};

// What a sum of so many products cannot leave, the zero point's share included, are 32 bits.
inline constexpr std::int64_t most_dynamic_inputs = 32768;

// y[row] = float(sum) * (x_scale * scale) + added: DynamicQuantizeLinear of all m rows together, then row by row.
class DynamicProduct {
 public:
  DynamicProduct(const GemvKernel& kernel, const CodeKernels& codes, std::int64_t m, std::int64_t k, std::int64_t n)
      : kernel_(&kernel), codes_(&codes), m_(m), k_(k), n_(n), layer_(kernel, k, n) {}

  const GemvKernel& kernel() const noexcept { return *kernel_; }
  std::int64_t outputs() const noexcept { return n_; }
  std::int64_t packed_floats() const noexcept { return scales_at() + channels(); }
  std::int64_t scratch_floats() const noexcept { return 2 * channels() + whole_lines(m_ * pitch()); }
  void pack(const WholeRows& weights, float* packed) const;
  // `added`: for each row n numbers, `added_step` after those of the row before; or null.
  void run(const float* x, const float* packed, const float* added, std::int64_t added_step, float* y, float* scratch, Team& team) const;

 private:
  // Floats that hold so many bytes in whole lines of the cache.
  static std::int64_t whole_lines(std::int64_t bytes) noexcept { return (bytes + 63) / 64 * 16; }
  std::int64_t pitch() const noexcept { return layer_.quads() * 4; }
  std::int64_t channels() const noexcept { return whole_lines(layer_.padded_channels() * 4); }
  // Of packed weights: codes, their table, the sum of each row, scales.
  std::int64_t table_at() const noexcept { return whole_lines(layer_.packed_bytes()); }
  std::int64_t sums_at() const noexcept { return table_at() + 16; }
  std::int64_t scales_at() const noexcept { return sums_at() + channels(); }

  const GemvKernel* kernel_;
  const CodeKernels* codes_;
  std::int64_t m_, k_, n_;
  IntGemv layer_;
};

}  // namespace bittern::engine
