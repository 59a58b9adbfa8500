// Plain operators on elements of several arrays that are broadcast together.
#include <algorithm>
#include <cstddef>
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

// One row's elements: y = f(a, b), with arrays and operations of any types behind one signature. There are hundreds of
// operations on types; what walks over rows is compiled once.
using RowFunction = void (*)(const void* a, bool a_moves, const void* b, bool b_moves, void* y, std::size_t size);

template <class A, class B, class R, class F>
void row_of(const void* a, bool a_moves, const void* b, bool b_moves, void* y, std::size_t size) {
  engine::combine_row(static_cast<const A*>(a), a_moves, static_cast<const B*>(b), b_moves, static_cast<R*>(y), size, F{});
}

// Element `index` of an array of elements of `size` bytes.
const void* element(const void* array, std::int64_t index, std::size_t size) {
  return static_cast<const std::byte*>(array) + static_cast<std::size_t>(index) * size;
}
void* element(void* array, std::int64_t index, std::size_t size) {
  return static_cast<std::byte*>(array) + static_cast<std::size_t>(index) * size;
}

// a and b are inputs of the node: 0 and 1, or the other way round.
PlainKernel combine_rows(const PlainNode& node, RowFunction function, bool swapped) {
  const std::size_t first = swapped ? 1 : 0, second = swapped ? 0 : 1;
  const Broadcast walk(node.outputs[0].shape, {node.inputs[first]->shape, node.inputs[second]->shape});
  const std::size_t size = size_of(node.inputs[0]->dtype), result_size = size_of(node.outputs[0].dtype);
  return {[=](const PlainArrays& arrays) {
    walk.run(*arrays.team, [&](const BroadcastRow& row) {
      function(element(arrays.in[first], row.at[0], size), walk.moves(0), element(arrays.in[second], row.at[1], size), walk.moves(1),
               element(arrays.out[0], row.to, result_size), row.size);
    });
  }};
}

template <class T, class R, class F>
PlainKernel combine(const PlainNode& node, bool swapped = false) {
  return combine_rows(node, row_of<T, T, R, F>, swapped);
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
void power_of_row(const void* a, bool a_moves, const void* b, bool b_moves, void* y, std::size_t size) {
  // Squares are what most networks raise to.
  if (!b_moves && *static_cast<const E*>(b) == E{2}) {
    row_of<T, T, T, engine::Times>(a, a_moves, a, a_moves, y, size);
  } else {
    row_of<T, E, T, engine::Power>(a, a_moves, b, b_moves, y, size);
  }
}

PlainKernel prepare_pow(const PlainNode& node) {
  return with_number(node.inputs[1]->dtype, [&]<class E>(std::type_identity<E>) {
    if (node.inputs[0]->dtype == DType::i32) return combine_rows(node, power_of_row<std::int32_t, E>, false);
    if (node.inputs[0]->dtype == DType::i64) return combine_rows(node, power_of_row<std::int64_t, E>, false);
    return combine_rows(node, power_of_row<float, E>, false);
  });
}

// The first operand's row as it is; the second is not looked at.
template <class T>
void first_of_row(const void* a, bool a_moves, const void*, bool, void* y, std::size_t size) {
  if (a_moves) {
    std::copy_n(static_cast<const T*>(a), size, static_cast<T*>(y));
  } else {
    std::fill_n(static_cast<T*>(y), size, *static_cast<const T*>(a));
  }
}

// One input after the other is joined to the result.
PlainKernel join_rows(const PlainNode& node, RowFunction first, RowFunction next) {
  const Shape& shape = node.outputs[0].shape;
  const std::size_t size = size_of(node.outputs[0].dtype);
  std::vector<Broadcast> walks;
  using Shapes = std::initializer_list<std::span<const std::int64_t>>;
  for (const graph::ValueType* input : node.inputs) walks.emplace_back(shape, Shapes{shape, input->shape});
  return {[=, walks = std::move(walks)](const PlainArrays& arrays) {
    for (std::size_t i = 0; i < walks.size(); ++i) {
      const Broadcast& walk = walks[i];
      walk.run(*arrays.team, [&](const BroadcastRow& row) {
        const void* const x = element(arrays.in[i], row.at[1], size);
        void* const y = element(arrays.out[0], row.to, size);
        if (i == 0) {
          first(x, walk.moves(1), x, walk.moves(1), y, row.size);
        } else {
          next(y, walk.moves(0), x, walk.moves(1), y, row.size);
        }
      });
    }
  }};
}

template <class F>
PlainKernel of_all(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype,
                     [&]<class T>(std::type_identity<T>) { return join_rows(node, first_of_row<T>, row_of<T, T, T, F>); });
}

PlainKernel prepare_mean(const PlainNode& node) {
  const std::int64_t count = Broadcast(node.outputs[0].shape, {node.outputs[0].shape}).total();
  const auto inputs = static_cast<float>(node.inputs.size());
  PlainKernel sum = join_rows(node, first_of_row<float>, row_of<float, float, float, engine::Plus>);
  return {[=, sum = std::move(sum.run)](const PlainArrays& arrays) {
    sum(arrays);
    auto* y = static_cast<float*>(arrays.out[0]);
    engine::split(*arrays.team, count, [&](std::size_t from, std::size_t size) {
      for (std::size_t i = from; i < from + size; ++i) y[i] = engine::Quotient{}(y[i], inputs);
    });
  }};
}

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
