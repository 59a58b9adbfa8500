// Lowering of WinogradConv: on the weights that are not zero, or by the dense product of the Winograd kernels.
#include <algorithm>
#include <cstdio>

#include "gemm/winograd.h"
#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "registry.h"
#include "spmm/sparse_winograd.h"

namespace bittern::plan {
namespace {

using engine::ConvShape;
using engine::Epilogue;
using engine::GemmKernel;
using engine::SparseWinograd;
using engine::WinogradConv;
using engine::WinogradKernel;
using engine::WinogradTilesKernel;

// Cycles of the vector unit that moving one element between layouts takes, as in lower_sparse.cpp.
constexpr double reorder_cost = 0.4;

struct Dense {
  const WinogradKernel* kernel = nullptr;  // null: there is none, its points are others
  const GemmKernel* product = nullptr;
  double cost = 0;
};

Dense cheapest_dense(engine::Isa isa, const WinogradKernel* asked, std::int64_t m, const ConvShape& shape) {
  Dense best;
  if (m != 2) return best;
  for (const WinogradKernel& kernel : engine::winograd_kernels(asked != nullptr ? asked->isa : isa)) {
    if (kernel.outputs != m) continue;
    for (const GemmKernel& product : engine::gemm_kernels(kernel.isa)) {
      const double cost = WinogradConv::cost(kernel, product, shape);
      if (best.kernel == nullptr || cost < best.cost) best = {&kernel, &product, cost};
    }
  }
  return best;
}

// Weights with the scale of each output channel.
std::vector<float> folded(Builder& builder, const Item& item) {
  std::vector<float> weights = builder.source().constants->floats(item.inputs[1]);
  const std::size_t each = weights.size() / std::max<std::size_t>(1, item.scale.size());
  for (std::size_t o = 0; o < item.scale.size(); ++o) {
    for (std::size_t i = 0; i < each; ++i) weights[o * each + i] *= item.scale[o];
  }
  return weights;
}

std::vector<float> folded_bias(Builder& builder, const Item& item, std::int64_t outputs) {
  std::vector<float> bias(static_cast<std::size_t>(outputs), 0.0f);
  if (has_bias(item)) bias = builder.source().constants->floats(item.inputs[2]);
  for (std::size_t o = 0; o < item.scale.size(); ++o) bias[o] = bias[o] * item.scale[o] + item.shift[o];
  return bias;
}

// What both ways share: where the layer reads and writes, and its bias.
struct Layer {
  Storage in, out, residual;
  bool added = false;
  const float* bias = nullptr;
};

Layer begin(Builder& builder, const Item& item, bool blocked, std::int64_t bias_floats) {
  const auto stored = [&](const std::string& value) { return blocked ? builder.blocked(value) : builder.planar(value); };
  Layer layer;
  layer.in = stored(item.inputs[0]);
  layer.added = !item.residual.empty();
  if (layer.added) layer.residual = stored(item.residual);
  builder.layer(item);
  describe_weight(builder, item);
  layer.out = blocked ? builder.make_blocked(item.output) : builder.make_planar(item.output);
  builder.current().layout = blocked ? layout_name(layer.in.map) + " -> " + layout_name(layer.out.map) : "planar -> planar";
  if (has_bias(item) || !item.scale.empty()) {
    const std::string what = builder.source().place + ": " + place_of(item);
    // Plans for other shapes may take another tile, which pads it otherwise.
    layer.bias = builder.weights(weights_key(item, "winograd bias " + std::to_string(bias_floats)), bias_floats, what, [&](float* target) {
      const std::vector<float> values = folded_bias(builder, item, builder.map_shape(item.output)[1]);
      std::fill(target, target + bias_floats, 0.0f);
      std::copy(values.begin(), values.end(), target);
    });
  }
  return layer;
}

void lower_dense(Builder& builder, const Item& item, const ConvShape& s, bool relu, const Dense& dense, const std::vector<float>& weights) {
  const std::int64_t padded = (s.oc + dense.product->cols - 1) / dense.product->cols * dense.product->cols;
  const Layer layer = begin(builder, item, true, padded);
  const WinogradConv conv(*dense.kernel, *dense.product, s, layer.in.map, layer.out.map, layer.residual.map, relu);
  const std::string how = std::string(dense.kernel->name) + " " + dense.product->name + " transformed";
  const float* packed = builder.weights(weights_key(item, how), conv.packed_elements(), builder.source().place + ": " + place_of(item), [&](float* target) {
    conv.pack_transformed(weights.data(), target);
    builder.source().constants->release(item.inputs[1]);
  });
  LayerInfo& info = builder.current();
  info.kernel = dense.kernel->name;
  info.isa = engine::name_of(dense.kernel->isa);
  info.packed_bytes = static_cast<std::uint64_t>(conv.packed_elements() + (layer.bias != nullptr ? padded : 0)) * sizeof(float);
  const Place scratch = builder.scratch(conv.scratch_elements());
  builder.emit([=, lo = item.lo, hi = item.hi](const RunContext& run) {
    const Epilogue epilogue{layer.bias, layer.added ? run.read(layer.residual.place) : nullptr, lo, hi};
    conv.run(run.read(layer.in.place), packed, epilogue, run.write(layer.out.place), run.write(scratch), *run.team);
  }, {layer.in.place, layer.out.place, scratch, layer.added ? layer.residual.place : layer.in.place});
}

void lower_sparse(Builder& builder, const Item& item, const ConvShape& s, bool relu, const WinogradTilesKernel& kernel,
                  const engine::SpmmKernel& product, const std::vector<float>& weights) {
  const Layer layer = begin(builder, item, false, s.oc);
  const std::string what = builder.source().place + ": " + place_of(item);
  Charge charge(*builder.source().budget);
  charge.take(static_cast<std::uint64_t>(engine::count_nonzero(weights)) * bytes_of_entry, what);
  const auto rows = engine::position_rows(weights.data(), s.oc, s.c, std::int64_t{kernel.outputs + 2} * (kernel.outputs + 2));
  const SparseWinograd conv(kernel, product, s, relu, rows);
  const std::string how = std::string(kernel.name) + " " + product.name + " " + std::to_string(conv.vectors());
  const std::int64_t floats = (conv.packed_bytes() + 3) / 4 + 16;
  const float* packed = builder.weights(weights_key(item, how), floats, what, [&](float* target) {
    conv.pack(rows, reinterpret_cast<std::byte*>(target));
    builder.source().constants->release(item.inputs[1]);
  });
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.packed_bytes = static_cast<std::uint64_t>(conv.packed_bytes() + (layer.bias != nullptr ? s.oc * 4 : 0));
  const Place scratch = builder.scratch(conv.scratch_elements());
  builder.emit([=, lo = item.lo, hi = item.hi](const RunContext& run) {
    const Epilogue epilogue{layer.bias, layer.added ? run.read(layer.residual.place) : nullptr, lo, hi};
    conv.run(run.read(layer.in.place), reinterpret_cast<const std::byte*>(packed), epilogue, run.write(layer.out.place), run.write(scratch),
             *run.team);
  }, {layer.in.place, layer.out.place, scratch, layer.added ? layer.residual.place : layer.in.place});
}

}  // namespace

void lower_winograd(Builder& builder, const Item& item) {
  const std::int64_t m = graph::int_attribute(*item.node, "m", 2);
  const bool relu = graph::int_attribute(*item.node, "relu", 0) != 0;
  const ConvShape s = conv_shape(builder, item, graph::window(*item.node, builder.shape(item.inputs[0]), 3, 3));
  const WinogradTilesKernel* asked_sparse = asked_kernel<WinogradTilesKernel>(builder, engine::winograd_tiles_kernels);
  const WinogradKernel* asked_dense = asked_kernel<WinogradKernel>(builder, engine::winograd_kernels);
  if (asked_sparse != nullptr && asked_sparse->outputs != m) asked_sparse = nullptr;
  if (asked_dense != nullptr && asked_dense->outputs != m) asked_dense = nullptr;
  const engine::Isa isa = asked_sparse != nullptr ? asked_sparse->isa : builder.source().isa;
  const auto kernels = engine::winograd_tiles_kernels(isa);
  const WinogradTilesKernel& kernel = *std::find_if(kernels.begin(), kernels.end(), [&](const auto& each) { return each.outputs == m; });
  const auto products = engine::spmm_kernels(isa);
  const engine::SpmmKernel& product = *std::find_if(products.begin(), products.end(), [](const auto& each) { return each.form == engine::SpmmForm::values; });

  const std::vector<float> weights = folded(builder, item);
  const auto entries = static_cast<double>(engine::count_nonzero(weights));
  const double density = entries / static_cast<double>(weights.size());
  const Dense dense = cheapest_dense(builder.source().isa, asked_dense, m, s);
  const double sparse_cost = SparseWinograd::cost(kernel, product, s, entries);
  const double moved = static_cast<double>(builder.count(item.inputs[0])) * reorder_cost;
  const bool sparser = sparse_cost + (builder.has_planar(item.inputs[0]) ? 0.0 : moved) < dense.cost + (builder.has_blocked(item.inputs[0]) ? 0.0 : moved);
  const bool asked = asked_sparse != nullptr || (dense.kernel != nullptr && (asked_dense != nullptr || asks_for_tiles(builder)));
  const bool by_entries = asked_sparse != nullptr || dense.kernel == nullptr || (!asked && sparser);
  if (by_entries) {
    lower_sparse(builder, item, s, relu, kernel, product, weights);
  } else {
    lower_dense(builder, item, s, relu, dense, weights);
  }
  LayerInfo& info = builder.current();
  char text[160];
  std::snprintf(text, sizeof text, "%.1f %% of the weights are not zero", 100 * density);
  info.reason = asked ? "asked for" : text;
  if (!asked && dense.kernel != nullptr) {
    std::snprintf(text, sizeof text, ": the sparse product is estimated %s in time against the dense one", percent(sparse_cost / std::max(1.0, dense.cost)).c_str());
    info.reason += text;
  }
  info.reason += std::string("; products by ") + (by_entries ? product.name : dense.product->name);
  if (dense.kernel == nullptr) info.reason += "; the dense kernel of this size has other points";
  const double tiles = static_cast<double>(s.n) * static_cast<double>((s.oh + m - 1) / m) * static_cast<double>((s.ow + m - 1) / m);
  info.macs = entries * tiles;
  info.density = density;
  info.sparse_kernel = kernel.name;
  info.sparse_estimate = sparse_cost;
  if (dense.kernel != nullptr) {
    info.dense_kernel = dense.kernel->name;
    info.dense_estimate = dense.cost;
  }
}

}  // namespace bittern::plan
