// Fully connected layers of one row of 8-bit codes on their non-zero weights: the choice, and the lowering.
#include <algorithm>
#include <cstdio>

#include "plan/code_layer_steps.h"
#include "plan/sparse_layers.h"
#include "registry.h"
#include "spmm/int_row.h"

namespace bittern::plan {

using engine::IntSpmvKernel;

bool lower_sparse_code_row(Builder& builder, const Item& item, const engine::ConvShape& s, LayerWeights& weights, int bits, const char* dense_kernel,
                           const Storage& in, const Storage& out, std::string& note) {
  const CodesForm& form = *item.codes;
  const IntSpmvKernel* asked = asked_kernel<IntSpmvKernel>(builder, engine::int_spmv_kernels);
  if (asked == nullptr && !builder.source().preferred->empty() && asked_kernel<engine::GemvKernel>(builder, engine::gemv_kernels) != nullptr) return false;
  if (s.c == 0 || s.oc == 0) return false;
  const std::string what = builder.source().place + ": " + place_of(item);
  const float density = density_of_codes(builder, item, weights);
  // With more weights that are not zero, windows are as many as the dense kernel's vectors.
  constexpr float most_density = 0.6f;
  if (asked == nullptr && density > most_density) return false;
  const double all = static_cast<double>(s.c) * static_cast<double>(s.oc);
  Charge charge(*builder.source().budget);
  charge.take(static_cast<std::uint64_t>(density * all) * sizeof(std::uint64_t), what);
  const engine::SparseQuads quads = engine::sparse_quads(weights.view(), s, static_cast<std::size_t>(density * all));
  const IntSpmvKernel& kernel = asked != nullptr ? *asked : engine::int_spmv_kernels(builder.source().isa)[0];
  const engine::SparseIntRow layer(kernel, s.c, quads);
  const double dense = engine::SparseIntRow::dense_cost(all, bits), sparse = layer.cost();
  LayerInfo& info = builder.current();
  info.density = density;
  info.dense_kernel = dense_kernel;
  info.sparse_kernel = kernel.name;
  info.dense_estimate = dense;
  info.sparse_estimate = sparse;
  char shares[96];
  std::snprintf(shares, sizeof shares, "%.1f %% of the weights are not zero, %.1f %% of quads of inputs", 100 * static_cast<double>(density),
                100 * 4 * static_cast<double>(quads.entries()) / all);
  if (asked == nullptr && sparse >= dense) {
    note = std::string("; dense although ") + shares + ": the sparse kernel is estimated " + percent(sparse / std::max(1.0, dense)) + " in time";
    return false;
  }
  char times[80];
  std::snprintf(times, sizeof times, ": estimated %.1f times as fast as the dense kernel", dense / std::max(1.0, sparse));
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = asked != nullptr ? "asked for" : std::string("one row: ") + shares + times;
  const Packed packed = pack_layer(builder, item, info.kernel, layer.packed_bytes(), layer.padded_channels(),
                                   [&](const engine::IntWeights&, std::byte* target) { layer.pack(quads, target); }, &weights);
  info.packed_bytes = packed.bytes;
  engine::IntEpilogue epilogue = packed.epilogue;
  finish_epilogue(item, epilogue.store);
  const engine::IntOut type = form.output ? engine::IntOut::bytes : engine::IntOut::floats;
  const RunTimeScales scales = run_time_scales(builder, item, epilogue, layer.padded_channels());
  const Place scratch = builder.scratch((layer.scratch_bytes() + 3) / 4);
  builder.emit([=](const RunContext& run) {
    engine::IntEpilogue e = epilogue;
    scales.apply(run, e);
    layer.run(run.read<std::uint8_t>(in.place), packed.weights, e, type, run.write<std::byte>(out.place), run.write<std::byte>(scratch), *run.team);
  }, {in.place, out.place, scales.channels != 0 ? scales.made : in.place, scratch});
  return true;
}

}  // namespace bittern::plan
