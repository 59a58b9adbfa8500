// Lowering of convolution and fully connected layers on 8-bit codes.
#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "gemm/few_bits.h"
#include "gemm/int_conv.h"
#include "ops/codes.h"
#include "plan/code_layer_steps.h"
#include "plan/sparse_layers.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::CodeDepthwise;
using engine::ConvShape;
using engine::IntConv;
using engine::IntEpilogue;
using engine::IntGemmKernel;
using engine::IntOut;
using engine::Map;

struct Choice {
  const IntGemmKernel* kernel = nullptr;
  std::string reason;
};

Choice choose(const Builder& builder, const ConvShape& shape, std::int64_t in_block, int terms) {
  const auto isa = builder.source().isa;
  for (int level = static_cast<int>(isa); level >= 0; --level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    for (const IntGemmKernel& kernel : engine::int_gemm_kernels(static_cast<engine::Isa>(level))) {
      if (preferred(builder, kernel.name)) return {&kernel, "asked for"};
    }
  }
  std::vector<std::pair<double, const IntGemmKernel*>> ranked;
  for (const IntGemmKernel& kernel : engine::int_gemm_kernels(isa)) ranked.emplace_back(IntConv::cost(kernel, shape, in_block, terms), &kernel);
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Choice choice{ranked[0].second, "the only tile of its level"};
  if (ranked.size() > 1) {
    choice.reason = "least estimated time; next " + std::to_string(ranked[1].second->rows) + "x" + std::to_string(ranked[1].second->cols) + ": " +
                    percent(ranked[1].first / std::max(1.0, ranked[0].first));
  }
  return choice;
}

// The kernel of products with one row, or of the expansion of codes, for weights of so many bits.
const engine::GemvKernel& gemv_kernel(const Builder& builder, int bits) {
  const auto isa = builder.source().isa;
  for (int level = static_cast<int>(isa); level >= 0; --level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    for (const engine::GemvKernel& kernel : engine::gemv_kernels(static_cast<engine::Isa>(level))) {
      if (kernel.bits == bits && preferred(builder, kernel.name)) return kernel;
    }
  }
  const auto list = engine::gemv_kernels(isa);
  return *std::find_if(list.begin(), list.end(), [&](const engine::GemvKernel& kernel) { return kernel.bits == bits; });
}

std::string codes_name(const Map& map) { return "codes " + layout_name(map); }

// The halo of an input whose zero point is known at run time only.
void fill_halo(Builder& builder, const Item& item, const Storage& in) {
  if (item.codes->dynamic_zero.empty() || !in.map.has_halo()) return;
  const Storage zero = builder.planar(item.codes->dynamic_zero);
  builder.emit([=, flip = code_flip(builder, item)](const RunContext& run) {
    const std::uint8_t code = *run.read<std::uint8_t>(zero.place) ^ flip;
    engine::fill_code_halo(in.map, code, run.write<std::uint8_t>(in.place), *run.team);
  }, {zero.place, in.place});
}

// Weights that have fewer values than bytes have, and are held as bytes nevertheless.
std::string bytes_note(const CodesForm& form) {
  const std::size_t values = form.weights->alphabet.size();
  if (values == 0 || values > 128 || engine::code_bits(form.weights->alphabet) < 8) return "";
  return "; weights of " + std::to_string(values) + " values stay bytes: packed are at most 16, or such within 64 consecutive numbers";
}

