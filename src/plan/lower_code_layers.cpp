// Lowering of convolution and fully connected layers on 8-bit codes.
#include <algorithm>
#include <cmath>

#include "base/cpu_features.h"
#include "gemm/few_bits.h"
#include "gemm/int_conv.h"
#include "ops/codes.h"
#include "ops/fixed_point.h"
#include "plan/code_parts.h"
#include "plan/layer_parts.h"
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
using engine::Quantiser;

bool is_conv(const Item& item) { return item.op == "Conv" || item.op == "ConvInteger"; }

IntOut kind_of(const CodesForm& form) { return form.output ? IntOut::bytes : form.sums ? IntOut::sums : IntOut::floats; }

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

// The layer's whole numbers, where they stand in its constant.
engine::IntWeights weights_of(Builder& builder, const Item& item, const std::vector<std::int16_t>& values) {
  const Shape& shape = builder.shape(item.inputs[1]);
  if (!is_conv(item) && graph::int_attribute(*item.node, "transB", 0) == 0) return {values.data(), 1, shape[1]};
  std::int64_t taps = 1;
  for (std::size_t d = 2; d < shape.size(); ++d) taps *= shape[d];
  return {values.data(), shape[1] * taps, taps};
}

std::vector<std::int16_t> weight_values(Builder& builder, const Item& item) {
  const Constants& constants = *builder.source().constants;
  const std::string& name = item.inputs[1];
  if (!item.codes->sums) return constants.integer_values(name);
  return whole_values(name, item.codes->zeros, is_conv(item) ? 0 : 1, builder.type(name), constants);
}

