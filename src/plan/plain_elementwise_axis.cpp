// Plain operators along one axis: positions of extremes, the k most extreme elements, running sums.
#include <algorithm>
#include <array>

#include "ops/broadcast.h"
#include "ops/elements.h"
#include "plan/element_types.h"
#include "plan/plain_elementwise.h"

namespace bittern::plan {
namespace {

// The array as [outer, size, inner], where `size` belongs to the axis. A scalar has one axis of size 1.
struct Axis {
  std::int64_t outer = 1, size = 1, inner = 1;
};

Axis axis_of(const Shape& shape, std::int64_t number) {
  Axis axis;
  if (shape.empty()) return axis;
  const auto at = static_cast<std::size_t>(number < 0 ? number + static_cast<std::int64_t>(shape.size()) : number);
  for (std::size_t d = 0; d < shape.size(); ++d) (d < at ? axis.outer : d == at ? axis.size : axis.inner) *= shape[d];
  return axis;
}

// Calls body(line, first element) for each line along the axis.
template <class Body>
void for_lines(engine::Team& team, const Axis& axis, const Body& body) {
  const std::int64_t lines = axis.outer * axis.inner;
  if (lines == 0) return;
  const std::int64_t size = std::max<std::int64_t>(1, axis.size);
  const std::int64_t each = lines * size <= (1 << 16) ? lines : std::max<std::int64_t>(1, (1 << 15) / size);
  team.run(static_cast<std::size_t>(engine::ceil_div(lines, each)), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * each;
    for (std::int64_t line = first; line < std::min(lines, first + each); ++line) {
      body(line, line / axis.inner * axis.size * axis.inner + line % axis.inner);
    }
  });
}

// True if a comes before b: the larger first, or the smaller. NaN is beyond all numbers, as NumPy sorts.
template <class T>
bool before(T a, T b, bool largest) {
  if (engine::is_nan(a) || engine::is_nan(b)) return largest ? engine::is_nan(a) && !engine::is_nan(b) : !engine::is_nan(a);
  return largest ? a > b : a < b;
}

// Argmin of elements with a NaN is its position too, as in NumPy.
template <class T>
bool beats(T a, T b, bool largest) {
  if (engine::is_nan(a) || engine::is_nan(b)) return engine::is_nan(a) && !engine::is_nan(b);
  return largest ? a > b : a < b;
}

template <class T>
PlainKernel arg_extreme(const PlainNode& node, bool largest) {
  const Axis axis = axis_of(node.inputs[0]->shape, graph::int_attribute(node.node, "axis", 0));
  const bool last = graph::int_attribute(node.node, "select_last_index", 0) != 0;
  return {[=](const PlainArrays& arrays) {
    const auto* x = static_cast<const T*>(arrays.in[0]);
    auto* y = static_cast<std::int64_t*>(arrays.out[0]);
    for_lines(*arrays.team, axis, [&](std::int64_t line, std::int64_t from) {
      std::int64_t best = 0;
      for (std::int64_t i = 1; i < axis.size; ++i) {
        const T value = x[from + i * axis.inner], champion = x[from + best * axis.inner];
        if (last ? !beats(champion, value, largest) : beats(value, champion, largest)) best = i;
      }
      y[line] = best;
    });
  }};
}

template <bool largest>
PlainKernel prepare_arg(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return arg_extreme<T>(node, largest); });
}