// A product with one row: the weights are read once, and decoded on the way.
void lower_gemv(Builder& builder, const Item& item, const ConvShape& s, const Storage& in, const Storage& out) {
  const CodesForm& form = *item.codes;
  const int bits = engine::code_bits(form.weights->alphabet);
  const engine::GemvKernel& kernel = gemv_kernel(builder, bits);
  const std::int64_t k = s.c, n = s.oc;
  LayerWeights weights(builder, item);
  std::string sparse_note;
  if (lower_sparse_code_row(builder, item, s, weights, bits, kernel.name, in, out, sparse_note)) return;
  const engine::IntGemv layer(kernel, k, n);
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = (bits == 8 ? "one row: weights are read once" + bytes_note(form)
                           : "one row: weights stay " + std::to_string(bits) + "-bit codes, decoded in registers") + sparse_note;
  const std::int64_t table_at = rounded(layer.packed_bytes());
  const std::span<const std::int16_t> alphabet(form.weights->alphabet);
  const Packed packed = pack_layer(builder, item, info.kernel, table_at + line, layer.padded_channels(), [&](const engine::IntWeights& w, std::byte* target) {
    layer.pack(w, bits == 8 ? std::span<const std::int16_t>{} : alphabet, reinterpret_cast<std::uint8_t*>(target));
    if (bits < 8) engine::code_table(alphabet, reinterpret_cast<std::int8_t*>(target + table_at));
  }, &weights);
  info.packed_bytes = packed.bytes;
  IntEpilogue epilogue = packed.epilogue;
  finish_epilogue(item, epilogue.store);
  const IntOut type = form.output ? IntOut::bytes : IntOut::floats;
  const RunTimeScales scales = run_time_scales(builder, item, epilogue, layer.padded_channels());
  builder.emit([=](const RunContext& run) {
    IntEpilogue e = epilogue;
    scales.apply(run, e);
    layer.run(run.read<std::uint8_t>(in.place), reinterpret_cast<const std::uint8_t*>(packed.weights),
              reinterpret_cast<const std::int8_t*>(packed.weights + table_at), e, type, run.write<std::byte>(out.place), *run.team);
  }, {in.place, out.place, scales.channels != 0 ? scales.made : in.place});
}

// Weights of few bits are kept as codes, and expanded into the kernel's form before each use.
void lower_few_bits(Builder& builder, const Item& item, const IntConv& layer, int bits, const Storage& in, const Storage& out, const Storage& residual) {
  const engine::GemvKernel& kernel = gemv_kernel(builder, bits);
  const engine::FewBits codes(kernel, layer.packed_bytes());
  const std::span<const std::int16_t> alphabet(item.codes->weights->alphabet);
  LayerInfo& info = builder.current();
  info.reason += "; weights stay " + std::to_string(bits) + "-bit codes, expanded to 8 bits for each run";
  const std::int64_t table_at = rounded(codes.bytes());
  const std::string how = info.kernel + " block " + std::to_string(in.map.block) + " " + kernel.name;
  const Packed packed = pack_layer(builder, item, how, table_at + line, layer.padded_channels(), [&](const engine::IntWeights& w, std::byte* target) {
    std::vector<std::int8_t> wide(static_cast<std::size_t>(layer.packed_bytes()));
    layer.pack(w, wide.data());
    codes.pack(alphabet, wide.data(), reinterpret_cast<std::uint8_t*>(target));
    engine::code_table(alphabet, reinterpret_cast<std::int8_t*>(target + table_at));
  });
  info.packed_bytes = packed.bytes;
  const Place expanded = builder.scratch((codes.expanded_bytes() + 3) / 4);
  builder.emit([=](const RunContext& run) {
    codes.expand(reinterpret_cast<const std::uint8_t*>(packed.weights), reinterpret_cast<const std::int8_t*>(packed.weights + table_at),
                 run.write<std::int8_t>(expanded), *run.team);
  }, {expanded});
  emit_layer<std::int8_t>(builder, item, layer, expanded, packed.epilogue, in, out, residual);
}

