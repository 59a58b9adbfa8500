// Plain operators over windows, and normalisation by channel: what tuned kernels, which take f32 maps of one or two
// dimensions and constant weights, leave over.
#include <algorithm>
#include <cmath>
#include <memory>

#include "graph/schema.h"
#include "graph/windows.h"
#include "ops/integer_conv.h"
#include "ops/planar_conv.h"
#include "ops/planar_pool.h"
#include "ops/planar_winograd.h"
#include "plan/plain_quantize.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using Sizes = std::array<std::int64_t, 3>;

// One to three spatial sizes as three, with `fill` in front.
Sizes three(const Shape& sizes, std::int64_t fill) {
  Sizes result{fill, fill, fill};
  std::copy(sizes.begin(), sizes.end(), result.end() - static_cast<std::ptrdiff_t>(sizes.size()));
  return result;
}

Shape spatial(const Shape& shape) { return {shape.begin() + 2, shape.end()}; }

std::int64_t product(const Shape& shape, std::size_t first) {
  std::int64_t count = 1;
  for (std::size_t i = first; i < shape.size(); ++i) count *= shape[i];
  return count;
}

engine::PlanarConvShape conv_shape(const PlainNode& n, bool transposed) {
  const Shape &x = n.inputs[0]->shape, &w = n.inputs[1]->shape, &y = n.outputs[0].shape;
  const graph::Windows win = transposed ? graph::transposed_windows(n.node, spatial(x), spatial(w)) : graph::windows(n.node, spatial(x), spatial(w));
  engine::PlanarConvShape s;
  s.n = x[0], s.c = x[1], s.oc = y[1];
  s.groups = graph::int_attribute(n.node, "group", 1);
  s.in = three(spatial(x), 1), s.out = three(win.out, 1), s.kernel = three(win.kernel, 1);
  s.stride = three(win.stride, 1), s.dilation = three(win.dilation, 1), s.before = three(win.before, 0);
  s.transposed = transposed;
  return s;
}

PlainKernel convolution(const PlainNode& n, bool transposed) {
  const engine::PlanarConvShape s = conv_shape(n, transposed);
  const auto layer = std::make_shared<const engine::PlanarConv>(s, engine::gemm_kernels(n.isa));
  PlainKernel kernel;
  kernel.macs = s.macs();
  kernel.product = layer->kernel();
  const float* constant = nullptr;
  std::int64_t floats = layer->scratch_elements(), packed_at = 0, pack_scratch_at = 0;
  if (kernel.product != nullptr) {
    // Which taps a phase has, and in which order, follows from the padding, which automatic padding takes from sizes.
    std::string form = kernel.product->name;
    for (const std::int64_t b : s.before) form += " " + std::to_string(transposed ? b : 0);
    if (n.pack) {
      constant = n.pack(1, form, layer->packed_elements(), [&](const float* stored, float* packed) {
        std::vector<float> scratch(static_cast<std::size_t>(layer->pack_scratch_elements()));
        layer->pack(stored, packed, scratch.data());
      });
    }
    if (constant == nullptr) {
      const auto whole_lines = [](std::int64_t count) { return (count + 15) / 16 * 16; };
      packed_at = whole_lines(floats);
      pack_scratch_at = packed_at + whole_lines(layer->packed_elements());
      floats = pack_scratch_at + layer->pack_scratch_elements();
    }
  }
  kernel.scratch_bytes = static_cast<std::uint64_t>(floats) * sizeof(float);
  kernel.run = [layer, constant, packed_at, pack_scratch_at, biased = n.inputs.size() > 2](const PlainArrays& a) {
    auto* scratch = reinterpret_cast<float*>(a.scratch);
    const float* weights = constant;
    if (layer->kernel() == nullptr) {
      weights = static_cast<const float*>(a.in[1]);
    } else if (constant == nullptr) {
      layer->pack(static_cast<const float*>(a.in[1]), scratch + packed_at, scratch + pack_scratch_at);
      weights = scratch + packed_at;
    }
    const auto* bias = biased ? static_cast<const float*>(a.in[2]) : nullptr;
    layer->run(static_cast<const float*>(a.in[0]), weights, bias, static_cast<float*>(a.out[0]), scratch, *a.team);
  };
  return kernel;
}

