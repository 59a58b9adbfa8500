// Layers on 8-bit codes with most weights zero: the choice between the sparse and the dense kernel, and the lowering.
#include <algorithm>
#include <cstdio>
#include <memory>

#include "plan/code_layer_steps.h"
#include "plan/sparse_layers.h"
#include "registry.h"
#include "spmm/sparse_int_conv.h"

namespace bittern::plan {
namespace {

using engine::ConvShape;
using engine::IntSpmmKernel;
using engine::Map;
using engine::SparseIntConv;

// With more weights that are not zero, quads without any are too few to look for them.
constexpr float most_density = 0.7f;

std::string choice_text(double density, double kept) {
  char text[96];
  std::snprintf(text, sizeof text, "%.1f %% of the weights are not zero, %.1f %% of quads of channels", 100 * density, 100 * kept);
  return text;
}

// What is known of a layer whose weights hold zeros.
struct SparseCodes {
  double density = 1;
  double dense_cost = 0, sparse_cost = 0;
  bool chosen = false;
  std::string reason;                     // of the choice, or what follows the dense kernel's
  engine::SparseQuads quads;              // until the layer is lowered
  std::shared_ptr<Charge> charge;         // for them
  const IntSpmmKernel* kernel = nullptr;  // null: it holds too few zeros, or the kernel cannot run it
  const char* dense_kernel = "";
};

SparseCodes choose_sparse_codes(Builder& builder, const Item& item, const ConvShape& s, const Storage& in, LayerWeights& weights, double dense_cost,
                                const char* dense_kernel) {
  SparseCodes choice;
  const IntSpmmKernel* asked = asked_kernel<IntSpmmKernel>(builder, engine::int_spmm_kernels);
  if (s.c == 0 || s.oc == 0 || s.n * s.oh * s.ow == 0 || !SparseIntConv::fits(s, in.map)) return choice;
  const std::string what = builder.source().place + ": " + place_of(item);
  const float density = density_of_codes(builder, item, weights);
  if (asked == nullptr && density > most_density) return choice;
  const double all = s.macs() / static_cast<double>(s.n * s.oh * s.ow);
  choice.charge = std::make_shared<Charge>(*builder.source().budget);
  choice.charge->take(static_cast<std::uint64_t>(density * all) * sizeof(std::uint64_t), what);
  choice.quads = engine::sparse_quads(weights.view(), s, static_cast<std::size_t>(density * all));
  const auto quads = static_cast<double>(choice.quads.entries());
  choice.kernel = asked != nullptr ? asked : &engine::int_spmm_kernels(builder.source().isa)[0];
  choice.density = density;
  choice.dense_kernel = dense_kernel;
  choice.dense_cost = dense_cost;
  choice.sparse_cost = SparseIntConv::cost(*choice.kernel, s, quads);
  choice.chosen = asked != nullptr || choice.sparse_cost < choice.dense_cost;
  const std::string shares = choice_text(density, 4 * quads / all);
  if (!choice.chosen) {
    const std::string more = percent(choice.sparse_cost / std::max(1.0, dense_cost));
    choice.reason = "; dense although " + shares + ": the sparse kernel is estimated " + more + " in time";
    return choice;
  }
  char times[32];
  std::snprintf(times, sizeof times, "%.1f", choice.dense_cost / std::max(1.0, choice.sparse_cost));
  choice.reason = asked != nullptr ? "asked for" : shares + ": estimated " + times + " times as fast as the dense kernel";
  return choice;
}

void describe_density(LayerInfo& info, const SparseCodes& choice) {
  if (choice.kernel == nullptr) return;
  info.density = choice.density;
  info.dense_kernel = choice.dense_kernel;
  info.sparse_kernel = choice.kernel->name;
  info.dense_estimate = choice.dense_cost;
  info.sparse_estimate = choice.sparse_cost;
}

}  // namespace

float density_of_codes(Builder& builder, const Item& item, LayerWeights& weights) {
  return *builder.weights(weights_key(item, "density"), 1, builder.source().place + ": " + place_of(item), [&](float* target) {
    const std::vector<std::int16_t>& values = weights.values();
    *target = 1.0f - static_cast<float>(std::count(values.begin(), values.end(), std::int16_t{0})) / static_cast<float>(values.size());
  });
}

bool lower_sparse_codes(Builder& builder, const Item& item, const ConvShape& s, LayerWeights& weights, double dense_cost,
                        const char* dense_kernel, const Storage& in, const Storage& out, const Storage& residual, std::string& note) {
  const CodesForm& form = *item.codes;
  LayerInfo& info = builder.current();
  if (!item.residual.empty() && residual.map.block % 16 != 0) return false;
  const SparseCodes choice = choose_sparse_codes(builder, item, s, in, weights, dense_cost, dense_kernel);
  describe_density(info, choice);
  note = choice.reason;
  if (!choice.chosen) return false;
  info.kernel = choice.kernel->name;
  info.isa = engine::name_of(choice.kernel->isa);
  info.reason = choice.reason;
  std::string how = info.kernel + " block " + std::to_string(in.map.block);
  for (const std::int64_t size : {s.n, s.oh, s.ow}) how += " " + std::to_string(size);
  const auto emit = [&](const Map& out_map, const Map& residual_map, const auto& step) {
    engine::SparseIntConv layer(*choice.kernel, s, in.map, out_map, residual_map, choice.quads);
    const Packed packed = pack_layer(builder, item, how, layer.packed_bytes(), layer.padded_channels(),
                                     [&](const engine::IntWeights&, std::byte* target) { layer.pack(choice.quads, target); }, &weights);
    info.packed_bytes = packed.bytes;
    step(std::move(layer), packed);
  };
  if (form.fixed_point) {
    const FixedPoint fixed = fixed_point_of(builder, item, out.map);
    emit(fixed.sums.map, Map{}, [&](engine::SparseIntConv layer, const Packed& packed) {
      emit_fixed_point<std::byte>(builder, layer, constant_place(packed.weights), packed.epilogue, in, fixed, out);
    });
    return true;
  }
  emit(out.map, residual.map, [&](engine::SparseIntConv layer, const Packed& packed) {
    emit_layer<std::byte>(builder, item, std::move(layer), constant_place(packed.weights), packed.epilogue, in, out, residual);
  });
  return true;
}

}  // namespace bittern::plan
