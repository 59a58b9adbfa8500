// Lowering of layers on planes of bits, and of what makes and pools them.
#include <algorithm>
#include <cstring>
#include <limits>

#include "base/fp_mode.h"
#include "bgemm/bit_maps.h"
#include "plan/bits.h"
#include "plan/builder.h"
#include "plan/layer_parts.h"
#include "plan/thresholds.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::BitConv;
using engine::BitGemmKernel;
using engine::ConvShape;
using engine::Map;

constexpr std::int64_t line = 16;  // words
std::int64_t rounded(std::int64_t words) { return (words + line - 1) / line * line; }

std::string bits_name(const engine::BitMap& map) { return std::to_string(map.planes) + (map.planes == 1 ? " plane" : " planes"); }

// The code that stands for zero; 0 where none does, and where several terms have one each: there the sums leave out what pads.
std::int64_t code_of_zero(const BitLevels& levels) {
  if (levels.terms.size() != 1) return 0;
  const engine::BitValues& v = levels.terms[0].values;
  return v.factor == 1 && v.shift >= 0 && v.shift <= levels.count ? v.shift : 0;
}
bool has_zero(const BitLevels& levels) {
  const engine::BitValues& v = levels.terms[0].values;
  return levels.terms.size() == 1 && v.factor * code_of_zero(levels) == v.shift;
}

// The kernel of the first sum; that of the others is the same, or the same tile with the other operation.
const BitGemmKernel& choose(const Builder& builder, const BitsForm& form, const ConvShape& shape, std::string& reason) {
  const bool conjunction = form.sums[0].weights.conjunction;
  const BitGemmKernel* best = nullptr;
  double least = 0;
  for (int level = static_cast<int>(builder.source().isa); level >= 0; --level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    for (const BitGemmKernel& kernel : engine::bit_gemm_kernels(static_cast<engine::Isa>(level))) {
      if (kernel.conjunction != conjunction || !preferred(builder, kernel.name)) continue;
      reason = "asked for";
      return kernel;
    }
  }
  for (const BitGemmKernel& kernel : engine::bit_gemm_kernels(builder.source().isa)) {
    if (kernel.conjunction != conjunction) continue;
    double cost = 0;
    for (const BitSum& sum : form.sums) {
      cost += BitConv::cost(kernel, shape, sum.input.values.planes, static_cast<std::int64_t>(sum.weights.coefficients.size()));
    }
    if (best == nullptr || cost < least) best = &kernel, least = cost;
  }
  reason = form.reason;
  return *best;
}

// Every tile has both (bgemm/kernels.inc).
const BitGemmKernel& like(const BitGemmKernel& tile, bool conjunction) {
  const auto kernels = engine::bit_gemm_kernels(tile.isa);
  return *std::find_if(kernels.begin(), kernels.end(), [&](const BitGemmKernel& kernel) {
    return kernel.conjunction == conjunction && kernel.rows == tile.rows && kernel.cols == tile.cols;
  });
}

// The weights of one sum, [output channel][input channel][tap].
std::vector<std::int16_t> weights_of(Builder& builder, const Item& item, const BitSum& sum, const ConvShape& s) {
  std::vector<std::int16_t> stored = builder.source().constants->part_values(item.inputs[1], sum.part);
  if (item.op == "Conv" || graph::int_attribute(*item.node, "transB", 0) != 0) return stored;
  std::vector<std::int16_t> rows(stored.size());
  const auto outputs = static_cast<std::size_t>(s.oc), each = stored.size() / outputs;
  for (std::size_t i = 0; i < each; ++i)
    for (std::size_t o = 0; o < outputs; ++o) rows[o * each + i] = stored[i * outputs + o];
  return rows;
}

