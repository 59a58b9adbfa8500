// Plain operators: recurrent layers.
#include "plan/plain_sequence.h"

#include <memory>

#include "graph/recurrent.h"
#include "ops/recurrent.h"

namespace bittern::plan {
namespace {

PlainKernel prepare_recurrent(const PlainNode& node) {
  const auto layer = std::make_shared<const engine::RecurrentLayer>(graph::recurrent_of(node.node, node.inputs), node.isa);
  const auto pack = [&](std::size_t input, const std::string& form, std::int64_t floats, const std::function<void(const float*, float*)>& fill) {
    return node.pack ? node.pack(input, "recurrent " + form, floats, fill) : nullptr;
  };
  const float* w = pack(1, layer->form_w(), layer->packed_w(), [&](const float* from, float* to) { layer->pack_w(from, to); });
  const float* r = pack(2, layer->form_r(), layer->packed_r(), [&](const float* from, float* to) { layer->pack_r(from, to); });
  // Weights computed at run time are packed in each run.
  const std::int64_t w_at = layer->scratch_floats(), r_at = w_at + (w == nullptr ? layer->packed_w() : 0);
  const std::int64_t scratch = r_at + (r == nullptr ? layer->packed_r() : 0);
  const std::size_t inputs = node.inputs.size(), outputs = node.outputs.size();
  PlainKernel kernel;
  kernel.scratch_bytes = static_cast<std::uint64_t>(scratch) * sizeof(float);
  kernel.macs = layer->macs();
  kernel.product = &layer->kernel();
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
