// The kernel list of each instruction-set level.
#pragma once

#include "gemm/tile.h"

namespace bittern::engine {
namespace scalar { const GemmKernel* gemm_kernels(int& count); }
namespace avx2 { const GemmKernel* gemm_kernels(int& count); }
namespace avx512 { const GemmKernel* gemm_kernels(int& count); }
}  // namespace bittern::engine
