// Lowering of the layers that have weights: convolution, fully connected.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <type_traits>

#include <bittern/error.h>

#include "gemm/conv.h"
#include "gemm/winograd.h"
#include "ops/maps.h"
#include "ops/plain.h"
#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "plan/weight_codes.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::ConvShape;
using engine::Epilogue;
using engine::GemmConv;
using engine::GemmKernel;
using engine::Map;

// Makes the parameters of a layer as they run: decoded, output channels first, folded scalings applied.
using Make = std::function<std::vector<float>()>;

// Weights where they stand in the file if they run as stored, else as made.
struct WeightSource {
  const float* stored = nullptr;
  bool columns = false;  // stored as inputs x outputs
  Make make;
};

// y = scale * (w x + b) + shift, with scale and shift of the item.
void fold_weights(const Item& item, std::vector<float>& weights) {
  const std::size_t channels = item.scale.size(), each = channels == 0 ? 0 : weights.size() / channels;
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t i = 0; i < each; ++i) weights[c * each + i] *= item.scale[c];
  }
}

void fold_bias(const Item& item, std::vector<float>& bias) {
  if (item.scale.empty()) return;
  if (bias.empty()) bias.assign(item.scale.size(), 0.0f);
  for (std::size_t c = 0; c < bias.size(); ++c) bias[c] = bias[c] * item.scale[c] + item.shift[c];
}

struct Choice {
  const GemmKernel* kernel = nullptr;
  double cost = 0;
  std::string reason;
};

// The cheapest kernel of the level; `cost(kernel)` estimates.
template <class Cost>
Choice choose_gemm(const Builder& builder, const Cost& cost) {
  const engine::Isa isa = builder.source().isa;
  for (int level = static_cast<int>(isa); level >= 0; --level) {
    for (const GemmKernel& kernel : engine::gemm_kernels(static_cast<engine::Isa>(level))) {
      if (preferred(builder, kernel.name)) return {&kernel, cost(kernel), "asked for"};
    }
  }
  std::vector<std::pair<double, const GemmKernel*>> ranked;
  for (const GemmKernel& kernel : engine::gemm_kernels(isa)) ranked.emplace_back(cost(kernel), &kernel);
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  Choice choice{ranked[0].second, ranked[0].first, "the only tile of its level"};
  if (ranked.size() > 1) {
    choice.reason = "least estimated time; next " + std::to_string(ranked[1].second->rows) + "x" + std::to_string(ranked[1].second->cols) + ": " +
                    percent(ranked[1].first / std::max(1.0, ranked[0].first));
  }
  return choice;
}

struct WinogradChoice {
  const engine::WinogradKernel* kernel = nullptr;  // null: the direct kernel is better, or it does not fit
  const GemmKernel* gemm = nullptr;
  double cost = 0;
  bool asked = false;
};

WinogradChoice choose_winograd(const Builder& builder, const ConvShape& shape) {
  WinogradChoice best;
  if (!engine::WinogradConv::fits(shape)) return best;
  const engine::Isa isa = builder.source().isa;
  for (int level = static_cast<int>(isa); level >= 0 && !best.asked; --level) {
    for (const auto& kernel : engine::winograd_kernels(static_cast<engine::Isa>(level))) {
      const bool asked = preferred(builder, kernel.name);
      if (!asked && (level != static_cast<int>(isa) || best.asked)) continue;
      for (const GemmKernel& gemm : engine::gemm_kernels(kernel.isa)) {
        const double cost = engine::WinogradConv::cost(kernel, gemm, shape);
        if (best.kernel == nullptr || cost < best.cost || (asked && !best.asked)) best = {&kernel, &gemm, cost, asked};
      }
    }
  }
  return best;
}

