// Fully connected layers with one row of real numbers and weights that are 4-bit codes into a table of 16 floats: the codes
// are looked up in registers, where time is bytes.
//
// A panel has `cols` output channels: a few vectors of the level's width. Eight inputs make a step; it has a run of four
// bytes for each channel, where input j of the eight stands in bits 4 * j .. 4 * j + 3. So one load serves eight inputs, and
// a load that begins a byte further on serves two of them without a shift.
#pragma once

#include <cstdint>
#include <span>

#include "base/isa.h"
#include "base/thread_pool.h"

namespace bittern::engine {

struct LutGemvArgs {
  const float* x = nullptr;
  std::int64_t k = 0;
  const std::uint8_t* w = nullptr;  // of the panel
  const float* table = nullptr;     // 16
  const float* scale = nullptr;     // `cols`, or null for ones
  const float* bias = nullptr;      // `cols`, or null
  float lo = 0, hi = 0;
  float* c = nullptr;
  std::int64_t valid = 0;           // channels to store
};

struct LutGemvKernel {
  const char* name;
  Isa isa;
  int cols;
  void (*run)(const LutGemvArgs&);
};

class LutGemv {
 public:
  static constexpr std::size_t entries = 16;

  LutGemv(const LutGemvKernel& kernel, std::int64_t k, std::int64_t n) : kernel_(&kernel), k_(k), n_(n) {}

  std::int64_t panels() const noexcept { return (n_ + kernel_->cols - 1) / kernel_->cols; }
  std::int64_t padded_channels() const noexcept { return panels() * kernel_->cols; }
  // With what a load a few bytes further on reads behind the last panel.
  std::int64_t packed_bytes() const noexcept { return panels() * panel_bytes() + 64; }
  // `codes` of o and i stand at o * out + i * in.
  void pack(const std::uint8_t* codes, std::int64_t out, std::int64_t in, std::uint8_t* packed) const;
  // y = clamp(scale * (x . table[codes]) + bias); `rest` has everything but the panel's own.
  void run(const std::uint8_t* packed, const LutGemvArgs& rest, Team& team) const;

 private:
  std::int64_t panel_bytes() const noexcept { return (k_ + 7) / 8 * kernel_->cols * 4; }

  const LutGemvKernel* kernel_;
  std::int64_t k_, n_;
};

namespace scalar { const LutGemvKernel& lut_gemv_kernel(); }
namespace avx2 { const LutGemvKernel& lut_gemv_kernel(); }
namespace avx512 { const LutGemvKernel& lut_gemv_kernel(); }

}  // namespace bittern::engine
