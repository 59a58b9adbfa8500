// Plain operators: elements selected by index, and arrays made out of few numbers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "graph/move.h"
#include "ops/move.h"
#include "ops/select.h"
#include "plan/plain_move.h"

namespace bittern::plan {
namespace {

using engine::Indices;

Indices indices_of(const PlainArrays& a, std::size_t i, bool wide) { return {a.in[i], wide}; }

std::size_t axis_of(const PlainNode& p, std::int64_t fallback, std::size_t rank) {
  const std::int64_t axis = graph::int_attribute(p.node, "axis", fallback);
  return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis);
}

std::int64_t count_of(const graph::ValueType& type) { return graph::element_count(type.shape, "a value"); }

bool wide(const PlainNode& p, std::size_t i) { return p.inputs[i]->dtype == DType::i64; }

// Calls body with a value of the C++ type of elements.
template <class Body>
PlainKernel with_type(DType type, const Body& body) {
  switch (type) {
    case DType::i8: return body(std::int8_t{});
    case DType::i16: return body(std::int16_t{});
    case DType::u16: return body(std::uint16_t{});
    case DType::i32: return body(std::int32_t{});
    case DType::u32: return body(std::uint32_t{});
    case DType::i64: return body(std::int64_t{});
    case DType::u64: return body(std::uint64_t{});
    case DType::f32: return body(float{});
    default: return body(std::uint8_t{});  // u8, bool
  }
}

PlainKernel prepare_gather(const PlainNode& p) {
  const graph::Around s = graph::around(p.inputs[0]->shape, axis_of(p, 0, p.inputs[0]->shape.size()));
  if (count_of(p.outputs[0]) == 0) return {[](const PlainArrays&) {}};
  const engine::GatherShape shape{s.outer, s.axis, count_of(*p.inputs[1]), s.inner * element_size(*p.inputs[0])};
  return {[shape, wide = wide(p, 1)](const PlainArrays& a) { engine::gather(shape, a.in[0], indices_of(a, 1, wide), a.out[0], *a.team); }};
}

PlainKernel prepare_gather_elements(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const engine::ElementSelection selection(p.inputs[1]->shape, x, axis_of(p, 0, x.size()));
  return {[selection, size = element_size(*p.inputs[0]), wide = wide(p, 1)](const PlainArrays& a) {
    selection.gather(size, a.in[0], indices_of(a, 1, wide), a.out[0], *a.team);
  }};
}

engine::TupleSelection tuples(const PlainNode& p, std::size_t batch) {
  const Shape& indices = p.inputs[1]->shape;
  return {Shape(indices.begin(), indices.end() - 1), p.inputs[0]->shape, batch, static_cast<std::size_t>(indices.back())};
}

PlainKernel prepare_gather_nd(const PlainNode& p) {
  if (count_of(p.outputs[0]) == 0) return {[](const PlainArrays&) {}};
  return {[selection = tuples(p, static_cast<std::size_t>(graph::int_attribute(p.node, "batch_dims", 0))), size = element_size(*p.inputs[0]),
           wide = wide(p, 1)](const PlainArrays& a) { selection.gather(size, a.in[0], indices_of(a, 1, wide), a.out[0], *a.team); }};
}

enum class Reduction { none, add, mul, min, max };

Reduction reduction_of(const PlainNode& p) {
  const std::string name = graph::string_attribute(p.node, "reduction", "none");
  Reduction reduction = Reduction::none;
  if (name == "add") reduction = Reduction::add;
  if (name == "mul") reduction = Reduction::mul;
  if (name == "min") reduction = Reduction::min;
  if (name == "max") reduction = Reduction::max;
  if (p.inputs[0]->dtype == DType::boolean) {  // or, and
    if (reduction == Reduction::add) reduction = Reduction::max;
    if (reduction == Reduction::mul) reduction = Reduction::min;
  }
  return reduction;
}

// Calls body with a function combine(T& y, T update). Integers wrap; a NaN on either side stays.
template <class T, class Body>
void with_reduction(Reduction reduction, const Body& body) {
  if constexpr (std::is_same_v<T, float>) {
    switch (reduction) {
      case Reduction::none: return body([](T& y, T u) { y = u; });
      case Reduction::add: return body([](T& y, T u) { y += u; });
      case Reduction::mul: return body([](T& y, T u) { y *= u; });
      case Reduction::min: return body([](T& y, T u) { y = u < y || std::isnan(u) ? u : y; });
      case Reduction::max: return body([](T& y, T u) { y = u > y || std::isnan(u) ? u : y; });
    }
  } else {
    switch (reduction) {
      case Reduction::none: return body([](T& y, T u) { y = u; });
      case Reduction::add: return body([](T& y, T u) { y = static_cast<T>(static_cast<std::uint64_t>(y) + static_cast<std::uint64_t>(u)); });
      case Reduction::mul: return body([](T& y, T u) { y = static_cast<T>(static_cast<std::uint64_t>(y) * static_cast<std::uint64_t>(u)); });
      case Reduction::min: return body([](T& y, T u) { y = std::min(y, u); });
      case Reduction::max: return body([](T& y, T u) { y = std::max(y, u); });
    }
  }
}

// Both scatter operators: a copy of the data, then `scatter(arrays, updates, y, combine)`.
template <class Scatter>
PlainKernel prepare_scatter(const PlainNode& p, const Scatter& scatter) {
  const std::int64_t bytes = bytes_of(p.outputs[0]);
  if (bytes == 0) return {[](const PlainArrays&) {}};
  const Reduction reduction = reduction_of(p);
  return with_type(p.inputs[0]->dtype, [&](auto sample) -> PlainKernel {
    using T = decltype(sample);
    return {[=](const PlainArrays& a) {
      engine::copy(a.in[0], a.out[0], bytes, *a.team);
      with_reduction<T>(reduction, [&](const auto& combine) { scatter(a, static_cast<const T*>(a.in[2]), static_cast<T*>(a.out[0]), combine); });
    }};
  });
}

PlainKernel prepare_scatter_elements(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const engine::ElementSelection selection(p.inputs[1]->shape, x, axis_of(p, 0, x.size()));
  return prepare_scatter(p, [selection, wide = wide(p, 1)](const PlainArrays& a, const auto* updates, auto* y, const auto& combine) {
    selection.scatter(indices_of(a, 1, wide), updates, y, *a.team, combine);
  });
}

PlainKernel prepare_scatter_nd(const PlainNode& p) {
  return prepare_scatter(p, [selection = tuples(p, 0), wide = wide(p, 1)](const PlainArrays& a, const auto* updates, auto* y, const auto& combine) {
    selection.scatter(indices_of(a, 1, wide), updates, y, combine);
  });
}

// The truncated value; none of 0 to 2^44 where there is no such integer.
template <class T>
std::int64_t index_from(T value) {
  if constexpr (std::is_same_v<T, float>) {
    return std::abs(value) < 1e15f ? static_cast<std::int64_t>(value) : std::numeric_limits<std::int64_t>::max();
  } else if constexpr (std::is_same_v<T, std::uint64_t>) {
    return static_cast<std::int64_t>(std::min(value, static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())));
  } else {
    return static_cast<std::int64_t>(value);
  }
}