// Packs weights and bias through `layer` (GemmConv or Depthwise) and emits its step.
template <class Layer>
void emit_layer(Builder& builder, const Item& item, const Layer& layer, const std::string& how, const Storage& in, const Storage& out,
                const Storage& residual, bool biased, const WeightSource& weights, const Make& bias) {
  const std::string what = builder.source().place + ": " + place_of(item);
  const float* packed = builder.weights(weights_key(item, how), layer.packed_elements(), what,
                                        [&](float* target) {
    std::vector<float> made;
    if (weights.stored == nullptr) made = weights.make();
    const float* values = weights.stored != nullptr ? weights.stored : made.data();
    if constexpr (std::is_same_v<Layer, GemmConv>) {
      const GemmConv::Done done = [&](const float* first, std::int64_t count) {
        if (weights.stored != nullptr) builder.source().constants->release(first, count);
      };
      weights.columns ? layer.pack_columns(values, target, done) : layer.pack(values, target, done);
    } else {
      layer.pack(values, target);
    }
    builder.source().constants->release(item.inputs[1]);
  });
  Epilogue epilogue{nullptr, nullptr, item.lo, item.hi};
  if (biased) {
    epilogue.bias = builder.weights(weights_key(item, how + " bias"), layer.padded_channels(), what,
                                    [&](float* target) { layer.pad_bias(bias().data(), target); });
  }
  builder.current().packed_bytes = static_cast<std::uint64_t>(layer.packed_elements() + (biased ? layer.padded_channels() : 0)) * sizeof(float);
  const bool added = !item.residual.empty();
  if constexpr (requires { layer.scratch_elements(); }) {
    const Place scratch = builder.scratch(layer.scratch_elements());
    builder.emit([=](const RunContext& run) {
      Epilogue e = epilogue;
      if (added) e.residual = run.read(residual.place);
      layer.run(run.read(in.place), packed, e, run.write(out.place), run.write(scratch), *run.team);
    }, {in.place, out.place, scratch, added ? residual.place : in.place});
  } else {
    builder.emit([=](const RunContext& run) {
      Epilogue e = epilogue;
      if (added) e.residual = run.read(residual.place);
      layer.run(run.read(in.place), packed, e, run.write(out.place), *run.team);
    }, {in.place, out.place, added ? residual.place : in.place});
  }
}

std::string real_note(const Item& item) { return item.stays_real != nullptr ? std::string("; in float32, because ") + item.stays_real : ""; }

std::string weight_note(const Builder& builder, const Item& item) {
  const auto& encoding = *builder.source().graph->constants.at(item.inputs[1]);
  std::string note = real_note(item);
  if (const SparseLayer* sparse = builder.sparse(item.output)) note += sparse->reason;
  if (encoding.kind != graph::EncodingKind::dense) note += "; weights decoded to dense f32 at load: no kernel of real numbers runs this encoding here";
  return note;
}

}  // namespace

bool all_integers(const float* weights, std::int64_t count) {
  return std::all_of(weights, weights + count, [](float w) { return w == std::nearbyint(w); });
}

double dense_conv_cost(const Builder& builder, const ConvShape& s, bool exact, const char** name) {
  const bool flat = s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1;
  double cost = 0;
  for (const GemmKernel& kernel : engine::gemm_kernels(builder.source().isa)) {
    const double c = GemmConv::cost(kernel, s, 16, flat);
    if (cost == 0 || c < cost) cost = c, *name = kernel.name;
  }
  if (exact || !builder.source().winograd) return cost;
  const WinogradChoice winograd = choose_winograd(builder, s);
  if (winograd.kernel == nullptr || winograd.cost >= cost) return cost;
  *name = winograd.kernel->name;
  // Transformed weights that no cache holds come from memory in every run, beside the products (measured, 3x3 of 256 and 512 channels).
  constexpr double cached = 12e6, bytes_of_cycle = 12;
  const auto side = static_cast<double>(winograd.kernel->outputs + 2);
  const double weights = side * side * static_cast<double>(s.c / s.groups * s.oc) * 4;
  return winograd.cost + (weights > cached ? weights / bytes_of_cycle : 0.0);
}

