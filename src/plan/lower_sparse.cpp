// Convolutions on their non-zero weights: the choice against the dense kernels, and the lowering.
#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::ConvShape;
using engine::Map;
using engine::SparseConv;
using engine::SparseRows;
using engine::SpmmForm;
using engine::SpmmKernel;

// Cycles of the vector unit that moving one element between layouts takes.
constexpr double reorder_cost = 0.4;

bool asks_for(const Builder& builder, const char* loop) {
  const auto& list = *builder.source().preferred;
  return std::any_of(list.begin(), list.end(), [&](const std::string& name) { return name.rfind(loop, 0) == 0; });
}

Map planar_map(const Shape& s) { return engine::make_map(s[0], s[1], s[2], s[3], 1); }

ConvShape shape_of(Builder& builder, const Item& item) {
  const Shape w = builder.map_shape(item.inputs[1]);
  return conv_shape(builder, item, graph::window(*item.node, builder.shape(item.inputs[0]), w[2], w[3]));
}

double elements(Builder& builder, const std::string& value) { return static_cast<double>(builder.count(value)); }

std::string times(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", ratio);
  return text;
}

}  // namespace

const SpmmKernel* spmm_kernel(const Builder& builder, const SpmmKernel* asked, SpmmForm form) {
  if (asked != nullptr) return asked;
  const auto list = engine::spmm_kernels(builder.source().isa);
  const auto found = std::find_if(list.begin(), list.end(), [&](const SpmmKernel& kernel) { return kernel.form == form; });
  return found == list.end() ? nullptr : &*found;
}

SpmmForm cheapest_form(const Builder& builder, const SpmmKernel* asked, const ConvShape& s, std::span<const float> weights, double& cost) {
  const auto cost_of = [&](SpmmForm form) {
    const std::int64_t entries = form == SpmmForm::blocks ? engine::count_blocks(weights, s.oc) : engine::count_nonzero(weights);
    return SparseConv::cost(*spmm_kernel(builder, asked, form), s, static_cast<double>(entries));
  };
  SpmmForm best = asked != nullptr ? asked->form : SpmmForm::values;
  if (!SparseConv::fits(s, best)) best = SpmmForm::values;
  cost = cost_of(best);
  if (asked != nullptr) return best;
  for (const SpmmForm form : {SpmmForm::lists, SpmmForm::blocks}) {
    if (!SparseConv::fits(s, form) || spmm_kernel(builder, asked, form) == nullptr) continue;
    if (form == SpmmForm::lists && !engine::two_values(weights, s.oc)) continue;
    if (const double other = cost_of(form); other <= cost) best = form, cost = other;
  }
  return best;
}

bool sparse_form(Builder& builder, const Item& item, SparseRows& rows, const SpmmKernel* asked, std::vector<float>& table, engine::SparseLists& lists,
                 SpmmForm& form) {
  const bool few = asked != nullptr ? asked->form == SpmmForm::codes : weight_encoding(builder, item)->kind != graph::EncodingKind::sparse;
  if (form == SpmmForm::blocks) {
    rows = engine::to_blocks(rows);
  } else if (form != SpmmForm::lists || !engine::to_lists(rows, item.whole_sums, lists)) {
    form = few && engine::to_codes(rows, table) ? SpmmForm::codes : SpmmForm::values;
  }
  if (form != SpmmForm::codes) table.clear();
  return asked == nullptr || asked->form == form;
}

std::string form_text(const SpmmKernel& kernel) {
  return kernel.form == SpmmForm::lists    ? ", in lists without values"
         : kernel.form == SpmmForm::blocks ? ", of four output channels at a time"
                                           : "";
}

bool may_hold_zeros(const graph::Encoding& tree) {
  switch (tree.kind) {
    case graph::EncodingKind::sparse:
    case graph::EncodingKind::codebook:
    case graph::EncodingKind::seeded:
    case graph::EncodingKind::ternary: return true;
    case graph::EncodingKind::affine: return tree.codes->kind == graph::EncodingKind::sparse;
    default: return false;
  }
}

