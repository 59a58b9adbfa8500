// A product with one row of 8-bit codes and sparse weights: a fully connected layer at batch 1, where time is bytes.
//
// As the row of real numbers (spmm/row.h), with quads of four neighbouring inputs in the place of inputs: a window of sixteen
// quads stands in a register, and a lane takes the quad that its output's four weights meet.
//
//   group of `lanes` outputs:   slot 0 | slot 1 | slot 2 | ...        a slot has four weights for each lane
//   slot                        where its window begins, in quads from the window before
//   lane of eight slots         32 bits: 4 for each slot say which of the window's quads
#pragma once

#include <cstdint>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "gemm/int_conv.h"
#include "spmm/sparse_int_conv.h"

namespace bittern::engine {

inline constexpr std::int64_t int_spmv_window = 16;  // quads
inline constexpr std::int64_t int_spmv_slots = 8;    // that share a load of places; groups have whole eights

struct IntSpmvArgs {
  const std::uint8_t* x = nullptr;        // every window lies within
  const std::uint8_t* steps = nullptr;    // of each slot
  const std::uint8_t* places = nullptr;   // for eight slots, `lanes` times four bytes
  const std::int8_t* weights = nullptr;   // of each slot, `lanes` times four
  std::int64_t slots = 0;
  const std::int32_t* offset = nullptr;   // of each lane: where its sum starts
  IntStore store;
  void* c = nullptr;
  std::int64_t valid = 0;                 // lanes to store
};

struct IntSpmvKernel {
  const char* name;
  Isa isa;
  int lanes;
  void (*bytes)(const IntSpmvArgs&);      // by the type of c
  void (*floats)(const IntSpmvArgs&);
};

class SparseIntRow {
 public:
  // `quads` of a layer with k inputs and no taps.
  SparseIntRow(const IntSpmvKernel& kernel, std::int64_t k, const SparseQuads& quads);

  // Estimated time in cycles, comparable with dense_cost(): what look-ups in registers take or, where the layer's dense weights do
  // not stay in the caches, bytes from memory.
  double cost() const noexcept;
  static double dense_cost(double weights, int bits) noexcept;
  std::int64_t packed_bytes() const noexcept { return packed_bytes_; }
  std::int64_t padded_channels() const noexcept { return static_cast<std::int64_t>(groups_.size()) * kernel_->lanes; }
  // Bytes of working memory: 0 if x, whose last quad is whole, can be read as it is.
  std::int64_t scratch_bytes() const noexcept { return quads_ < int_spmv_window ? int_spmv_window * 4 : 0; }
  void pack(const SparseQuads& quads, std::byte* packed) const;
  // `out` holds codes or floats, as `type` says.
  void run(const std::uint8_t* x, const std::byte* packed, const IntEpilogue& epilogue, IntOut type, void* out, std::byte* scratch, Team& team) const;

 private:
  struct Group {
    std::int64_t slots = 0, at = 0;  // bytes from the start of the packed weights: steps, places, weights
  };
  std::int64_t places_at(const Group& group) const noexcept;
  std::int64_t weights_at(const Group& group) const noexcept;
  std::int64_t padded() const noexcept { return quads_ < int_spmv_window ? int_spmv_window : quads_; }

  const IntSpmvKernel* kernel_;
  std::int64_t quads_, outputs_, packed_bytes_ = 0, slots_ = 0;
  bool cached_;
  std::vector<Group> groups_;
};

namespace scalar { const IntSpmvKernel* int_spmv_kernels(int& count); }
namespace avx2 { const IntSpmvKernel* int_spmv_kernels(int& count); }
namespace avx2vnni { const IntSpmvKernel* int_spmv_kernels(int& count); }
namespace avx512 { const IntSpmvKernel* int_spmv_kernels(int& count); }
namespace avx512vnni { const IntSpmvKernel* int_spmv_kernels(int& count); }

}  // namespace bittern::engine