void lower_conv(Builder& builder, const Item& item) {
  const SparseLayer* sparse = builder.sparse(item.output);
  if (sparse != nullptr && sparse->chosen) return lower_sparse_conv(builder, item, *sparse);
  const Shape &x = builder.shape(item.inputs[0]), w = builder.map_shape(item.inputs[1]);
  weight_encoding(builder, item);
  if (has_bias(item) && !builder.source().constants->has(item.inputs[2])) {
    throw Error(ErrorCode::unsupported, place_of(item), "its bias " + item.inputs[2] + " is computed at run time", "only constant biases are supported");
  }
  const graph::Window win = graph::window(*item.node, x, w[2], w[3]);
  const ConvShape s = conv_shape(builder, item, win);
  if (s.c == 0 || s.oc == 0) throw Error(ErrorCode::unsupported, place_of(item), "a convolution without channels", "remove the layer");

  const bool depthwise = s.groups == s.c && s.oc == s.c;
  const bool force_gemm = asks_for_tiles(builder);
  const bool padded = (win.pad_top | win.pad_left | win.pad_bottom | win.pad_right) != 0;
  // A first layer of few channels reads planes as they are: blocks would be mostly empty.
  const bool from_planar = !(depthwise && !force_gemm) && !builder.has_blocked(item.inputs[0]) && s.c < 8;
  const Storage in = !from_planar ? builder.blocked(item.inputs[0]) : padded ? builder.planar_with_halo(item.inputs[0], win) : builder.planar(item.inputs[0]);
  Storage residual;
  if (!item.residual.empty()) residual = builder.blocked(item.residual);

  builder.layer(item);
  describe_weight(builder, item);
  if (sparse != nullptr) describe_density(builder.current(), *sparse);
  const Storage out = builder.make_blocked(item.output);
  builder.current().layout = layout_name(in.map) + " -> " + layout_name(out.map);
  builder.current().macs = s.macs();
  const bool biased = has_bias(item) || !item.scale.empty();
  WeightSource weights;
  if (item.scale.empty()) weights.stored = builder.source().constants->stored(item.inputs[1]);
  weights.make = [&] {
    auto values = builder.source().constants->floats(item.inputs[1]);
    fold_weights(item, values);
    return values;
  };
  const Make bias = [&] {
    auto values = has_bias(item) ? builder.source().constants->floats(item.inputs[2]) : std::vector<float>();
    fold_bias(item, values);
    return values;
  };

  if (depthwise && !force_gemm) {
    const engine::OpKernel& kernel = choose_op(builder, "depthwise");
    builder.current().reason = "one channel a group" + weight_note(builder, item);
    emit_layer(builder, item, engine::Depthwise(kernel, s, in.map, out.map, residual.map), "depthwise", in, out, residual, biased, weights, bias);
    return;
  }
  const bool flat = engine::ConvLoop::flat(s, in.map, out.map);
  const Choice choice = choose_gemm(builder, [&](const GemmKernel& kernel) { return GemmConv::cost(kernel, s, in.map.block, flat); });
  LayerInfo& info = builder.current();
  // Winograd rounds more than the direct kernel, so a small gain is not worth it.
  constexpr double worthwhile = 0.92;
  const WinogradChoice winograd = from_planar ? WinogradChoice{} : choose_winograd(builder, s);
  const bool direct_asked = choice.reason == "asked for";
  const CodesPlan codes =
      winograd.asked ? CodesPlan{} : plan_codes(builder, item, s, in.map, out.map, residual.map, *choice.kernel, choice.cost, direct_asked, 0);
  const double direct = codes.kernel != nullptr ? codes.cost : choice.cost;
  const bool better =
      winograd.kernel != nullptr && builder.source().winograd && !direct_asked && !codes.asked && winograd.cost < worthwhile * direct;
  bool exact = item.whole_sums;
  if (better && !winograd.asked && !exact) {
    const float* values = weights.stored;
    if (values == nullptr) {
      // Decoded once: packing takes them from here.
      const auto decoded = std::make_shared<const std::vector<float>>(weights.make());
      weights.make = [decoded] { return *decoded; };
      values = decoded->data();
    }
    exact = all_integers(values, builder.count(item.inputs[1]));
  }
  if (winograd.asked || (better && !exact)) {
    info.kernel = winograd.kernel->name;
    info.isa = engine::name_of(winograd.kernel->isa);
    info.reason = (winograd.asked ? "asked for" : "estimated " + percent(winograd.cost / direct) + " against the direct kernel") +
                  "; products by " + winograd.gemm->name;
    if (codes.kernel != nullptr) {
      info.reason += real_note(item) + "; weights decoded to dense f32 at load: without Winograd " + codes.kernel->name + " would hold them in " +
                     std::to_string(codes.bytes()) + " bytes";
    } else {
      info.reason += weight_note(builder, item);
    }
    emit_layer(builder, item, engine::WinogradConv(*winograd.kernel, *winograd.gemm, s, in.map, out.map, residual.map),
               info.kernel + " " + winograd.gemm->name, in, out, residual, biased, weights, bias);
    return;
  }
  const std::string no_winograd = exact ? "; weights are integers: exact sums, no Winograd" : "";
  if (codes.kernel != nullptr) {
    info.reason = (codes.asked ? "asked for" : choice.reason) + no_winograd + real_note(item) + codes.reason;
    const std::int64_t taps = s.kh * s.kw;
    emit_codes(builder, item, codes, s.c / s.groups * taps, taps, in, out, residual, biased ? &bias : nullptr);
    return;
  }
  info.kernel = choice.kernel->name;
  info.isa = engine::name_of(choice.kernel->isa);
  info.reason = choice.reason + no_winograd + real_note(item) + codes.reason;
  const GemmConv layer(*choice.kernel, s, in.map, out.map, residual.map);
  if (s.groups > 1 && layer.excess() > 1.1) {
    char text[96];
    std::snprintf(text, sizeof text, "; groups do not fill its panels: %.1f times the multiplications", layer.excess());
    info.reason += text;
  }
  emit_layer(builder, item, layer, info.kernel + " block " + std::to_string(in.map.block), in, out, residual, biased, weights, bias);
}

