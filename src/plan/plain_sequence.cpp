// Plain operators: recurrent layers.
#include "plan/plain_sequence.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "graph/recurrent.h"
#include "ops/recurrent.h"
#include "plan/layer_parts.h"
#include "registry.h"

namespace bittern::plan {
namespace {

// A decoded weight serves so many samples (gemm/lut_gemv_level.cpp). For more of them a tile, which reads dense weights once,
// takes less time where caches hold the weights.
constexpr std::int64_t most_rows = 4;

// W or R as codes that a kernel of one row decodes in registers, or as weights that are not zero; no kernel where they run dense.
struct Coded {
  std::optional<format::RowForm> form;
  const engine::LutGemvKernel* kernel = nullptr;
  std::optional<format::IntegerForm> whole;  // what inputs quantised on the fly are multiplied with
  const engine::GemvKernel* whole_kernel = nullptr;
  std::optional<engine::SparseWeights> sparse;
  double density = 1;
  std::string why_not;

  bool dense() const { return kernel == nullptr && !sparse && !whole; }
  engine::RecurrentCodes with(const std::uint8_t* codes) const { return {coded_numbers(*form), form->tables, form->axis, codes}; }
  engine::RecurrentWhole with(const std::int16_t* values) const { return {{values, whole->scale, whole->alphabet}, whole->axis}; }
};

// Cycles of a row of the product otherwise, in the unit of SparseRow::cost(): bytes from caches or memory, look-ups or products.
double other_cost(const Coded& weights, const PlainNode& node, double count, std::int64_t rows) {
  const double lanes = node.isa == engine::Isa::scalar ? 4 : 16;
  if (weights.kernel != nullptr) return std::max(count * (weights.form->table.size() > 4 ? 4 : 2) / 64, count * 0.1);
  constexpr double cached = 8e6, from_memory = 8, from_caches = 24;
  return std::max(count / lanes, count * 4 / (count * 4 > cached ? from_memory : from_caches) / static_cast<double>(rows));
}

// The weights that are not zero, if that is estimated to be faster for so many rows.
void try_sparse(const PlainNode& node, std::size_t input, std::int64_t rows, Coded& weights) {
  const auto& shape = node.inputs[input]->shape;
  const std::int64_t columns = shape.back();
  if (!node.sparse_of || !engine::RowProduct::in_place(columns)) return;
  auto found = node.sparse_of(input);
  if (!found) return;
  engine::SparseWeights sparse{node.asked, std::move(*found), {}};
  const auto count = static_cast<double>(sparse.rows.first.size() - 1) * static_cast<double>(columns);
  const double density = count == 0 ? 0.0 : static_cast<double>(sparse.rows.entries()) / count;
  // A code of the table is its zero.
  const bool codes = (node.asked == nullptr || node.asked->codes) && engine::to_codes(sparse.rows, sparse.table) && sparse.table.size() <= 15;
  if (!codes) sparse.table.clear();
  if (node.asked == nullptr) {
    const auto list = engine::spmv_kernels(node.isa);
    sparse.kernel = &*std::find_if(list.begin(), list.end(), [&](const engine::SpmvKernel& kernel) { return kernel.codes == codes; });
    if (engine::SparseRow(*sparse.kernel, columns, sparse.rows).cost() >= other_cost(weights, node, count, rows)) return;
  } else if (node.asked->codes && !codes) {
    return;
  }
  weights.kernel = nullptr;
  weights.density = density;
  weights.sparse = std::move(sparse);
  weights.why_not.clear();
}

// Weights as whole numbers of 8 bits, if they are such and no sum leaves 32 bits.
bool try_whole(const PlainNode& node, std::size_t input, Coded& weights) {
  const std::int64_t columns = node.inputs[input]->shape.back();
  auto form = node.whole_of ? node.whole_of(input) : std::nullopt;
  if (!form || form->axis == 2 || form->least < -128 || form->greatest > 127 || columns > engine::most_dynamic_inputs) return false;
  const int bits = engine::code_bits(form->alphabet);
  const auto list = engine::gemv_kernels(node.isa);
  weights.whole_kernel = &*std::find_if(list.begin(), list.end(), [&](const engine::GemvKernel& kernel) { return kernel.bits == bits; });
  weights.whole = std::move(form);
  return true;
}

Coded coded_weights(const PlainNode& node, std::size_t input, const engine::RecurrentShape& shape, std::int64_t rows) {
  const std::int64_t batch = shape.batch;
  Coded weights;
  if (shape.dynamic && try_whole(node, input, weights)) return weights;
  if (node.form_of) weights.form = node.form_of(input);
  if (weights.form && weights.form->axis == 2) {
    weights.why_not = "no kernel has scales along the inputs";
  } else if (weights.form && batch > most_rows) {
    weights.why_not = "a batch of " + std::to_string(batch) + " shares them on a tile; up to " + std::to_string(most_rows) + " samples run as codes";
  } else if (weights.form) {
    // A part of the gates may be multiplied alone: as many rows as there are hidden units.
    weights.kernel = &row_kernel(node.isa, *weights.form, node.inputs[2]->shape.back());
  }
  try_sparse(node, input, rows, weights);
  return weights;
}

std::string stays(const Coded& weights) {
  if (weights.dense()) return "";
  if (weights.whole) return "weights stay " + std::to_string(weights.whole_kernel->bits) + "-bit " + (weights.whole_kernel->bits == 8 ? "numbers" : "codes");
  if (!weights.sparse) return stays_codes(*weights.kernel);
  char text[48];
  std::snprintf(text, sizeof text, "%.1f %% of the weights are not zero", 100 * weights.density);
  return text;
}

std::string how_they_run(const engine::RecurrentLayer& layer, const Coded& w, const Coded& r) {
  if (w.dense() && r.dense()) return "";
  if (!w.sparse && !r.sparse && w.kernel == r.kernel && w.whole_kernel == r.whole_kernel) return "row by row: " + stays(w);
  const auto part = [](const char* name, const Coded& weights, const engine::RowProduct& product) {
    return std::string(name) + " by " + product.kernel_name() + (weights.dense() ? "" : ": " + stays(weights));
  };
  return "row by row: " + part("W", w, layer.w_product()) + "; " + part("R", r, layer.r_product());
}

PlainKernel prepare_recurrent(const PlainNode& node) {
  const engine::RecurrentShape shape = graph::recurrent_of(node.node, node.inputs);
  const Coded coded_w = coded_weights(node, 1, shape, std::max<std::int64_t>(1, shape.steps * shape.batch));
  const Coded coded_r = coded_weights(node, 2, shape, std::max<std::int64_t>(1, shape.batch));
  const auto sparse = [](const Coded& weights) { return weights.sparse ? &*weights.sparse : nullptr; };
  const engine::RecurrentKernels kernels{coded_w.kernel, coded_r.kernel, sparse(coded_w), sparse(coded_r),
                                         &engine::code_kernels(node.isa), coded_w.whole_kernel, coded_r.whole_kernel};
  const auto layer = std::make_shared<const engine::RecurrentLayer>(shape, node.isa, kernels);
  const auto pack = [&](std::size_t input, const Coded& coded, const std::string& form, std::int64_t floats, const auto& fill) -> const float* {
    if (coded.sparse) return node.pack_sparse(input, "recurrent " + form, floats, [&](float* to) { fill(*coded.sparse, to); });
    if (coded.whole) {
      return node.pack_whole(input, "recurrent " + form, floats, [&](const std::int16_t* values, float* to) { fill(coded.with(values), to); });
    }
    if (coded.kernel != nullptr) {
      return node.pack_codes(input, "recurrent " + form, floats, [&](const std::uint8_t* codes, float* to) { fill(coded.with(codes), to); });
    }
    if (!node.pack) return nullptr;
    return node.pack(input, "recurrent " + form, floats, [&](const float* from, float* to) { fill(from, to); });
  };
  const float* w = pack(1, coded_w, layer->form_w(), layer->packed_w(), [&](const auto& from, float* to) { layer->pack_w(from, to); });
  const float* r = pack(2, coded_r, layer->form_r(), layer->packed_r(), [&](const auto& from, float* to) { layer->pack_r(from, to); });
  // Weights computed at run time are packed in each run.
  const std::int64_t w_at = layer->scratch_floats(), r_at = w_at + (w == nullptr ? layer->packed_w() : 0);
  const std::int64_t scratch = r_at + (r == nullptr ? layer->packed_r() : 0);
  const std::size_t inputs = node.inputs.size(), outputs = node.outputs.size();
  PlainKernel kernel;
  kernel.scratch_bytes = static_cast<std::uint64_t>(scratch) * sizeof(float);
  kernel.macs = layer->macs();
  const engine::RowProduct& shown = coded_r.dense() && !coded_w.dense() ? layer->w_product() : layer->r_product();
  kernel.kernel = shown.kernel_name();
  kernel.isa = shown.kernel_isa();
  kernel.reason = how_they_run(*layer, coded_w, coded_r);
  if (shape.dynamic) {
    if (kernel.reason.empty()) kernel.reason = "products by this tile";
    kernel.reason += "; activations are quantised on the fly";
    if (!coded_w.whole || !coded_r.whole) kernel.reason += ", and decoded for weights that are no whole numbers of 8 bits, or computed";
  }
  kernel.why_decoded = coded_w.why_not.empty() ? coded_r.why_not : coded_w.why_not;
  kernel.run = [=](const PlainArrays& arrays) {
    const auto in = [&](std::size_t i) { return i < inputs ? static_cast<const float*>(arrays.in[i]) : nullptr; };
    const auto out = [&](std::size_t i) { return i < outputs ? static_cast<float*>(arrays.out[i]) : nullptr; };
    auto* memory = reinterpret_cast<float*>(arrays.scratch);
    if (w == nullptr) layer->pack_w(in(1), memory + w_at);
    if (r == nullptr) layer->pack_r(in(2), memory + r_at);
    engine::RecurrentArrays a;
    a.x = in(0);
    a.w = w != nullptr ? w : memory + w_at;
    a.r = r != nullptr ? r : memory + r_at;
    a.bias = in(3);
    a.lengths = inputs > 4 ? static_cast<const std::int32_t*>(arrays.in[4]) : nullptr;
    a.h = in(5);
    a.c = in(6);
    a.peepholes = in(7);
    a.y = out(0);
    a.y_h = out(1);
    a.y_c = out(2);
    a.scratch = memory;
    layer->run(a, *arrays.team);
  };
  return kernel;
}

}  // namespace

void add_plain_sequence(PlainOperators& operators) {
  for (const char* op : {"LSTM", "GRU", "RNN"}) operators[op] = prepare_recurrent;
  operators["MatMul"] = prepare_matmul;
  operators["Gemm"] = prepare_gemm;
  operators["LogSoftmax"] = prepare_log_softmax;
  operators["Hardmax"] = prepare_hardmax;
  operators["LpNormalization"] = prepare_lp_norm;
  operators["MeanVarianceNormalization"] = prepare_mean_variance;
  operators["LayerNormalization"] = prepare_layer_norm;
  operators["RMSNormalization"] = prepare_layer_norm;
  operators["InstanceNormalization"] = prepare_channel_norm;
  operators["GroupNormalization"] = prepare_channel_norm;
}

}  // namespace bittern::plan
