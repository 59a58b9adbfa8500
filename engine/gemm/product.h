// The product of row-major matrices through the gemm tiles: y = x B + bias + residual.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "gemm/conv.h"

namespace bittern::engine {

// x is m x k and y is m x n, rows without gaps; all sizes at least 1. B is packed beforehand, into packed_floats() of the
// caller's memory. Results do not depend on the team.
class Product {
 public:
  // Rows of the residual start `residual_step` floats apart.
  Product(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step = 0);

  const GemmKernel& kernel() const noexcept { return *kernel_; }
  std::int64_t packed_floats() const noexcept { return conv_.packed_elements(); }
  std::int64_t padded_outputs() const noexcept { return conv_.padded_channels(); }  // floats of `bias`
  void pack_rows(const float* b, float* packed) const;     // B stored as n x k
  void pack_columns(const float* b, float* packed) const;  // B stored as k x n
  void run(const float* x, const float* packed, const float* bias, const float* residual, float* y, Team& team) const;

 private:
  Product(const GemmKernel& kernel, const ConvShape& shape, std::int64_t residual_step);
  const GemmKernel* kernel_;
  GemmConv conv_;
};

}  // namespace bittern::engine