// y = float(sum) * scale + bias of each output channel; the bias is added to the first of several sums.
void channel_numbers(Builder& builder, const Item& item, const BitSum& sum, std::int64_t channels, std::vector<float>& scale, std::vector<float>& bias) {
  const bool first = &sum == item.bits->sums.data();
  std::vector<float> given;
  if (has_bias(item) && first) given = builder.source().constants->floats(item.inputs[2]);
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    float s = sum.input.unit * sum.scale[sum.scale.size() == 1 ? 0 : c];
    float b = given.empty() ? 0.0f : given[given.size() == 1 ? 0 : c];
    if (!item.scale.empty()) {
      s *= item.scale[c];
      if (first) b = b * item.scale[c] + item.shift[c];
    }
    scale.push_back(s);
    bias.push_back(b);
  }
}

// Where a layer's constants stand in their buffer, in words.
struct Layout {
  std::int64_t offset = 0, factor = 0, thresholds = 0, flips = 0, scale = 0, bias = 0, end = 0;
  Layout(const BitConv& conv, std::int64_t steps, std::int64_t start) : offset(start) {
    const std::int64_t row = rounded(conv.padded_channels());
    factor = offset + rounded(conv.patterns() * conv.padded_channels());
    thresholds = factor + row;
    flips = thresholds + rounded(conv.patterns() * steps * conv.padded_channels());
    scale = flips + row;
    bias = scale + row;
    end = bias + row;
  }
};

// The constants of one sum. Thresholds of the sums are those of the float function that the graph states.
void fill_constants(Builder& builder, const Item& item, const BitSum& of, const ConvShape& s, const BitConv& conv, const Layout& at, std::byte* target) {
  const BitsForm& form = *item.bits;
  const auto ints = [&](std::int64_t word) { return reinterpret_cast<std::int32_t*>(target + word * 4); };
  const std::vector<std::int16_t> values = weights_of(builder, item, of, s);
  const std::int64_t taps = s.kh * s.kw, in = s.c / s.groups, all = conv.padded_channels();
  std::vector<float> scale, bias;
  channel_numbers(builder, item, of, s.oc, scale, bias);
  std::vector<std::int8_t> direction;
  if (form.to != nullptr) {
    for (std::size_t c = 0; c < scale.size(); ++c) {
      const float rises = form.to->sign_of(static_cast<std::int64_t>(c)) * (scale[c] > 0 ? 1.0f : scale[c] < 0 ? -1.0f : 0.0f);
      direction.push_back(rises > 0 ? 1 : rises < 0 ? -1 : 0);
    }
  }
  const engine::IntWeights weights{values.data(), in * taps, taps};
  conv.offsets(weights, direction, ints(at.offset), ints(at.factor));
  if (form.to == nullptr) {
    auto* const scales = reinterpret_cast<float*>(target + at.scale * 4);
    auto* const biases = reinterpret_cast<float*>(target + at.bias * 4);
    for (std::int64_t c = 0; c < s.oc; ++c) {
      scales[conv.padded(c)] = scale[static_cast<std::size_t>(c)];
      biases[conv.padded(c)] = bias[static_cast<std::size_t>(c)];
    }
    return;
  }
  const engine::FlushToZero mode;  // as kernels compute
  std::int64_t most = 1;           // no sum is greater
  const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
  const engine::BitValues& codes = of.input.values;
  const std::int64_t level = std::max<std::int64_t>(std::abs(codes.shift), std::abs(codes.factor * form.from->count - codes.shift));
  if (least != values.end()) most += in * taps * level * std::max(std::abs(static_cast<std::int64_t>(*least)), std::abs(static_cast<std::int64_t>(*greatest)));
  std::vector<std::int32_t> thresholds(static_cast<std::size_t>(form.to->count * all), std::numeric_limits<std::int32_t>::max());
  for (std::int64_t c = 0; c < s.oc; ++c) {
    const float sign = form.to->sign_of(c);
    const float own_scale = scale[static_cast<std::size_t>(c)], own_bias = bias[static_cast<std::size_t>(c)];
    for (std::int64_t j = 0; j < form.to->count; ++j) {
      const float wanted = form.to->threshold(c, j);
      thresholds[static_cast<std::size_t>(j * all + conv.padded(c))] = static_cast<std::int32_t>(least_integer(most, [&](std::int64_t sum) {
        const float y = static_cast<float>(sum * direction[static_cast<std::size_t>(c)]) * own_scale + own_bias;
        return std::min(std::max(y, item.lo), item.hi) * sign >= wanted;  // in this order a NaN stays one
      }));
    }
  }
  conv.count_thresholds(ints(at.offset), ints(at.factor), thresholds, ints(at.thresholds), reinterpret_cast<std::uint32_t*>(target + at.flips * 4));
}

