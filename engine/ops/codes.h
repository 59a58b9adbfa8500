// Operators on 8-bit codes in blocks of channels: they cut the work into rows for the level's functions.
//
// Codes are unsigned bytes: those of a signed tensor are stored plus 128. Blocks hold 16 channels, or 4 where there are
// no more; a halo holds the code of zero.
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv_loop.h"
#include "gemm/int_conv.h"
#include "ops/code_rows.h"
#include "ops/maps.h"
#include "ops/quantiser.h"

namespace bittern::engine {

// Depthwise convolution (one input and one output channel per group) of codes in blocks of 16.
class CodeDepthwise {
 public:
  CodeDepthwise(const CodeKernels& kernels, const ConvShape& shape, const Map& in, const Map& out, const Map& residual);

  std::int64_t packed_elements() const noexcept { return blocks_ * (taps_count_ + quads_count_) * 16 + 1; }
  std::int64_t padded_channels() const noexcept { return blocks_ * 16; }
  // `weights` in C, 1, H, W order, within 16 bits. What is packed depends on nothing but them: each alone, then four rows of
  // each column of the kernel together (CodeDepthwiseLines), then whether that was possible.
  void pack(const std::int16_t* weights, std::int32_t* packed) const;
  // `out` holds codes or floats, as `type` says.
  void run(const std::uint8_t* in, const std::int32_t* packed, const IntEpilogue& epilogue, IntOut type, void* out, Team& team) const;

 private:
  const CodeKernels* kernels_;
  ConvShape shape_;
  Map in_, out_, residual_;
  void run_lines(const std::uint8_t* in, const std::int32_t* packed, const IntEpilogue& epilogue, IntOut type, void* out, Team& team) const;

  std::int64_t blocks_, taps_count_, quads_count_;
  std::vector<std::int64_t> taps_;
};

// `lowest` is the code of a window without elements.
void code_max_pool(const CodeKernels& kernels, const PoolShape& shape, std::uint8_t lowest, const Map& in, const std::uint8_t* source, const Map& out,
                   std::uint8_t* target, Team& team);
void code_average_pool(const CodeKernels& kernels, const PoolShape& shape, const Quantiser& from, const Map& in, const std::uint8_t* source,
                       const Quantiser& to, const Map& out, std::uint8_t* target, Team& team);
// The sum of two maps of the same sizes.
void code_add(const CodeKernels& kernels, const Quantiser& a_from, const Map& a_map, const std::uint8_t* a, const Quantiser& b_from, const Map& b_map,
              const std::uint8_t* b, const Quantiser& to, float lo, float hi, const Map& y_map, std::uint8_t* y, Team& team);
// table: 256 codes.
void code_table(const CodeKernels& kernels, const std::uint8_t* table, const Map& in, const std::uint8_t* source, const Map& out,
                std::uint8_t* target, Team& team);

// Codes are counts of the thresholds that numbers reach: `steps` per channel, as CodeThresholdRow has them, for every 16 channels.
void code_thresholds(const CodeKernels& kernels, const float* thresholds, std::int64_t steps, const Map& in, const float* source, const Map& out,
                     std::uint8_t* target, Team& team);

// Between floats and codes; both maps in blocks of 16.
void quantise(const CodeKernels& kernels, const Quantiser& to, const Map& in, const float* source, const Map& out, std::uint8_t* target, Team& team);
void dequantise(const CodeKernels& kernels, const Quantiser& from, const Map& in, const std::uint8_t* source, const Map& out, float* target, Team& team);
// From a planar map of floats.
void quantise_planar(const CodeKernels& kernels, const Quantiser& to, const Map& in, const float* source, const Map& out, std::uint8_t* target,
                     Team& team);
// What DynamicQuantizeLinear chooses: the range of the codes is that of the numbers and of zero, so that zero has a code.
Quantiser dynamic_quantiser(const float* x, std::int64_t count) noexcept;
// Rows of `k` floats, to and from rows of codes `pitch` apart.
void quantise_rows(const CodeKernels& kernels, const Quantiser& to, std::int64_t rows, std::int64_t k, const float* source, std::int64_t pitch,
                   std::uint8_t* target, Team& team);
void dequantise_rows(const CodeKernels& kernels, const Quantiser& from, std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source,
                     float* target, Team& team);
// Softmax of each row: round(exps[largest - code] / (sum * to.scale)) + to.zero, with the sum taken in double, one after the other.
// exps: 256, of the differences of codes. `work`: rows * k floats.
void code_softmax_rows(const CodeKernels& kernels, const float* exps, std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source,
                       const Quantiser& to, std::int64_t out_pitch, std::uint8_t* target, float* work, Team& team);
// Between planar tensors of bytes as the caller sees them and codes; `flip` is 128 for signed tensors, else 0.
void interleave_codes(const Map& in, const std::uint8_t* source, std::uint8_t flip, const Map& out, std::uint8_t* target, Team& team);
void separate_codes(const Map& in, const std::uint8_t* source, std::uint8_t flip, const Map& out, std::uint8_t* target, Team& team);

// Rows of k bytes as the caller sees them, to and from rows of codes `pitch` apart.
void pack_code_rows(std::int64_t rows, std::int64_t k, const std::uint8_t* source, std::uint8_t flip, std::int64_t pitch, std::uint8_t* target);
void unpack_code_rows(std::int64_t rows, std::int64_t k, std::int64_t pitch, const std::uint8_t* source, std::uint8_t flip, std::uint8_t* target);

// Fills the halo of all planes.
void fill_code_halo(const Map& map, std::uint8_t code, std::uint8_t* data, Team& team);

}  // namespace bittern::engine
