// Lowering of the operators on 8-bit codes that have no weights, and of the conversions between codes and real numbers.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ops/codes.h"
#include "ops/fixed_point.h"
#include "plan/layer_parts.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::Quantiser;

void say(Builder& builder, const char* loop, const char* reason, const std::string& layout) {
  LayerInfo& info = builder.current();
  info.isa = engine::name_of(builder.code_kernels().isa);
  info.kernel = engine::code_kernel_name(loop, builder.code_kernels().isa);
  info.reason = reason;
  info.layout = layout;
}

std::string between(const Storage& in, const Storage& out) { return "codes " + layout_name(in.map) + " -> codes " + layout_name(out.map); }

void lower_pool(Builder& builder, const Item& item) {
  const bool average = item.op != "MaxPool";
  const engine::PoolShape s = pool_shape(builder, item);
  const Quantiser from = item.codes->inputs[0], to = *item.codes->output;
  const Storage in = builder.codes(item.inputs[0], from.zero);
  builder.layer(item);
  const Storage out = builder.make_codes(item.output, to.zero);
  say(builder, average ? "avgpool_u8" : "maxpool_u8", average ? "exact sums of codes" : "the greatest code is the greatest number", between(in, out));
  const bool dilated = s.dilation_h != 1 || s.dilation_w != 1;
  if (average && item.codes->fixed_point && from == to && to.lo == 0 && to.hi == 255 && !dilated && !s.include_pad) {
    say(builder, "avgpool_u8", "exact means of codes; TensorFlow Lite's rounding", between(in, out));
    const std::uint8_t flip = builder.type(item.output).dtype == DType::i8 ? 128 : 0;
    builder.emit([=](const RunContext& run) {
      engine::fixed_average_pool(s, flip, in.map, run.read<std::uint8_t>(in.place), out.map, run.write<std::uint8_t>(out.place), *run.team);
    }, {in.place, out.place});
    return;
  }
  builder.emit([=, k = &builder.code_kernels()](const RunContext& run) {
    const auto* source = run.read<std::uint8_t>(in.place);
    auto* target = run.write<std::uint8_t>(out.place);
    if (average) {
      engine::code_average_pool(*k, s, from, in.map, source, to, out.map, target, *run.team);
    } else {
      engine::code_max_pool(*k, s, static_cast<std::uint8_t>(to.lo), in.map, source, out.map, target, *run.team);
    }
  }, {in.place, out.place});
}

void lower_add(Builder& builder, const Item& item) {
  const Quantiser a_from = item.codes->inputs[0], b_from = item.codes->inputs[1], to = *item.codes->output;
  const Storage a = builder.codes(item.inputs[0], a_from.zero), b = builder.codes(item.inputs[1], b_from.zero);
  builder.layer(item);
  const Storage out = builder.make_codes(item.output, to.zero);
  say(builder, "add_u8", "codes are added as real numbers, in registers", between(a, out));
  const float hi = to.step_of(item.hi), lo = std::min(to.step_of(item.lo), hi);
  if (item.codes->fixed_point) {
    say(builder, "add_u8", "codes are added on a finer scale; TensorFlow Lite's rounding", between(a, out));
    engine::FixedAdd how = engine::fixed_add_of(a_from, b_from, to);
    how.lo = static_cast<std::int32_t>(lo) + to.zero;
    how.hi = static_cast<std::int32_t>(hi) + to.zero;
    builder.emit([=](const RunContext& run) {
      engine::fixed_add(how, a.map, run.read<std::uint8_t>(a.place), b.map, run.read<std::uint8_t>(b.place), out.map, run.write<std::uint8_t>(out.place),
                        *run.team);
    }, {a.place, b.place, out.place});
    return;
  }
  builder.emit([=, k = &builder.code_kernels()](const RunContext& run) {
    engine::code_add(*k, a_from, a.map, run.read<std::uint8_t>(a.place), b_from, b.map, run.read<std::uint8_t>(b.place), to, lo, hi, out.map,
                     run.write<std::uint8_t>(out.place), *run.team);
  }, {a.place, b.place, out.place});
}

// One step that maps codes through a table of 256, which the plan keeps.
void emit_table(Builder& builder, const std::vector<std::byte>& codes, const Storage& in, const Storage& out) {
  const std::string key = "code table " + std::string(reinterpret_cast<const char*>(codes.data()), codes.size());
  const float* kept = builder.weights(key, 256 / sizeof(float), builder.source().place, [&](float* target) {
    std::copy(codes.begin(), codes.end(), reinterpret_cast<std::byte*>(target));
  });
  builder.emit([=, k = &builder.code_kernels(), table = reinterpret_cast<const std::uint8_t*>(kept)](const RunContext& run) {
    engine::code_table(*k, table, in.map, run.read<std::uint8_t>(in.place), out.map, run.write<std::uint8_t>(out.place), *run.team);
  }, {in.place, out.place});
}