void lower_layer(Builder& builder, const Item& item, const Types& types) {
  const BitsForm& form = *item.bits;
  weight_encoding(builder, item);
  const ConvShape s = bit_shape(item, form, types);
  const BitStorage in = builder.bits(form.input);
  const bool conv_op = item.op == "Conv";
  Storage residual;
  if (!item.residual.empty()) residual = builder.blocked(item.residual);
  Storage factors;
  if (!form.factors.empty()) factors = builder.planar(form.factors);

  builder.layer(item);
  describe_weight(builder, item);
  std::string reason;
  const BitGemmKernel& kernel = choose(builder, form, s, reason);
  const std::size_t count = form.sums.size();
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = reason;
  info.macs = s.macs();
  if (!form.factors.empty()) info.reason += "; a factor for each pixel is part of it";
  if (!BitConv::groups_fit(s)) info.reason += "; groups do not fill words of 32 channels: it runs over all channels";
  const std::string what = builder.source().place + ": " + place_of(item);
  builder.charge().take(static_cast<std::uint64_t>(s.oh + s.ow) * sizeof(std::int32_t) * 2, what);  // which offsets rows and columns have
  const std::int64_t steps = form.to != nullptr ? form.to->count : 0;
  auto convs = std::make_shared<std::vector<BitConv>>();  // one for each sum
  std::vector<Layout> layouts;
  std::vector<std::int64_t> starts{0};  // of packed weights
  for (const BitSum& sum : form.sums) {
    const BitGemmKernel& own = sum.weights.conjunction == kernel.conjunction ? kernel : like(kernel, sum.weights.conjunction);
    convs->emplace_back(own, s, in.map, sum.weights, sum.input.values, !has_zero(*form.from));
    layouts.emplace_back(convs->back(), steps, layouts.empty() ? 0 : layouts.back().end);
    starts.push_back(starts.back() + convs->back().packed_words());
  }
  const std::int64_t words = layouts.back().end;
  // Maps of other sizes may be flattened to the same number of inputs.
  const std::string sizes = " " + std::to_string(s.c) + "x" + std::to_string(s.kh) + "x" + std::to_string(s.kw);
  const auto* packed = reinterpret_cast<const std::uint32_t*>(builder.weights(weights_key(item, info.kernel + sizes), starts.back(), what, [&](float* target) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::vector<std::int16_t> values = weights_of(builder, item, form.sums[i], s);
      (*convs)[i].pack({values.data(), s.c / s.groups * s.kh * s.kw, s.kh * s.kw}, reinterpret_cast<std::uint32_t*>(target) + starts[i]);
    }
  }));
  std::string key = weights_key(item, info.kernel + " constants" + sizes + " " + std::to_string(s.h) + "x" + std::to_string(s.w)) + (form.to != nullptr ? " bits" + key_part(form.to->name) : " real");
  if (form.to != nullptr && !form.to->sign.empty()) key += " normalised";
  for (const std::string& name : item.fused) key += key_part(name);
  const auto* constants = reinterpret_cast<const std::byte*>(builder.weights(key, words, what, [&](float* target) {
    std::memset(target, 0, static_cast<std::size_t>(words) * 4);
    for (std::size_t i = 0; i < count; ++i) fill_constants(builder, item, form.sums[i], s, (*convs)[i], layouts[i], reinterpret_cast<std::byte*>(target));
    builder.source().constants->release(item.inputs[1]);
  }));
  info.packed_bytes = static_cast<std::uint64_t>(starts.back() + words) * 4;
  const auto ints = [&](std::int64_t word) { return reinterpret_cast<const std::int32_t*>(constants + word * 4); };
  std::vector<engine::BitSummand> summands;
  for (std::size_t i = 0; i < count; ++i) {
    const Layout& at = layouts[i];
    engine::BitStore store;
    store.offset = ints(at.offset);
    store.offset_step = (*convs)[i].padded_channels();
    store.factor = ints(at.factor);
    store.scale = reinterpret_cast<const float*>(ints(at.scale));
    store.bias = reinterpret_cast<const float*>(ints(at.bias));
    const bool last = i + 1 == count;  // bounds are those of the whole sum
    store.lo = last ? item.lo : -std::numeric_limits<float>::infinity();
    store.hi = last ? item.hi : std::numeric_limits<float>::infinity();
    summands.push_back({&(*convs)[i], packed + starts[i], store});
  }
  if (form.to != nullptr) {
    engine::BitStore store = summands[0].store;
    store.thresholds = ints(layouts[0].thresholds);
    store.flips = reinterpret_cast<const std::uint32_t*>(ints(layouts[0].flips));
    store.threshold_step = convs->front().padded_channels();
    store.thresholds_count = form.to->count;
    BitStorage out = builder.make_bits(item.output, form.to->planes(), code_of_zero(*form.to));
    builder.current().layout = bits_name(in.map) + " -> " + bits_name(out.map);
    // The rows of a matrix are pixels; where the layer reads maps they are images.
    if (form.flattened) out.map = engine::make_bit_map(s.n, s.oc, 1, 1, out.map.planes);
    builder.emit([=](const RunContext& run) {
      convs->front().run(run.read<std::uint32_t>(in.place), packed, store, out.map, run.write<std::uint32_t>(out.place), *run.team);
    }, {in.place, out.place});
    return;
  }
  Storage out = conv_op ? builder.make_blocked(item.output) : builder.make_planar(item.output);
  // A matrix: its rows are images where the layer reads maps, else pixels.
  if (!conv_op) out.map = form.flattened ? engine::make_map(s.n, s.oc, 1, 1, s.oc) : engine::make_map(1, s.oc, 1, s.ow, s.oc);
  builder.current().layout = bits_name(in.map) + " -> " + (conv_op ? layout_name(out.map) : "rows");
  const bool added = !item.residual.empty(), multiplied = !form.factors.empty();
  builder.emit([=](const RunContext& run) {
    (void)convs;  // summands point at them
    engine::BitPartners partners{nullptr, &residual.map, nullptr};
    if (added) partners.residual = run.read(residual.place);
    if (multiplied) partners.factors = run.read(factors.place);
    BitConv::run_sum(summands, run.read<std::uint32_t>(in.place), partners, out.map, run.write(out.place), *run.team);
  }, {in.place, out.place, added ? residual.place : in.place, multiplied ? factors.place : in.place});
}