void choose_sparse_layers(Builder& builder, const std::vector<Item>& items) {
  const SpmmKernel* asked = asked_kernel<SpmmKernel>(builder, engine::spmm_kernels);
  if (asked == nullptr && asks_for(builder, "gemm_")) return;
  struct Candidate {
    const Item* item;
    SparseLayer layer;
    std::shared_ptr<SparseRows> rows;
  };
  std::vector<Candidate> candidates;
  std::map<std::string, std::size_t> makers;             // values that candidates make
  std::map<std::string, std::vector<const Item*>> users;
  for (const Item& item : items) {
    if (item.bits != nullptr) continue;
    for (const std::string& input : item.inputs) users[input].push_back(&item);
    if (!item.residual.empty()) users[item.residual].push_back(&item);
    if (item.op != "Conv" || item.plain || item.codes || !builder.source().constants->has(item.inputs[1])) continue;
    if (has_bias(item) && !builder.source().constants->has(item.inputs[2])) continue;
    const graph::Encoding& tree = *weight_encoding(builder, item);
    if (asked == nullptr && !may_hold_zeros(tree)) continue;
    const ConvShape s = shape_of(builder, item);
    if (s.c == 0 || s.oc == 0 || s.oh * s.ow * s.n == 0 || !SparseConv::fits(s)) continue;
    Candidate candidate{&item, {}, std::make_shared<SparseRows>()};
    const std::vector<float> weights = builder.source().constants->floats(item.inputs[1]);
    SparseLayer& layer = candidate.layer;
    const auto entries = static_cast<double>(engine::count_nonzero(weights));
    layer.density = weights.empty() ? 0.0 : entries / static_cast<double>(weights.size());
    SpmmForm form = cheapest_form(builder, asked, s, weights, layer.sparse_cost);
    layer.kernel = spmm_kernel(builder, asked, form);
    const bool exact = item.whole_sums || (item.scale.empty() && all_integers(weights.data(), static_cast<std::int64_t>(weights.size())));
    layer.dense_cost = dense_conv_cost(builder, s, exact, &layer.dense_kernel);
    layer.chosen = asked != nullptr || layer.sparse_cost < layer.dense_cost;
    makers[item.output] = candidates.size();
    if (!layer.chosen) {
      candidates.push_back(std::move(candidate));
      continue;
    }
    // Kept until the layer is lowered.
    layer.charge = std::make_shared<Charge>(*builder.source().budget);
    layer.charge->take(static_cast<std::uint64_t>(entries) * bytes_of_entry, builder.source().place + ": " + place_of(item));
    *candidate.rows = engine::sparse_rows(weights.data(), s.oc, s.c / s.groups * s.kh * s.kw);
    // Few values stay codes, unless another kernel was asked for.
    layer.chosen = sparse_form(builder, item, *candidate.rows, asked, layer.table, layer.lists, form);
    layer.kernel = spmm_kernel(builder, asked, form);
    candidates.push_back(std::move(candidate));
  }
  // Layers whose gain does not pay for moving their input and output between layouts give up, until none does.
  const auto planar = [&](const std::string& value) {
    const auto maker = makers.find(value);
    return maker != makers.end() ? candidates[maker->second].layer.chosen : builder.has_planar(value);
  };
  for (bool changed = asked == nullptr; changed;) {
    changed = false;
    for (Candidate& candidate : candidates) {
      SparseLayer& layer = candidate.layer;
      if (!layer.chosen) continue;
      double moved = planar(candidate.item->inputs[0]) ? 0.0 : elements(builder, candidate.item->inputs[0]);
      const auto& next = users[candidate.item->output];
      const bool used_planar = next.empty() || std::any_of(next.begin(), next.end(), [&](const Item* user) {
        const auto maker = makers.find(user->output);
        return (maker != makers.end() && candidates[maker->second].layer.chosen) || user->op == "Add" || user->op == "Relu";
      });
      if (!used_planar) moved += elements(builder, candidate.item->output);
      if (layer.sparse_cost + reorder_cost * moved < layer.dense_cost) continue;
      layer.chosen = false;
      changed = true;
    }
  }
  for (Candidate& candidate : candidates) {
    SparseLayer& layer = candidate.layer;
    char density[48];
    std::snprintf(density, sizeof density, "%.1f %% of the weights are not zero", 100 * layer.density);
    if (asked != nullptr) {
      layer.reason = "asked for";
    } else if (layer.chosen) {
      const std::string faster = times(layer.dense_cost / layer.sparse_cost);
      layer.reason = std::string(density) + form_text(*layer.kernel) + ": estimated " + faster + " times as fast as the dense kernel";
    } else {
      layer.reason = std::string("; dense although ") + density + ": the sparse kernel is estimated " +
                     percent(layer.sparse_cost / std::max(1.0, layer.dense_cost)) + " in time, without moves between layouts";
    }
    if (!layer.chosen) layer.charge.reset();
    if (layer.chosen) {
      // Scalings are folded into values; sums of codes and of lists are scaled.
      const std::vector<float>& scale = candidate.item->scale;
      const bool summed = layer.kernel->form == SpmmForm::codes || layer.kernel->form == SpmmForm::lists;
      const auto outputs = static_cast<std::size_t>(engine::spmm_rows(layer.kernel->form));
      for (std::size_t o = 0; !summed && o < scale.size(); ++o) {
        for (auto e = candidate.rows->first[o / outputs]; e < candidate.rows->first[o / outputs + 1]; ++e) {
          candidate.rows->value[static_cast<std::size_t>(e) * outputs + o % outputs] *= scale[o];
        }
      }
      layer.rows = candidate.rows;
    }
    builder.set_sparse(candidate.item->output, std::make_shared<SparseLayer>(std::move(layer)));
  }
}

