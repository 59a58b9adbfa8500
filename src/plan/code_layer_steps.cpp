// Constants of layers on 8-bit codes, and what their steps need at run time.
#include "plan/code_layer_steps.h"

#include <algorithm>

#include "plan/code_parts.h"

namespace bittern::plan {
namespace {

using engine::IntEpilogue;
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

}  // namespace

const std::vector<std::int16_t>& LayerWeights::values() {
  if (values_) return *values_;
  const Constants& constants = *builder_->source().constants;
  const std::string& name = item_->inputs[1];
  const CodesForm& form = *item_->codes;
  values_ = form.sums ? whole_values(name, form.zeros, is_conv(*item_) ? 0 : 1, builder_->type(name), constants) : constants.integer_values(name);
  return *values_;
}

engine::IntWeights LayerWeights::view() {
  const Shape& shape = builder_->shape(item_->inputs[1]);
  if (!is_conv(*item_) && graph::int_attribute(*item_->node, "transB", 0) == 0) return {values().data(), 1, shape[1]};
  std::int64_t taps = 1;
  for (std::size_t d = 2; d < shape.size(); ++d) taps *= shape[d];
  return {values().data(), shape[1] * taps, taps};
}

Packed pack_layer(Builder& builder, const Item& item, const std::string& how, std::int64_t weight_bytes, std::int64_t padded_channels,
                  const PackWeights& pack, LayerWeights* decoded) {
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
    LayerWeights own(builder, item);
    LayerWeights& numbers_of = decoded != nullptr ? *decoded : own;
    const engine::IntWeights weights = numbers_of.view();
    pack(weights, bytes);
    auto* offset = reinterpret_cast<std::int32_t*>(bytes + first);
    const std::int64_t each = static_cast<std::int64_t>(numbers_of.values().size()) / channels;
    engine::sum_offsets(weights, channels, each, form.bias != nullptr ? form.bias->data() : nullptr,
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

}  // namespace bittern::plan