std::vector<std::byte> requantise_table(const Quantiser& from, const Quantiser& to) {
  std::vector<std::byte> table(256);
  const float ratio = from.scale / to.scale;
  for (int code = 0; code < 256; ++code) {
    // In this order what is no number, as zero times infinity, becomes the lowest code.
    const float y = std::min(std::max(to.lowest(), static_cast<float>(code - from.zero) * ratio), to.highest());
    table[static_cast<std::size_t>(code)] = static_cast<std::byte>(static_cast<std::int32_t>(std::nearbyint(y)) + to.zero);
  }
  return table;
}

void lower_table(Builder& builder, const Item& item) {
  const Storage in = builder.codes(item.inputs[0], item.codes->inputs[0].zero);
  builder.layer(item);
  const Storage out = builder.make_codes(item.output, item.codes->output->zero);
  say(builder, "table_u8", "256 codes tell all", between(in, out));
  if (item.op == "Requantize") {
    emit_table(builder, requantise_table(item.codes->inputs[0], *item.codes->output), in, out);
  } else {
    emit_table(builder, *item.codes->table, in, out);
  }
}

// Rows of codes.
void lower_softmax(Builder& builder, const Item& item) {
  const Quantiser from = item.codes->inputs[0], to = *item.codes->output;
  const Storage in = builder.codes(item.inputs[0], from.zero);
  builder.layer(item);
  const Storage out = builder.make_codes(item.output, to.zero);
  say(builder, "quantize_f32", "exponentials of 256 differences of codes stand in a table", between(in, out));
  const float* exps = builder.weights("exponentials " + std::to_string(std::bit_cast<std::uint32_t>(from.scale)), 256, builder.source().place, [&](float* target) {
    for (int d = 0; d < 256; ++d) target[d] = static_cast<float>(std::exp(-static_cast<double>(from.scale) * d));
  });
  const std::int64_t rows = in.map.w, k = in.map.c;
  const Place work = builder.scratch(rows * k);
  builder.emit([=, kernels = &builder.code_kernels()](const RunContext& run) {
    engine::code_softmax_rows(*kernels, exps, rows, k, in.map.block, run.read<std::uint8_t>(in.place), to, out.map.block, run.write<std::uint8_t>(out.place),
                              run.write(work), *run.team);
  }, {in.place, out.place, work});
}

void lower_concat(Builder& builder, const Item& item) {
  const CodesForm& form = *item.codes;
  struct Part {
    Storage storage;
    std::int64_t first = 0;
    std::size_t index = 0;
  };
  std::vector<Part> copies;
  std::int64_t first = 0;
  for (std::size_t p = 0; p < item.inputs.size(); ++p) {
    if (!builder.in_place(item.inputs[p])) copies.push_back({builder.codes(item.inputs[p], form.inputs[p].zero), first, p});
    first += builder.shape(item.inputs[p])[1];
  }
  builder.layer(item);
  const Storage out = builder.has_codes(item.output) ? builder.codes(item.output, form.output->zero) : builder.make_codes(item.output, form.output->zero);
  if (copies.empty()) {
    builder.current().layout = "codes " + layout_name(out.map);
    builder.current().reason = "its inputs were computed in place";
    return;
  }
  say(builder, "table_u8", "parts are copied, requantised where their scales differ", "codes c16 -> codes " + layout_name(out.map));
  for (const Part& part : copies) {
    Storage target = out;
    target.map.c = part.storage.map.c;
    target.place.offset += part.first / 16 * out.map.plane;
    emit_table(builder, requantise_table(form.inputs[part.index], *form.output), part.storage, target);
  }
}

// Thresholds per channel, each block of 16 channels together; what fills it up is never reached.
void lower_thresholds(Builder& builder, const Item& item) {
  const bool rows = builder.has_rows(item.output);
  const Shape& shape = builder.shape(item.inputs[0]);
  const std::int64_t channels = rows ? shape.back() : shape[1];
  Storage in = rows ? builder.planar(item.inputs[0]) : builder.blocked(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_codes(item.output, item.codes->output->zero);
  if (rows) in.map = engine::make_map(1, channels, 1, out.map.w, channels);
  say(builder, "threshold_u8", "counts of the thresholds that a number reaches, as codes", layout_name(in.map) + " -> codes " + layout_name(out.map));
  const Shape& given = builder.shape(item.inputs[1]);
  const std::int64_t steps = given[1], blocks = (channels + 15) / 16;
  const float* table = builder.weights("thresholds" + key_part(item.name) + key_part(item.inputs[1]), blocks * steps * 16,
                                       builder.source().place + ": " + place_of(item), [&](float* target) {
    const std::vector<float> values = builder.source().constants->floats(item.inputs[1]);
    std::fill(target, target + blocks * steps * 16, std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t k = 0; k < steps; ++k) {
        target[(c / 16 * steps + k) * 16 + c % 16] = values[static_cast<std::size_t>((given[0] == 1 ? 0 : c) * steps + k)];
      }
    }
  });
  builder.emit([=, k = &builder.code_kernels()](const RunContext& run) {
    engine::code_thresholds(*k, table, steps, in.map, run.read(in.place), out.map, run.write<std::uint8_t>(out.place), *run.team);
  }, {in.place, out.place});
}