void lower_sparse_conv(Builder& builder, const Item& item, const SparseLayer& choice) {
  const ConvShape s = shape_of(builder, item);
  const Storage in = builder.planar(item.inputs[0]);
  Storage residual;
  if (!item.residual.empty()) residual = builder.planar(item.residual);
  LayerInfo& info = builder.layer(item);
  describe_weight(builder, item);
  Storage out = builder.make_planar(item.output);
  const Map out_map = planar_map(builder.map_shape(item.output));
  const SparseConv layer(*choice.kernel, s, planar_map(builder.map_shape(item.inputs[0])), out_map, out_map, *choice.rows);
  info.kernel = choice.kernel->name;
  info.isa = engine::name_of(choice.kernel->isa);
  info.reason = choice.reason;
  info.layout = "planar -> planar";
  info.macs = s.macs();
  describe_density(info, choice);
  const std::string what = builder.source().place + ": " + place_of(item);
  std::string how = info.kernel;
  for (const std::int64_t size : {s.n, s.h, s.w, s.oh, s.ow}) how += " " + std::to_string(size);
  const std::int64_t packed_floats = (layer.packed_bytes() + 3) / 4 + 16;
  const float* packed = builder.weights(weights_key(item, how), packed_floats, what, [&](float* target) {
    layer.pack(*choice.rows, reinterpret_cast<std::byte*>(target));
    builder.source().constants->release(item.inputs[1]);
  });
  const float* bias = nullptr;
  if (has_bias(item) || !item.scale.empty()) {
    bias = builder.weights(weights_key(item, "sparse bias"), s.oc, what, [&](float* target) {
      std::vector<float> values(static_cast<std::size_t>(s.oc), 0.0f);
      if (has_bias(item)) values = builder.source().constants->floats(item.inputs[2]);
      for (std::size_t o = 0; o < item.scale.size(); ++o) values[o] = values[o] * item.scale[o] + item.shift[o];
      std::copy(values.begin(), values.end(), target);
    });
  }
  engine::SpmmFactors factors;
  if (choice.kernel->form == SpmmForm::lists) {
    factors.scale = builder.weights(weights_key(item, "sparse lists"), 2 * s.oc, what, [&](float* target) {
      for (std::size_t o = 0; o < choice.lists.scale.size(); ++o) *target++ = choice.lists.scale[o] * (item.scale.empty() ? 1.0f : item.scale[o]);
      std::copy(choice.lists.ratio.begin(), choice.lists.ratio.end(), target);
    });
    factors.ratio = factors.scale + s.oc;
  } else if (!choice.table.empty()) {
    factors.table = builder.weights(weights_key(item, "sparse table"), 256, what, [&](float* target) {
      std::fill(target, target + 256, 0.0f);
      std::copy(choice.table.begin(), choice.table.end(), target);
    });
    if (!item.scale.empty()) {
      const auto copy = [&](float* target) { std::copy(item.scale.begin(), item.scale.end(), target); };
      factors.scale = builder.weights(weights_key(item, "sparse scale"), s.oc, what, copy);
    }
  }
  const std::int64_t numbers = (bias != nullptr) + (factors.scale != nullptr) + (factors.ratio != nullptr);
  const std::int64_t beside = numbers * s.oc * 4 + (factors.table != nullptr ? 1024 : 0);
  info.packed_bytes = static_cast<std::uint64_t>(layer.packed_bytes() + beside);
  const Place scratch = builder.scratch((layer.scratch_bytes() + 3) / 4);
  const bool added = !item.residual.empty();
  builder.emit([=, lo = item.lo, hi = item.hi](const RunContext& run) {
    const engine::Epilogue epilogue{bias, added ? run.read(residual.place) : nullptr, lo, hi};
    layer.run(run.read(in.place), reinterpret_cast<const std::byte*>(packed), factors, epilogue, run.write(out.place),
              run.write<std::byte>(scratch), *run.team);
  }, {in.place, out.place, scratch, added ? residual.place : in.place});
}

}  // namespace bittern::plan