// At the level's own, or the one that was asked for.
const engine::BitPackKernel& pack_kernel(const Builder& builder) {
  for (int level = static_cast<int>(builder.source().isa); level >= 0; --level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    const engine::BitPackKernel& kernel = engine::bit_pack_kernel(static_cast<engine::Isa>(level));
    if (preferred(builder, kernel.name)) return kernel;
  }
  return engine::bit_pack_kernel(builder.source().isa);
}

void lower_pack(Builder& builder, const Item& item) {
  const BitsForm& form = *item.bits;
  const bool rows = builder.shape(form.input).size() == 2;
  const Storage from = rows ? builder.planar(form.input) : builder.blocked(form.input);
  builder.layer(item);
  const BitStorage out = builder.make_bits(item.output, form.to->planes(), code_of_zero(*form.to));
  const Map map = rows ? engine::make_map(1, out.map.c, 1, out.map.w, out.map.c) : from.map;
  const engine::BitPackKernel& kernel = pack_kernel(builder);
  LayerInfo& info = builder.current();
  info.kernel = kernel.name;
  info.isa = engine::name_of(kernel.isa);
  info.reason = "layers on bits read it";
  if (form.to->terms.size() > 1) info.reason += ": " + std::to_string(form.to->terms.size()) + " residual levels";
  info.layout = (rows ? std::string("rows") : layout_name(from.map)) + " -> " + bits_name(out.map);
  const std::int64_t padded = out.map.words * engine::word_bits, count = form.to->count;
  // Thresholds are others where the input of a normalisation before the quantiser is read.
  const std::string key = "bits " + std::to_string(padded) + key_part(item.name) + key_part(item.output) + key_part(form.input);
  const float* numbers = builder.weights(key, padded * (count + 1), builder.source().place + ": " + place_of(item), [&](float* target) {
    for (std::int64_t c = 0; c < padded; ++c) {
      target[c] = c < out.map.c ? form.to->sign_of(c) : 1.0f;
      for (std::int64_t j = 0; j < count; ++j) target[(j + 1) * padded + c] = c < out.map.c ? form.to->threshold(c, j) : 0.0f;
    }
  });
  const engine::BitSteps steps{numbers, numbers + padded, count};
  builder.emit([=, k = &kernel](const RunContext& run) {
    engine::pack_bits(*k, steps, map, run.read(from.place), out.map, run.write<std::uint32_t>(out.place), *run.team);
  }, {from.place, out.place});
}

