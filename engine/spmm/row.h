// A product with one row of real numbers and sparse weights: a fully connected layer at batch 1, where time is bytes.
//
// Output channels stand in the lanes. Sixteen inputs at a time stand in a register, from which every lane takes the input
// that its weight meets; so nothing is gathered from memory:
//
//   group of `lanes` outputs:   slot 0: block 0 | slot 1: block 0 | slot 2: block 1 | ...      a slot has a weight for each lane
//   lane of a slot              4 bits: which of the block's inputs; 4 bits: a code into a table of 16, or a float beside
//
// A block has as many slots as its fullest lane has weights; the other lanes are filled up with zeros.
#pragma once

#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "spmm/sparse_conv.h"

namespace bittern::engine {

inline constexpr std::int64_t spmv_block = 16;  // inputs

struct SpmvArgs {
  const float* x = nullptr;              // whole blocks
  const std::uint16_t* blocks = nullptr; // of each slot
  const std::uint8_t* codes = nullptr;   // `lanes` for each slot
  const float* values = nullptr;         // likewise, for kernels without a table
  std::int64_t slots = 0;
  const float* table = nullptr;          // 16
  const float* bias = nullptr;           // of the group, or null
  float lo = 0, hi = 0;
  float* y = nullptr;
  int valid = 0;                         // lanes to store
};

struct SpmvKernel {
  const char* name;
  Isa isa;
  int lanes;
  bool codes;                            // weights are codes into a table of 16
  void (*run)(const SpmvArgs&);
};

class SparseRow {
 public:
  // `rows` as sparse_rows() makes them, with codes into a table of 16 for kernels of codes. At most 2^20 inputs.
  SparseRow(const SpmvKernel& kernel, std::int64_t inputs, const SparseRows& rows);

  // Estimated time in cycles, comparable with GemmConv::cost of one row.
  double cost() const noexcept;
  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  // Floats of working memory: 0 if x can be read as it is.
  std::int64_t scratch_elements() const noexcept { return inputs_ % spmv_block == 0 ? 0 : (inputs_ + spmv_block - 1) / spmv_block * spmv_block; }
  // `zero` is the code of the table's zero.
  void pack(const SparseRows& rows, std::uint8_t zero, std::byte* packed) const;
  // `rest` has table, bias, y and the bounds of the whole layer.
  void run(const float* x, const std::byte* packed, const SpmvArgs& rest, float* scratch, Team& team) const;

 private:
  struct Group {
    std::int64_t slots = 0, at = 0;  // bytes from the start of the packed weights: blocks, codes, values
  };
  std::int64_t codes_at(const Group& group) const noexcept;
  std::int64_t values_at(const Group& group) const noexcept;

  const SpmvKernel* kernel_;
  std::int64_t inputs_, outputs_, packed_bytes_ = 0, slots_ = 0;
  std::vector<Group> groups_;
};

namespace scalar { const SpmvKernel* spmv_kernels(int& count); }
namespace avx2 { const SpmvKernel* spmv_kernels(int& count); }
namespace avx512 { const SpmvKernel* spmv_kernels(int& count); }

}  // namespace bittern::engine
