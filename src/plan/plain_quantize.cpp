// Plain operators between numbers and integer codes.
#include "plan/plain_quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <type_traits>

#include <bittern/error.h>

#include "graph/quantize.h"
#include "graph/schema.h"
#include "ops/codes.h"
#include "plan/plain_sequence.h"
#include "registry.h"

namespace bittern::plan {
namespace {

// f(std::type_identity<T>{}) for a type of codes; the schema lets no other through.
template <class F>
PlainKernel with_codes(DType type, const F& f) {
  switch (type) {
    case DType::i8: return f(std::type_identity<std::int8_t>{});
    case DType::u8: return f(std::type_identity<std::uint8_t>{});
    case DType::i16: return f(std::type_identity<std::int16_t>{});
    case DType::u16: return f(std::type_identity<std::uint16_t>{});
    case DType::i32: return f(std::type_identity<std::int32_t>{});
    default: throw Error(ErrorCode::unsupported, "a quantiser", std::string("codes of type ") + name_of(type));
  }
}

// The optional third input.
template <class T>
const T* zero_points(const PlainArrays& a, bool there) {
  return there ? static_cast<const T*>(a.in[2]) : nullptr;
}

PlainKernel quantize(const PlainNode& n) {
  const DType type = n.outputs[0].dtype;
  return with_codes(type, [&]<class T>(std::type_identity<T>) -> PlainKernel {
    return {[grid = graph::scale_grid(n.node, n.inputs), range = graph::code_range(n.node, type), there = n.inputs.size() > 2](const PlainArrays& a) {
      const auto *x = static_cast<const float*>(a.in[0]), *scales = static_cast<const float*>(a.in[1]);
      engine::quantize<T>(grid, range, x, scales, zero_points<T>(a, there), static_cast<T*>(a.out[0]), *a.team);
    }};
  });
}

PlainKernel dequantize(const PlainNode& n) {
  return with_codes(n.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) -> PlainKernel {
    return {[grid = graph::scale_grid(n.node, n.inputs), there = n.inputs.size() > 2](const PlainArrays& a) {
      const auto* scales = static_cast<const float*>(a.in[1]);
      engine::dequantize<T>(grid, static_cast<const T*>(a.in[0]), scales, zero_points<T>(a, there), static_cast<float*>(a.out[0]), *a.team);
    }};
  });
}

PlainKernel dynamic_quantize(const PlainNode& n) {
  const std::int64_t count = graph::element_count(n.outputs[0].shape, n.node.name);
  const std::array<bool, 3> wanted{true, n.outputs.size() > 1 && !n.node.outputs[1].empty(), n.outputs.size() > 2 && !n.node.outputs[2].empty()};
  return {[count, wanted, k = &engine::code_kernels(n.isa)](const PlainArrays& a) {
    const auto* x = static_cast<const float*>(a.in[0]);
    const engine::Quantiser to = engine::dynamic_quantiser(x, count);
    engine::quantise_rows(*k, to, count, 1, x, 1, static_cast<std::uint8_t*>(a.out[0]), *a.team);
    if (wanted[1]) *static_cast<float*>(a.out[1]) = to.scale;
    if (wanted[2]) *static_cast<std::uint8_t*>(a.out[2]) = static_cast<std::uint8_t>(to.zero);
  }};
}

// f(x, p, q) for every x, with two parameters broadcast to it.
template <class F>
void with_parameters(const engine::Broadcast& grid, const float* x, const float* p, const float* q, float* y, engine::Team& team, const F& f) {
  const std::int64_t p_step = grid.moves(1) ? 1 : 0, q_step = grid.moves(2) ? 1 : 0;
  grid.run(team, [&](const engine::BroadcastRow& row) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(row.size); ++i) {
      y[row.to + i] = f(x[row.to + i], p[row.at[1] + i * p_step], q[row.at[2] + i * q_step]);
    }
  });
}

struct Bounds {
  float low = 0, high = 0;
};

// Of codes of so many bits. Powers of two of whole numbers are exact.
Bounds bounds(float bits, bool is_signed, bool narrow) {
  if (is_signed) return {(narrow ? 1.0f : 0.0f) - std::exp2(bits - 1), std::exp2(bits - 1) - 1};
  return {0, std::exp2(bits) - (narrow ? 2.0f : 1.0f)};
}

// NaN becomes the lowest code.
float limited(float x, Bounds b) { return x > b.low ? std::min(x, b.high) : b.low; }

PlainKernel quant(const PlainNode& n) {
  const engine::Rounding how = graph::rounding_mode(n.node, "ROUND");
  const bool is_signed = graph::int_attribute(n.node, "signed", 1) != 0, narrow = graph::int_attribute(n.node, "narrow", 0) != 0;
  const Shape& x = n.inputs[0]->shape;
  return {[=, grid = engine::Broadcast(x, {x, n.inputs[1]->shape, n.inputs[2]->shape})](const PlainArrays& a) {
    const auto in = [&](std::size_t i) { return static_cast<const float*>(a.in[i]); };
    const float bits = *in(3);
    const Bounds b = bounds(bits, is_signed, narrow);
    const bool bipolar = bits == 1.0f && is_signed;  // QONNX means -1 and 1 by it
    with_parameters(grid, in(0), in(1), in(2), static_cast<float*>(a.out[0]), *a.team, [&](float value, float scale, float zero) {
      const float code = value / scale + zero;
      const float chosen = bipolar ? (code >= 0 ? 1.0f : -1.0f) : engine::rounded(limited(code, b), how);
      return (chosen - zero) * scale;
    });
  }};
}