// A product with one row whose weights are codes of few bits: read once, decoded in registers. False if they are not.
bool lower_look_up(Builder& builder, const Item& item, std::int64_t k, std::int64_t n, bool transposed, const Storage& in, const Storage& out,
                   const Make* bias) {
  if (asks_for_tiles(builder)) return false;
  const auto form = builder.source().constants->row_form(item.inputs[1]);
  if (!form || (form->axis >= 0 && form->axis != (transposed ? 0 : 1))) return false;
  const engine::LutGemvKernel& best = row_kernel(builder.source().isa, *form, n);
  const auto list = engine::lut_gemv_kernels(best.isa);
  const auto asked = std::find_if(list.begin(), list.end(), [&](const auto& other) { return other.codes == best.codes && preferred(builder, other.name); });
  const engine::LutGemvKernel& kernel = asked != list.end() ? *asked : best;
  const engine::LutGemv layer(kernel, k, n);
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = "one row: " + stays_codes(kernel);
  info.layout = "rows -> rows";
  info.macs = static_cast<double>(k) * static_cast<double>(n);
  const std::int64_t floats = layer.packed_floats() + (bias != nullptr ? n : 0);
  const float* packed = builder.weights(weights_key(item, info.kernel), floats, builder.source().place + ": " + place_of(item), [&](float* target) {
    const auto codes = builder.source().constants->row_codes(item.inputs[1]);
    layer.pack(coded_numbers(*form), codes.data(), transposed ? k : 1, transposed ? 1 : n, target);
    if (bias != nullptr) {
      const std::vector<float> values = (*bias)();
      std::copy(values.begin(), values.end(), target + layer.packed_floats());
    }
    builder.source().constants->release(item.inputs[1]);
  });
  info.packed_bytes = static_cast<std::uint64_t>(floats) * sizeof(float);
  engine::CodedRows rows;
  rows.bias = bias != nullptr ? packed + layer.packed_floats() : nullptr;
  rows.lo = item.lo;
  rows.hi = item.hi;
  builder.emit([=](const RunContext& run) {
    engine::CodedRows now = rows;
    now.x = run.read(in.place);
    now.y = run.write(out.place);
    layer.run(packed, now, *run.team);
  }, {in.place, out.place});
  return true;
}

