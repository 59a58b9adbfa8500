// Weights of few bits for the integer loop: packed as 8-bit weights are, but as codes of 2 to 6 bits: into a table of 4, 8
// or 16 numbers, or, of 5 and 6 bits, plus the least number.
//
// The bytes of 8-bit packed weights, cut into vectors of the level, are written in groups. A plane of p bits, p = 1, 2 or 4,
// holds byte i of 8 / p consecutive vectors in one byte, the first in the lowest bits:
//
//   p = 4         byte i     7 6 5 4        3 2 1 0          p = 2       7 6     5 4     3 2     1 0
//                            vector 1, i    vector 0, i                  v 3, i  v 2, i  v 1, i  v 0, i
//
// so that a mask, a shift and one table look-up give whole vectors. Other codes are two planes, low bits first, one after
// the other in each group: 3 = 2 + 1 and 5 = 4 + 1 bits in groups of 8 vectors, 6 = 4 + 2 in groups of 4. 7 bits would be
// three planes for an eighth of the memory: they stay bytes. Convolutions expand a layer into 8-bit weights that stay in
// cache while many pixels use them; products with one row decode in registers, where time is bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "gemm/int_conv.h"
#include "gemm/int_store.h"

namespace bittern::engine {

// Expands groups into 8-bit weights.
struct ExpandArgs {
  const std::uint8_t* packed = nullptr;
  const std::int8_t* table = nullptr;  // 16, as code_table() makes it
  std::int64_t groups = 0;
  std::int8_t* target = nullptr;
};

// One row times a panel: c[i] = x . w[i] for `cols` channels.
struct GemvArgs {
  const std::uint8_t* x = nullptr;    // codes; quads
  std::int64_t quads = 0;
  const std::uint8_t* w = nullptr;    // of the panel
  const std::int8_t* table = nullptr;
  const std::int32_t* offset = nullptr;
  IntStore store;
  void* c = nullptr;
  std::int64_t valid = 0;             // channels to store
};

using GemvFunction = void (*)(const GemvArgs&);

struct GemvKernel {
  const char* name;
  Isa isa;
  int bits, cols;
  int vector_bytes;
  GemvFunction bytes, floats;  // by the type of c
  void (*expand)(const ExpandArgs&);  // null for 8 bits

  // Vectors of 8-bit weights in a group, and those that hold their codes.
  std::int64_t group() const noexcept { return bits == 8 ? 1 : bits % 2 != 0 ? 8 : bits == 4 ? 2 : 4; }
  std::int64_t packed() const noexcept { return group() * bits / 8; }
};

// Bits that hold codes of `values`, which rise: 2 to 6, or 8 for bytes as they are.
int code_bits(std::span<const std::int16_t> values) noexcept;

// Packed 8-bit weights as codes of fewer bits.
class FewBits {
 public:
  // `packed_bytes` of 8-bit weights that stand in panels of `panel_bytes`, as IntConv packs them; every panel starts a group.
  FewBits(const GemvKernel& kernel, std::int64_t packed_bytes) : kernel_(&kernel), source_bytes_(packed_bytes) {}

  std::int64_t bytes() const noexcept { return groups() * kernel_->packed() * kernel_->vector_bytes; }
  // Bytes that expand() writes: whole groups.
  std::int64_t expanded_bytes() const noexcept { return groups() * kernel_->group() * kernel_->vector_bytes; }
  // `alphabet`: values that rise and have code_bits() of the kernel's bits; the weights are some of them, or zero.
  void pack(std::span<const std::int16_t> alphabet, const std::int8_t* weights, std::uint8_t* packed) const;
  void expand(const std::uint8_t* packed, const std::int8_t* table, std::int8_t* weights, Team& team) const;

 private:
  std::int64_t groups() const noexcept {
    const std::int64_t group = kernel_->group() * kernel_->vector_bytes;
    return (source_bytes_ + group - 1) / group;
  }

  const GemvKernel* kernel_;
  std::int64_t source_bytes_;
};

// The table of an alphabet of at most 16 values: those behind the last are zero. Zero, which pads, must be among them or have
// room. Of more values: the number that codes are added to, 16 times.
void code_table(std::span<const std::int16_t> alphabet, std::int8_t* table) noexcept;

// A fully connected layer with one row of codes.
class IntGemv {
 public:
  IntGemv(const GemvKernel& kernel, std::int64_t k, std::int64_t n) : kernel_(&kernel), k_(k), n_(n) {}

  std::int64_t panels() const noexcept { return (n_ + kernel_->cols - 1) / kernel_->cols; }
  std::int64_t padded_channels() const noexcept { return panels() * kernel_->cols; }
  std::int64_t packed_bytes() const noexcept { return panels() * panel_bytes(); }
  // 8-bit weights or, with an alphabet, codes into it.
  void pack(const IntWeights& weights, std::span<const std::int16_t> alphabet, std::uint8_t* packed) const;
  // `out` holds codes or floats, as `type` says; x has quads() * 4 codes.
  void run(const std::uint8_t* x, const std::uint8_t* packed, const std::int8_t* table, const IntEpilogue& epilogue, IntOut type, void* out,
           Team& team) const;
  std::int64_t quads() const noexcept { return (k_ + 3) / 4; }

 private:
  std::int64_t panel_bytes() const noexcept {
    const std::int64_t vectors = quads() * kernel_->cols * 4 / kernel_->vector_bytes, group = kernel_->group();
    return (vectors + group - 1) / group * kernel_->packed() * kernel_->vector_bytes;
  }

  const GemvKernel* kernel_;
  std::int64_t k_, n_;
};

namespace scalar { const GemvKernel* gemv_kernels(int& count); }
namespace avx2 { const GemvKernel* gemv_kernels(int& count); }
namespace avx2vnni { const GemvKernel* gemv_kernels(int& count); }
namespace avx512 { const GemvKernel* gemv_kernels(int& count); }
namespace avx512vnni { const GemvKernel* gemv_kernels(int& count); }

}  // namespace bittern::engine
