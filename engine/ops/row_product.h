// Products with a matrix that is dense, through the gemm tiles, or codes of few bits, row by row through kernels that decode
// them in registers, or sparse, row by row on the weights that are not zero; or of inputs that are quantised as they come.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "gemm/lut_gemv.h"
#include "gemm/product.h"
#include "ops/dynamic_product.h"
#include "spmm/row.h"

namespace bittern::engine {

// Rows of several matrices, one behind the other; with a table, codes into it.
struct SparseWeights {
  const SpmvKernel* kernel = nullptr;
  SparseRows rows;
  std::vector<float> table;
};

// Of each matrix: where its rows begin and how far matrices are apart.
struct SparsePart {
  std::int64_t first = 0, step = 0, matrices = 0;
};

// y = x B + bias or residual, as Product has it; B is n x k. Codes if there is a kernel for them.
class RowProduct {
 public:
  RowProduct(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const LutGemvKernel* coded);

  // Of sparse matrices, which have packed_floats() each; k as SparseRow reads it in place (in_place()).
  RowProduct(std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const SparseWeights& weights, const SparsePart& part);
  // Of whole numbers with codes of the inputs.
  RowProduct(std::int64_t residual_step, const DynamicProduct& whole) : m_(0), k_(0), n_(whole.outputs()), residual_step_(residual_step), whole_(whole) {}
  // Inputs are quantised and decoded again before they are multiplied.
  void round_inputs(const CodeKernels& codes) noexcept { rounding_ = &codes; }
  static bool in_place(std::int64_t k) noexcept { return k >= spmv_window && k % spmv_step == 0; }

  const char* kernel_name() const noexcept {
    return whole_ ? whole_->kernel().name : spmv_ != nullptr ? spmv_->name : coded_ ? coded_->kernel().name : dense_->kernel().name;
  }
  Isa kernel_isa() const noexcept {
    return whole_ ? whole_->kernel().isa : spmv_ != nullptr ? spmv_->isa : coded_ ? coded_->kernel().isa : dense_->kernel().isa;
  }
  std::int64_t packed_floats() const noexcept {
    return whole_ ? whole_->packed_floats() : spmv_ != nullptr ? sparse_floats_ : coded_ ? coded_->packed_floats() : dense_->packed_floats();
  }
  std::int64_t padded_outputs() const noexcept {
    return spmv_ != nullptr || whole_ ? n_ : coded_ ? coded_->padded_channels() : dense_->padded_outputs();
  }
  std::int64_t scratch_floats() const noexcept { return whole_ ? whole_->scratch_floats() : rounding_ != nullptr ? (m_ * k_ + 15) / 16 * 20 : 0; }
  void pack(const float* b, float* packed) const { dense_->pack_rows(b, packed); }
  void pack(const CodedNumbers& numbers, const std::uint8_t* codes, float* packed) const { coded_->pack(numbers, codes, k_, 1, packed); }
  void pack(const SparseWeights& weights, std::int64_t matrix, float* packed) const;
  void pack(const WholeRows& weights, float* packed) const { whole_->pack(weights, packed); }
  // Not both of bias and residual but with dense weights. `matrix`: of sparse ones, whose packed form is given.
  void run(const float* x, const float* packed, const float* bias, const float* residual, float* y, float* scratch, Team& team,
           std::int64_t matrix) const;

 private:
  std::int64_t m_, k_, n_, residual_step_;
  std::optional<Product> dense_;
  std::optional<LutGemv> coded_;
  std::optional<DynamicProduct> whole_;
  const CodeKernels* rounding_ = nullptr;
  const SpmvKernel* spmv_ = nullptr;
  SparsePart part_;
  std::vector<SparseRow> sparse_;  // of each matrix
  std::int64_t sparse_floats_ = 0;
};

}  // namespace bittern::engine
