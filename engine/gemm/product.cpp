#include "gemm/product.h"

#include <limits>

#include "registry.h"

namespace bittern::engine {
namespace {

// A matrix is a map of one row: pixels are samples, channels are features, all in one block.
ConvShape shape_of(std::int64_t m, std::int64_t k, std::int64_t n) {
  ConvShape s;
  s.c = k, s.w = m, s.oc = n, s.ow = m;
  return s;
}

const GemmKernel& cheapest(Isa isa, const ConvShape& s) {
  const std::span<const GemmKernel> kernels = gemm_kernels(isa);
  const GemmKernel* best = &kernels[0];
  for (const GemmKernel& kernel : kernels)
    if (GemmConv::cost(kernel, s, s.c, true) < GemmConv::cost(*best, s, s.c, true)) best = &kernel;
  return *best;
}

}  // namespace

Product::Product(Isa isa, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t residual_step)
    : Product(cheapest(isa, shape_of(m, k, n)), shape_of(m, k, n), residual_step) {}

Product::Product(const GemmKernel& kernel, const ConvShape& s, std::int64_t residual_step)
    : kernel_(&kernel),
      conv_(kernel, s, make_map(1, s.c, 1, s.w, s.c), make_map(1, s.oc, 1, s.w, s.oc),
            residual_step == 0 ? Map{} : make_map(1, s.oc, 1, s.w, residual_step)) {}

void Product::pack_rows(const float* b, float* packed) const {
  conv_.pack(b, packed, [](const float*, std::int64_t) {});
}

void Product::pack_columns(const float* b, float* packed) const {
  conv_.pack_columns(b, packed, [](const float*, std::int64_t) {});
}

void Product::run(const float* x, const float* packed, const float* bias, const float* residual, float* y, Team& team) const {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  conv_.run(x, packed, {bias, residual, -infinity, infinity}, y, team);
}

}  // namespace bittern::engine