PlainKernel prepare_one_hot(const PlainNode& p) {
  const Shape& y = p.outputs[0].shape;
  const graph::Around s = graph::around(y, axis_of(p, -1, y.size()));
  const int size = element_size(p.outputs[0]);
  if (count_of(p.outputs[0]) == 0) return {[](const PlainArrays&) {}};
  return with_type(p.inputs[0]->dtype, [&](auto sample) -> PlainKernel {
    using T = decltype(sample);
    return {[=](const PlainArrays& a) {
      const auto* indices = static_cast<const T*>(a.in[0]);
      const auto* off = static_cast<const std::byte*>(a.in[2]);
      auto* target = static_cast<std::byte*>(a.out[0]);
      engine::in_pieces(*a.team, s.outer, s.axis * s.inner, [&](std::int64_t first, std::int64_t last) {
        engine::fill(target + first * s.axis * s.inner * size, off, size, (last - first) * s.axis * s.inner);
        for (std::int64_t i = first * s.inner; i < last * s.inner; ++i) {
          const std::int64_t at = engine::from_front(index_from(indices[i]), s.axis);
          if (at < 0 || at >= s.axis) continue;
          std::memcpy(target + ((i / s.inner * s.axis + at) * s.inner + i % s.inner) * size, off + size, static_cast<std::size_t>(size));
        }
      });
    }};
  });
}