void lower_shape(Builder& builder, const Item& item, const ConvShape& s, const Storage& in, const Storage& out, const Storage& residual) {
  const CodesForm& form = *item.codes;
  LayerInfo& info = builder.current();
  info.layout = codes_name(in.map) + " -> " + (form.output ? codes_name(out.map) : form.sums ? "sums " + layout_name(out.map) : layout_name(out.map));
  info.macs = s.macs();
  fill_halo(builder, item, in);
  const auto& list = *builder.source().preferred;
  const bool force_gemm = std::any_of(list.begin(), list.end(), [](const std::string& name) { return name.rfind("gemm_u8", 0) == 0; });
  const bool blocks = in.map.block == 16 && out.map.block == 16 && (item.residual.empty() || residual.map.block == 16);
  if (s.groups == s.c && s.oc == s.c && blocks && !force_gemm) {
    const engine::CodeKernels& kernels = builder.code_kernels();
    const CodeDepthwise layer(kernels, s, in.map, out.map, residual.map);
    info.kernel = engine::code_kernel_name("depthwise_u8", kernels.isa);
    info.isa = engine::name_of(kernels.isa);
    info.reason = "one channel a group; exact sums of 8-bit codes";
    const Packed packed = pack_layer(builder, item, "code depthwise", layer.packed_elements() * 4, layer.padded_channels(),
                                     [&](const engine::IntWeights& w, std::byte* target) { layer.pack(w.values, reinterpret_cast<std::int32_t*>(target)); });
    info.packed_bytes = packed.bytes;
    if (form.fixed_point) {
      const FixedPoint fixed = fixed_point_of(builder, item, out.map);
      emit_fixed_point<std::int32_t>(builder, CodeDepthwise(kernels, s, in.map, fixed.sums.map, Map{}), constant_place(packed.weights), packed.epilogue, in,
                                     fixed, out);
      return;
    }
    emit_layer<std::int32_t>(builder, item, layer, constant_place(packed.weights), packed.epilogue, in, out, residual);
    return;
  }
  const bool one_row = !is_conv(item) && s.w == 1 && !form.two_terms && !form.fixed_point && !form.sums;
  if (one_row && !force_gemm) return lower_gemv(builder, item, s, in, out);
  const int terms = form.two_terms ? 2 : 1;
  const Choice choice = choose(builder, s, in.map.block, terms);
  std::string sparse_note;
  LayerWeights weights(builder, item);
  const double dense_cost = IntConv::cost(*choice.kernel, s, in.map.block, terms);
  if (terms == 1 && !force_gemm &&
      lower_sparse_codes(builder, item, s, weights, dense_cost, choice.kernel->name, in, out, residual, sparse_note)) {
    return;
  }
  const IntConv layer(*choice.kernel, s, in.map, out.map, residual.map, terms);
  info.kernel = choice.kernel->name;
  info.isa = engine::name_of(choice.kernel->isa);
  info.reason = choice.reason + sparse_note + (form.two_terms ? "; weights beyond 8 bits are sums of two" : "");
  if (form.fixed_point) {
    const FixedPoint fixed = fixed_point_of(builder, item, out.map);
    const IntConv summing(*choice.kernel, s, in.map, fixed.sums.map, Map{}, terms);
    const Packed packed = pack_layer(builder, item, info.kernel + " block " + std::to_string(in.map.block), summing.packed_bytes(), summing.padded_channels(),
                                     [&](const engine::IntWeights& w, std::byte* target) { summing.pack(w, reinterpret_cast<std::int8_t*>(target)); });
    info.packed_bytes = packed.bytes;
    emit_fixed_point<std::int8_t>(builder, summing, constant_place(packed.weights), packed.epilogue, in, fixed, out);
    return;
  }
  const int bits = terms == 2 ? 8 : engine::code_bits(form.weights->alphabet);
  if (bits < 8) return lower_few_bits(builder, item, layer, bits, in, out, residual);
  if (terms == 1) info.reason += bytes_note(form);
  const Packed packed = pack_layer(builder, item, info.kernel + " block " + std::to_string(in.map.block), layer.packed_bytes(), layer.padded_channels(),
                                   [&](const engine::IntWeights& w, std::byte* target) { layer.pack(w, reinterpret_cast<std::int8_t*>(target)); }, &weights);
  info.packed_bytes = packed.bytes;
  emit_layer<std::int8_t>(builder, item, layer, constant_place(packed.weights), packed.epilogue, in, out, residual);
}

}  // namespace

void lower_code_layer(Builder& builder, const Item& item) {
  const CodesForm& form = *item.codes;
  const bool conv = is_conv(item);
  const Storage in = builder.codes(item.inputs[0], form.inputs[0].zero);
  Storage residual;
  if (!item.residual.empty()) residual = builder.codes(item.residual, form.residual.zero);
  for (const std::string& value : {form.dynamic_scale, form.dynamic_zero}) {
    if (!value.empty()) builder.planar(value);
  }
  builder.layer(item);
  describe_weight(builder, item);
  Storage out;
  if (form.output) {
    out = builder.make_codes(item.output, form.output->zero);
  } else if (conv) {
    out = builder.make_blocked(item.output);
  } else {
    out = builder.make_planar(item.output);
    const std::int64_t columns = builder.shape(item.output).back();
    out.map = engine::make_map(1, columns, 1, columns == 0 ? 0 : builder.count(item.output) / columns, columns);
  }
  ConvShape s;
  if (conv) {
    const Shape w = builder.map_shape(item.inputs[1]);
    s = conv_shape(builder, item, graph::window(*item.node, builder.shape(item.inputs[0]), w[2], w[3]));
  } else {
    s.c = builder.shape(item.inputs[0]).back();
    s.w = s.ow = in.map.w;
    s.oc = builder.shape(item.output).back();
  }
  lower_shape(builder, item, s, in, out, residual);
}

}  // namespace bittern::plan
