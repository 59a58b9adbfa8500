// Products with a matrix that is dense, through the gemm tiles, or codes of few bits, row by row through kernels that decode
// them in registers.
#pragma once

#include <cstdint>
#include <optional>

#include "gemm/lut_gemv.h"
#include "gemm/product.h"

namespace bittern::engine {

// y = x B + bias or residual, as Product has it; B is n x k. Codes if there is a kernel for them.
class RowProduct {
 public:
  RowProduct(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const LutGemvKernel* coded);

  const char* kernel_name() const noexcept { return coded_ ? coded_->kernel().name : dense_->kernel().name; }
  Isa kernel_isa() const noexcept { return coded_ ? coded_->kernel().isa : dense_->kernel().isa; }
  std::int64_t packed_floats() const noexcept { return coded_ ? coded_->packed_floats() : dense_->packed_floats(); }
  std::int64_t padded_outputs() const noexcept { return coded_ ? coded_->padded_channels() : dense_->padded_outputs(); }
  void pack(const float* b, float* packed) const { dense_->pack_rows(b, packed); }
  void pack(const CodedNumbers& numbers, const std::uint8_t* codes, float* packed) const { coded_->pack(numbers, codes, k_, 1, packed); }
  // Not both of bias and residual with codes.
  void run(const float* x, const float* packed, const float* bias, const float* residual, float* y, Team& team) const;

 private:
  std::int64_t m_, k_, residual_step_;
  std::optional<Product> dense_;
  std::optional<LutGemv> coded_;
};

}  // namespace bittern::engine