PlainKernel winograd_conv(const PlainNode& n) {
  const Shape &x = n.inputs[0]->shape, &y = n.outputs[0].shape;
  const graph::Windows win = graph::windows(n.node, spatial(x), {3, 3});
  engine::PlanarWinograd layer;
  layer.n = x[0], layer.c = x[1], layer.h = x[2], layer.w = x[3];
  layer.oc = y[1], layer.oh = y[2], layer.ow = y[3];
  layer.top = win.before[0], layer.left = win.before[1];
  layer.m = graph::int_attribute(n.node, "m", 2);
  layer.relu = graph::int_attribute(n.node, "relu", 0) != 0;
  PlainKernel kernel;
  kernel.macs = static_cast<double>(layer.positions() * layer.tiles()) * static_cast<double>(layer.c * layer.oc);
  kernel.scratch_bytes = static_cast<std::uint64_t>(layer.scratch_elements()) * sizeof(float);
  kernel.run = [layer, biased = n.inputs.size() > 2 && n.inputs[2] != nullptr](const PlainArrays& a) {
    const auto in = [&](std::size_t i) { return static_cast<const float*>(a.in[i]); };
    layer.run(in(0), in(1), biased ? in(2) : nullptr, static_cast<float*>(a.out[0]), reinterpret_cast<float*>(a.scratch), *a.team);
  };
  return kernel;
}

PlainKernel conv(const PlainNode& n) { return convolution(n, false); }
PlainKernel conv_transpose(const PlainNode& n) { return convolution(n, true); }

engine::PlanarPool pool_of(const PlainNode& n) {
  const Shape& x = n.inputs[0]->shape;
  const graph::Windows win = graph::windows(n.node, spatial(x), graph::pool_kernel(n.node, x));
  engine::PlanarPool p;
  p.planes = x[0] * x[1];
  p.in = three(spatial(x), 1), p.out = three(win.out, 1), p.kernel = three(win.kernel, 1);
  p.stride = three(win.stride, 1), p.dilation = three(win.dilation, 1), p.before = three(win.before, 0), p.after = three(win.after, 0);
  if (graph::int_attribute(n.node, "storage_order", 0) == 0) {
    p.index_strides = {p.in[1] * p.in[2], p.in[2], 1};
  } else {
    p.index_strides = {1, p.in[0], p.in[0] * p.in[1]};
  }
  p.include_pad = graph::int_attribute(n.node, "count_include_pad", 0) != 0;
  return p;
}

template <class T>
PlainKernel max_pool_of(const PlainNode& n) {
  const bool wanted = n.outputs.size() > 1 && !n.node.outputs[1].empty();
  return {[p = pool_of(n), wanted](const PlainArrays& a) {
    engine::max_pool(p, static_cast<const T*>(a.in[0]), static_cast<T*>(a.out[0]), wanted ? static_cast<std::int64_t*>(a.out[1]) : nullptr, *a.team);
  }};
}

PlainKernel max_pool(const PlainNode& n) {
  switch (n.inputs[0]->dtype) {
    case DType::i8: return max_pool_of<std::int8_t>(n);
    case DType::u8: return max_pool_of<std::uint8_t>(n);
    default: return max_pool_of<float>(n);
  }
}

PlainKernel average_pool(const PlainNode& n) {
  return {[p = pool_of(n)](const PlainArrays& a) {
    engine::average_pool(p, static_cast<const float*>(a.in[0]), static_cast<float*>(a.out[0]), *a.team);
  }};
}

int exponent(const PlainNode& n) { return static_cast<int>(graph::int_attribute(n.node, "p", 2)); }

PlainKernel lp_pool(const PlainNode& n) {
  return {[p = pool_of(n), e = exponent(n)](const PlainArrays& a) {
    engine::lp_pool(p, e, static_cast<const float*>(a.in[0]), static_cast<float*>(a.out[0]), *a.team);
  }};
}

PlainKernel global_pool(const PlainNode& n) {
  const Shape& x = n.inputs[0]->shape;
  const std::int64_t planes = x[0] * x[1], count = product(x, 2);
  const int kind = n.node.op == "GlobalMaxPool" ? 0 : n.node.op == "GlobalAveragePool" ? 1 : 2;
  return {[planes, count, kind, e = exponent(n)](const PlainArrays& a) {
    const auto* in = static_cast<const float*>(a.in[0]);
    auto* out = static_cast<float*>(a.out[0]);
    if (kind == 0) return engine::whole_max(in, out, planes, count, *a.team);
    if (kind == 1) return engine::whole_average(in, out, planes, count, *a.team);
    engine::whole_lp(e, in, out, planes, count, *a.team);
  }};
}

