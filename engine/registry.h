// Every kernel of the library, collected from the lists.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "base/isa.h"
#include "bgemm/bit_tile.h"
#include "gemm/code_panel.h"
#include "gemm/few_bits.h"
#include "gemm/int_tile.h"
#include "gemm/lut_gemv.h"
#include "gemm/tile.h"
#include "gemm/winograd.h"
#include "ops/code_rows.h"
#include "ops/rows.h"
#include "spmm/int_panel.h"
#include "spmm/int_row.h"
#include "spmm/panel.h"
#include "spmm/row.h"
#include "spmm/winograd_tiles.h"

namespace bittern::engine {

struct KernelInfo {
  const char* name;
  const char* loop;
  Isa isa;
  int rows, cols;           // register tile: pixels and channels; 0 where there is none
  const char* description;
};

// All kernels that are built, whether or not this machine can run them; in the order of the lists.
const std::vector<KernelInfo>& kernels();

// The lists that a level runs; empty where the level is not built.
std::span<const IntGemmKernel> int_gemm_kernels(Isa isa);
std::span<const GemvKernel> gemv_kernels(Isa isa);
std::span<const BitGemmKernel> bit_gemm_kernels(Isa isa);
const BitPackKernel& bit_pack_kernel(Isa isa);
std::span<const LutGemvKernel> lut_gemv_kernels(Isa isa);
std::span<const GemmKernel> gemm_kernels(Isa isa);
std::span<const SpmmKernel> spmm_kernels(Isa isa);
std::span<const IntSpmmKernel> int_spmm_kernels(Isa isa);
std::span<const IntSpmvKernel> int_spmv_kernels(Isa isa);
std::span<const SpmvKernel> spmv_kernels(Isa isa);
std::span<const CodeGemmKernel> code_gemm_kernels(Isa isa);
std::span<const WinogradKernel> winograd_kernels(Isa isa);
std::span<const WinogradTilesKernel> winograd_tiles_kernels(Isa isa);
std::span<const OpKernel> op_kernels(Isa isa);
const CodeKernels& code_kernels(Isa isa);
// The name under which kernels() lists a loop of code_kernels(isa).
const char* code_kernel_name(std::string_view loop, Isa isa);

// The kernel of an operator loop at the highest level up to `isa` that has one.
const OpKernel& op_kernel(std::string_view loop, Isa isa);

}  // namespace bittern::engine
