// Plain operators on each element: functions of one number.
#include "plan/plain_elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/broadcast.h"
#include "ops/elements.h"
#include "plan/element_types.h"

namespace bittern::plan {
namespace {

// y[i] = f(x[i]) over all elements.
template <class T, class R, class F>
PlainKernel map(const PlainNode& node, const F& f) {
  const std::int64_t count = graph::element_count(node.outputs[0].shape, node.node.name);
  return {[count, f](const PlainArrays& arrays) {
    const auto* x = static_cast<const T*>(arrays.in[0]);
    auto* y = static_cast<R*>(arrays.out[0]);
    engine::split(*arrays.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) y[i] = f(x[i]);
    });
  }};
}

using Function = float (*)(float);

template <Function function>
PlainKernel of_float(const PlainNode& node) {
  return map<float, float>(node, [](float x) { return function(x); });
}

float attribute(const PlainNode& node, const char* name, float fallback) { return graph::float_attribute(node.node, name, fallback); }

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float softplus(float x) { return std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x))); }
float mish(float x) { return x * std::tanh(softplus(x)); }
float softsign(float x) { return x / (1.0f + std::fabs(x)); }
float hard_swish(float x) { return x * std::clamp(x / 6.0f + 0.5f, 0.0f, 1.0f); }
float reciprocal(float x) { return 1.0f / x; }
float gelu(float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678118654752f)); }
float gelu_tanh(float x) { return 0.5f * x * (1.0f + std::tanh(0.79788456080286536f * (x + 0.044715f * x * x * x))); }

PlainKernel prepare_elu(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 1.0f);
  return map<float, float>(node, [=](float x) { return x < 0.0f ? alpha * std::expm1(x) : x; });
}

PlainKernel prepare_selu(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 1.67326319217681884765625f), gamma = attribute(node, "gamma", 1.05070102214813232421875f);
  return map<float, float>(node, [=](float x) { return gamma * (x <= 0.0f ? alpha * std::expm1(x) : x); });
}

PlainKernel prepare_celu(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 1.0f);
  return map<float, float>(node, [=](float x) { return std::max(x, 0.0f) + std::min(0.0f, alpha * std::expm1(x / alpha)); });
}

PlainKernel prepare_thresholded_relu(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 1.0f);
  return map<float, float>(node, [=](float x) { return x > alpha || engine::is_nan(x) ? x : 0.0f; });
}

PlainKernel prepare_shrink(const PlainNode& node) {
  const float bias = attribute(node, "bias", 0.0f), lambd = attribute(node, "lambd", 0.5f);
  return map<float, float>(node, [=](float x) { return x < -lambd ? x + bias : x > lambd ? x - bias : engine::is_nan(x) ? x : 0.0f; });
}

PlainKernel prepare_hard_sigmoid(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 0.2f), beta = attribute(node, "beta", 0.5f);
  return map<float, float>(node, [=](float x) { return std::clamp(alpha * x + beta, 0.0f, 1.0f); });
}

PlainKernel prepare_swish(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 1.0f);
  return map<float, float>(node, [=](float x) { return x * sigmoid(alpha * x); });
}

PlainKernel prepare_leaky_relu(const PlainNode& node) {
  const float alpha = attribute(node, "alpha", 0.01f);
  return map<float, float>(node, [=](float x) { return x < 0.0f ? alpha * x : x; });
}

PlainKernel prepare_gelu(const PlainNode& node) {
  return graph::string_attribute(node.node, "approximate", "none") == "tanh" ? of_float<gelu_tanh>(node) : of_float<gelu>(node);
}

PlainKernel prepare_is_nan(const PlainNode& node) {
  return map<float, std::uint8_t>(node, [](float x) { return static_cast<std::uint8_t>(engine::is_nan(x)); });
}

PlainKernel prepare_is_inf(const PlainNode& node) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const bool negative = graph::int_attribute(node.node, "detect_negative", 1) != 0;
  const bool positive = graph::int_attribute(node.node, "detect_positive", 1) != 0;
  return map<float, std::uint8_t>(node, [=](float x) {
    return static_cast<std::uint8_t>((positive && x == infinity) || (negative && x == -infinity));
  });
}

PlainKernel prepare_not(const PlainNode& node) {
  return map<std::uint8_t, std::uint8_t>(node, [](std::uint8_t x) { return static_cast<std::uint8_t>(x == 0); });
}

struct Absolute {
  template <class T>
  T operator()(T x) const {
    return engine::magnitude(x);
  }
};

struct Negative {
  template <class T>
  T operator()(T x) const {
    return engine::negative(x);
  }
};

