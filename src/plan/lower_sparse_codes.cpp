// Layers on 8-bit codes with most weights zero: the choice between the sparse and the dense kernel.
#include <algorithm>
#include <cstdio>

#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::ConvShape;
using engine::IntSpmmKernel;
using engine::IntWeights;
using engine::SparseIntConv;

// Below so many zeros quads without a weight are too few to look for them.
constexpr double least_zeros = 0.3;

std::string choice_text(double density, double kept) {
  char text[96];
  std::snprintf(text, sizeof text, "%.1f %% of the weights are not zero, %.1f %% of quads of channels", 100 * density, 100 * kept);
  return text;
}

}  // namespace

SparseCodes choose_sparse_codes(Builder& builder, const Item& item, const ConvShape& s, const Storage& in, const IntWeights& weights,
                                std::int64_t weight_count, double dense_cost, const char* dense_kernel) {
  SparseCodes choice;
  const IntSpmmKernel* asked = asked_kernel<IntSpmmKernel>(builder, engine::int_spmm_kernels);
  if (weight_count == 0 || s.n * s.oh * s.ow == 0 || !SparseIntConv::fits(s, in.map)) return choice;
  const std::int64_t zeros = std::count(weights.values, weights.values + weight_count, std::int16_t{0});
  if (asked == nullptr && static_cast<double>(zeros) < least_zeros * static_cast<double>(weight_count)) return choice;
  const std::int64_t quads = engine::count_quads(weights, s);
  choice.kernel = asked != nullptr ? asked : &engine::int_spmm_kernels(builder.source().isa)[0];
  const double all = static_cast<double>(weight_count);
  choice.density = (all - static_cast<double>(zeros)) / all;
  choice.dense_kernel = dense_kernel;
  choice.dense_cost = dense_cost;
  choice.sparse_cost = SparseIntConv::cost(*choice.kernel, s, static_cast<double>(quads));
  choice.chosen = asked != nullptr || choice.sparse_cost < choice.dense_cost;
  const std::string density = choice_text(choice.density, 4 * static_cast<double>(quads) / all);
  if (!choice.chosen) {
    choice.reason = "; dense although " + density + ": the sparse kernel is estimated " + percent(choice.sparse_cost / std::max(1.0, dense_cost)) + " in time";
    return choice;
  }
  char times[32];
  std::snprintf(times, sizeof times, "%.1f", choice.dense_cost / std::max(1.0, choice.sparse_cost));
  choice.reason = asked != nullptr ? "asked for" : density + ": estimated " + times + " times as fast as the dense kernel";
  // Until the layer is lowered.
  Charge charge(*builder.source().budget);
  charge.take(static_cast<std::uint64_t>(quads) * sizeof(std::uint64_t), builder.source().place + ": " + place_of(item));
  choice.quads = engine::sparse_quads(weights, s);
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

}  // namespace bittern::plan