PlainKernel prepare_constant_of_shape(const PlainNode& p) {
  return {[size = element_size(p.outputs[0]), count = count_of(p.outputs[0])](const PlainArrays& a) {
    engine::in_pieces(*a.team, count, 1, [&](std::int64_t first, std::int64_t last) {
      engine::fill(static_cast<std::byte*>(a.out[0]) + first * size, a.in[1], size, last - first);
    });
  }};
}

PlainKernel prepare_range(const PlainNode& p) {
  const std::int64_t count = count_of(p.outputs[0]);
  return with_type(p.outputs[0].dtype, [&](auto sample) -> PlainKernel {
    using T = decltype(sample);
    return {[count](const PlainArrays& a) {
      const T start = *static_cast<const T*>(a.in[0]), delta = *static_cast<const T*>(a.in[2]);
      auto* y = static_cast<T*>(a.out[0]);
      for (std::int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<T, float>) {
          y[i] = static_cast<float>(static_cast<double>(start) + static_cast<double>(i) * static_cast<double>(delta));
        } else {
          y[i] = static_cast<T>(static_cast<std::uint64_t>(start) + static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(delta));
        }
      }
    }};
  });
}

// Diagonals are counted from the main one, upwards; beyond any array all are the same.
std::int64_t diagonal(std::int64_t k) { return std::clamp<std::int64_t>(k, -2 * graph::most_elements, 2 * graph::most_elements); }

PlainKernel prepare_eye_like(const PlainNode& p) {
  const std::int64_t rows = p.outputs[0].shape[0], columns = p.outputs[0].shape[1], k = diagonal(graph::int_attribute(p.node, "k", 0));
  const std::int64_t bytes = bytes_of(p.outputs[0]);
  if (bytes == 0) return {[](const PlainArrays&) {}};
  return with_type(p.outputs[0].dtype, [&](auto sample) -> PlainKernel {
    using T = decltype(sample);
    return {[=](const PlainArrays& a) {
      auto* y = static_cast<T*>(a.out[0]);
      std::memset(y, 0, static_cast<std::size_t>(bytes));
      for (std::int64_t r = std::max<std::int64_t>(0, -k); r < rows && r + k < columns; ++r) y[r * columns + r + k] = T{1};
    }};
  });
}

PlainKernel prepare_trilu(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const std::int64_t rows = x[x.size() - 2], columns = x.back();
  const std::int64_t k = diagonal(graph::given(p.inputs, 1) ? (*graph::known_integers(*p.inputs[1]))[0] : 0);
  const bool upper = graph::int_attribute(p.node, "upper", 1) != 0;
  const int size = element_size(p.outputs[0]);
  const std::int64_t count = count_of(p.outputs[0]);
  if (count == 0) return {[](const PlainArrays&) {}};
  return {[=](const PlainArrays& a) {
    const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements * size); };
    engine::in_pieces(*a.team, count / columns, columns, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        // Elements from `from` to `to` stay.
        const std::int64_t edge = std::clamp<std::int64_t>(r % rows + k + (upper ? 0 : 1), 0, columns);
        const std::int64_t from = upper ? edge : 0, to = upper ? columns : edge;
        const std::byte* source = static_cast<const std::byte*>(a.in[0]) + r * columns * size;
        std::byte* target = static_cast<std::byte*>(a.out[0]) + r * columns * size;
        std::memset(target, 0, bytes(from));
        std::memcpy(target + from * size, source + from * size, bytes(to - from));
        std::memset(target + to * size, 0, bytes(columns - to));
      }
    });
  }};
}

