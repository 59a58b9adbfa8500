#include "registry.h"

#include <cstdlib>

#include "base/cpu_features.h"
#include "gemm/lists.h"
#include "ops/plain.h"

namespace bittern::engine {
namespace {

const char* describe(std::string_view loop) {
  if (loop == "depthwise") return "depthwise convolution, channels in lanes";
  if (loop == "maxpool") return "max-pooling, channels in lanes";
  if (loop == "avgpool") return "average pooling, channels in lanes";
  if (loop == "lrn") return "local response normalisation across channels";
  if (loop == "softmax") return "exp(x - max) / sum along an axis";
  if (loop == "eltwise") return "add, subtract, multiply, divide, clamp, leaky ReLU, sigmoid, tanh";
  return "";
}

}  // namespace

// The list that every level defines under the same name in its namespace.
#if defined(BITTERN_BUILD_X86)
#define BITTERN_LISTS(function, Kernel)                       \
  std::span<const Kernel> function(Isa isa) {                 \
    int count = 0;                                            \
    const Kernel* list = isa == Isa::avx512 ? avx512::function(count) \
                         : isa == Isa::avx2 ? avx2::function(count)   \
                                            : scalar::function(count); \
    return {list, static_cast<std::size_t>(count)};           \
  }
#else
#define BITTERN_LISTS(function, Kernel)                       \
  std::span<const Kernel> function(Isa isa) {                 \
    int count = 0;                                            \
    const Kernel* list = scalar::function(count);             \
    return {list, isa == Isa::scalar ? static_cast<std::size_t>(count) : 0}; \
  }
#endif
BITTERN_LISTS(gemm_kernels, GemmKernel)
BITTERN_LISTS(winograd_kernels, WinogradKernel)
BITTERN_LISTS(op_kernels, OpKernel)
#undef BITTERN_LISTS

const OpKernel& op_kernel(std::string_view loop, Isa isa) {
  for (int level = static_cast<int>(isa); level >= 0; --level) {
    for (const OpKernel& kernel : op_kernels(static_cast<Isa>(level))) {
      if (loop == kernel.loop) return kernel;
    }
  }
  std::abort();  // a loop that is in no list: a mistake in this library, caught by the first test
}

const std::vector<KernelInfo>& kernels() {
  static const std::vector<KernelInfo> all = [] {
    std::vector<KernelInfo> list;
    for (int level = 0; level < isa_count; ++level) {
      for (const GemmKernel& k : gemm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemm", k.isa, k.rows, k.cols, "dense tile: convolution and fully connected layers"});
      }
      for (const WinogradKernel& k : winograd_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "winograd", k.isa, 0, 0, "3x3 convolution of stride 1 with fewer multiplications"});
      }
      for (const OpKernel& k : op_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, k.loop, k.isa, k.rows, k.cols, describe(k.loop)});
      }
    }
    for (const PlainKernel& k : plain_kernels) list.push_back({k.name, k.loop, Isa::scalar, 0, 0, k.description});
    return list;
  }();
  return all;
}

}  // namespace bittern::engine