void lower_view(Builder& builder, const Item& item) {
  if (!builder.view_codes(item.output, item.inputs[0])) {
    builder.planar(item.inputs[0]);
    builder.layer(item);
    builder.view(item.output, item.inputs[0]);
    builder.current().layout = "planar -> planar";
  } else {
    builder.layer(item);
  }
  builder.current().reason = "a view of its input";
}

}  // namespace

void lower_codes(Builder& builder, const Item& item) {
  if (item.codes->weights) return lower_code_layer(builder, item);
  if (item.op == "MultiThreshold") return lower_thresholds(builder, item);
  if (item.op == "MaxPool" || item.op == "AveragePool" || item.op == "GlobalAveragePool") return lower_pool(builder, item);
  if (item.op == "Add" && item.codes->table == nullptr) return lower_add(builder, item);
  if (item.op == "Softmax") return lower_softmax(builder, item);
  if (item.op == "Concat") return lower_concat(builder, item);
  if (item.codes->table != nullptr || item.op == "Requantize") return lower_table(builder, item);
  lower_view(builder, item);
}

bool lower_code_conversion(Builder& builder, const Item& item) {
  const engine::CodeKernels* k = &builder.code_kernels();
  if (item.op == "QuantizeLinear" && item.conversion && builder.wants_codes(item.output)) {
    const Quantiser to = *item.conversion;
    if (builder.has_rows(item.output)) {
      const Storage in = builder.planar(item.inputs[0]);
      builder.layer(item);
      const Storage out = builder.make_codes(item.output, to.zero);
      say(builder, "quantize_f32", "the next layer reads codes", "planar -> codes " + layout_name(out.map));
      builder.emit([=](const RunContext& run) {
        engine::quantise_rows(*k, to, out.map.w, out.map.c, run.read(in.place), out.map.block, run.write<std::uint8_t>(out.place), *run.team);
      }, {in.place, out.place});
      return true;
    }
    const std::size_t rank = builder.shape(item.output).size();
    if (rank != 4 && rank != 3) return false;
    const bool blocked = builder.has_blocked(item.inputs[0]) && builder.map_shape(item.output)[1] > 4;
    const Storage in = blocked ? builder.blocked(item.inputs[0]) : builder.planar(item.inputs[0]);
    builder.layer(item);
    const Storage out = builder.make_codes(item.output, to.zero);
    say(builder, "quantize_f32", "the next layer reads codes", layout_name(in.map) + " -> codes " + layout_name(out.map));
    builder.emit([=](const RunContext& run) {
      (blocked ? engine::quantise : engine::quantise_planar)(*k, to, in.map, run.read(in.place), out.map, run.write<std::uint8_t>(out.place), *run.team);
    }, {in.place, out.place});
    return true;
  }
  if (item.op == "DequantizeLinear" && item.conversion && builder.has_codes(item.inputs[0])) {
    const Quantiser from = *item.conversion;
    const Storage in = builder.codes(item.inputs[0], from.zero);
    if (builder.has_rows(item.inputs[0])) {
      builder.layer(item);
      const Storage out = builder.make_planar(item.output);
      say(builder, "dequantize_u8", "the next operator computes with real numbers", "codes " + layout_name(in.map) + " -> planar");
      builder.emit([=](const RunContext& run) {
        engine::dequantise_rows(*k, from, in.map.w, in.map.c, in.map.block, run.read<std::uint8_t>(in.place), run.write(out.place), *run.team);
      }, {in.place, out.place});
      return true;
    }
    if (in.map.block != 16 || builder.shape(item.output).size() != 4) return false;
    builder.layer(item);
    const Storage out = builder.make_blocked(item.output);
    say(builder, "dequantize_u8", "the next operator computes with real numbers", "codes " + layout_name(in.map) + " -> " + layout_name(out.map));
    builder.emit([=](const RunContext& run) {
      engine::dequantise(*k, from, in.map, run.read<std::uint8_t>(in.place), out.map, run.write(out.place), *run.team);
    }, {in.place, out.place});
    return true;
  }
  return false;
}

}  // namespace bittern::plan