// Always sorted; of equal elements the first comes first.
template <class T>
PlainKernel top_k(const PlainNode& node) {
  const Axis axis = axis_of(node.inputs[0]->shape, graph::int_attribute(node.node, "axis", -1));
  const std::int64_t k = (*graph::known_integers(*node.inputs[1]))[0];
  const bool largest = graph::int_attribute(node.node, "largest", 1) != 0;
  const bool indices = node.node.outputs.size() > 1;
  // A table of positions for each of some tasks.
  const std::int64_t lines = axis.outer * axis.inner;
  const std::int64_t tasks = lines * axis.size <= (1 << 14) ? 1 : std::min<std::int64_t>(lines, 64);
  return {[=](const PlainArrays& arrays) {
            if (k == 0 || lines == 0) return;
            const auto* x = static_cast<const T*>(arrays.in[0]);
            auto* values = static_cast<T*>(arrays.out[0]);
            auto* places = indices ? static_cast<std::int64_t*>(arrays.out[1]) : nullptr;
            arrays.team->run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
              const auto t = static_cast<std::int64_t>(task);
              auto* const order = reinterpret_cast<std::int64_t*>(arrays.scratch) + t * axis.size;
              const std::int64_t least = lines / tasks, more = lines % tasks;  // the first tasks have one line more
              const std::int64_t first = least * t + std::min(t, more), end = first + least + (t < more ? 1 : 0);
              for (std::int64_t line = first; line < end; ++line) {
                const std::int64_t outer = line / axis.inner, inner = line % axis.inner;
                const T* const from = x + outer * axis.size * axis.inner + inner;
                for (std::int64_t i = 0; i < axis.size; ++i) order[i] = i;
                std::partial_sort(order, order + k, order + axis.size, [&](std::int64_t a, std::int64_t b) {
                  const T left = from[a * axis.inner], right = from[b * axis.inner];
                  if (before(left, right, largest)) return true;
                  return !before(right, left, largest) && a < b;
                });
                for (std::int64_t i = 0; i < k; ++i) {
                  const std::int64_t to = (outer * k + i) * axis.inner + inner;
                  if (values != nullptr) values[to] = from[order[i] * axis.inner];
                  if (places != nullptr) places[to] = order[i];
                }
              }
            });
          },
          static_cast<std::uint64_t>(tasks * axis.size) * sizeof(std::int64_t)};
}

PlainKernel prepare_top_k(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return top_k<T>(node); });
}

// Lines that lie side by side are summed together, in double for floating point.
template <class T>
PlainKernel running_sum(const PlainNode& node) {
  using Total = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;
  const Axis axis = axis_of(node.inputs[0]->shape, (*graph::known_integers(*node.inputs[1]))[0]);
  const bool exclusive = graph::int_attribute(node.node, "exclusive", 0) != 0, reverse = graph::int_attribute(node.node, "reverse", 0) != 0;
  return {[=](const PlainArrays& arrays) {
    constexpr std::int64_t width = 128;
    const auto* x = static_cast<const T*>(arrays.in[0]);
    auto* y = static_cast<T*>(arrays.out[0]);
    if (axis.outer * axis.size * axis.inner == 0) return;
    const std::int64_t blocks = engine::ceil_div(axis.inner, width), pieces = axis.outer * blocks;
    const std::int64_t work = axis.size * std::min(width, axis.inner), each = std::max<std::int64_t>(1, (1 << 15) / work);
    arrays.team->run(static_cast<std::size_t>(engine::ceil_div(pieces, each)), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * each;
      for (std::int64_t piece = first; piece < std::min(pieces, first + each); ++piece) {
        const std::int64_t column = piece % blocks * width, start = piece / blocks * axis.size * axis.inner + column;
        const auto columns = static_cast<std::size_t>(std::min(width, axis.inner - column));
        std::array<Total, width> totals;
        std::fill_n(totals.begin(), columns, Total{0});
        for (std::int64_t i = 0; i < axis.size; ++i) {
          const std::int64_t at = start + (reverse ? axis.size - 1 - i : i) * axis.inner;
          const T* const from = x + at;
          T* const to = y + at;
          for (std::size_t j = 0; j < columns; ++j) {
            const Total before_it = totals[j], with_it = before_it + static_cast<Total>(from[j]);
            to[j] = static_cast<T>(exclusive ? before_it : with_it);
            totals[j] = with_it;
          }
        }
      }
    });
  }};
}

PlainKernel prepare_running_sum(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return running_sum<T>(node); });
}

}  // namespace

void add_plain_along_axis(PlainOperators& t) {
  t["ArgMax"] = prepare_arg<true>;
  t["ArgMin"] = prepare_arg<false>;
  t["TopK"] = prepare_top_k;
  t["CumSum"] = prepare_running_sum;
}

}  // namespace bittern::plan