void lower_pool(Builder& builder, const Item& item) {
  const BitsForm& form = *item.bits;
  const BitStorage in = builder.bits(form.input);
  builder.layer(item);
  const engine::PoolShape shape = pool_shape(builder, item);
  const BitStorage out = builder.make_bits(item.output, in.map.planes, code_of_zero(*form.to));
  LayerInfo& info = builder.current();
  info.kernel = "maxpool_b1__scalar";
  info.isa = "scalar";
  info.reason = "bits stay bits";
  info.layout = bits_name(in.map) + " -> " + bits_name(out.map);
  // Where codes fall as numbers rise, the greatest number has the least code: complements of bits turn it into the greatest and back.
  const std::uint32_t* flips = nullptr;
  if (form.role == BitRole::pool && !form.to->sign.empty()) {
    const std::string key = "falling" + key_part(item.name) + key_part(form.input) + " " + std::to_string(in.map.words);
    flips = reinterpret_cast<const std::uint32_t*>(builder.weights(key, in.map.words, builder.source().place + ": " + place_of(item), [&](float* target) {
      auto* words = reinterpret_cast<std::uint32_t*>(target);
      std::fill(words, words + in.map.words, 0u);
      for (std::int64_t c = 0; c < in.map.c; ++c) {
        if (form.to->sign_of(c) < 0) words[c / engine::word_bits] |= 1u << (c % engine::word_bits);
      }
    }));
  }
  builder.emit([=](const RunContext& run) {
    engine::max_pool_bits(shape, in.map, run.read<std::uint32_t>(in.place), flips, out.map, run.write<std::uint32_t>(out.place), *run.team);
  }, {in.place, out.place});
}

void lower_pad(Builder& builder, const Item& item) {
  const BitsForm& form = *item.bits;
  const BitStorage in = builder.bits(form.input);
  builder.layer(item);
  const BitStorage out = builder.make_bits(item.output, in.map.planes, code_of_zero(*form.to));
  LayerInfo& info = builder.current();
  info.kernel = "pad_b1__scalar";
  info.isa = "scalar";
  info.reason = "bits stay bits";
  info.layout = bits_name(in.map) + " -> " + bits_name(out.map);
  builder.emit([=, code = form.pad_code, top = form.pad_top, left = form.pad_left](const RunContext& run) {
    engine::pad_bits(in.map, run.read<std::uint32_t>(in.place), code, top, left, out.map, run.write<std::uint32_t>(out.place));
  }, {in.place, out.place});
}

}  // namespace

void lower_bits(Builder& builder, const Item& item) {
  switch (item.bits->role) {
    case BitRole::layer: return lower_layer(builder, item, builder.types());
    case BitRole::pack: return lower_pack(builder, item);
    case BitRole::pool: return lower_pool(builder, item);
    case BitRole::pad: return lower_pad(builder, item);
  }
}

}  // namespace bittern::plan