PlainKernel lrn(const PlainNode& n) {
  const Shape& x = n.inputs[0]->shape;
  const std::int64_t images = x[0], channels = x[1], inner = product(x, 2), size = graph::int_attribute(n.node, "size", 1);
  const std::int64_t before = (size - 1) / 2, after = size - 1 - before;
  const float alpha = graph::float_attribute(n.node, "alpha", 1e-4f) / static_cast<float>(size);
  const float beta = graph::float_attribute(n.node, "beta", 0.75f), bias = graph::float_attribute(n.node, "bias", 1.0f);
  return {[=](const PlainArrays& a) {
    constexpr std::int64_t chunk = 256;
    const auto* in = static_cast<const float*>(a.in[0]);
    auto* out = static_cast<float*>(a.out[0]);
    const std::int64_t chunks = (inner + chunk - 1) / chunk;
    a.team->run(static_cast<std::size_t>(images * channels * chunks), [&](std::size_t task) {
      const auto t = static_cast<std::int64_t>(task);
      const std::int64_t first = t % chunks * chunk, count = std::min(chunk, inner - first), plane = t / chunks, c = plane % channels;
      float sums[chunk] = {};
      for (std::int64_t k = std::max<std::int64_t>(0, c - before); k <= std::min(channels - 1, c + after); ++k) {
        const float* other = in + (plane - c + k) * inner + first;
        for (std::int64_t i = 0; i < count; ++i) sums[i] += other[i] * other[i];
      }
      const float* from = in + plane * inner + first;
      float* to = out + plane * inner + first;
      for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] / std::pow(bias + alpha * sums[i], beta);
    });
  }};
}

// Parameters computed at run time.
PlainKernel batch_norm(const PlainNode& n) {
  const Shape& x = n.inputs[0]->shape;
  const std::int64_t planes = x[0] * x[1], channels = x[1], inner = product(x, 2);
  const float epsilon = graph::float_attribute(n.node, "epsilon", 1e-5f);
  return {[=](const PlainArrays& a) {
    const auto parameter = [&](std::size_t i, std::int64_t c) { return static_cast<double>(static_cast<const float*>(a.in[i])[c]); };
    const auto* in = static_cast<const float*>(a.in[0]);
    auto* out = static_cast<float*>(a.out[0]);
    constexpr std::int64_t together = 64;  // planes of a task: in a product's result they are single numbers
    a.team->run(static_cast<std::size_t>((planes + together - 1) / together), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * together;
      for (std::int64_t p = first; p < std::min(planes, first + together); ++p) {
        const std::int64_t c = p % channels;
        const double factor = parameter(1, c) / std::sqrt(parameter(4, c) + static_cast<double>(epsilon));
        const auto scale = static_cast<float>(factor), shift = static_cast<float>(parameter(2, c) - parameter(3, c) * factor);
        for (std::int64_t i = p * inner; i < (p + 1) * inner; ++i) out[i] = in[i] * scale + shift;
      }
    });
  }};
}

}  // namespace

// Exact: zero points are subtracted first, which makes padding zero.
PlainKernel prepare_conv_integer(const PlainNode& n) {
  const engine::PlanarConvShape s = conv_shape(n, false);
  Shape per_output(n.inputs[1]->shape.size(), 1);
  if (graph::given(n.inputs, 3) && n.inputs[3]->shape == Shape{s.oc}) per_output[0] = s.oc;
  const Centred x(n, 0, 2, {}), w(n, 1, 3, per_output);
  PlainKernel kernel;
  kernel.macs = s.macs();
  kernel.scratch_bytes = static_cast<std::uint64_t>(x.elements() + w.elements()) * sizeof(std::uint32_t);
  kernel.run = [s, x, w](const PlainArrays& a) {
    auto* maps = reinterpret_cast<std::uint32_t*>(a.scratch);
    std::uint32_t* weights = maps + x.elements();
    x.run(a, maps);
    w.run(a, weights);
    engine::integer_conv(s, maps, weights, static_cast<std::uint32_t*>(a.out[0]), *a.team);
  };
  return kernel;
}

void add_plain_nn(PlainOperators& t) {
  t["Conv"] = conv;
  t["ConvTranspose"] = conv_transpose;
  t["WinogradConv"] = winograd_conv;
  t["MaxPool"] = max_pool;
  t["AveragePool"] = average_pool;
  t["LpPool"] = lp_pool;
  t["GlobalAveragePool"] = t["GlobalMaxPool"] = t["GlobalLpPool"] = global_pool;
  t["LRN"] = lrn;
  t["BatchNormalization"] = batch_norm;
}

}  // namespace bittern::plan
