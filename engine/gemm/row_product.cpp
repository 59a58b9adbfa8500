#include "gemm/row_product.h"

#include <limits>

namespace bittern::engine {

RowProduct::RowProduct(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const LutGemvKernel* coded)
    : m_(m), k_(k), residual_step_(residual_step) {
  if (coded != nullptr) {
    coded_.emplace(*coded, k, n);
  } else {
    dense_.emplace(isa, m, k, n, residual_step);
  }
}

void RowProduct::run(const float* x, const float* packed, const float* bias, const float* residual, float* y, Team& team) const {
  if (!coded_) return dense_->run(x, packed, bias, residual, y, team);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const bool added = residual != nullptr;
  coded_->run(packed, {x, m_, added ? residual : bias, added ? residual_step_ : 0, -infinity, infinity, y}, team);
}

}  // namespace bittern::engine
