// Plain operators on elements of several arrays that are broadcast together.
#include <algorithm>
#include <initializer_list>
#include <span>
#include <vector>

#include "ops/broadcast.h"
#include "ops/elements.h"
#include "plan/element_types.h"
#include "plan/plain_elementwise.h"

namespace bittern::plan {
namespace {

using engine::Broadcast;
using engine::BroadcastRow;

// y = f(a, b), where a and b are inputs of the node: 0 and 1, or the other way round.
template <class T, class R, class F>
PlainKernel combine(const PlainNode& node, bool swapped = false) {
  const std::size_t first = swapped ? 1 : 0, second = swapped ? 0 : 1;
  const Broadcast walk(node.outputs[0].shape, {node.inputs[first]->shape, node.inputs[second]->shape});
  return {[=](const PlainArrays& arrays) {
    const auto* a = static_cast<const T*>(arrays.in[first]);
    const auto* b = static_cast<const T*>(arrays.in[second]);
    auto* y = static_cast<R*>(arrays.out[0]);
    walk.run(*arrays.team, [&](const BroadcastRow& row) {
      engine::combine_row(a + row.at[0], walk.moves(0), b + row.at[1], walk.moves(1), y + row.to, row.size, F{});
    });
  }};
}

template <class F>
PlainKernel of_numbers(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return combine<T, T, F>(node); });
}

template <class F>
PlainKernel of_integers(const PlainNode& node) {
  return with_integer(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return combine<T, T, F>(node); });
}

template <class F, bool swapped>
PlainKernel comparison(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return combine<T, std::uint8_t, F>(node, swapped); });
}

// Any byte but 0 is true.
struct BothTrue {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const { return a != 0 && b != 0 ? 1 : 0; }
};
struct AnyTrue {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const { return a != 0 || b != 0 ? 1 : 0; }
};
struct OneTrue {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const { return (a != 0) != (b != 0) ? 1 : 0; }
};
struct SameTruth {
  std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const { return (a != 0) == (b != 0) ? 1 : 0; }
};

template <class F>
PlainKernel of_booleans(const PlainNode& node) {
  return combine<std::uint8_t, std::uint8_t, F>(node);
}

PlainKernel prepare_equal(const PlainNode& node) {
  return node.inputs[0]->dtype == DType::boolean ? of_booleans<SameTruth>(node) : comparison<engine::IsEqual, false>(node);
}

PlainKernel prepare_mod(const PlainNode& node) {
  return graph::int_attribute(node.node, "fmod", 0) != 0 ? of_numbers<engine::Remainder>(node) : of_numbers<engine::Modulo>(node);
}

PlainKernel prepare_shift(const PlainNode& node) {
  const bool left = graph::string_attribute(node.node, "direction", "") == "LEFT";
  return left ? of_integers<engine::ShiftLeft>(node) : of_integers<engine::ShiftRight>(node);
}

template <class T, class E>
PlainKernel power(const PlainNode& node) {
  const Broadcast walk(node.outputs[0].shape, {node.inputs[0]->shape, node.inputs[1]->shape});
  return {[=](const PlainArrays& arrays) {
    const auto* a = static_cast<const T*>(arrays.in[0]);
    const auto* b = static_cast<const E*>(arrays.in[1]);
    auto* y = static_cast<T*>(arrays.out[0]);
    walk.run(*arrays.team, [&](const BroadcastRow& row) {
      // Squares are what most networks raise to.
      if (!walk.moves(1) && b[row.at[1]] == E{2}) {
        engine::combine_row(a + row.at[0], walk.moves(0), a + row.at[0], walk.moves(0), y + row.to, row.size, engine::Times{});
      } else {
        engine::combine_row(a + row.at[0], walk.moves(0), b + row.at[1], walk.moves(1), y + row.to, row.size, engine::Power{});
      }
    });
  }};
}

PlainKernel prepare_pow(const PlainNode& node) {
  return with_number(node.inputs[1]->dtype, [&]<class E>(std::type_identity<E>) {
    if (node.inputs[0]->dtype == DType::i32) return power<std::int32_t, E>(node);
    if (node.inputs[0]->dtype == DType::i64) return power<std::int64_t, E>(node);
    return power<float, E>(node);
  });
}

