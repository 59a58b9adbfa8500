// Lowering of convolution and fully connected layers on 8-bit codes.
#include <algorithm>
#include <cmath>

#include "gemm/int_conv.h"
#include "ops/codes.h"
#include "plan/layer_parts.h"
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
using engine::Quantiser;

// Numbers per output channel, padded as a kernel wants them.
struct ChannelNumbers {
  std::vector<float> scale, bias;  // bias may be empty
};

// scale = (x_scale * w_scale) * folded / y_scale, where y is what the sums become first.
ChannelNumbers channel_numbers(Builder& builder, const Item& item, std::int64_t channels) {
  const CodesForm& form = *item.codes;
  const Quantiser* first = form.inner ? &*form.inner : form.output ? &*form.output : nullptr;
  const std::vector<float>& w_scale = form.weights->scale;
  ChannelNumbers numbers;
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto i = static_cast<std::size_t>(c);
    float scale = form.inputs[0].scale * w_scale[w_scale.size() == 1 ? 0 : i];
    if (!item.scale.empty()) scale *= item.scale[i];
    numbers.scale.push_back(first != nullptr ? scale / first->scale : scale);
  }
  const bool real_bias = has_bias(item) && form.bias == nullptr;
  if (!real_bias && item.scale.empty()) return numbers;
  if (real_bias) numbers.bias = builder.source().constants->floats(item.inputs[2]);
  if (numbers.bias.size() <= 1) numbers.bias.assign(static_cast<std::size_t>(channels), numbers.bias.empty() ? 0.0f : numbers.bias[0]);
  for (std::size_t c = 0; c < numbers.bias.size(); ++c) {
    if (!item.scale.empty()) numbers.bias[c] = numbers.bias[c] * item.scale[c] + item.shift[c];
    if (first != nullptr) numbers.bias[c] /= first->scale;
  }
  return numbers;
}

// All constants of a layer in one buffer, packed once per model.
struct Packed {
  const std::byte* weights = nullptr;
  IntEpilogue epilogue;
  std::uint64_t bytes = 0;
};

constexpr std::int64_t line = 64;
std::int64_t rounded(std::int64_t bytes) { return (bytes + line - 1) / line * line; }

// `pack(target)` writes `weight_bytes` of weights.
template <class Pack>
Packed pack_layer(Builder& builder, const Item& item, const std::string& how, std::int64_t weight_bytes, std::int64_t padded_channels, const Pack& pack) {
  const CodesForm& form = *item.codes;
  const std::vector<std::int32_t>& values = form.weights->values;
  const std::int64_t channels = builder.shape(item.output).size() == 2 ? builder.shape(item.output)[1] : builder.map_shape(item.output)[1];
  const std::int64_t row = rounded(padded_channels * 4), first = rounded(weight_bytes);
  const bool biased = (has_bias(item) && form.bias == nullptr) || !item.scale.empty();
  std::string key = weights_key(item, how) + (form.output ? " codes" : " real") + (form.inner ? " inner" : "");
  for (const std::string& name : item.fused) key += key_part(name);
  const std::string what = builder.source().place + ": " + place_of(item);
  Packed packed;
  packed.bytes = static_cast<std::uint64_t>(first + row * (biased ? 3 : 2));
  const float* buffer = builder.weights(key, static_cast<std::int64_t>(packed.bytes / sizeof(float)), what, [&](float* target) {
    auto* bytes = reinterpret_cast<std::byte*>(target);
    std::fill(bytes, bytes + packed.bytes, std::byte{});
    pack(bytes);
    auto* offset = reinterpret_cast<std::int32_t*>(bytes + first);
    engine::sum_offsets(values.data(), channels, static_cast<std::int64_t>(values.size()) / channels, form.bias != nullptr ? form.bias->values.data() : nullptr,
                        form.inputs[0].zero, offset);
    const ChannelNumbers numbers = channel_numbers(builder, item, channels);
    std::copy(numbers.scale.begin(), numbers.scale.end(), reinterpret_cast<float*>(bytes + first + row));
    std::copy(numbers.bias.begin(), numbers.bias.end(), reinterpret_cast<float*>(bytes + first + 2 * row));
    builder.source().constants->release(item.inputs[1]);
  });
  packed.weights = reinterpret_cast<const std::byte*>(buffer);
  packed.epilogue.offset = reinterpret_cast<const std::int32_t*>(packed.weights + first);
  packed.epilogue.store.scale = reinterpret_cast<const float*>(packed.weights + first + row);
  if (biased) packed.epilogue.store.bias = reinterpret_cast<const float*>(packed.weights + first + 2 * row);
  return packed;
}

