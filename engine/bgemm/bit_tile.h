// The inner statement of the bgemm loop: count[pixel][channel] += ones(x[pixel] op w[channel]) over a register tile of words.
//
// Output channels stand in lanes, a pixel's word of 32 input channels is broadcast; `op` is exclusive or, where a weight's bit says
// +1 or -1, or and, where it says 1 or 0. Counts of every pair of planes are added with a coefficient each. Then, in whole numbers,
//   sum = offset + factor * count
// which is exact: padding, tail bits, zero points and the direction of thresholds are all in offset and factor.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

// Where a pixel of the tile stands, in words of input and output bits and in floats, and which offsets and factor are its own.
struct BitPixel {
  std::int64_t a = 0, bits = 0, floats = 0, residual = 0, pattern = 0, factor = 0;
};

// What is made of the counts. bits: code = how many of the channel's thresholds the sum reaches, as planes; the thresholds are put in
// terms of counts, and `flips` has a bit for each channel whose sums fall with the count. floats: y = clamp((float(sum) * scale + bias +
// residual) * factor), every operation rounded on its own.
enum class BitOut : int { bits, floats };
inline constexpr int bit_out_count = 2;

struct BitStore {
  const std::int32_t* offset = nullptr;     // [pattern][padded channels]
  std::int64_t offset_step = 0;             // from pattern to pattern
  const std::int32_t* factor = nullptr;
  const std::int32_t* thresholds = nullptr; // [pattern][threshold][padded channels]
  const std::uint32_t* flips = nullptr;     // [padded channels / 32]
  std::int64_t threshold_step = 0;          // from threshold to threshold
  std::int64_t thresholds_count = 0, planes = 1;
  std::int64_t plane_step = 0;              // words from plane to plane of a pixel
  const float *scale = nullptr, *bias = nullptr;
  float lo = 0, hi = 0;
};

struct BitTileArgs {
  const std::uint32_t* a = nullptr;         // what pixels count from
  const BitPixel* pixels = nullptr;
  const std::int64_t* segments = nullptr;   // offsets of the taps in words
  std::int64_t taps = 0, run = 0;           // each of `run` words
  std::int64_t planes = 1, weight_planes = 1;
  std::int64_t plane_step = 0;              // words from plane to plane of the activations
  const std::int32_t* coefficients = nullptr;  // [weight plane][plane]
  const std::uint32_t* b = nullptr;         // packed weights of this panel: [weight plane][word][cols]

  BitStore store;                           // its arrays start at the panel's first channel
  std::uint32_t* bits = nullptr;
  std::int64_t words = 0;                   // to store in each plane
  float* c = nullptr;
  const float *residual = nullptr, *factors = nullptr;  // or null
  std::int64_t c_block = 0, residual_block = 0;  // floats between blocks of 16 channels
  std::int64_t valid = 0, channels = 0;     // lanes of floats to store, and how many of them are channels
};

using BitTileFunction = void (*)(const BitTileArgs&);

inline constexpr int most_bit_rows = 16;  // of a tile

struct BitGemmKernel {
  const char* name;
  Isa isa;
  bool conjunction;                // and, in the place of exclusive or
  int rows, cols;                  // cols is a multiple of 32
  double cycles;                   // of one word of one vector of channels, estimated
  int lanes;
  const BitTileFunction* tiles;    // tiles[out * rows + r - 1] computes r pixels
};

// Real numbers to codes: how many of the channel's thresholds x * sign reaches.
struct BitPackArgs {
  const float* x = nullptr;                // 16 channels stand together; `block` floats on, the next 16
  std::int64_t block = 0;
  std::int64_t channels = 0;
  const float *sign = nullptr, *thresholds = nullptr;  // padded to whole words; [threshold][padded channels]
  std::int64_t threshold_step = 0, count = 0, planes = 1;
  std::uint32_t* bits = nullptr;
  std::int64_t pixels = 0, x_step = 0, bits_step = 0, plane_step = 0;
};

struct BitPackKernel {
  const char* name;
  Isa isa;
  void (*pack)(const BitPackArgs&);
};

namespace scalar { const BitGemmKernel* bit_gemm_kernels(int& count); const BitPackKernel& bit_pack_kernel(); }
namespace avx2 { const BitGemmKernel* bit_gemm_kernels(int& count); const BitPackKernel& bit_pack_kernel(); }
namespace avx512 { const BitGemmKernel* bit_gemm_kernels(int& count); const BitPackKernel& bit_pack_kernel(); }
namespace avx512icl { const BitGemmKernel* bit_gemm_kernels(int& count); const BitPackKernel& bit_pack_kernel(); }

}  // namespace bittern::engine
