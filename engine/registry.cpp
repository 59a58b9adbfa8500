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
  if (loop == "eltwise") return "add, subtract, multiply, divide, clamp, leaky ReLU";
  return "";
}

}  // namespace

std::span<const GemmKernel> gemm_kernels(Isa isa) {
  int count = 0;
  const GemmKernel* list = nullptr;
  switch (isa) {
    case Isa::scalar:
      list = scalar::gemm_kernels(count);
      break;
#if defined(BITTERN_BUILD_X86)
    case Isa::avx2:
      list = avx2::gemm_kernels(count);
      break;
    case Isa::avx512:
      list = avx512::gemm_kernels(count);
      break;
#else
    default:
      break;
#endif
  }
  return {list, static_cast<std::size_t>(count)};
}

std::span<const OpKernel> op_kernels(Isa isa) {
  int count = 0;
  const OpKernel* list = nullptr;
  switch (isa) {
    case Isa::scalar:
      list = scalar::op_kernels(count);
      break;
#if defined(BITTERN_BUILD_X86)
    case Isa::avx2:
      list = avx2::op_kernels(count);
      break;
    case Isa::avx512:
      list = avx512::op_kernels(count);
      break;
#else
    default:
      break;
#endif
  }
  return {list, static_cast<std::size_t>(count)};
}

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
