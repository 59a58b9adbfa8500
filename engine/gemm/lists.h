// The kernel list of each instruction-set level.
#pragma once

#include "gemm/int_tile.h"
#include "gemm/tile.h"

namespace bittern::engine {
namespace scalar { const IntGemmKernel* int_gemm_kernels(int& count); }
namespace avx2 { const IntGemmKernel* int_gemm_kernels(int& count); }
namespace avx2vnni { const IntGemmKernel* int_gemm_kernels(int& count); }
namespace avx512 { const IntGemmKernel* int_gemm_kernels(int& count); }
namespace avx512vnni { const IntGemmKernel* int_gemm_kernels(int& count); }
namespace scalar { const GemmKernel* gemm_kernels(int& count); }
namespace avx2 { const GemmKernel* gemm_kernels(int& count); }
namespace avx512 { const GemmKernel* gemm_kernels(int& count); }
}  // namespace bittern::engine