// Bounds, quantisers and the residual's scale.
void finish_epilogue(const Item& item, engine::IntStore& store) {
  const CodesForm& form = *item.codes;
  store.lo = item.lo;
  store.hi = item.hi;
  if (!form.output) return;
  const Quantiser& to = *form.output;
  if (form.inner) {
    store.inner = true;
    store.inner_lo = form.inner->lowest();
    store.inner_hi = form.inner->highest();
    store.inner_scale = form.inner->scale / to.scale;
  }
  store.residual_scale = form.residual.scale / to.scale;
  store.residual_zero = static_cast<float>(form.residual.zero);
  // A quantiser rises: what is clamped before it may be clamped behind it.
  const auto bound = [&](float value) { return static_cast<float>(std::nearbyint(std::min(std::max(to.lowest(), value / to.scale), to.highest()))); };
  store.lo = bound(item.lo);
  store.hi = bound(item.hi);
  store.zero = to.zero;
}

struct Choice {
  const IntGemmKernel* kernel = nullptr;
  std::string reason;
};

Choice choose(const Builder& builder, const ConvShape& shape, std::int64_t in_block, int terms) {
  const auto isa = builder.source().isa;
  for (int level = static_cast<int>(isa); level >= 0; --level) {
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

std::string codes_name(const Map& map) { return "codes " + layout_name(map); }

// Emits the step of an IntConv or CodeDepthwise; `run_layer(run, in, weights, epilogue, type, out)` calls it.
template <class Layer, class Weight>
void emit_layer(Builder& builder, const Item& item, Layer layer, const Weight* weights, IntEpilogue epilogue, const Storage& in, const Storage& out,
                const Storage& residual) {
  finish_epilogue(item, epilogue.store);
  const IntOut type = item.codes->output ? IntOut::bytes : IntOut::floats;
  const bool added = !item.residual.empty();
  builder.emit([=, layer = std::move(layer)](const RunContext& run) {
    IntEpilogue e = epilogue;
    if (added) e.store.residual = run.read<std::uint8_t>(residual.place);
    layer.run(run.read<std::uint8_t>(in.place), weights, e, type, run.write<std::byte>(out.place), *run.team);
  }, {in.place, out.place, added ? residual.place : in.place});
}

void lower_shape(Builder& builder, const Item& item, const ConvShape& s, const Storage& in, const Storage& out, const Storage& residual) {
  const CodesForm& form = *item.codes;
  LayerInfo& info = builder.current();
  info.layout = codes_name(in.map) + " -> " + (form.output ? codes_name(out.map) : layout_name(out.map));
  info.macs = s.macs();
  const std::vector<std::int32_t>& values = form.weights->values;
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
                                     [&](std::byte* target) { layer.pack(values.data(), reinterpret_cast<std::int32_t*>(target)); });
    info.packed_bytes = packed.bytes;
    emit_layer(builder, item, layer, reinterpret_cast<const std::int32_t*>(packed.weights), packed.epilogue, in, out, residual);
    return;
  }
  const bool wide = std::any_of(values.begin(), values.end(), [](std::int32_t w) { return w < -128 || w > 127; });
  const int terms = wide ? 2 : 1;
  const Choice choice = choose(builder, s, in.map.block, terms);
  const IntConv layer(*choice.kernel, s, in.map, out.map, residual.map, terms);
  info.kernel = choice.kernel->name;
  info.isa = engine::name_of(choice.kernel->isa);
  info.reason = choice.reason + (wide ? "; weights beyond 8 bits are sums of two" : "");
  const Packed packed = pack_layer(builder, item, info.kernel + " block " + std::to_string(in.map.block), layer.packed_bytes(), layer.padded_channels(),
                                   [&](std::byte* target) { layer.pack(values.data(), reinterpret_cast<std::int8_t*>(target)); });
  info.packed_bytes = packed.bytes;
  emit_layer(builder, item, layer, reinterpret_cast<const std::int8_t*>(packed.weights), packed.epilogue, in, out, residual);
}

}  // namespace

void lower_code_layer(Builder& builder, const Item& item) {
  const CodesForm& form = *item.codes;
  const bool conv = item.op == "Conv";
  const Storage in = builder.codes(item.inputs[0], form.inputs[0].zero);
  Storage residual;
  if (!item.residual.empty()) residual = builder.codes(item.residual, form.residual.zero);
  builder.layer(item);
  describe_weight(builder, item);
  Storage out;
  if (form.output) {
    out = builder.make_codes(item.output, form.output->zero);
  } else if (conv) {
    out = builder.make_blocked(item.output);
  } else {
    out = builder.make_planar(item.output);
    const Shape& y = builder.shape(item.output);
    out.map = engine::make_map(1, y[1], 1, y[0], y[1]);
  }
  ConvShape s;
  if (conv) {
    const Shape w = builder.map_shape(item.inputs[1]);
    s = conv_shape(builder, item, graph::window(*item.node, builder.shape(item.inputs[0]), w[2], w[3]));
  } else {
    s.c = builder.shape(item.inputs[0])[1];
    s.w = s.ow = builder.shape(item.inputs[0])[0];
    s.oc = builder.shape(item.output)[1];
  }
  lower_shape(builder, item, s, in, out, residual);
}

}  // namespace bittern::plan