void lower_gemm(Builder& builder, const Item& item) {
  const graph::Node& node = *item.node;
  weight_encoding(builder, item);
  const Shape& b = builder.shape(item.inputs[1]);
  const bool transposed = graph::int_attribute(node, "transB", 0) != 0;
  const float alpha = graph::float_attribute(node, "alpha", 1.0f), beta = graph::float_attribute(node, "beta", 1.0f);
  const std::int64_t k = transposed ? b[1] : b[0], n = transposed ? b[0] : b[1];
  const std::int64_t m = n == 0 ? 0 : builder.count(item.output) / n;
  if (k == 0 || n == 0) throw Error(ErrorCode::unsupported, place_of(item), "a product with an empty matrix " + graph::to_string(b), "remove the layer");

  // C is a bias if it is one constant row; any other form is added behind the product.
  bool bias_row = false, added_behind = false;
  if (item.op == "Gemm" && has_bias(item)) {
    const Shape& c = builder.shape(item.inputs[2]);
    bias_row = builder.source().constants->has(item.inputs[2]) && (c.size() < 2 || c[0] == 1) && (c.empty() || c.back() == n || c.back() == 1);
    added_behind = !bias_row;
  }

  Storage in = builder.planar(item.inputs[0]);
  Storage addend;
  if (added_behind) addend = builder.planar(item.inputs[2]);
  builder.layer(item);
  describe_weight(builder, item);
  const Storage out = builder.make_planar(item.output);
  if (graph::int_attribute(node, "transA", 0) != 0) {
    const Place rows = builder.scratch(m * k);
    builder.emit([=, from = in.place](const RunContext& run) {
      constexpr std::int64_t size = sizeof(float);
      const std::int64_t shape[] = {m, k}, columns[] = {size, m * size}, packed[] = {k * size, size};
      engine::strided_copy(shape, size, run.read(from), columns, run.write(rows), packed);
    }, {in.place, rows});
    in.place = rows;
  }
  // A matrix is a map of one row: pixels are samples, channels are features, all in one block.
  ConvShape s;
  s.c = k, s.w = m, s.oc = n, s.ow = m;
  const Map in_map = engine::make_map(1, k, 1, m, k), out_map = engine::make_map(1, n, 1, m, n);

  WeightSource weights;
  if (item.scale.empty() && alpha == 1.0f) weights.stored = builder.source().constants->stored(item.inputs[1]);
  weights.columns = weights.stored != nullptr && !transposed;
  weights.make = [&] {
    std::vector<float> stored = builder.source().constants->floats(item.inputs[1]), values;
    if (transposed) {
      values = std::move(stored);
    } else {
      values.resize(stored.size());
      for (std::int64_t o = 0; o < n; ++o)
        for (std::int64_t i = 0; i < k; ++i) values[static_cast<std::size_t>(o * k + i)] = stored[static_cast<std::size_t>(i * n + o)];
    }
    if (alpha != 1.0f) {
      for (float& w : values) w *= alpha;
    }
    fold_weights(item, values);
    return values;
  };
  const Make bias = [&] {
    std::vector<float> values;
    if (bias_row) {
      values = builder.source().constants->floats(item.inputs[2]);
      if (values.size() == 1) values.assign(static_cast<std::size_t>(n), values[0]);
      for (float& c : values) c *= beta;
    }
    fold_bias(item, values);
    return values;
  };

  const bool transposed_rows = graph::int_attribute(node, "transA", 0) != 0;
  std::string not_sparse;
  if (m == 1 && !transposed_rows && !added_behind && alpha == 1.0f && item.scale.empty()) {
    if (lower_sparse_row(builder, item, k, n, transposed, in, out, bias_row ? bias : Make{}, not_sparse)) return;
    if (lower_look_up(builder, item, k, n, transposed, in, out, bias_row ? &bias : nullptr)) {
      builder.current().reason += not_sparse;
      return;
    }
  }
  const Choice choice = choose_gemm(builder, [&](const GemmKernel& kernel) { return GemmConv::cost(kernel, s, k, true); });
  LayerInfo& info = builder.current();
  info.layout = "rows -> rows";
  info.macs = s.macs();
  Item product = item;
  if (added_behind) {
    product.lo = -std::numeric_limits<float>::infinity();
    product.hi = std::numeric_limits<float>::infinity();
  }
  const bool biased = bias_row || !item.scale.empty();
  if (m > 1 && !added_behind && lower_sparse_product(builder, item, s, choice.cost, in, out, weights.make, biased ? bias : Make{}, not_sparse)) return;
  CodesPlan codes;
  if (alpha == 1.0f) {
    codes = plan_codes(builder, item, s, in_map, out_map, Map{}, *choice.kernel, choice.cost, choice.reason == "asked for", transposed ? 0 : 1);
  } else if (builder.source().constants->encoding(item.inputs[1]).kind != graph::EncodingKind::dense) {
    codes.reason = "; weights decoded to dense f32 at load: they are multiplied by alpha";
  }
  info.reason = (codes.asked ? "asked for" : choice.reason) + real_note(item) + codes.reason + not_sparse;
  if (codes.kernel != nullptr) {
    Storage rows = in, result = out;
    rows.map = in_map;
    result.map = out_map;
    emit_codes(builder, product, codes, transposed ? k : 1, transposed ? 1 : n, rows, result, Storage{}, biased ? &bias : nullptr);
  } else {
    info.kernel = choice.kernel->name;
    info.isa = engine::name_of(choice.kernel->isa);
    emit_layer(builder, product, GemmConv(*choice.kernel, s, in_map, out_map, Map{}), info.kernel + " rows", in, out, Storage{}, biased,
               weights, bias);
  }
  if (added_behind) {
    const Shape& c = builder.shape(item.inputs[2]);
    const std::int64_t c_col_step = c.empty() || c.back() == 1 ? 0 : 1;
    const std::int64_t c_row_step = c.size() == 2 && c[0] != 1 ? c.back() : 0;
    Place scaled = addend.place;
    if (beta != 1.0f) {
      const std::int64_t count = builder.count(item.inputs[2]);
      scaled = builder.scratch(count);
      builder.emit([=, from = addend.place](const RunContext& run) {
        const float shift = 0.0f, lowest = -std::numeric_limits<float>::infinity();
        engine::channel_affine(run.read(from), &beta, &shift, run.write(scaled), 1, 1, count, lowest, -lowest);
      }, {addend.place, scaled});
    }
    builder.emit([=, lo = item.lo, hi = item.hi](const RunContext& run) {
      const std::int64_t shape[] = {m, n}, a_strides[] = {n, 1}, c_strides[] = {c_row_step, c_col_step};
      float* result = run.write(out.place);
      engine::broadcast(engine::Eltwise::add, shape, result, a_strides, run.read(scaled), c_strides, result, lo, hi);
    }, {out.place, scaled});
  }
}

}  // namespace bittern::plan
