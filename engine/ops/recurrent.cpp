#include "ops/recurrent.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "registry.h"

namespace bittern::engine {
namespace {

std::int64_t at_least_one(std::int64_t count) { return std::max<std::int64_t>(1, count); }

bool resets_first(const RecurrentShape& s) { return s.cell == Cell::gru && !s.linear_before_reset; }

// The candidate of a GRU needs its part of R h apart from its part of Wx: nothing is added to the product then.
std::int64_t residual_step(const RecurrentShape& s) {
  const std::int64_t width = s.gates() * s.hidden;
  return s.batch_first ? at_least_one(s.steps) * width : width;
}

// Numbers of which a direction's rows from `first` on have `each`.
std::span<const float> part_of_numbers(std::span<const float> from, std::size_t each, int axis, std::int64_t direction, std::int64_t first) {
  if (from.size() <= each || axis < 0) return from;
  return axis == 0 ? from.subspan(static_cast<std::size_t>(direction) * each, each) : from.subspan(static_cast<std::size_t>(first) * each);
}

CodedNumbers numbers_of(const RecurrentCodes& all, std::int64_t direction, std::int64_t first) {
  const auto part = [&](std::span<const float> from, std::size_t each) { return part_of_numbers(from, each, all.axis, direction, first); };
  return {all.tables ? part(all.numbers.table, 4) : all.numbers.table, part(all.numbers.scale, 1)};
}

// From row `first` of a direction on, of so many rows of `columns` numbers.
WholeRows rows_of(const RecurrentWhole& all, std::int64_t direction, std::int64_t first, std::int64_t rows, std::int64_t columns) {
  return {all.rows.values + (direction * rows + first) * columns, part_of_numbers(all.rows.scale, 1, all.axis, direction, first), all.rows.alphabet};
}

// With the rows of some gates of W or R.
RowProduct product(const RecurrentShape& s, Isa isa, std::int64_t m, std::int64_t k, std::int64_t first_gate, std::int64_t gates, std::int64_t added_step,
                   const RecurrentKernels& kernels, bool of_inputs) {
  const std::int64_t n = gates * s.hidden;
  const GemvKernel* whole = of_inputs ? kernels.whole_w : kernels.whole_r;
  const SparseWeights* sparse = of_inputs ? kernels.sparse_w : kernels.sparse_r;
  if (whole != nullptr) return {added_step, DynamicProduct(*whole, *kernels.codes, m, k, n)};
  RowProduct made = sparse == nullptr ? RowProduct(isa, m, k, n, added_step, of_inputs ? kernels.w : kernels.r)
                                      : RowProduct(m, k, n, added_step, *sparse, {first_gate * s.hidden, s.gates() * s.hidden, s.directions});
  if (s.dynamic) made.round_inputs(*kernels.codes);
  return made;
}

void copy(float* to, const float* from, std::int64_t count) { std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float)); }

}  // namespace

RecurrentLayer::RecurrentLayer(const RecurrentShape& shape, Isa isa, const RecurrentKernels& kernels)
    : shape_(shape),
      split_(resets_first(shape)),
      inputs_(product(shape, isa, at_least_one(shape.steps * shape.batch), shape.input, 0, shape.gates(), 0, kernels, true)),
      step_(product(shape, isa, at_least_one(shape.batch), shape.hidden, 0, split_ ? 2 : shape.gates(),
                    shape.cell == Cell::gru && !split_ ? 0 : residual_step(shape), kernels, false)),
      eltwise_(op_kernel("eltwise", isa).eltwise) {
  const std::int64_t hidden = shape.hidden, width = shape.gates() * hidden;
  if (split_) second_ = product(shape, isa, at_least_one(shape.batch), hidden, 2, 1, residual_step(shape), kernels, false);
  const auto take = [&](std::int64_t floats) {
    const std::int64_t at = scratch_;
    scratch_ += (floats + 15) / 16 * 16;
    return at;
  };
  at_.input_bias = take(inputs_.padded_outputs());
  at_.step_bias = take(step_.padded_outputs());
  at_.wx = take(shape.steps * shape.batch * width);
  at_.gates = take(shape.batch * width);
  at_.candidate = take(shape.batch * hidden);
  at_.reset = take(shape.batch * hidden);
  at_.h = take(shape.batch * hidden);
  at_.c = take(shape.batch * hidden);
  at_.product = take(std::max({inputs_.scratch_floats(), step_.scratch_floats(), second_ ? second_->scratch_floats() : 0}));
}

