// What the lowering of layers on 8-bit codes shares: their constants in one buffer, and the steps that run them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gemm/int_conv.h"
#include "ops/fixed_point.h"
#include "plan/layer_parts.h"

namespace bittern::plan {

inline bool is_conv(const Item& item) { return item.op == "Conv" || item.op == "ConvInteger"; }

inline engine::IntOut kind_of(const CodesForm& form) {
  return form.output ? engine::IntOut::bytes : form.sums ? engine::IntOut::sums : engine::IntOut::floats;
}

inline Place constant_place(const std::byte* data) { return {Place::Kind::constant, 0, 0, data}; }

// What makes a byte of the input's type one of its codes.
inline std::uint8_t code_flip(Builder& builder, const Item& item) { return builder.type(item.inputs[0]).dtype == DType::i8 ? 128 : 0; }

// All constants of a layer in one buffer, packed once per model.
struct Packed {
  const std::byte* weights = nullptr;
  engine::IntEpilogue epilogue;
  std::uint64_t bytes = 0;
};

// Bytes in whole lines of the cache.
inline constexpr std::int64_t line = 64;
inline std::int64_t rounded(std::int64_t bytes) { return (bytes + line - 1) / line * line; }

// The layer's whole numbers, decoded when they are first asked for.
class LayerWeights {
 public:
  LayerWeights(Builder& builder, const Item& item) : builder_(&builder), item_(&item) {}
  const std::vector<std::int16_t>& values();
  engine::IntWeights view();  // where they stand among these

 private:
  Builder* builder_;
  const Item* item_;
  std::optional<std::vector<std::int16_t>> values_;
};

// `pack(weights, target)` writes `weight_bytes` of weights.
using PackWeights = std::function<void(const engine::IntWeights&, std::byte*)>;
Packed pack_layer(Builder& builder, const Item& item, const std::string& how, std::int64_t weight_bytes, std::int64_t padded_channels,
                  const PackWeights& pack, LayerWeights* decoded = nullptr);

// Bounds, quantisers and the residual's scale.
void finish_epilogue(const Item& item, engine::IntStore& store);

// An input whose quantiser is known at run time only: offsets and scales are made of it before the layer runs.
struct RunTimeScales {
  Storage scale, zero;
  bool sums = false;  // the layer's results have no scale
  Place made;  // offsets, then scales, of the padded channels; no arena place if there is nothing to make
  std::int64_t channels = 0;

  void apply(const RunContext& run, engine::IntEpilogue& epilogue) const {
    if (channels == 0) return;
    epilogue.offset = run.read<std::int32_t>(made);
    if (!sums) epilogue.store.scale = run.read(made) + channels;
  }
};

RunTimeScales run_time_scales(Builder& builder, const Item& item, const engine::IntEpilogue& epilogue, std::int64_t padded_channels);

// Layers differ in whether they need working memory.
template <class Layer>
constexpr bool works_beside = requires(const Layer& layer) { layer.scratch_bytes(); };

template <class Layer>
Place scratch_of(Builder& builder, const Layer& layer, const Place& otherwise) {
  if constexpr (works_beside<Layer>) return builder.scratch((layer.scratch_bytes() + 3) / 4);
  return otherwise;
}

template <class Weight, class Layer>
void run_layer(const Layer& layer, const RunContext& run, const Place& in, const Place& weights, const engine::IntEpilogue& epilogue,
               engine::IntOut type, const Place& out, const Place& scratch) {
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
void emit_layer(Builder& builder, const Item& item, Layer layer, const Place& weights, engine::IntEpilogue epilogue, const Storage& in, const Storage& out,
                const Storage& residual) {
  finish_epilogue(item, epilogue.store);
  const engine::IntOut type = kind_of(*item.codes);
  const bool added = !item.residual.empty();
  const RunTimeScales scales = run_time_scales(builder, item, epilogue, layer.padded_channels());
  const Place scratch = scratch_of(builder, layer, in.place);
  builder.emit([=, layer = std::move(layer)](const RunContext& run) {
    engine::IntEpilogue e = epilogue;
    scales.apply(run, e);
    if (added) e.store.residual = run.read<std::uint8_t>(residual.place);
    run_layer<Weight>(layer, run, in.place, weights, e, type, out.place, scratch);
  }, {in.place, out.place, weights, added ? residual.place : in.place, scales.channels != 0 ? scales.made : in.place, scratch});
}

// TensorFlow Lite's arithmetic: the exact sums first, then codes of them.
struct FixedPoint {
  Storage sums;
  std::vector<engine::FixedScale> scales;  // one per channel
  std::int32_t zero = 0, lo = 0, hi = 255;
};

FixedPoint fixed_point_of(Builder& builder, const Item& item, const engine::Map& out);

// A layer that stores its sums, and the step that makes codes of them.
template <class Weight, class Layer>
void emit_fixed_point(Builder& builder, const Layer& layer, const Place& weights, const engine::IntEpilogue& epilogue, const Storage& in, const FixedPoint& fixed,
                      const Storage& out) {
  const Place scratch = scratch_of(builder, layer, in.place);
  builder.emit([=](const RunContext& run) {
    run_layer<Weight>(layer, run, in.place, weights, epilogue, engine::IntOut::sums, fixed.sums.place, scratch);
    engine::fixed_requantise(fixed.scales.data(), fixed.zero, fixed.lo, fixed.hi, fixed.sums.map, run.read<std::int32_t>(fixed.sums.place), out.map,
                             run.write<std::uint8_t>(out.place), *run.team);
  }, {in.place, out.place, weights, fixed.sums.place, scratch});
}

}  // namespace bittern::plan
