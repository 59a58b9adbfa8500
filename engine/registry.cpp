#include "registry.h"

#include <cstdlib>
#include <iterator>
#include <string>

#include "base/cpu_features.h"
#include "bgemm/bit_tile.h"
#include "gemm/lists.h"
#include "ops/plain.h"

namespace bittern::engine {
namespace {

// The operators on 8-bit codes: every level has all of them (ops/code_rows.h).
struct CodeLoop {
  const char* name;
  const char* description;
};
constexpr CodeLoop code_loops[] = {
    {"depthwise_u8", "depthwise convolution of 8-bit codes, channels in lanes"},
    {"maxpool_u8", "max-pooling of 8-bit codes, channels in lanes"},
    {"avgpool_u8", "average pooling of 8-bit codes, exact sums"},
    {"add_u8", "sum of two maps of 8-bit codes"},
    {"quantize_f32", "real numbers to 8-bit codes"},
    {"dequantize_u8", "8-bit codes to real numbers"},
    {"table_u8", "8-bit codes through a table of 256"},
    {"threshold_u8", "counts of thresholds that real numbers reach, as 8-bit codes"},
};

const char* describe(std::string_view loop) {
  if (loop == "depthwise") return "depthwise convolution, channels in lanes";
  if (loop == "maxpool") return "max-pooling, channels in lanes";
  if (loop == "avgpool") return "average pooling, channels in lanes";
  if (loop == "lrn") return "local response normalisation across channels";
  if (loop == "softmax") return "exp(x - max) / sum along an axis";
  if (loop == "eltwise") return "add, subtract, multiply, divide, clamp, leaky ReLU, sigmoid, tanh";
  return "";
}

const char* describe(RowCodes codes) {
  switch (codes) {
    case RowCodes::table16: return "one row of real numbers, weights are codes of 4 bits into a table of floats";
    case RowCodes::table4: return "one row of real numbers, weights are codes of 2 bits into a table of floats";
    case RowCodes::tables4: return "one row of real numbers, weights are codes of 2 bits into a table of each channel";
    case RowCodes::bytes: break;
  }
  return "one row of real numbers, weights are whole numbers of 8 bits";
}

}  // namespace

namespace {

// The level whose float kernels a level runs: some only add integer instructions.
Isa float_level(Isa isa) { return isa >= Isa::avx512 ? Isa::avx512 : isa >= Isa::avx2 ? Isa::avx2 : Isa::scalar; }

// The same of the kernels on 8-bit codes, and of those on bits.
Isa code_level(Isa isa) { return isa == Isa::avx512icl ? Isa::avx512vnni : isa; }
Isa bit_level(Isa isa) { return isa == Isa::avx512icl ? isa : float_level(isa); }

template <class Kernel>
std::span<const Kernel> list_of(const Kernel* (*function)(int&)) {
  int count = 0;
  const Kernel* list = function(count);
  return {list, static_cast<std::size_t>(count)};
}

}  // namespace

// The list that every level defines under the same name in its namespace.
#if defined(BITTERN_BUILD_X86)
#define BITTERN_LISTS(function, Kernel)                                      \
  std::span<const Kernel> function(Isa isa) {                                \
    const Isa level = float_level(isa);                                      \
    return list_of(level == Isa::avx512 ? avx512::function                   \
                   : level == Isa::avx2 ? avx2::function                     \
                                        : scalar::function);                 \
  }
// What levels with more integer instructions have of their own.
#define BITTERN_LEVELS(isa, call)                     \
  switch (isa) {                                      \
    case Isa::avx512icl:                              \
    case Isa::avx512vnni: return avx512vnni::call;    \
    case Isa::avx512: return avx512::call;            \
    case Isa::avx2vnni: return avx2vnni::call;        \
    case Isa::avx2: return avx2::call;                \
    case Isa::scalar: break;                          \
  }                                                   \
  return scalar::call
static const IntGemmKernel* int_gemm_list(Isa isa, int& count) { BITTERN_LEVELS(isa, int_gemm_kernels(count)); }
static const IntSpmmKernel* int_spmm_list(Isa isa, int& count) { BITTERN_LEVELS(isa, int_spmm_kernels(count)); }
static const IntSpmvKernel* int_spmv_list(Isa isa, int& count) { BITTERN_LEVELS(isa, int_spmv_kernels(count)); }
static const GemvKernel* gemv_list(Isa isa, int& count) { BITTERN_LEVELS(isa, gemv_kernels(count)); }
const CodeKernels& code_kernels(Isa isa) { BITTERN_LEVELS(isa, code_kernels()); }
#undef BITTERN_LEVELS
std::span<const BitGemmKernel> bit_gemm_kernels(Isa isa) {
  const Isa level = bit_level(isa);
  return list_of(level == Isa::avx512icl ? avx512icl::bit_gemm_kernels
                 : level == Isa::avx512  ? avx512::bit_gemm_kernels
                 : level == Isa::avx2    ? avx2::bit_gemm_kernels
                                         : scalar::bit_gemm_kernels);
}
const BitPackKernel& bit_pack_kernel(Isa isa) {
  switch (bit_level(isa)) {
    case Isa::avx512icl: return avx512icl::bit_pack_kernel();
    case Isa::avx512: return avx512::bit_pack_kernel();
    case Isa::avx2: return avx2::bit_pack_kernel();
    default: return scalar::bit_pack_kernel();
  }
}
std::span<const IntGemmKernel> int_gemm_kernels(Isa isa) {
  int count = 0;
  const IntGemmKernel* list = int_gemm_list(isa, count);
  return {list, static_cast<std::size_t>(count)};
}
std::span<const IntSpmmKernel> int_spmm_kernels(Isa isa) {
  int count = 0;
  const IntSpmmKernel* list = int_spmm_list(isa, count);
  return {list, static_cast<std::size_t>(count)};
}
std::span<const IntSpmvKernel> int_spmv_kernels(Isa isa) {
  int count = 0;
  const IntSpmvKernel* list = int_spmv_list(isa, count);
  return {list, static_cast<std::size_t>(count)};
}
std::span<const GemvKernel> gemv_kernels(Isa isa) {
  int count = 0;
  const GemvKernel* list = gemv_list(isa, count);
  return {list, static_cast<std::size_t>(count)};
}
#else
#define BITTERN_LISTS(function, Kernel) \
  std::span<const Kernel> function(Isa isa) { return isa == Isa::scalar ? list_of(scalar::function) : std::span<const Kernel>{}; }
BITTERN_LISTS(int_gemm_kernels, IntGemmKernel)
BITTERN_LISTS(int_spmm_kernels, IntSpmmKernel)
BITTERN_LISTS(int_spmv_kernels, IntSpmvKernel)
BITTERN_LISTS(gemv_kernels, GemvKernel)
BITTERN_LISTS(bit_gemm_kernels, BitGemmKernel)
const BitPackKernel& bit_pack_kernel(Isa) { return scalar::bit_pack_kernel(); }
const CodeKernels& code_kernels(Isa) { return scalar::code_kernels(); }
#endif
BITTERN_LISTS(lut_gemv_kernels, LutGemvKernel)
BITTERN_LISTS(gemm_kernels, GemmKernel)
BITTERN_LISTS(spmm_kernels, SpmmKernel)
BITTERN_LISTS(spmv_kernels, SpmvKernel)
BITTERN_LISTS(code_gemm_kernels, CodeGemmKernel)
BITTERN_LISTS(winograd_kernels, WinogradKernel)
BITTERN_LISTS(winograd_tiles_kernels, WinogradTilesKernel)
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

const char* code_kernel_name(std::string_view loop, Isa isa) {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const CodeLoop& l : code_loops)
      for (int level = 0; level < isa_count; ++level) list.push_back(std::string(l.name) + "__" + name_of(static_cast<Isa>(level)));
    return list;
  }();
  for (std::size_t i = 0; i < std::size(code_loops); ++i) {
    if (loop == code_loops[i].name) return names[i * isa_count + static_cast<std::size_t>(code_level(isa))].c_str();
  }
  std::abort();  // a loop that is in no list: a mistake in this library, caught by the first test
}

