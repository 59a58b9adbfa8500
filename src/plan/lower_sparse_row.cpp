// Fully connected layers on their non-zero weights: of one row, and of several.
#include <algorithm>
#include <cstdio>

#include "ops/plain.h"
#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "registry.h"
#include "spmm/row.h"

namespace bittern::plan {
namespace {

using engine::SparseRow;
using engine::SparseRows;
using engine::SpmvKernel;
using Make = std::function<std::vector<float>()>;

constexpr std::int64_t most_inputs = (std::int64_t{1} << 31) - 1;  // of positions

SparseRows rows_of(Builder& builder, const Item& item, std::int64_t k, std::int64_t n, bool transposed) {
  std::vector<float> weights = builder.source().constants->floats(item.inputs[1]);
  if (!transposed) {
    std::vector<float> turned(weights.size());
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t o = 0; o < n; ++o) turned[static_cast<std::size_t>(o * k + i)] = weights[static_cast<std::size_t>(i * n + o)];
    weights.swap(turned);
  }
  return engine::sparse_rows(weights.data(), n, k);
}

// Without decoding to floats where there are codes: most matrices of few values have no zeros to speak of, and are large.
double density_of(Builder& builder, const Item& item) {
  const auto form = builder.source().constants->look_up_form(item.inputs[1]);
  if (!form || form->many_tables()) {
    const std::vector<float> weights = builder.source().constants->floats(item.inputs[1]);
    return weights.empty() ? 0.0 : static_cast<double>(engine::count_nonzero(weights)) / static_cast<double>(weights.size());
  }
  const std::vector<std::uint8_t> codes = builder.source().constants->look_up_codes(item.inputs[1]);
  const auto nonzero = std::count_if(codes.begin(), codes.end(), [&](std::uint8_t code) { return form->table[code] != 0.0f; });
  return codes.empty() ? 0.0 : static_cast<double>(nonzero) / static_cast<double>(codes.size());
}

// What the products take that run otherwise, in the unit of SparseRow::cost(): bytes from memory, or look-ups in registers.
double other_cost(const Builder& builder, const Item& item, std::int64_t k, std::int64_t n) {
  const double weights = static_cast<double>(k) * static_cast<double>(n);
  const auto form = builder.source().constants->row_form(item.inputs[1]);
  if (!form) return weights * 4 / 8;
  const double bits = form->table.empty() ? 8 : form->table.size() <= 4 || form->tables ? 2 : 4;
  return std::max(weights * bits / 64, weights * 0.1);
}

}  // namespace

bool lower_sparse_row(Builder& builder, const Item& item, std::int64_t k, std::int64_t n, bool transposed, const Storage& in, const Storage& out,
                      const std::function<std::vector<float>()>& bias, std::string& why_not) {
  const SpmvKernel* asked = asked_kernel<SpmvKernel>(builder, engine::spmv_kernels);
  if (k > most_inputs || n == 0) return false;
  if (asked == nullptr && (asks_for_tiles(builder) || !may_hold_zeros(*weight_encoding(builder, item)))) return false;
  // More weights than so cannot pay: then nothing is made of them.
  constexpr double most_density = 0.6;
  const double density = density_of(builder, item);
  builder.current().density = density;
  char share[48];
  std::snprintf(share, sizeof share, "%.1f %% of the weights are not zero", 100 * density);
  if (asked == nullptr && density > most_density) {
    why_not = std::string("; ") + share;
    return false;
  }
  Charge charge(*builder.source().budget);
  const std::string what = builder.source().place + ": " + place_of(item);
  charge.take(static_cast<std::uint64_t>(density * static_cast<double>(k) * static_cast<double>(n)) * bytes_of_entry, what);
  SparseRows rows = rows_of(builder, item, k, n, transposed);
  std::vector<float> table;
  // A code of the table is its zero: lanes without a weight take it.
  const bool codes = (asked == nullptr || asked->codes) && engine::to_codes(rows, table) && table.size() <= 15;
  if (asked != nullptr && asked->codes && !codes) return false;
  const auto list = engine::spmv_kernels(builder.source().isa);
  const auto fits = [&](const SpmvKernel& other) { return other.codes == codes; };
  const SpmvKernel& kernel = asked != nullptr ? *asked : *std::find_if(list.begin(), list.end(), fits);
  const SparseRow layer(kernel, k, rows);
  const double other = other_cost(builder, item, k, n);
  if (asked == nullptr && layer.cost() >= other) {
    why_not = std::string("; not sparse although ") + share + ": estimated " + percent(layer.cost() / std::max(1.0, other)) + " in time";
    return false;
  }
  char faster[64];
  std::snprintf(faster, sizeof faster, ": estimated %.1f times as fast as without", other / std::max(1.0, layer.cost()));
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = asked != nullptr ? "asked for" : std::string(share) + faster;
  info.layout = "rows -> rows";
  info.macs = static_cast<double>(k) * static_cast<double>(n);
  // The table, the bias, then the slots on a line of the cache.
  const std::int64_t bias_at = 16, slots_at = (bias_at + (bias ? n : 0) + 15) / 16 * 16;
  const std::int64_t floats = slots_at + (layer.packed_bytes() + 3) / 4;
  const float* packed = builder.weights(weights_key(item, info.kernel), floats, what, [&](float* target) {
    std::fill(target, target + slots_at, 0.0f);
    if (codes) std::copy(table.begin(), table.end(), target);
    if (bias) {
      const std::vector<float> values = bias();
      std::copy(values.begin(), values.end(), target + bias_at);
    }
    layer.pack(rows, static_cast<std::uint8_t>(table.size()), reinterpret_cast<std::byte*>(target + slots_at));
    builder.source().constants->release(item.inputs[1]);
  });
  info.packed_bytes = static_cast<std::uint64_t>(floats) * sizeof(float);
  engine::SpmvArgs args;
  args.table = packed;
  args.bias = bias ? packed + bias_at : nullptr;
  args.lo = item.lo;
  args.hi = item.hi;
  const Place scratch = builder.scratch(layer.scratch_elements());
  builder.emit([=](const RunContext& run) {
    engine::SpmvArgs now = args;
    now.y = run.write(out.place);
    layer.run(run.read(in.place), reinterpret_cast<const std::byte*>(packed + slots_at), now, run.write(scratch), *run.team);
  }, {in.place, out.place, scratch});
  return true;
}

