// Lowering of the operators without weights, and of what is left of batch normalisation.
#include <algorithm>
#include <cmath>
#include <limits>

#include <bittern/error.h>

#include "ops/maps.h"
#include "ops/plain.h"
#include "plan/layer_parts.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::Eltwise;
using engine::EltwiseRow;
using engine::Map;
using engine::OpKernel;

void say(Builder& builder, const char* kernel, const char* reason, const std::string& layout = "planar -> planar") {
  LayerInfo& info = builder.current();
  info.kernel = kernel;
  info.isa = "scalar";
  info.reason = reason;
  info.layout = layout;
}

std::vector<std::int64_t> element_strides(const Shape& shape) {
  std::vector<std::int64_t> strides(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * shape[i];
  return strides;
}

std::vector<std::int64_t> byte_strides(const Shape& shape) {
  auto strides = element_strides(shape);
  for (auto& s : strides) s *= static_cast<std::int64_t>(sizeof(float));
  return strides;
}

// A value that only changes its shape: another name for the same memory.
void lower_view(Builder& builder, const Item& item) {
  builder.planar(item.inputs[0]);
  builder.layer(item);
  builder.view(item.output, item.inputs[0]);
  builder.current().layout = "planar -> planar";
  builder.current().reason = "a view of its input";
}

void lower_pool(Builder& builder, const Item& item) {
  const bool average = item.op == "AveragePool" || item.op == "GlobalAveragePool";
  const engine::PoolShape s = pool_shape(builder, item);
  const Storage in = builder.blocked(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_blocked(item.output);
  const OpKernel& kernel = choose_op(builder, average ? "avgpool" : "maxpool");
  builder.current().layout = layout_name(in.map) + " -> " + layout_name(out.map);
  builder.emit([=, k = &kernel](const RunContext& run) { engine::pool(*k, s, in.map, run.read(in.place), out.map, run.write(out.place), *run.team); },
               {in.place, out.place});
}

void lower_shuffle(Builder& builder, const Item& item) {
  const Storage in = builder.blocked(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_blocked(item.output);
  say(builder, "channel_shuffle_f32__scalar", "reshape, transpose and reshape in one", layout_name(in.map) + " -> " + layout_name(out.map));
  builder.emit([=, groups = item.groups](const RunContext& run) {
    engine::channel_shuffle(groups, in.map, run.read(in.place), out.map, run.write(out.place), *run.team);
  }, {in.place, out.place});
}

void lower_lrn(Builder& builder, const Item& item) {
  engine::LrnRow row;
  const std::int64_t size = graph::int_attribute(*item.node, "size", 1);
  row.before = (size - 1) / 2;
  row.after = size - 1 - row.before;
  row.alpha = graph::float_attribute(*item.node, "alpha", 1e-4f) / static_cast<float>(size);
  row.beta = graph::float_attribute(*item.node, "beta", 0.75f);
  row.bias = graph::float_attribute(*item.node, "bias", 1.0f);
  const Storage in = builder.blocked(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_blocked(item.output);
  const OpKernel& kernel = choose_op(builder, "lrn");
  builder.current().layout = layout_name(in.map) + " -> " + layout_name(out.map);
  const Place scratch = builder.scratch(in.map.n * in.map.h * engine::lrn_scratch(in.map.c, row.before, row.after));
  builder.emit([=, k = &kernel](const RunContext& run) {
    engine::lrn(*k, row, in.map, run.read(in.place), out.map, run.write(out.place), run.write(scratch), *run.team);
  }, {in.place, out.place, scratch});
}

void lower_unary(Builder& builder, const Item& item) {
  EltwiseRow row;
  row.op = item.op == "LeakyRelu" ? Eltwise::leaky_relu : item.op == "Sigmoid" ? Eltwise::sigmoid : item.op == "Tanh" ? Eltwise::tanh : Eltwise::clamp;
  row.slope = graph::float_attribute(*item.node, "alpha", 0.01f);
  row.lo = item.lo;
  row.hi = item.hi;
  const std::string& x = item.inputs[0];
  if (builder.has_blocked(x)) {
    const Storage in = builder.blocked(x);
    builder.layer(item);
    const Storage out = builder.make_blocked(item.output);
    const OpKernel& kernel = choose_op(builder, "eltwise");
    builder.current().layout = layout_name(in.map) + " -> " + layout_name(out.map);
    builder.emit([=, k = &kernel](const RunContext& run) {
      engine::eltwise(*k, row, in.map, run.read(in.place), Map{}, nullptr, out.map, run.write(out.place), *run.team);
    }, {in.place, out.place});
    return;
  }
  const Storage in = builder.planar(x);
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  const OpKernel& kernel = choose_op(builder, "eltwise");
  builder.current().layout = "planar -> planar";
  const std::int64_t count = builder.count(x);
  builder.emit([=, k = &kernel](const RunContext& run) {
    engine::eltwise_flat(*k, row, run.read(in.place), nullptr, run.write(out.place), count, *run.team);
  }, {in.place, out.place});
}

void lower_binary(Builder& builder, const Item& item) {
  EltwiseRow row;
  row.op = item.op == "Add" ? Eltwise::add : item.op == "Sub" ? Eltwise::sub : item.op == "Mul" ? Eltwise::mul : Eltwise::div;
  row.lo = item.lo;
  row.hi = item.hi;
  const std::string &a = item.inputs[0], &b = item.inputs[1];
  const Shape &shape_a = builder.shape(a), &shape_b = builder.shape(b), &shape = builder.shape(item.output);

  if (shape_a == shape_b && (shape.size() == 3 || shape.size() == 4) && (builder.has_blocked(a) || builder.has_blocked(b))) {
    const Storage in_a = builder.blocked(a), in_b = builder.blocked(b);
    builder.layer(item);
    const Storage out = builder.make_blocked(item.output);
    const OpKernel& kernel = choose_op(builder, "eltwise");
    builder.current().layout = layout_name(in_a.map) + " + " + layout_name(in_b.map) + " -> " + layout_name(out.map);
    builder.emit([=, k = &kernel](const RunContext& run) {
      engine::eltwise(*k, row, in_a.map, run.read(in_a.place), in_b.map, run.read(in_b.place), out.map, run.write(out.place), *run.team);
    }, {in_a.place, in_b.place, out.place});
    return;
  }

  const Storage in_a = builder.planar(a), in_b = builder.planar(b);
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  if (shape_a == shape_b) {
    const OpKernel& kernel = choose_op(builder, "eltwise");
    builder.current().layout = "planar -> planar";
    const std::int64_t count = builder.count(item.output);
    builder.emit([=, k = &kernel](const RunContext& run) {
      engine::eltwise_flat(*k, row, run.read(in_a.place), run.read(in_b.place), run.write(out.place), count, *run.team);
    }, {in_a.place, in_b.place, out.place});
    return;
  }
  say(builder, "broadcast_f32__scalar", "the shapes differ");
  const auto strides = [&](const Shape& from) {
    const auto own = element_strides(from);
    std::vector<std::int64_t> result(shape.size(), 0);
    for (std::size_t i = 0; i < from.size(); ++i) result[i + shape.size() - from.size()] = from[i] == 1 ? 0 : own[i];
    return result;
  };
  builder.emit([=, sa = strides(shape_a), sb = strides(shape_b), shape = shape](const RunContext& run) {
    engine::broadcast(row.op, shape, run.read(in_a.place), sa, run.read(in_b.place), sb, run.write(out.place), row.lo, row.hi);
  }, {in_a.place, in_b.place, out.place});
}

// A map of plain arrays [outer, axis, inner].
struct Split {
  std::int64_t outer = 1, axis = 1, inner = 1;
};
Split split(const Shape& shape, std::size_t axis) {
  Split s;
  for (std::size_t i = 0; i < shape.size(); ++i) (i < axis ? s.outer : i == axis ? s.axis : s.inner) *= shape[i];
  return s;
}

void lower_softmax(Builder& builder, const Item& item) {
  const Shape& shape = builder.shape(item.output);
  const auto rank = static_cast<std::int64_t>(shape.size());
  std::int64_t axis = graph::int_attribute(*item.node, "axis", -1);
  if (axis < 0) axis += std::max<std::int64_t>(1, rank);
  const Split s = split(shape, static_cast<std::size_t>(axis));
  const Storage in = builder.planar(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  const OpKernel& kernel = choose_op(builder, "softmax");
  builder.current().layout = "planar -> planar";
  builder.emit([=, k = &kernel](const RunContext& run) {
    engine::softmax(*k, run.read(in.place), run.write(out.place), s.outer, s.axis, s.inner, *run.team);
  }, {in.place, out.place});
}

void lower_transpose(Builder& builder, const Item& item) {
  const Shape &x = builder.shape(item.inputs[0]), &y = builder.shape(item.output);
  std::vector<std::int64_t> reversed;
  for (std::size_t i = x.size(); i-- > 0;) reversed.push_back(static_cast<std::int64_t>(i));
  const auto perm = graph::ints_attribute(*item.node, "perm", reversed);
  const Storage in = builder.planar(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  say(builder, "strided_copy_f32__scalar", "the only kernel");
  const auto own = byte_strides(x);
  std::vector<std::int64_t> from;
  for (const std::int64_t axis : perm) from.push_back(own[static_cast<std::size_t>(axis)]);
  builder.emit([=, shape = y, to = byte_strides(y)](const RunContext& run) {
    engine::strided_copy(shape, sizeof(float), run.read(in.place), from, run.write(out.place), to);
  }, {in.place, out.place});
}

void lower_concat(Builder& builder, const Item& item) {
  const Shape& y = builder.shape(item.output);
  const auto rank = static_cast<std::int64_t>(y.size());
  std::int64_t axis = graph::int_attribute(*item.node, "axis", 0);
  if (axis < 0) axis += rank;

  const bool any_blocked = std::any_of(item.inputs.begin(), item.inputs.end(), [&](const std::string& v) { return builder.has_blocked(v); });
  std::int64_t channels = 0;
  bool whole_blocks = rank == 4 && axis == 1;
  for (const std::string& input : item.inputs) {
    whole_blocks = whole_blocks && channels % 16 == 0;
    if (rank == 4) channels += builder.shape(input)[1];
  }
  if (any_blocked && whole_blocks) {
    std::vector<std::pair<Storage, std::int64_t>> copies;
    std::int64_t first = 0;
    for (const std::string& input : item.inputs) {
      if (!builder.in_place(input)) copies.emplace_back(builder.blocked(input), first);
      first += builder.shape(input)[1];
    }
    builder.layer(item);
    const Storage out = builder.has_blocked(item.output) ? builder.blocked(item.output) : builder.make_blocked(item.output);
    LayerInfo& info = builder.current();
    info.layout = "c16 -> " + layout_name(out.map);
    if (copies.empty()) {
      info.reason = "its inputs were computed in place";
      return;
    }
    info.kernel = "reorder_f32__scalar";
    info.isa = "scalar";
    info.reason = std::to_string(item.inputs.size() - copies.size()) + " of " + std::to_string(item.inputs.size()) + " inputs were computed in place";
    for (const auto& [in, channel] : copies) {
      Storage part = out;
      part.map.c = in.map.c;
      part.place.offset += channel / 16 * out.map.plane * static_cast<std::int64_t>(sizeof(float));
      builder.emit([in = in, part](const RunContext& run) {
        engine::reorder(in.map, run.read(in.place), part.map, run.write(part.place), *run.team);
      }, {in.place, part.place});
    }
    return;
  }

  std::vector<Storage> parts;
  for (const std::string& input : item.inputs) parts.push_back(builder.planar(input));
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  say(builder, "strided_copy_f32__scalar", "the parts are no whole blocks of 16 channels");
  if (rank != 4) builder.current().reason = "the only kernel";
  const auto to = byte_strides(y);
  std::int64_t first = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Shape& shape = builder.shape(item.inputs[i]);
    const std::int64_t offset = first * to[static_cast<std::size_t>(axis)] / static_cast<std::int64_t>(sizeof(float));
    builder.emit([=, in = parts[i], from = byte_strides(shape), shape = shape](const RunContext& run) {
      engine::strided_copy(shape, sizeof(float), run.read(in.place), from, run.write(out.place) + offset, to);
    }, {parts[i].place, out.place});
    first += shape[static_cast<std::size_t>(axis)];
  }
}

// Batch normalisation that could not be folded: scale and shift per channel.
void lower_batch_norm(Builder& builder, const Item& item) {
  for (std::size_t p = 1; p < 5; ++p) {
    if (!builder.source().constants->has(item.inputs[p])) {
      throw Error(ErrorCode::unsupported, place_of(item), "its parameter " + item.inputs[p] + " is computed at run time", "only constants are supported");
    }
  }
  const Shape& shape = builder.shape(item.output);
  const std::int64_t channels = shape[1];
  const auto constant = [&](std::size_t p) { return builder.source().constants->floats(item.inputs[p]); };
  const auto scales = [&](float* scale) {
    const auto gamma = constant(1), variance = constant(4);
    const float epsilon = graph::float_attribute(*item.node, "epsilon", 1e-5f);
    for (std::size_t c = 0; c < gamma.size(); ++c) scale[c] = static_cast<float>(gamma[c] / std::sqrt(static_cast<double>(variance[c]) + epsilon));
  };
  const auto shifts = [&](float* shift) {
    std::vector<float> scale(static_cast<std::size_t>(channels));
    scales(scale.data());
    const auto beta = constant(2), mean = constant(3);
    for (std::size_t c = 0; c < beta.size(); ++c) shift[c] = static_cast<float>(beta[c] - static_cast<double>(mean[c]) * scale[c]);
  };
  const std::string what = builder.source().place + ": " + place_of(item);

  if ((shape.size() == 3 || shape.size() == 4) && channels > 0) {
    const Shape map = builder.map_shape(item.output);
    const Storage in = builder.blocked(item.inputs[0]);
    builder.layer(item);
    const Storage out = builder.make_blocked(item.output);
    const OpKernel& kernel = choose_op(builder, "depthwise");
    builder.current().reason = "no layer before it to fold into";
    builder.current().layout = layout_name(in.map) + " -> " + layout_name(out.map);
    engine::ConvShape s;
    s.n = map[0], s.c = s.oc = s.groups = channels, s.h = s.oh = map[2], s.w = s.ow = map[3];
    const engine::Depthwise layer(kernel, s, in.map, out.map, Map{});
    const float* packed = builder.weights("scale c16" + key_part(item.name), layer.packed_elements(), what, [&](float* target) {
      std::vector<float> scale(static_cast<std::size_t>(channels));
      scales(scale.data());
      layer.pack(scale.data(), target);
    });
    const float* bias = builder.weights("shift c16" + key_part(item.name), layer.padded_channels(), what, [&](float* target) {
      std::vector<float> shift(static_cast<std::size_t>(channels));
      shifts(shift.data());
      layer.pad_bias(shift.data(), target);
    });
    const engine::Epilogue epilogue{bias, nullptr, item.lo, item.hi};
    builder.emit([=](const RunContext& run) { layer.run(run.read(in.place), packed, epilogue, run.write(out.place), *run.team); },
                 {in.place, out.place});
    return;
  }
  const Storage in = builder.planar(item.inputs[0]);
  builder.layer(item);
  const Storage out = builder.make_planar(item.output);
  say(builder, "affine_f32__scalar", "no layer before it to fold into");
  const float* scale = builder.weights("scale" + key_part(item.name), channels, what, scales);
  const float* shift = builder.weights("shift" + key_part(item.name), channels, what, shifts);
  const Split s = split(shape, 1);
  builder.emit([=, lo = item.lo, hi = item.hi](const RunContext& run) {
    engine::channel_affine(run.read(in.place), scale, shift, run.write(out.place), s.outer, s.axis, s.inner, lo, hi);
  }, {in.place, out.place});
}

}  // namespace

const OpKernel& choose_op(Builder& builder, const char* loop) {
  const Source& source = builder.source();
  const OpKernel* chosen = &engine::op_kernel(loop, source.isa);
  const char* reason = "the highest level that has one";
  for (int level = static_cast<int>(source.isa); level >= 0; --level) {
    for (const OpKernel& kernel : engine::op_kernels(static_cast<engine::Isa>(level))) {
      const auto& list = *source.preferred;
      if (std::string(loop) == kernel.loop && std::find(list.begin(), list.end(), kernel.name) != list.end()) {
        chosen = &kernel;
        reason = "asked for";
      }
    }
  }
  LayerInfo& info = builder.current();
  info.kernel = chosen->name;
  info.isa = engine::name_of(chosen->isa);
  info.reason = reason;
  return *chosen;
}

void lower_op(Builder& builder, const Item& item) {
  const std::string& op = item.op;
  if (op == "MaxPool" || op == "AveragePool" || op == "GlobalAveragePool" || op == "GlobalMaxPool") return lower_pool(builder, item);
  if (op == "Relu" || op == "Clip" || op == "LeakyRelu" || op == "Sigmoid" || op == "Tanh") {
    if (op == "Clip" && !item.clamped) {
      throw Error(ErrorCode::unsupported, place_of(item), "its bounds are computed at run time", "only constant bounds are supported");
    }
    return lower_unary(builder, item);
  }
  if (op == "Add" || op == "Sub" || op == "Mul" || op == "Div") return lower_binary(builder, item);
  if (op == "ChannelShuffle") return lower_shuffle(builder, item);
  if (op == "LRN") return lower_lrn(builder, item);
  if (op == "Softmax") return lower_softmax(builder, item);
  if (op == "Transpose") return lower_transpose(builder, item);
  if (op == "Concat") return lower_concat(builder, item);
  if (op == "BatchNormalization") return lower_batch_norm(builder, item);
  if (op == "Flatten" || op == "Reshape" || op == "Squeeze" || op == "Unsqueeze" || op == "Identity" || op == "Dropout") return lower_view(builder, item);
  throw Error(ErrorCode::unsupported, place_of(item), "no kernel", "this build does not run it");
}

}  // namespace bittern::plan