PlainKernel bipolar_quant(const PlainNode& n) {
  const Shape& x = n.inputs[0]->shape;
  return {[grid = engine::Broadcast(x, {x, n.inputs[1]->shape, Shape{}})](const PlainArrays& a) {
    const auto *in = static_cast<const float*>(a.in[0]), *scales = static_cast<const float*>(a.in[1]);
    with_parameters(grid, in, scales, scales, static_cast<float*>(a.out[0]), *a.team,
                    [](float value, float scale, float) { return value >= 0 ? scale : -scale; });
  }};
}

// Codes of in_bits shortened to out_bits: as of version 1 of the operator (five inputs), or of version 2, which states the scale
// of the result and limits it.
PlainKernel trunc(const PlainNode& n) {
  const engine::Rounding how = graph::rounding_mode(n.node, "FLOOR");
  const bool is_signed = graph::int_attribute(n.node, "signed", 1) != 0, narrow = graph::int_attribute(n.node, "narrow", 0) != 0;
  const bool rescales = n.inputs.size() > 5;
  const Shape& x = n.inputs[0]->shape;
  return {[=, grid = engine::Broadcast(x, {x, n.inputs[1]->shape, rescales ? n.inputs[4]->shape : Shape{}})](const PlainArrays& a) {
    const auto in = [&](std::size_t i) { return static_cast<const float*>(a.in[i]); };
    const float zero = *in(2), in_bits = *in(3), out_bits = *in(rescales ? 5 : 4);
    const Bounds b = bounds(out_bits, is_signed, narrow);
    auto* y = static_cast<float*>(a.out[0]);
    if (!rescales) {
      const float ratio = std::exp2(in_bits - out_bits);
      with_parameters(grid, in(0), in(1), in(1), y, *a.team, [&](float value, float scale, float) {
        return (engine::rounded(std::nearbyint(value / scale + zero) / ratio, how) - zero) * scale;
      });
      return;
    }
    with_parameters(grid, in(0), in(1), in(4), y, *a.team, [&](float value, float scale, float out_scale) {
      const float ratio = std::exp2(std::nearbyint(std::log2(out_scale / scale)));
      const float code = limited(std::nearbyint(value / scale + zero) / ratio, b);
      return (engine::rounded(code, how) - zero / ratio) * out_scale;
    });
  }};
}

// How many thresholds of its channel a number reaches.
PlainKernel multi_threshold(const PlainNode& n) {
  const Shape &x = n.inputs[0]->shape, &thresholds = n.inputs[1]->shape;
  const std::size_t axis = graph::threshold_axis(n.node, x.size());
  std::int64_t inner = 1;
  for (std::size_t d = axis + 1; d < x.size(); ++d) inner *= x[d];
  const std::int64_t channels = x[axis], rows = thresholds[0], steps = thresholds[1], count = graph::element_count(x, n.node.name);
  const float factor = graph::float_attribute(n.node, "out_scale", 1.0f), bias = graph::float_attribute(n.node, "out_bias", 0.0f);
  return {[=](const PlainArrays& a) {
    const auto *in = static_cast<const float*>(a.in[0]), *table = static_cast<const float*>(a.in[1]);
    auto* y = static_cast<float*>(a.out[0]);
    engine::split(*a.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) {
        const float* row = table + (rows == 1 ? 0 : static_cast<std::int64_t>(i) / inner % channels * steps);
        const auto reached = std::count_if(row, row + steps, [value = in[i]](float threshold) { return value >= threshold; });
        y[i] = factor * static_cast<float>(reached) + bias;
      }
    });
  }};
}

}  // namespace

Centred::Centred(const PlainNode& node, std::size_t input, std::size_t zero_point, const Shape& zero_shape)
    : input_(input),
      zero_point_(zero_point),
      is_signed_(node.inputs[input]->dtype == DType::i8),
      there_(graph::given(node.inputs, zero_point)),
      grid_(node.inputs[input]->shape, {node.inputs[input]->shape, zero_shape}) {}

void Centred::run(const PlainArrays& arrays, std::uint32_t* to) const {
  const auto subtract = [&]<class T>(std::type_identity<T>) {
    const T none{};
    const T *x = static_cast<const T*>(arrays.in[input_]), *zero = there_ ? static_cast<const T*>(arrays.in[zero_point_]) : &none;
    grid_.run(*arrays.team, [&](const engine::BroadcastRow& row) {
      engine::combine_row(x + row.at[0], grid_.moves(0), zero + row.at[1], grid_.moves(1), to + row.to, row.size,
                          [](T a, T b) { return static_cast<std::uint32_t>(static_cast<int>(a) - static_cast<int>(b)); });
    });
  };
  if (is_signed_) {
    subtract(std::type_identity<std::int8_t>{});
  } else {
    subtract(std::type_identity<std::uint8_t>{});
  }
}

void add_plain_quantize(PlainOperators& t) {
  t["QuantizeLinear"] = quantize;
  t["DequantizeLinear"] = dequantize;
  t["DynamicQuantizeLinear"] = dynamic_quantize;
  t["ConvInteger"] = prepare_conv_integer;
  t["MatMulInteger"] = prepare_matmul_integer;
  t["Quant"] = quant;
  t["BipolarQuant"] = bipolar_quant;
  t["Trunc"] = trunc;
  t["MultiThreshold"] = multi_threshold;
}

}  // namespace bittern::plan
