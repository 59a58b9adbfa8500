// A product with one row of real numbers and sparse weights: a fully connected layer at batch 1, where time is bytes.
//
// Output channels stand in the lanes. A window of sixteen inputs at a time stands in a register, from which every lane takes
// the input that its weight meets; so nothing is gathered from memory:
//
//   group of `lanes` outputs:   slot 0 | slot 1 | slot 2 | ...        a slot has a weight for each lane
//   slot                        where its window begins, in steps of two inputs from the window before
//   lane of four slots          a byte each: 4 bits say which of the window's inputs, 4 bits are a code into a table of 16, or a
//                               float stands beside
//
// A window begins at the first input that some lane still waits for; the lanes whose next input lies in it take it. So lanes run
// ahead of each other by up to a window, and much fewer places stay empty (zeros) than if all went from block to block together.
#pragma once

#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "spmm/sparse_conv.h"

namespace bittern::engine {

inline constexpr std::int64_t spmv_window = 16, spmv_step = 2;  // inputs
inline constexpr std::int64_t spmv_slots = 4;                   // that share a load of codes; groups have whole fours

struct SpmvArgs {
  const float* x = nullptr;              // every window lies within
  const std::uint8_t* steps = nullptr;   // of each slot
  const std::uint8_t* codes = nullptr;   // for four slots, `lanes` times four
  const float* values = nullptr;         // `lanes` for each slot, for kernels without a table
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
  // `rows` as sparse_rows() makes them, with codes into a table of 16 for kernels of codes.
  SparseRow(const SpmvKernel& kernel, std::int64_t inputs, const SparseRows& rows);

  // Estimated time in cycles, comparable with GemmConv::cost of one row.
  double cost() const noexcept;
  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  // Floats of working memory: 0 if x can be read as it is.
  std::int64_t scratch_elements() const noexcept { return inputs_ == padded_ ? 0 : padded_; }
  // `zero` is the code of the table's zero.
  void pack(const SparseRows& rows, std::uint8_t zero, std::byte* packed) const;
  // `rest` has table, bias, y and the bounds of the whole layer.
  void run(const float* x, const std::byte* packed, const SpmvArgs& rest, float* scratch, Team& team) const;

 private:
  struct Group {
    std::int64_t slots = 0, at = 0;  // bytes from the start of the packed weights: steps, codes, values
  };
  std::int64_t codes_at(const Group& group) const noexcept;
  std::int64_t values_at(const Group& group) const noexcept;

  const SpmvKernel* kernel_;
  std::int64_t inputs_, padded_, outputs_, packed_bytes_ = 0, slots_ = 0;
  std::vector<Group> groups_;
};

namespace scalar { const SpmvKernel* spmv_kernels(int& count); }
namespace avx2 { const SpmvKernel* spmv_kernels(int& count); }
namespace avx512 { const SpmvKernel* spmv_kernels(int& count); }

}  // namespace bittern::engine