void RecurrentLayer::pack_w(const float* w, float* packed) const {
  const std::int64_t each = shape_.gates() * shape_.hidden * shape_.input;
  for (std::int64_t d = 0; d < shape_.directions; ++d) inputs_.pack(w + d * each, packed + d * inputs_.packed_floats());
}

void RecurrentLayer::pack_r(const float* r, float* packed) const {
  const std::int64_t square = shape_.hidden * shape_.hidden;
  for (std::int64_t d = 0; d < shape_.directions; ++d) {
    const float* from = r + d * shape_.gates() * square;
    float* to = packed + d * packed_step();
    step_.pack(from, to);
    if (second_) second_->pack(from + 2 * square, to + step_.packed_floats());
  }
}

void RecurrentLayer::pack_w(const RecurrentCodes& w, float* packed) const {
  const std::int64_t rows = shape_.gates() * shape_.hidden;
  for (std::int64_t d = 0; d < shape_.directions; ++d) {
    inputs_.pack(numbers_of(w, d, 0), w.codes + d * rows * shape_.input, packed + d * inputs_.packed_floats());
  }
}

void RecurrentLayer::pack_r(const RecurrentCodes& r, float* packed) const {
  const std::int64_t hidden = shape_.hidden;
  for (std::int64_t d = 0; d < shape_.directions; ++d) {
    const std::uint8_t* from = r.codes + d * shape_.gates() * hidden * hidden;
    float* to = packed + d * packed_step();
    step_.pack(numbers_of(r, d, 0), from, to);
    if (second_) second_->pack(numbers_of(r, d, 2 * hidden), from + 2 * hidden * hidden, to + step_.packed_floats());
  }
}

void RecurrentLayer::pack_w(const RecurrentWhole& w, float* packed) const {
  const std::int64_t rows = shape_.gates() * shape_.hidden;
  for (std::int64_t d = 0; d < shape_.directions; ++d) inputs_.pack(rows_of(w, d, 0, rows, shape_.input), packed + d * inputs_.packed_floats());
}

void RecurrentLayer::pack_r(const RecurrentWhole& r, float* packed) const {
  const std::int64_t hidden = shape_.hidden, rows = shape_.gates() * hidden;
  for (std::int64_t d = 0; d < shape_.directions; ++d) {
    float* to = packed + d * packed_step();
    step_.pack(rows_of(r, d, 0, rows, hidden), to);
    if (second_) second_->pack(rows_of(r, d, 2 * hidden, rows, hidden), to + step_.packed_floats());
  }
}

void RecurrentLayer::pack_w(const SparseWeights& w, float* packed) const {
  for (std::int64_t d = 0; d < shape_.directions; ++d) inputs_.pack(w, d, packed + d * inputs_.packed_floats());
}

void RecurrentLayer::pack_r(const SparseWeights& r, float* packed) const {
  for (std::int64_t d = 0; d < shape_.directions; ++d) {
    float* to = packed + d * packed_step();
    step_.pack(r, d, to);
    if (second_) second_->pack(r, d, to + step_.packed_floats());
  }
}

double RecurrentLayer::macs() const noexcept {
  return static_cast<double>(shape_.directions * shape_.gates() * shape_.hidden) * static_cast<double>(shape_.steps * shape_.batch) *
         static_cast<double>(shape_.input + shape_.hidden);
}

void RecurrentLayer::run(const RecurrentArrays& arrays, Team& team) const {
  // Two short directions side by side; long steps are shared by all threads instead.
  const double step_macs = static_cast<double>(shape_.batch * shape_.hidden) * static_cast<double>(shape_.gates() * shape_.hidden);
  if (shape_.directions == 2 && step_macs < 1e6) {
    team.run(2, [&](std::size_t d) {
      Team alone(1);
      run_direction(static_cast<std::int64_t>(d), arrays, alone);
    });
    return;
  }
  for (std::int64_t d = 0; d < shape_.directions; ++d) run_direction(d, arrays, team);
}

// W's and R's biases are one sum, but for the candidate of a GRU that resets behind its product.
void RecurrentLayer::fill_biases(const float* bias, float* scratch) const {
  const std::int64_t width = shape_.gates() * shape_.hidden, apart = shape_.linear_before_reset ? 2 * shape_.hidden : width;
  float* input = scratch + at_.input_bias;
  float* step = scratch + at_.step_bias;
  std::fill(input, input + inputs_.padded_outputs(), 0.0f);
  std::fill(step, step + step_.padded_outputs(), 0.0f);
  if (bias == nullptr) return;
  for (std::int64_t i = 0; i < width; ++i) {
    input[i] = i < apart ? bias[i] + bias[width + i] : bias[i];
    if (i >= apart) step[i] = bias[width + i];
  }
}

