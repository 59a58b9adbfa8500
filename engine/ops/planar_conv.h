// Convolution and transposed convolution of planar arrays of three spatial dimensions (fewer: sizes of 1 in front).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "gemm/conv.h"

namespace bittern::engine {

struct PlanarConvShape {
  using Sizes = std::array<std::int64_t, 3>;
  std::int64_t n = 1, c = 0, oc = 0, groups = 1;
  Sizes in{1, 1, 1}, out{1, 1, 1}, kernel{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1}, before{0, 0, 0};
  // Weights are O, I/groups, taps; of a transposed convolution I, O/groups, taps. Then `before` is cut off its result.
  bool transposed = false;

  double macs() const noexcept;
};

// A transposed convolution is one convolution per output phase: the outputs that equal each other modulo the stride read
// the same taps at neighbouring inputs. So both are gathers, and nothing is added to memory.
//
// Layers of some width gather the inputs of each output into a row and multiply the rows with packed weights by a gemm
// kernel; narrow ones (depthwise) run directly on the weights as they are.
class PlanarConv {
 public:
  PlanarConv(const PlanarConvShape& shape, std::span<const GemmKernel> kernels);
  PlanarConv(const PlanarConv&) = delete;  // phases point into axes
  PlanarConv& operator=(const PlanarConv&) = delete;

  // Null if no matrix product is made: the weights run as they are.
  const GemmKernel* kernel() const noexcept { return kernel_; }
  std::int64_t packed_elements() const noexcept { return packed_; }
  std::int64_t pack_scratch_elements() const noexcept { return kernel_ != nullptr ? outputs_ * longest_ : 0; }
  void pack(const float* weights, float* packed, float* scratch) const;

  std::int64_t scratch_elements() const noexcept { return scratch_; }
  // `weights` are the packed ones if there is a kernel(). `bias` may be null.
  void run(const float* x, const float* weights, const float* bias, float* y, float* scratch, Team& team) const;

 private:
  // One dimension of a phase: output first + q * step, q < count, reads inputs q * advance + offsets[i] by taps[i].
  struct Axis {
    std::int64_t first = 0, step = 1, count = 0, advance = 1;
    std::vector<std::int64_t> taps, offsets;  // offsets ascend
    std::int64_t taps_count() const noexcept { return static_cast<std::int64_t>(taps.size()); }
  };
  struct Phase {
    std::array<const Axis*, 3> axes;
    std::int64_t pixels = 0, depth = 0, chunk = 0;  // outputs, products of each, outputs gathered at once
    std::int64_t weights = 0, group_weights = 0;    // where its packed weights start; of one group
    std::vector<GemmConv> product;                  // one
  };

  template <class Body>
  void each_phase(const Body& body) const;
  std::int64_t weight_at(std::int64_t group, std::int64_t output, std::int64_t input, std::int64_t tap) const noexcept;
  void fill_bias(const float* bias, float* y, Team& team) const;
  void run_directly(const float* x, const float* weights, const float* bias, float* y, Team& team) const;
  void direct_row(const std::array<const Axis*, 3>& axes, const float* x, const float* weights, std::int64_t group, std::int64_t output, float start,
                  std::int64_t depth_at, std::int64_t row_at, float* y) const;
  void gather(const Phase& phase, const float* pixels, std::int64_t group, std::int64_t first, std::int64_t count, float* rows) const;
  void scatter(const Phase& phase, const float* results, std::int64_t first, std::int64_t count, std::int64_t channel, std::int64_t channels,
               float* y) const;

  PlanarConvShape shape_;
  std::int64_t inputs_, outputs_, taps_, in_pixels_, out_pixels_;  // channels of a group; sizes
  std::array<std::vector<Axis>, 3> axes_;
  std::vector<Phase> phases_;
  const GemmKernel* kernel_ = nullptr;
  bool covered_ = true;  // every output belongs to a phase
  std::int64_t packed_ = 0, longest_ = 0, scratch_ = 0, rows_at_ = 0, results_at_ = 0, bias_at_ = 0;
};

}  // namespace bittern::engine
