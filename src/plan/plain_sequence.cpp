// Plain operators: recurrent layers.
#include "plan/plain_sequence.h"

#include <memory>

#include "graph/recurrent.h"
#include "ops/recurrent.h"
#include "plan/layer_parts.h"

namespace bittern::plan {
namespace {

// A decoded weight serves so many samples (gemm/lut_gemv_level.cpp). For more of them a tile, which reads dense weights once,
// takes less time where caches hold the weights.
constexpr std::int64_t most_rows = 4;

// W or R as codes that a kernel of one row decodes in registers; no kernel where they run dense.
struct Coded {
  std::optional<format::RowForm> form;
  const engine::LutGemvKernel* kernel = nullptr;
  std::string why_not;

  engine::RecurrentCodes with(const std::uint8_t* codes) const { return {coded_numbers(*form), form->tables, form->axis, codes}; }
};

Coded coded_weights(const PlainNode& node, std::size_t input, std::int64_t batch) {
  Coded weights;
  if (node.form_of) weights.form = node.form_of(input);
  if (!weights.form) return weights;
  if (weights.form->axis == 2) {
    weights.why_not = "no kernel has scales along the inputs";
  } else if (batch > most_rows) {
    weights.why_not = "a batch of " + std::to_string(batch) + " shares them on a tile; up to " + std::to_string(most_rows) + " samples run as codes";
  } else {
    // A part of the gates may be multiplied alone: as many rows as there are hidden units.
    weights.kernel = &row_kernel(node.isa, *weights.form, node.inputs[2]->shape.back());
  }
  return weights;
}

std::string how_they_run(const engine::RecurrentLayer& layer, const Coded& w, const Coded& r) {
  if (w.kernel == nullptr && r.kernel == nullptr) return "";
  if (w.kernel == r.kernel) return "row by row: " + stays_codes(*w.kernel);
  const auto part = [](const char* name, const Coded& weights, const engine::RowProduct& product) {
    return std::string(name) + " by " + product.kernel_name() + (weights.kernel != nullptr ? ": " + stays_codes(*weights.kernel) : "");
  };
  return "row by row: " + part("W", w, layer.w_product()) + "; " + part("R", r, layer.r_product());
}

PlainKernel prepare_recurrent(const PlainNode& node) {
  const engine::RecurrentShape shape = graph::recurrent_of(node.node, node.inputs);
  const Coded coded_w = coded_weights(node, 1, shape.batch), coded_r = coded_weights(node, 2, shape.batch);
  const auto layer = std::make_shared<const engine::RecurrentLayer>(shape, node.isa, engine::RecurrentKernels{coded_w.kernel, coded_r.kernel});
  const auto pack = [&](std::size_t input, const Coded& coded, const std::string& form, std::int64_t floats, const auto& fill) -> const float* {
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
  const engine::RowProduct& shown = coded_r.kernel == nullptr && coded_w.kernel != nullptr ? layer->w_product() : layer->r_product();
  kernel.kernel = shown.kernel_name();
  kernel.isa = shown.kernel_isa();
  kernel.reason = how_they_run(*layer, coded_w, coded_r);
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