bool lower_sparse_product(Builder& builder, const Item& item, const engine::ConvShape& s, double dense, const Storage& in, const Storage& out,
                          const Make& weights, const Make& bias, std::string& why_not) {
  using engine::SparseConv;
  using engine::SpmmForm;
  using engine::SpmmKernel;
  const SpmmKernel* asked = asked_kernel<SpmmKernel>(builder, engine::spmm_kernels);
  if (asked == nullptr && (asks_for_tiles(builder) || !may_hold_zeros(*weight_encoding(builder, item)))) return false;
  if (!SparseConv::fits(s)) return false;
  const double density = density_of(builder, item), entries = density * static_cast<double>(s.c) * static_cast<double>(s.oc);
  // Rows are turned into columns and back, about so many cycles a number.
  constexpr double turned = 1.5;
  const double cost = SparseConv::cost(*spmm_kernel(builder, asked, SpmmForm::values), s, entries) + turned * static_cast<double>(s.w * (s.c + s.oc));
  builder.current().density = density;
  char share[48];
  std::snprintf(share, sizeof share, "%.1f %% of the weights are not zero", 100 * density);
  if (asked == nullptr && cost >= dense) {
    why_not = std::string("; not sparse although ") + share + ": estimated " + percent(cost / std::max(1.0, dense)) + " in time";
    return false;
  }
  const std::string what = builder.source().place + ": " + place_of(item);
  Charge charge(*builder.source().budget);
  charge.take(static_cast<std::uint64_t>(entries) * bytes_of_entry, what);
  SparseRows rows;
  std::vector<float> values;
  engine::SparseLists two;
  double least = 0;
  SpmmForm form;
  {
    const std::vector<float> numbers = weights();
    form = cheapest_form(builder, asked, s, numbers, least);
    rows = engine::sparse_rows(numbers.data(), s.oc, s.c);
  }
  if (!sparse_form(builder, item, rows, asked, values, two, form)) return false;
  const SpmmKernel& kernel = *spmm_kernel(builder, asked, form);
  const engine::Map in_map = engine::make_map(1, s.c, 1, s.w, 1), out_map = engine::make_map(1, s.oc, 1, s.w, 1);
  const SparseConv layer(kernel, s, in_map, out_map, engine::Map{}, rows);
  char faster[64];
  std::snprintf(faster, sizeof faster, ": estimated %.1f times as fast as the dense kernel", dense / std::max(1.0, cost));
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = asked != nullptr ? "asked for" : std::string(share) + form_text(kernel) + faster;
  info.layout = "rows -> rows";
  info.macs = s.macs();
  // The table, or factors and ratios of lists, the bias, then the weights on a line of the cache.
  const bool codes = form == SpmmForm::codes, lists = form == SpmmForm::lists;
  const std::int64_t bias_at = codes ? 256 : lists ? 2 * s.oc : 0, packed_at = (bias_at + (bias ? s.oc : 0) + 15) / 16 * 16;
  const std::int64_t floats = packed_at + (layer.packed_bytes() + 3) / 4;
  const float* stored = builder.weights(weights_key(item, info.kernel + " " + std::to_string(s.w)), floats, what, [&](float* target) {
    std::fill(target, target + packed_at, 0.0f);
    if (codes) std::copy(values.begin(), values.end(), target);
    if (lists) std::copy(two.ratio.begin(), two.ratio.end(), std::copy(two.scale.begin(), two.scale.end(), target));
    if (bias) {
      const std::vector<float> numbers = bias();
      std::copy(numbers.begin(), numbers.end(), target + bias_at);
    }
    layer.pack(rows, reinterpret_cast<std::byte*>(target + packed_at));
    builder.source().constants->release(item.inputs[1]);
  });
  info.packed_bytes = static_cast<std::uint64_t>(floats) * sizeof(float);
  const engine::Epilogue epilogue{bias ? stored + bias_at : nullptr, nullptr, item.lo, item.hi};
  const engine::SpmmFactors factors{codes ? stored : nullptr, lists ? stored : nullptr, lists ? stored + s.oc : nullptr};
  const Place columns = builder.scratch(s.c * s.w), sums = builder.scratch(s.oc * s.w), scratch = builder.scratch((layer.scratch_bytes() + 3) / 4);
  builder.emit([=](const RunContext& run) {
    constexpr std::int64_t size = sizeof(float);
    const auto turn = [](const float* from, std::int64_t height, std::int64_t width, float* to) {
      const std::int64_t shape[] = {width, height}, column[] = {size, width * size}, row[] = {height * size, size};
      engine::strided_copy(shape, size, from, column, to, row);
    };
    turn(run.read(in.place), s.w, s.c, run.write(columns));
    layer.run(run.read(columns), reinterpret_cast<const std::byte*>(stored + packed_at), factors, epilogue, run.write(sums),
              run.write<std::byte>(scratch), *run.team);
    turn(run.read(sums), s.oc, s.w, run.write(out.place));
  }, {in.place, out.place, columns, sums, scratch});
  return true;
}

}  // namespace bittern::plan