PlainKernel prepare_reverse_sequence(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const bool time_first = graph::int_attribute(p.node, "time_axis", 0) == 0;
  const std::int64_t times = x[time_first ? 0 : 1], batches = x[time_first ? 1 : 0];
  std::int64_t block = element_size(*p.inputs[0]);
  for (std::size_t d = 2; d < x.size(); ++d) block *= x[d];
  if (count_of(p.outputs[0]) == 0) return {[](const PlainArrays&) {}};
  return {[=, wide = wide(p, 1)](const PlainArrays& a) {
    const Indices lengths = indices_of(a, 1, wide);
    engine::in_pieces(*a.team, times * batches, block, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        const std::int64_t time = time_first ? r / batches : r % times, batch = time_first ? r % batches : r / times;
        const std::int64_t length = std::clamp<std::int64_t>(lengths[batch], 0, times), from = time < length ? length - 1 - time : time;
        const std::int64_t source = time_first ? from * batches + batch : batch * times + from;
        const auto* reversed = static_cast<const std::byte*>(a.in[0]) + source * block;
        std::memcpy(static_cast<std::byte*>(a.out[0]) + r * block, reversed, static_cast<std::size_t>(block));
      }
    });
  }};
}

PlainKernel prepare_compress(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  if (count_of(p.outputs[0]) == 0) return {[](const PlainArrays&) {}};
  const bool flat = p.node.attributes.count("axis") == 0;
  const graph::Around s = flat ? graph::Around{1, count_of(*p.inputs[0]), 1} : graph::around(x, axis_of(p, 0, x.size()));
  auto positions = graph::kept_positions(p.node, p.inputs);
  const auto count = static_cast<std::int64_t>(positions.size());
  for (std::int64_t& position : positions) position *= s.inner;
  std::vector<engine::TakeAxis> axes{{s.outer, s.axis * s.inner, {}}, {count, 0, std::move(positions)}, {s.inner, 1, {}}};
  const engine::Take take(std::move(axes), 0, element_size(p.outputs[0]));
  return {[take](const PlainArrays& a) { take.run(a.in[0], nullptr, a.out[0], *a.team); }};
}

PlainKernel prepare_non_zero(const PlainNode& p) {
  const Shape& x = p.inputs[0]->shape;
  const auto strides = strides_of(x);
  const auto values = *graph::known_reals(*p.inputs[0]);
  std::vector<std::int64_t> result;
  for (std::size_t d = 0; d < x.size(); ++d) {
    for (std::size_t i = 0; i < values.size(); ++i)
      if (values[i] != 0) result.push_back(static_cast<std::int64_t>(i) / strides[d] % x[d]);
  }
  return {[result = std::move(result)](const PlainArrays& a) {
    if (!result.empty()) std::memcpy(a.out[0], result.data(), result.size() * sizeof(std::int64_t));
  }};
}

}  // namespace

void add_plain_select(PlainOperators& t) {
  t["Gather"] = prepare_gather;
  t["GatherElements"] = prepare_gather_elements;
  t["GatherND"] = prepare_gather_nd;
  t["ScatterElements"] = prepare_scatter_elements;
  t["ScatterND"] = prepare_scatter_nd;
  t["OneHot"] = prepare_one_hot;
  t["ConstantOfShape"] = prepare_constant_of_shape;
  t["Range"] = prepare_range;
  t["EyeLike"] = prepare_eye_like;
  t["Trilu"] = prepare_trilu;
  t["ReverseSequence"] = prepare_reverse_sequence;
  t["Compress"] = prepare_compress;
  t["NonZero"] = prepare_non_zero;
}

}  // namespace bittern::plan
