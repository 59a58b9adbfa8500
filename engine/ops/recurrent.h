// Recurrent layers: the products of all time steps' inputs at once, then step by step gates = Wx[t] + R h + b and a gate function.
// W and R are dense, or codes of few bits, which kernels of one row decode in registers, or sparse, both sample by sample.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "ops/row_product.h"
#include "ops/rows.h"

namespace bittern::engine {

enum class Cell { rnn, gru, lstm };

enum class Activation { affine, elu, hard_sigmoid, leaky_relu, relu, scaled_tanh, sigmoid, softplus, softsign, tanh, thresholded_relu };

struct ActivationFunction {
  Activation kind = Activation::sigmoid;
  float alpha = 0, beta = 0;
};

struct RecurrentShape {
  Cell cell = Cell::rnn;
  std::int64_t steps = 0, batch = 0, input = 0, hidden = 0, directions = 1;
  bool reverse = false;      // the only direction runs from the end
  bool batch_first = false;  // x, y and states begin with the batch
  float clip = 0;            // bound of the sums that go into f and g; 0 for none
  float cell_clip = 0;       // LSTM: bound of the cell state; 0 for none
  bool linear_before_reset = false, input_forget = false;
  bool dynamic = false;      // what W and R multiply is quantised to 8 bits as it comes: x, and in each step the states
  std::vector<ActivationFunction> activations;  // f, g, h of the first direction, then of the second

  std::int64_t gates() const noexcept { return cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : 1; }
};

// The arrays of a run, laid out as ONNX lays them out; optional ones may be null.
struct RecurrentArrays {
  const float* x = nullptr;
  const float* w = nullptr;  // packed
  const float* r = nullptr;  // packed
  const float* bias = nullptr;
  const std::int32_t* lengths = nullptr;  // one per sample; beyond 0..steps they are clamped
  const float* h = nullptr;
  const float* c = nullptr;
  const float* peepholes = nullptr;
  float* y = nullptr;
  float* y_h = nullptr;
  float* y_c = nullptr;
  float* scratch = nullptr;  // scratch_floats()
};

// Kernels of one row for weights that are codes, or sparse weights, which may go after construction; null for dense ones.
// Layers that are dynamic have kernels for codes, and where weights are whole numbers kernels that multiply them.
struct RecurrentKernels {
  const LutGemvKernel* w = nullptr;
  const LutGemvKernel* r = nullptr;
  const SparseWeights* sparse_w = nullptr;
  const SparseWeights* sparse_r = nullptr;
  const CodeKernels* codes = nullptr;
  const GemvKernel* whole_w = nullptr;
  const GemvKernel* whole_r = nullptr;
};

// W or R as whole numbers, of all directions: a scale is one, one for each direction (axis 0) or one for each gate's row (axis 1).
struct RecurrentWhole {
  WholeRows rows;
  int axis = -1;
};

// W or R as codes, of all directions: scales and `tables` of 4 are one, one for each direction (axis 0) or one for each gate's
// row (axis 1).
struct RecurrentCodes {
  CodedNumbers numbers;
  bool tables = false;
  int axis = -1;
  const std::uint8_t* codes = nullptr;
};

class RecurrentLayer {
 public:
  RecurrentLayer(const RecurrentShape& shape, Isa isa, const RecurrentKernels& kernels = {});

  // Through which the products with W run, and those with R.
  const RowProduct& w_product() const noexcept { return inputs_; }
  const RowProduct& r_product() const noexcept { return step_; }
  std::int64_t packed_w() const noexcept { return shape_.directions * inputs_.packed_floats(); }
  std::int64_t packed_r() const noexcept { return shape_.directions * packed_step(); }
  // What distinguishes packed weights: tiles are chosen by the number of rows, which differs between plans of a model.
  std::string form_w() const { return inputs_.kernel_name(); }
  std::string form_r() const { return std::string(step_.kernel_name()) + (second_ ? std::string(" ") + second_->kernel_name() : ""); }
  void pack_w(const float* w, float* packed) const;
  void pack_r(const float* r, float* packed) const;
  void pack_w(const RecurrentCodes& w, float* packed) const;
  void pack_r(const RecurrentCodes& r, float* packed) const;
  void pack_w(const RecurrentWhole& w, float* packed) const;
  void pack_r(const RecurrentWhole& r, float* packed) const;
  void pack_w(const SparseWeights& w, float* packed) const;
  void pack_r(const SparseWeights& r, float* packed) const;
  std::int64_t scratch_floats() const noexcept { return shape_.directions * scratch_; }
  double macs() const noexcept;

  void run(const RecurrentArrays& arrays, Team& team) const;

 private:
  // Working memory of one direction, as offsets.
  struct Places {
    std::int64_t input_bias = 0, step_bias = 0, wx = 0, gates = 0, candidate = 0, reset = 0, h = 0, c = 0, product = 0;
  };
  std::int64_t packed_step() const noexcept { return step_.packed_floats() + (second_ ? second_->packed_floats() : 0); }
  void run_direction(std::int64_t d, const RecurrentArrays& arrays, Team& team) const;
  void fill_biases(const float* bias, float* scratch) const;
  const float* state(const float* all, std::int64_t d, std::int64_t b) const noexcept;

  // The gate functions of one sample: from its gates to its new state.
  void rnn_row(std::int64_t d, float* gates, float* h) const;
  void gru_row(std::int64_t d, const float* gates, float* candidate, float* h) const;
  void lstm_row(std::int64_t d, const float* peepholes, float* gates, float* h, float* c) const;
  void clip(float* x, std::int64_t count) const { clip(x, count, shape_.clip); }
  void clip(float* x, std::int64_t count, float bound) const;
  void activate(std::int64_t d, int which, float* x, std::int64_t count) const;

  RecurrentShape shape_;
  bool split_ = false;              // GRU that resets before its product: the candidate's product comes second
  RowProduct inputs_, step_;
  std::optional<RowProduct> second_;
  EltwiseFunction eltwise_;
  Places at_;
  std::int64_t scratch_ = 0;        // floats of one direction
};

}  // namespace bittern::engine
