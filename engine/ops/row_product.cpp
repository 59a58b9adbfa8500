#include "ops/row_product.h"

#include <algorithm>
#include <limits>

#include "ops/codes.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t table_floats = 16;  // in front of sparse weights

}  // namespace

RowProduct::RowProduct(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const LutGemvKernel* coded)
    : m_(m), k_(k), n_(n), residual_step_(residual_step) {
  if (coded != nullptr) {
    coded_.emplace(*coded, k, n);
  } else {
    dense_.emplace(isa, m, k, n, residual_step);
  }
}

RowProduct::RowProduct(std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step, const SparseWeights& weights, const SparsePart& part)
    : m_(m), k_(k), n_(n), residual_step_(residual_step), spmv_(weights.kernel), part_(part) {
  for (std::int64_t matrix = 0; matrix < part.matrices; ++matrix) {
    sparse_.emplace_back(*spmv_, k, part_of(weights.rows, part.first + matrix * part.step, n));
    sparse_floats_ = std::max(sparse_floats_, table_floats + sparse_.back().packed_bytes() / 4);
  }
}

void RowProduct::pack(const SparseWeights& weights, std::int64_t matrix, float* packed) const {
  std::fill(packed, packed + sparse_floats_, 0.0f);
  std::copy(weights.table.begin(), weights.table.end(), packed);
  const SparseRows rows = part_of(weights.rows, part_.first + matrix * part_.step, n_);
  sparse_[static_cast<std::size_t>(matrix)].pack(rows, static_cast<std::uint8_t>(weights.table.size()), reinterpret_cast<std::byte*>(packed + table_floats));
}

void RowProduct::run(const float* x, const float* packed, const float* bias, const float* residual, float* y, float* scratch, Team& team,
                     std::int64_t matrix) const {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const bool added = residual != nullptr;
  if (whole_) return whole_->run(x, packed, added ? residual : bias, added ? residual_step_ : 0, y, scratch, team);
  if (rounding_ != nullptr) {
    const Quantiser of_x = dynamic_quantiser(x, m_ * k_);
    auto* codes = reinterpret_cast<std::uint8_t*>(scratch + (m_ * k_ + 15) / 16 * 16);
    quantise_rows(*rounding_, of_x, m_, k_, x, k_, codes, team);
    dequantise_rows(*rounding_, of_x, m_, k_, k_, codes, scratch, team);
    x = scratch;
  }
  if (spmv_ != nullptr) {
    SpmvArgs args;
    args.table = packed;
    args.lo = -infinity, args.hi = infinity;
    for (std::int64_t row = 0; row < m_; ++row) {
      args.bias = added ? residual + row * residual_step_ : bias;
      args.y = y + row * n_;
      sparse_[static_cast<std::size_t>(matrix)].run(x + row * k_, reinterpret_cast<const std::byte*>(packed + table_floats), args, nullptr, team);
    }
    return;
  }
  if (!coded_) return dense_->run(x, packed, bias, residual, y, team);
  coded_->run(packed, {x, m_, added ? residual : bias, added ? residual_step_ : 0, -infinity, infinity, y}, team);
}

}  // namespace bittern::engine
