// A loaded network: immutable, shared by its sessions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <bittern/export.h>
#include <bittern/tensor.h>

namespace bittern {

// A size, or a symbol that stands for one (then `value` is -1).
struct Dimension {
  std::int64_t value = -1;
  std::string symbol;
};

struct ValueInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<Dimension> shape;
  bool any_shape = false;  // of an output whose rank depends on the inputs: see Session::prepare
};

// One row of a plan: an operator with all that was fused into it, and what runs it.
struct LayerInfo {
  std::string name, op;
  std::vector<std::string> fused;   // nodes that run in this layer's epilogue or were folded into its weights
  std::string encoding;             // of the weight in the file; empty if there is none
  std::string kernel;               // empty for a layer that costs nothing: a view of its input
  std::string isa;
  std::string reason;               // why this kernel
  std::string layout;               // of input and output
  std::uint64_t encoded_bytes = 0;  // of the weights in the file
  std::uint64_t packed_bytes = 0;   // of the weights in memory
  double macs = 0;                  // multiplications by the definition
  double density = -1;              // share of the weights that are not zero; negative if nobody looked
  std::string dense_kernel, sparse_kernel;           // where somebody looked: the kernels compared, whichever was chosen,
  double dense_estimate = -1, sparse_estimate = -1;  // and their times, estimated in cycles of the vector unit
  Shape output_shape;
};

struct PlanInfo {
  std::vector<LayerInfo> layers;
  std::vector<ValueInfo> outputs;  // sizes all known
  std::uint64_t arena_bytes = 0;
};

enum class Checksum { eager, lazy, skip };  // verified at load; when the first plan is made; never

struct LoadOptions {
  std::string isa;                   // highest level to use; empty: BITTERN_ISA, else the best usable
  std::string device = "cpu";
  std::uint64_t memory_limit = 0;    // bytes for weights and scratch; 0: what the machine grants
  Checksum checksum = Checksum::eager;
  bool winograd = true;              // allow Winograd convolution, which is faster and rounds more: see docs/numerics.md
  std::vector<std::string> kernels;  // kernels to prefer wherever they fit; for tests and benchmarks
};

class BITTERN_EXPORT Model {
 public:
  // Throws Error: io, format, unsupported, resource, input (options).
  static Model load(const std::string& path, const LoadOptions& options = {});
  // The bytes are copied. `place` names them in messages.
  static Model from_bytes(std::span<const std::byte> bytes, const std::string& place = "<bytes>", const LoadOptions& options = {});

  const std::vector<ValueInfo>& inputs() const noexcept;
  // For each input, whether its elements decide shapes: Session::prepare needs their values then.
  const std::vector<bool>& shape_deciding_inputs() const noexcept;
  const std::vector<ValueInfo>& outputs() const noexcept;
  const std::map<std::string, std::string>& metadata() const noexcept;
  const std::string& name() const noexcept;
  const std::string& isa() const noexcept;

  // Names of the values that nodes compute, in order: what Session takes as taps.
  std::vector<std::string> values() const;

  // Names of the constants, and one of them decoded: f32, or its integers. Throws Error(input) for an unknown name.
  std::vector<std::string> constants() const;
  ValueInfo constant_info(const std::string& name) const;
  void read_constant(const std::string& name, const View& out) const;

  // Bytes taken by packed and decoded weights so far.
  std::uint64_t weight_bytes() const noexcept;

  class BITTERN_HIDDEN Impl;
  const std::shared_ptr<Impl>& impl() const noexcept { return impl_; }

 private:
  explicit Model(std::shared_ptr<Impl> impl) : impl_(static_cast<std::shared_ptr<Impl>&&>(impl)) {}
  std::shared_ptr<Impl> impl_;
};

}  // namespace bittern