const float* RecurrentLayer::state(const float* all, std::int64_t d, std::int64_t b) const noexcept {
  return all + (shape_.batch_first ? b * shape_.directions + d : d * shape_.batch + b) * shape_.hidden;
}

void RecurrentLayer::run_direction(std::int64_t d, const RecurrentArrays& arrays, Team& team) const {
  const std::int64_t steps = shape_.steps, batch = shape_.batch, hidden = shape_.hidden, width = shape_.gates() * hidden;
  if (batch == 0) return;
  const bool backwards = d == 1 || shape_.reverse, lstm = shape_.cell == Cell::lstm, joined_gru = shape_.cell == Cell::gru && !split_;
  float* scratch = arrays.scratch + d * scratch_;
  float *wx = scratch + at_.wx, *gates = scratch + at_.gates, *candidate = scratch + at_.candidate, *reset = scratch + at_.reset;
  float *h = scratch + at_.h, *c = scratch + at_.c;
  const float* r = arrays.r + d * packed_step();
  const float* peepholes = arrays.peepholes != nullptr ? arrays.peepholes + d * 3 * hidden : nullptr;
  fill_biases(arrays.bias != nullptr ? arrays.bias + d * 2 * width : nullptr, scratch);
  for (std::int64_t b = 0; b < batch; ++b) {
    for (const auto& [from, to] : {std::pair{arrays.h, h}, std::pair{arrays.c, c}}) {
      if (from != nullptr) {
        copy(to + b * hidden, state(from, d, b), hidden);
      } else {
        std::fill(to + b * hidden, to + (b + 1) * hidden, 0.0f);
      }
    }
  }
  if (steps > 0) inputs_.run(arrays.x, arrays.w + d * inputs_.packed_floats(), scratch + at_.input_bias, nullptr, wx, scratch + at_.product, team, d);

  const std::int64_t sample_step = shape_.batch_first ? steps * width : width, time_step = shape_.batch_first ? width : batch * width;
  for (std::int64_t s = 0; s < steps; ++s) {
    const std::int64_t t = backwards ? steps - 1 - s : s;
    const float* now = wx + t * time_step;
    step_.run(h, r, joined_gru ? scratch + at_.step_bias : nullptr, joined_gru ? nullptr : now, gates, scratch + at_.product, team, d);
    if (split_) {
      for (std::int64_t b = 0; b < batch; ++b) {
        float* row = gates + b * 2 * hidden;
        clip(row, 2 * hidden);
        activate(d, 0, row, 2 * hidden);
        for (std::int64_t i = 0; i < hidden; ++i) reset[b * hidden + i] = row[hidden + i] * h[b * hidden + i];
      }
      second_->run(reset, r + step_.packed_floats(), nullptr, now + 2 * hidden, candidate, scratch + at_.product, team, d);
    }
    if (joined_gru) {
      for (std::int64_t b = 0; b < batch; ++b) {
        const float* input = now + b * sample_step;
        float *row = gates + b * width, *next = candidate + b * hidden;
        for (std::int64_t i = 0; i < 2 * hidden; ++i) row[i] += input[i];
        clip(row, 2 * hidden);
        activate(d, 0, row, 2 * hidden);
        for (std::int64_t i = 0; i < hidden; ++i) next[i] = input[2 * hidden + i] + row[hidden + i] * row[2 * hidden + i];
      }
    }
    for (std::int64_t b = 0; b < batch; ++b) {
      const std::int64_t length = arrays.lengths != nullptr ? arrays.lengths[b] : steps;
      float* y = arrays.y == nullptr ? nullptr : arrays.y + (shape_.batch_first ? (b * steps + t) * shape_.directions + d
                                                                                : (t * shape_.directions + d) * batch + b) * hidden;
      if (t >= length) {  // the sample has ended, or seen from the end not begun: its state stays
        if (y != nullptr) std::fill(y, y + hidden, 0.0f);
        continue;
      }
      float* state = h + b * hidden;
      if (lstm) {
        lstm_row(d, peepholes, gates + b * width, state, c + b * hidden);
      } else if (shape_.cell == Cell::gru) {
        gru_row(d, gates + b * (split_ ? 2 * hidden : width), candidate + b * hidden, state);
      } else {
        rnn_row(d, gates + b * width, state);
      }
      if (y != nullptr) copy(y, state, hidden);
    }
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t at = (shape_.batch_first ? b * shape_.directions + d : d * batch + b) * hidden;
    if (arrays.y_h != nullptr) copy(arrays.y_h + at, h + b * hidden, hidden);
    if (arrays.y_c != nullptr) copy(arrays.y_c + at, c + b * hidden, hidden);
  }
}

