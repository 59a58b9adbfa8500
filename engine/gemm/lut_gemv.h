// Products of one row or few of real numbers with weights that are codes of few bits: decoded in registers, where time is
// bytes.
//
//   table16   4 bits: codes into a table of 16 floats      tables4   2 bits: codes into a table of 4 floats of each channel
//   table4    2 bits: codes into a table of 4 floats       bytes     8 bits: codes are signed whole numbers
//
// What codes stand for is multiplied by a scale of the output channel behind the sum, but for tables4, which have no scale.
//
// A panel has `cols` output channels: a few vectors of the level's width. In codes of 2 and 4 bits, as many inputs as fill 32
// bits make a step; it has a run of four bytes for each channel, where input j of the step stands in bits `bits * j` and up.
// So one load serves all of them, and a load that begins a byte further on serves the first of a byte without a shift. Codes
// of 8 bits stand input by input, `cols` bytes each. In tables4 a channel has four lanes of a vector, which look up in its
// own table; lane q takes every fourth input from q on, so that a step has 64, and a panel a fourth of the channels.
#pragma once

#include <cstdint>
#include <span>

#include "base/isa.h"
#include "base/thread_pool.h"

namespace bittern::engine {

struct LutGemvArgs {
  std::int64_t rows = 1;
  const float* x = nullptr;
  std::int64_t x_step = 0, bias_step = 0, c_step = 0;  // from row to row
  std::int64_t k = 0;
  const std::uint8_t* w = nullptr;   // of the panel
  const float* table = nullptr;      // 16 floats, of which a kernel reads as many as it has codes for; of tables4, 4 * `cols`
  const float* scale = nullptr;      // `cols`, but for tables4
  const float* bias = nullptr;       // `valid`, or null
  float lo = 0, hi = 0;
  float* c = nullptr;
  std::int64_t valid = 0;            // channels to store
};

enum class RowCodes : std::uint8_t { table16, table4, tables4, bytes };

struct LutGemvKernel {
  const char* name;
  Isa isa;
  RowCodes codes;
  int bits, cols;
  void (*run)(const LutGemvArgs&);
};

// What belongs to the codes of a matrix: element = scale * table[code], or as RowCodes says. No scale is 1; else there is
// one, or one for each output. Likewise there is one table, or for tables4 one of 4 entries for each output.
struct CodedNumbers {
  std::span<const float> table, scale;
};

// Rows without gaps, those of biases `bias_step` apart: y = clamp(x . w + bias).
struct CodedRows {
  const float* x = nullptr;
  std::int64_t rows = 1;
  const float* bias = nullptr;  // or null
  std::int64_t bias_step = 0;
  float lo = 0, hi = 0;
  float* y = nullptr;
};

// A matrix of k inputs and n outputs, packed into packed_floats() of the caller's memory: table, numbers per output, codes.
class LutGemv {
 public:
  static constexpr std::int64_t entries = 16;

  LutGemv(const LutGemvKernel& kernel, std::int64_t k, std::int64_t n) : kernel_(&kernel), k_(k), n_(n) {}

  const LutGemvKernel& kernel() const noexcept { return *kernel_; }
  std::int64_t padded_channels() const noexcept { return panels() * kernel_->cols; }
  // With what a load a few bytes further on reads behind the last panel.
  std::int64_t packed_floats() const noexcept { return codes_at() + panels() * panel_bytes() / 4 + 16; }
  // `codes` of o and i stand at o * out + i * in.
  void pack(const CodedNumbers& numbers, const std::uint8_t* codes, std::int64_t out, std::int64_t in, float* packed) const;
  // The same results for any team.
  void run(const float* packed, const CodedRows& rows, Team& team) const;

 private:
  std::int64_t panels() const noexcept { return (n_ + kernel_->cols - 1) / kernel_->cols; }
  // Lanes of a channel.
  std::int64_t lanes() const noexcept { return kernel_->codes == RowCodes::tables4 ? 4 : 1; }
  std::int64_t per_step() const noexcept { return kernel_->bits == 8 ? 1 : 32 / kernel_->bits * lanes(); }
  std::int64_t panel_bytes() const noexcept { return (k_ + per_step() - 1) / per_step() * kernel_->cols * (kernel_->bits == 8 ? 1 : 4 * lanes()); }
  std::int64_t codes_at() const noexcept { return lanes() == 4 ? 4 * padded_channels() : entries + padded_channels(); }

  const LutGemvKernel* kernel_;
  std::int64_t k_, n_;
};

namespace scalar { const LutGemvKernel* lut_gemv_kernels(int& count); }
namespace avx2 { const LutGemvKernel* lut_gemv_kernels(int& count); }
namespace avx512 { const LutGemvKernel* lut_gemv_kernels(int& count); }

}  // namespace bittern::engine