const std::vector<KernelInfo>& kernels() {
  static const std::vector<KernelInfo> all = [] {
    std::vector<KernelInfo> list;
    for (int level = 0; level < isa_count; ++level) {
      if (!isa_built(static_cast<Isa>(level))) continue;
      if (bit_level(static_cast<Isa>(level)) == static_cast<Isa>(level)) {
        for (const BitGemmKernel& k : bit_gemm_kernels(static_cast<Isa>(level))) {
          list.push_back({k.name, "bgemm", k.isa, k.rows, k.cols, k.conjunction ? "ones of planes of bits: weights of few bits" : "ones of planes of bits: weights of -1 and +1"});
        }
        const BitPackKernel& packer = bit_pack_kernel(static_cast<Isa>(level));
        list.push_back({packer.name, "pack", packer.isa, 0, 0, "real numbers to planes of bits"});
      }
      if (code_level(static_cast<Isa>(level)) != static_cast<Isa>(level)) continue;
      for (const IntGemmKernel& k : int_gemm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemm_u8", k.isa, k.rows, k.cols, "dense tile: layers on 8-bit codes, exact sums"});
      }
      for (const GemvKernel& k : gemv_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemv_u8", k.isa, 1, k.cols, "one row of 8-bit codes, weights decoded in registers"});
      }
      for (const IntSpmmKernel& k : int_spmm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "spmm_u8", k.isa, k.vectors * k.lanes, 1, "weights that are not zero, in quads of input channels, over a panel of 8-bit codes"});
      }
      for (const IntSpmvKernel& k : int_spmv_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "spmv_u8", k.isa, 1, k.lanes, "one row of 8-bit codes times weights that are not zero, in quads of inputs"});
      }
      for (const CodeLoop& loop : code_loops) {
        list.push_back({code_kernel_name(loop.name, static_cast<Isa>(level)), loop.name, static_cast<Isa>(level), 0, 0, loop.description});
      }
      if (float_level(static_cast<Isa>(level)) != static_cast<Isa>(level)) continue;
      for (const LutGemvKernel& k : lut_gemv_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemv_f32", k.isa, 1, k.cols, describe(k.codes)});
      }
      for (const GemmKernel& k : gemm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemm", k.isa, k.rows, k.cols, "dense tile: convolution and fully connected layers"});
      }
      for (const SpmmKernel& k : spmm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "spmm", k.isa, k.vectors * k.lanes, static_cast<int>(spmm_rows(k.form)),
                        k.form == SpmmForm::values  ? "weights that are not zero over a panel of pixels"
                        : k.form == SpmmForm::codes ? "weights that are not zero, as codes, over a panel of pixels"
                        : k.form == SpmmForm::lists ? "weights of two values that are not zero, as lists, over a panel of pixels"
                                                    : "weights that are not zero, of four output channels at a time, over a panel of pixels"});
      }
      for (const SpmvKernel& k : spmv_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "spmv", k.isa, 1, k.lanes,
                        k.codes ? "one row times weights that are not zero, as codes of 4 bits" : "one row times weights that are not zero"});
      }
      for (const CodeGemmKernel& k : code_gemm_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "gemm_f32", k.isa, k.rows, k.cols, "dense tile, weights are codes into tables of floats, expanded panel by panel"});
      }
      for (const WinogradKernel& k : winograd_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "winograd", k.isa, 0, 0, "3x3 convolution of stride 1 with fewer multiplications"});
      }
      for (const WinogradTilesKernel& k : winograd_tiles_kernels(static_cast<Isa>(level))) {
        list.push_back({k.name, "sparse_winograd", k.isa, 0, 0, "convolution by sparse weights in Winograd's domain, products by the spmm loop"});
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