void RecurrentLayer::rnn_row(std::int64_t d, float* gates, float* h) const {
  clip(gates, shape_.hidden);
  activate(d, 0, gates, shape_.hidden);
  copy(h, gates, shape_.hidden);
}

// `gates` start with z, which has been through its activation.
void RecurrentLayer::gru_row(std::int64_t d, const float* gates, float* candidate, float* h) const {
  clip(candidate, shape_.hidden);
  activate(d, 1, candidate, shape_.hidden);
  for (std::int64_t i = 0; i < shape_.hidden; ++i) h[i] = (1.0f - gates[i]) * candidate[i] + gates[i] * h[i];
}

// Gates i, o, f, c; peepholes i, o, f.
void RecurrentLayer::lstm_row(std::int64_t d, const float* peepholes, float* gates, float* h, float* c) const {
  const std::int64_t n = shape_.hidden;
  float *in = gates, *out = gates + n, *forget = gates + 2 * n, *cell = gates + 3 * n;
  if (peepholes != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) in[i] += peepholes[i] * c[i];
    for (std::int64_t i = 0; i < n; ++i) forget[i] += peepholes[2 * n + i] * c[i];
    clip(in, n);
    activate(d, 0, in, n);
    clip(forget, 2 * n);
    activate(d, 0, forget, n);
  } else {
    clip(gates, 4 * n);
    activate(d, 0, gates, 3 * n);
  }
  activate(d, 1, cell, n);
  if (shape_.input_forget) {
    for (std::int64_t i = 0; i < n; ++i) forget[i] = 1.0f - in[i];
  }
  for (std::int64_t i = 0; i < n; ++i) c[i] = forget[i] * c[i] + in[i] * cell[i];
  clip(c, n, shape_.cell_clip);
  if (peepholes != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) out[i] += peepholes[n + i] * c[i];
    clip(out, n);
    activate(d, 0, out, n);
  }
  copy(cell, c, n);  // not bounded by `clip`: other runtimes clip sums of products only
  activate(d, 2, cell, n);
  for (std::int64_t i = 0; i < n; ++i) h[i] = out[i] * cell[i];
}

void RecurrentLayer::clip(float* x, std::int64_t count, float bound) const {
  if (bound > 0) eltwise_({Eltwise::clamp, x, nullptr, x, count, -bound, bound, 0.0f});
}

// Activation f, g or h of a direction, in place.
void RecurrentLayer::activate(std::int64_t d, int which, float* x, std::int64_t count) const {
  const std::size_t each = shape_.activations.size() / static_cast<std::size_t>(shape_.directions);
  const ActivationFunction& f = shape_.activations[static_cast<std::size_t>(d) * each + static_cast<std::size_t>(which)];
  const float a = f.alpha, b = f.beta;
  const auto row = [&](Eltwise op) { eltwise_({op, x, nullptr, x, count, 0.0f, std::numeric_limits<float>::infinity(), a}); };
  const auto each_of = [&](auto function) {
    for (std::int64_t i = 0; i < count; ++i) x[i] = function(x[i]);
  };
  switch (f.kind) {
    case Activation::sigmoid: return row(Eltwise::sigmoid);
    case Activation::tanh: return row(Eltwise::tanh);
    case Activation::relu: return row(Eltwise::clamp);
    case Activation::leaky_relu: return row(Eltwise::leaky_relu);
    case Activation::affine: return each_of([=](float v) { return a * v + b; });
    case Activation::elu: return each_of([=](float v) { return v >= 0 ? v : a * std::expm1(v); });
    case Activation::hard_sigmoid: return each_of([=](float v) { return std::min(1.0f, std::max(0.0f, a * v + b)); });
    case Activation::scaled_tanh: return each_of([=](float v) { return a * std::tanh(b * v); });
    case Activation::softplus: return each_of([](float v) { return std::max(v, 0.0f) + std::log1p(std::exp(-std::fabs(v))); });
    case Activation::softsign: return each_of([](float v) { return v / (1.0f + std::fabs(v)); });
    case Activation::thresholded_relu: return each_of([=](float v) { return v > a ? v : 0.0f; });
  }
}

}  // namespace bittern::engine