// `pack(weights, target)` writes `weight_bytes` of weights.
template <class Pack>
Packed pack_layer(Builder& builder, const Item& item, const std::string& how, std::int64_t weight_bytes, std::int64_t padded_channels, const Pack& pack) {
  const CodesForm& form = *item.codes;
  const std::int64_t channels = is_conv(item) ? builder.map_shape(item.output)[1] : builder.shape(item.output).back();
  const std::int64_t row = rounded(padded_channels * 4), first = rounded(weight_bytes);
  const bool biased = (has_bias(item) && form.bias == nullptr) || !item.scale.empty();
  std::string key = weights_key(item, how) + (form.output ? " codes" : form.sums ? " sums" : " real") + (form.inner ? " inner" : "");
  for (const std::string& name : item.fused) key += key_part(name);
  const std::string what = builder.source().place + ": " + place_of(item);
  Packed packed;
  packed.bytes = static_cast<std::uint64_t>(first + row * (biased ? 3 : 2));
  const float* buffer = builder.weights(key, static_cast<std::int64_t>(packed.bytes / sizeof(float)), what, [&](float* target) {
    auto* bytes = reinterpret_cast<std::byte*>(target);
    std::fill(bytes, bytes + packed.bytes, std::byte{});
    const std::vector<std::int16_t> values = weight_values(builder, item);
    const engine::IntWeights weights = weights_of(builder, item, values);
    pack(weights, bytes);
    auto* offset = reinterpret_cast<std::int32_t*>(bytes + first);
    engine::sum_offsets(weights, channels, static_cast<std::int64_t>(values.size()) / channels, form.bias != nullptr ? form.bias->data() : nullptr,
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
  store.lo = to.step_of(item.lo);
  store.hi = to.step_of(item.hi);
  store.lo = std::min(store.lo, store.hi);  // as if the upper bound came last
  store.zero = to.zero;
}

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

// What makes a byte of the input's type one of its codes.
std::uint8_t code_flip(Builder& builder, const Item& item) { return builder.type(item.inputs[0]).dtype == DType::i8 ? 128 : 0; }

// The halo of an input whose zero point is known at run time only.
void fill_halo(Builder& builder, const Item& item, const Storage& in) {
  if (item.codes->dynamic_zero.empty() || !in.map.has_halo()) return;
  const Storage zero = builder.planar(item.codes->dynamic_zero);
  builder.emit([=, flip = code_flip(builder, item)](const RunContext& run) {
    const std::uint8_t code = *run.read<std::uint8_t>(zero.place) ^ flip;
    engine::fill_code_halo(in.map, code, run.write<std::uint8_t>(in.place), *run.team);
  }, {zero.place, in.place});
}

// An input whose quantiser is known at run time only: offsets and scales are made of it before the layer runs.
struct RunTimeScales {
  Storage scale, zero;
  bool sums = false;  // the layer's results have no scale
  Place made;  // offsets, then scales, of the padded channels; no arena place if there is nothing to make
  std::int64_t channels = 0;

  void apply(const RunContext& run, IntEpilogue& epilogue) const {
    if (channels == 0) return;
    epilogue.offset = run.read<std::int32_t>(made);
    if (!sums) epilogue.store.scale = run.read(made) + channels;
  }
};

RunTimeScales run_time_scales(Builder& builder, const Item& item, const IntEpilogue& epilogue, std::int64_t padded_channels) {
  RunTimeScales scales;
  if (item.codes->dynamic_zero.empty()) return scales;
  scales.sums = item.codes->sums;
  scales.zero = builder.planar(item.codes->dynamic_zero);
  scales.scale = scales.sums ? scales.zero : builder.planar(item.codes->dynamic_scale);
  scales.channels = padded_channels;
  scales.made = builder.scratch(2 * padded_channels);
  builder.current().reason += scales.sums ? "; the zero point is known when it runs" : "; activations are quantised on the fly";
  builder.emit([=, flip = code_flip(builder, item), sums = epilogue.offset, w_scale = epilogue.store.scale](const RunContext& run) {
    const std::int32_t zero = *run.read<std::uint8_t>(scales.zero.place) ^ flip;
    auto* offset = run.write<std::int32_t>(scales.made);
    for (std::int64_t c = 0; c < padded_channels; ++c) offset[c] = -zero * sums[c];
    if (scales.sums) return;
    const float x_scale = *run.read(scales.scale.place);
    float* scale = run.write(scales.made) + padded_channels;
    for (std::int64_t c = 0; c < padded_channels; ++c) scale[c] = x_scale * w_scale[c];
  }, {scales.scale.place, scales.zero.place, scales.made});
  return scales;
}

// Layers differ in whether they need working memory.
template <class Layer>
constexpr bool works_beside = requires(const Layer& layer) { layer.scratch_bytes(); };

template <class Layer>
Place scratch_of(Builder& builder, const Layer& layer, const Place& otherwise) {
  if constexpr (works_beside<Layer>) return builder.scratch((layer.scratch_bytes() + 3) / 4);
  return otherwise;
}

template <class Weight, class Layer>
void run_layer(const Layer& layer, const RunContext& run, const Place& in, const Place& weights, const IntEpilogue& epilogue, IntOut type,
               const Place& out, const Place& scratch) {
  const auto* x = run.read<std::uint8_t>(in);
  const auto* w = run.read<Weight>(weights);
  auto* y = run.write<std::byte>(out);
  if constexpr (works_beside<Layer>) {
    layer.run(x, w, epilogue, type, y, run.write<std::byte>(scratch), *run.team);
  } else {
    layer.run(x, w, epilogue, type, y, *run.team);
  }
}

// Emits the step of an IntConv, SparseIntConv or CodeDepthwise, whose weights of type Weight stand at `weights`.
template <class Weight, class Layer>
void emit_layer(Builder& builder, const Item& item, Layer layer, const Place& weights, IntEpilogue epilogue, const Storage& in, const Storage& out,
                const Storage& residual) {
  finish_epilogue(item, epilogue.store);
  const IntOut type = kind_of(*item.codes);
  const bool added = !item.residual.empty();
  const RunTimeScales scales = run_time_scales(builder, item, epilogue, layer.padded_channels());
  const Place scratch = scratch_of(builder, layer, in.place);
  builder.emit([=, layer = std::move(layer)](const RunContext& run) {
    IntEpilogue e = epilogue;
    scales.apply(run, e);
    if (added) e.store.residual = run.read<std::uint8_t>(residual.place);
    run_layer<Weight>(layer, run, in.place, weights, e, type, out.place, scratch);
  }, {in.place, out.place, weights, added ? residual.place : in.place, scales.channels != 0 ? scales.made : in.place, scratch});
}

Place constant_place(const std::byte* data) { return {Place::Kind::constant, 0, 0, data}; }

// Weights that have fewer values than bytes have, and are held as bytes nevertheless.
std::string bytes_note(const CodesForm& form) {
  const std::size_t values = form.weights->alphabet.size();
  if (values == 0 || values > 128 || engine::code_bits(form.weights->alphabet) < 8) return "";
  return "; weights of " + std::to_string(values) + " values stay bytes: packed are at most 16, or such within 64 consecutive numbers";
}

// A product with one row: the weights are read once, and decoded on the way.
void lower_gemv(Builder& builder, const Item& item, std::int64_t k, std::int64_t n, const Storage& in, const Storage& out) {
  const CodesForm& form = *item.codes;
  const int bits = engine::code_bits(form.weights->alphabet);
  const engine::GemvKernel& kernel = gemv_kernel(builder, bits);
  const engine::IntGemv layer(kernel, k, n);
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = bits == 8 ? "one row: weights are read once" + bytes_note(form)
                          : "one row: weights stay " + std::to_string(bits) + "-bit codes, decoded in registers";
  const std::int64_t table_at = rounded(layer.packed_bytes());
  const std::span<const std::int16_t> alphabet(form.weights->alphabet);
  const Packed packed = pack_layer(builder, item, info.kernel, table_at + line, layer.padded_channels(), [&](const engine::IntWeights& w, std::byte* target) {
    layer.pack(w, bits == 8 ? std::span<const std::int16_t>{} : alphabet, reinterpret_cast<std::uint8_t*>(target));
    if (bits < 8) engine::code_table(alphabet, reinterpret_cast<std::int8_t*>(target + table_at));
  });
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

// TensorFlow Lite's arithmetic: the exact sums first, then codes of them.
struct FixedPoint {
  Storage sums;
  std::vector<engine::FixedScale> scales;  // one per channel
  std::int32_t zero = 0, lo = 0, hi = 255;
};

FixedPoint fixed_point_of(Builder& builder, const Item& item, const Map& out) {
  const CodesForm& form = *item.codes;
  const Quantiser& to = *form.output;
  FixedPoint fixed;
  fixed.sums.map = engine::make_map(out.n, out.c, out.h, out.w, out.block);
  fixed.sums.place = builder.scratch(fixed.sums.map.elements() + 16);
  const std::vector<float>& w_scale = form.weights->scale;
  for (std::int64_t c = 0; c < out.blocks() * out.block; ++c) {
    const float w = w_scale[w_scale.size() == 1 ? 0 : static_cast<std::size_t>(std::min(c, out.c - 1))];
    // Fully connected layers of one scale multiply it in float32 there.
    const double product = item.op != "Conv" && w_scale.size() == 1 ? static_cast<double>(form.inputs[0].scale * w)
                                                                      : static_cast<double>(form.inputs[0].scale) * static_cast<double>(w);
    fixed.scales.push_back(engine::fixed_scale(product / static_cast<double>(to.scale)));
  }
  engine::IntStore bounds;
  finish_epilogue(item, bounds);
  fixed.zero = to.zero;
  fixed.lo = static_cast<std::int32_t>(bounds.lo) + to.zero;
  fixed.hi = static_cast<std::int32_t>(bounds.hi) + to.zero;
  builder.current().reason += "; TensorFlow Lite's rounding";
  return fixed;
}

// A layer that stores its sums, and the step that makes codes of them.
template <class Weight, class Layer>
void emit_fixed_point(Builder& builder, const Layer& layer, const Place& weights, const IntEpilogue& epilogue, const Storage& in, const FixedPoint& fixed,
                      const Storage& out) {
  const Place scratch = scratch_of(builder, layer, in.place);
  builder.emit([=](const RunContext& run) {
    run_layer<Weight>(layer, run, in.place, weights, epilogue, IntOut::sums, fixed.sums.place, scratch);
    engine::fixed_requantise(fixed.scales.data(), fixed.zero, fixed.lo, fixed.hi, fixed.sums.map, run.read<std::int32_t>(fixed.sums.place), out.map,
                             run.write<std::uint8_t>(out.place), *run.team);
  }, {in.place, out.place, weights, fixed.sums.place, scratch});
}

// On the weights that are not zero alone; false if the dense kernel is estimated to be faster: `note` says so.
bool lower_sparse(Builder& builder, const Item& item, const ConvShape& s, double dense_cost, const char* dense_kernel, const Storage& in,
                  const Storage& out, const Storage& residual, std::string& note) {
  const CodesForm& form = *item.codes;
  LayerInfo& info = builder.current();
  if (!item.residual.empty() && residual.map.block % 16 != 0) return false;
  SparseCodes choice;
  {
    const std::vector<std::int16_t> values = weight_values(builder, item);
    choice = choose_sparse_codes(builder, item, s, in, weights_of(builder, item, values), static_cast<std::int64_t>(values.size()), dense_cost, dense_kernel);
  }
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
                                     [&](const engine::IntWeights&, std::byte* target) { layer.pack(choice.quads, target); });
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
  if (one_row && !force_gemm) return lower_gemv(builder, item, s.c, s.oc, in, out);
  const int terms = form.two_terms ? 2 : 1;
  const Choice choice = choose(builder, s, in.map.block, terms);
  std::string sparse_note;
  const double dense_cost = IntConv::cost(*choice.kernel, s, in.map.block, terms);
  if (terms == 1 && !force_gemm && lower_sparse(builder, item, s, dense_cost, choice.kernel->name, in, out, residual, sparse_note)) return;
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
                                   [&](const engine::IntWeights& w, std::byte* target) { layer.pack(w, reinterpret_cast<std::int8_t*>(target)); });
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