struct Sign {
  template <class T>
  T operator()(T x) const {
    if (engine::is_nan(x)) return x;
    return static_cast<T>((x > T{0} ? 1 : 0) - (x < T{0} ? 1 : 0));
  }
};

struct Rectified {
  template <class T>
  T operator()(T x) const {
    return x < T{0} ? T{0} : x;
  }
};

struct Inverted {
  template <class T>
  T operator()(T x) const {
    return static_cast<T>(~x);
  }
};

template <class F>
PlainKernel of_number(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return map<T, T>(node, F{}); });
}

PlainKernel prepare_bitwise_not(const PlainNode& node) {
  return with_integer(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return map<T, T>(node, Inverted{}); });
}

// Bounds are read at each run: they may be computed. Where they cross, the upper one holds.
template <class T>
PlainKernel clip(const PlainNode& node) {
  using Limits = std::numeric_limits<T>;
  const std::int64_t count = graph::element_count(node.outputs[0].shape, node.node.name);
  const bool has_low = node.inputs.size() > 1 && node.inputs[1] != nullptr, has_high = node.inputs.size() > 2 && node.inputs[2] != nullptr;
  return {[=](const PlainArrays& arrays) {
    constexpr T least = Limits::has_infinity ? static_cast<T>(-Limits::infinity()) : Limits::lowest();
    constexpr T most = Limits::has_infinity ? Limits::infinity() : Limits::max();
    const T low = has_low ? *static_cast<const T*>(arrays.in[1]) : least, high = has_high ? *static_cast<const T*>(arrays.in[2]) : most;
    const auto* x = static_cast<const T*>(arrays.in[0]);
    auto* y = static_cast<T*>(arrays.out[0]);
    engine::split(*arrays.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) {
        const T above = x[i] < low ? low : x[i];
        y[i] = above > high ? high : above;
      }
    });
  }};
}

PlainKernel prepare_clip(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return clip<T>(node); });
}

}  // namespace

void add_plain_unary(PlainOperators& t) {
  t["Exp"] = of_float<std::exp>;
  t["Log"] = of_float<std::log>;
  t["Sqrt"] = of_float<std::sqrt>;
  t["Erf"] = of_float<std::erf>;
  t["Sin"] = of_float<std::sin>;
  t["Cos"] = of_float<std::cos>;
  t["Tan"] = of_float<std::tan>;
  t["Asin"] = of_float<std::asin>;
  t["Acos"] = of_float<std::acos>;
  t["Atan"] = of_float<std::atan>;
  t["Sinh"] = of_float<std::sinh>;
  t["Cosh"] = of_float<std::cosh>;
  t["Tanh"] = of_float<std::tanh>;
  t["Asinh"] = of_float<std::asinh>;
  t["Acosh"] = of_float<std::acosh>;
  t["Atanh"] = of_float<std::atanh>;
  t["Floor"] = of_float<std::floor>;
  t["Ceil"] = of_float<std::ceil>;
  t["Round"] = of_float<std::nearbyint>;  // half to even: nothing changes the rounding mode
  t["Reciprocal"] = of_float<reciprocal>;
  t["Sigmoid"] = of_float<sigmoid>;
  t["Softplus"] = of_float<softplus>;
  t["Softsign"] = of_float<softsign>;
  t["Mish"] = of_float<mish>;
  t["HardSwish"] = of_float<hard_swish>;
  t["Elu"] = prepare_elu;
  t["Selu"] = prepare_selu;
  t["Celu"] = prepare_celu;
  t["ThresholdedRelu"] = prepare_thresholded_relu;
  t["Shrink"] = prepare_shrink;
  t["HardSigmoid"] = prepare_hard_sigmoid;
  t["Swish"] = prepare_swish;
  t["LeakyRelu"] = prepare_leaky_relu;
  t["Gelu"] = prepare_gelu;
  t["IsNaN"] = prepare_is_nan;
  t["IsInf"] = prepare_is_inf;
  t["Not"] = prepare_not;
  t["Abs"] = of_number<Absolute>;
  t["Neg"] = of_number<Negative>;
  t["Sign"] = of_number<Sign>;
  t["Relu"] = of_number<Rectified>;
  t["BitwiseNot"] = prepare_bitwise_not;
  t["Clip"] = prepare_clip;
}

void add_plain_elementwise(PlainOperators& operators) {
  add_plain_unary(operators);
  add_plain_binary(operators);
  add_plain_cast(operators);
  add_plain_reduce(operators);
  add_plain_along_axis(operators);
}

}  // namespace bittern::plan
