// Graph rewriting for execution: no-ops vanish, batch normalisation and scalings are folded into weights, and bias,
// residual and activation move into the epilogue of the layer that feeds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "format/integer_form.h"
#include "format/look_up_form.h"
#include "format/row_form.h"
#include "graph/graph.h"
#include "graph/ops.h"
#include "ops/quantiser.h"

namespace bittern::plan {

// What a layer on 8-bit codes has besides: its inputs and output are then values of codes (plan/quantised.h).
struct CodesForm {
  std::vector<engine::Quantiser> inputs;         // of the inputs, as far as they are codes
  std::optional<engine::Quantiser> output;       // none: it gives real numbers
  std::optional<engine::Quantiser> inner;        // of the layer's own result, before the residual or another quantiser
  engine::Quantiser residual;
  bool fixed_point = false;                      // codes come by TensorFlow Lite's arithmetic (ops/fixed_point.h)
  std::optional<format::IntegerForm> weights;    // of a layer
  std::vector<std::int64_t> zeros;               // of weights that are no real numbers: one, one per output channel, or none
  bool two_terms = false;                        // some of them leave 8 bits
  bool sums = false;                             // it gives the exact sums
  std::vector<std::string> rows;                 // of input and output: those whose last dimension stands together
  std::shared_ptr<const std::vector<std::int32_t>> bias;     // in units of the sums, or null
  std::string dynamic_scale, dynamic_zero;       // values that hold the input's quantiser at run time, or empty
  std::shared_ptr<const std::vector<std::byte>> table;       // of an operation on one input: 256 codes
};

struct BitsForm;  // plan/bits.h

// A node with what was fused into it. Values keep the names of the graph.
struct Item {
  const graph::Node* node = nullptr;
  std::string op, name;
  std::vector<std::string> inputs;
  std::string output;
  std::vector<std::string> more_outputs;  // behind the first; only plain operators have any
  bool plain = false;                     // no tuned kernel runs it: nothing is fused into it or with it
  std::vector<std::string> fused;
  // Per output channel, applied to weights and bias when they are packed: y = scale * (conv + bias) + shift.
  std::vector<float> scale, shift;
  std::int64_t groups = 0;  // of a channel shuffle
  std::string residual;     // a value added before the clamp; empty: none
  bool clamped = false;
  std::optional<CodesForm> codes;
  std::shared_ptr<const BitsForm> bits;  // of an item on planes of bits
  bool whole_sums = false;           // of codes and whole numbers, times scales: exact unless a kernel rounds in between
  const char* stays_real = nullptr;  // of an operator between codes: why it does not compute on them
  bool on_codes = false;             // a plain operator that moves codes as they are
  std::optional<engine::Quantiser> conversion;  // of a QuantizeLinear or DequantizeLinear that is left
  float lo = -std::numeric_limits<float>::infinity(), hi = std::numeric_limits<float>::infinity();

  std::vector<std::string> outputs() const {
    std::vector<std::string> all{output};
    all.insert(all.end(), more_outputs.begin(), more_outputs.end());
    return all;
  }
};

using Types = std::map<std::string, graph::ValueType>;

// The constants of a graph, decoded when asked for. Throws Error(format) where their leaves are damaged.
class Constants {
 public:
  virtual ~Constants() = default;
  virtual bool has(const std::string& name) const = 0;
  virtual std::vector<float> floats(const std::string& name) const = 0;
  // The floats where they stand in the file, if they are stored as such; else null.
  virtual const float* stored(const std::string& name) const = 0;
  // The constant has been packed: its bytes in the file are not needed for a while. Or only these floats of it.
  virtual void release(const std::string& name) const = 0;
  virtual void release(const float* first, std::int64_t count) const = 0;
  virtual std::vector<std::int64_t> integers(const std::string& name) const = 0;
  // Its encoding tree, and its forms if it has them (format/integer_form.h, look_up_form.h, row_form.h).
  virtual const graph::Encoding& encoding(const std::string& name) const = 0;
  virtual std::optional<format::IntegerForm> integer_form(const std::string& name) const = 0;
  virtual std::vector<format::IntegerForm> integer_parts(const std::string& name) const = 0;
  virtual std::vector<std::int16_t> part_values(const std::string& name, std::size_t part) const = 0;
  virtual std::optional<format::LookUpForm> look_up_form(const std::string& name) const = 0;
  virtual std::vector<std::uint8_t> look_up_codes(const std::string& name) const = 0;
  virtual std::optional<format::RowForm> row_form(const std::string& name) const = 0;
  virtual std::vector<std::uint8_t> row_codes(const std::string& name) const = 0;
  virtual std::vector<std::int16_t> integer_values(const std::string& name) const = 0;
  virtual std::vector<std::int64_t> wide_integer_values(const std::string& name) const = 0;
  // All elements in their own type: f32, integers or booleans.
  virtual std::shared_ptr<const std::vector<std::byte>> bytes(const std::string& name) const = 0;
};

// Batch normalisation as y = x * scale + shift of each channel.
void batch_norm_affine(const Item& item, const Constants& constants, std::vector<float>& scale, std::vector<float>& shift);

// Nodes whose outputs are all known already are left out. `kept` are values that must exist as they are: outputs and taps.
std::vector<Item> fuse(const graph::Graph& graph, const Types& types, const std::set<std::string>& kept, const Constants& constants);

}  // namespace bittern::plan