// One input after the other is joined to the result; `mean` divides at the end.
template <class T, class F>
PlainKernel join(const PlainNode& node, bool mean) {
  const Shape& shape = node.outputs[0].shape;
  std::vector<Broadcast> walks;
  using Shapes = std::initializer_list<std::span<const std::int64_t>>;
  for (const graph::ValueType* input : node.inputs) walks.emplace_back(shape, Shapes{shape, input->shape});
  const std::int64_t count = walks[0].total();
  return {[=, walks = std::move(walks)](const PlainArrays& arrays) {
    auto* y = static_cast<T*>(arrays.out[0]);
    for (std::size_t i = 0; i < walks.size(); ++i) {
      const Broadcast& walk = walks[i];
      const auto* x = static_cast<const T*>(arrays.in[i]);
      walk.run(*arrays.team, [&](const BroadcastRow& row) {
        T* const to = y + row.to;
        if (i > 0) {
          engine::combine_row(to, walk.moves(0), x + row.at[1], walk.moves(1), to, row.size, F{});
        } else if (walk.moves(1)) {
          std::copy_n(x + row.at[1], row.size, to);
        } else {
          std::fill_n(to, row.size, x[row.at[1]]);
        }
      });
    }
    if (!mean) return;
    const T inputs = static_cast<T>(walks.size());
    engine::split(*arrays.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) y[i] = engine::Quotient{}(y[i], inputs);
    });
  }};
}

template <class F>
PlainKernel of_all(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return join<T, F>(node, false); });
}

PlainKernel prepare_mean(const PlainNode& node) { return join<float, engine::Plus>(node, true); }

// Elements of any type, by their size.
template <class T>
PlainKernel choose(const PlainNode& node) {
  const Broadcast walk(node.outputs[0].shape, {node.inputs[0]->shape, node.inputs[1]->shape, node.inputs[2]->shape});
  return {[=](const PlainArrays& arrays) {
    const auto* choice = static_cast<const std::uint8_t*>(arrays.in[0]);
    const auto* a = static_cast<const T*>(arrays.in[1]);
    const auto* b = static_cast<const T*>(arrays.in[2]);
    auto* y = static_cast<T*>(arrays.out[0]);
    walk.run(*arrays.team, [&](const BroadcastRow& row) {
      const std::uint8_t* const c = choice + row.at[0];
      const T* const yes = a + row.at[1];
      const T* const no = b + row.at[2];
      T* const to = y + row.to;
      const std::size_t sc = walk.moves(0) ? 1 : 0, sa = walk.moves(1) ? 1 : 0, sb = walk.moves(2) ? 1 : 0;
      for (std::size_t i = 0; i < row.size; ++i) to[i] = c[i * sc] != 0 ? yes[i * sa] : no[i * sb];
    });
  }};
}

PlainKernel prepare_where(const PlainNode& node) {
  switch (size_of(node.inputs[1]->dtype)) {
    case 1: return choose<std::uint8_t>(node);
    case 2: return choose<std::uint16_t>(node);
    case 4: return choose<std::uint32_t>(node);
    default: return choose<std::uint64_t>(node);
  }
}

}  // namespace

void add_plain_binary(PlainOperators& t) {
  t["Add"] = of_numbers<engine::Plus>;
  t["Sub"] = of_numbers<engine::Minus>;
  t["Mul"] = of_numbers<engine::Times>;
  t["Div"] = of_numbers<engine::Quotient>;
  t["PRelu"] = of_numbers<engine::Sloped>;
  t["Mod"] = prepare_mod;
  t["Pow"] = prepare_pow;
  t["BitShift"] = prepare_shift;
  t["BitwiseAnd"] = of_integers<engine::BitAnd>;
  t["BitwiseOr"] = of_integers<engine::BitOr>;
  t["BitwiseXor"] = of_integers<engine::BitXor>;
  t["And"] = of_booleans<BothTrue>;
  t["Or"] = of_booleans<AnyTrue>;
  t["Xor"] = of_booleans<OneTrue>;
  t["Equal"] = prepare_equal;
  t["Less"] = comparison<engine::IsLess, false>;
  t["LessOrEqual"] = comparison<engine::IsLessOrEqual, false>;
  t["Greater"] = comparison<engine::IsLess, true>;
  t["GreaterOrEqual"] = comparison<engine::IsLessOrEqual, true>;
  t["Min"] = of_all<engine::Lesser>;
  t["Max"] = of_all<engine::Larger>;
  t["Sum"] = of_all<engine::Plus>;
  t["Mean"] = prepare_mean;
  t["Where"] = prepare_where;
}

}  // namespace bittern::plan
