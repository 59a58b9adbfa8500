// Plain operators that change the type of elements.
#include <algorithm>

#include "ops/broadcast.h"
#include "ops/elements.h"
#include "plan/element_types.h"
#include "plan/plain_elementwise.h"

namespace bittern::plan {
namespace {

template <class From, class To, class F>
PlainKernel convert(const PlainNode& node, const F& f) {
  const std::int64_t count = graph::element_count(node.outputs[0].shape, node.node.name);
  return {[=](const PlainArrays& arrays) {
    const auto* x = static_cast<const From*>(arrays.in[0]);
    auto* y = static_cast<To*>(arrays.out[0]);
    engine::split(*arrays.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) y[i] = f(x[i]);
    });
  }};
}

struct Truth {
  template <class T>
  std::uint8_t operator()(T x) const {
    return x != T{0} ? 1 : 0;
  }
};

// The type to convert to is that of the output: graph::infer has read it from the attribute or the second input.
PlainKernel prepare_cast(const PlainNode& node) {
  const DType from = node.inputs[0]->dtype, to = node.outputs[0].dtype;
  if (to == DType::boolean) {
    if (from == DType::boolean) return convert<std::uint8_t, std::uint8_t>(node, Truth{});
    return with_number(from, [&]<class From>(std::type_identity<From>) { return convert<From, std::uint8_t>(node, Truth{}); });
  }
  return with_number(to, [&]<class To>(std::type_identity<To>) {
    if (from == DType::boolean) return convert<std::uint8_t, To>(node, [](std::uint8_t x) { return static_cast<To>(x != 0 ? 1 : 0); });
    return with_number(from, [&]<class From>(std::type_identity<From>) {
      return convert<From, To>(node, [](From x) { return engine::converted<To>(x); });
    });
  });
}

}  // namespace

void add_plain_cast(PlainOperators& t) {
  t["Cast"] = prepare_cast;
  t["CastLike"] = prepare_cast;
}

}  // namespace bittern::plan
