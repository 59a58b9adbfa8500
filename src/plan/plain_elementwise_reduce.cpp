// Plain operators that reduce along axes.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/broadcast.h"
#include "ops/elements.h"
#include "graph/schema.h"
#include "plan/element_types.h"
#include "plan/plain_elementwise.h"

namespace bittern::plan {
namespace {

// What follows are reductions: a sum of parts that starts at Total{}, takes elements, joins other sums, and gives a result.
// Floating-point sums are kept in double.
template <class T>
using Exact = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;  // integers: modulo 2^64

template <class T>
constexpr Exact<T> exact(T x) {
  return static_cast<Exact<T>>(x);
}

template <class T>
struct Sum {
  Exact<T> sum = 0;
  void take(T x) { sum += exact(x); }
  void join(const Sum& other) { sum += other.sum; }
  T result(std::int64_t) const { return static_cast<T>(sum); }
};

template <class T>
struct SumOfMagnitudes : Sum<T> {
  void take(T x) { this->sum += exact(engine::magnitude(x)); }
};

template <class T>
struct SumOfSquares : Sum<T> {
  void take(T x) { this->sum += exact(x) * exact(x); }
};

template <class T>
struct Mean : Sum<T> {
  T result(std::int64_t count) const {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(this->sum / static_cast<double>(count));
    } else if constexpr (std::is_signed_v<T>) {
      return static_cast<T>(engine::Quotient{}(static_cast<std::int64_t>(this->sum), count));
    } else {
      return static_cast<T>(engine::Quotient{}(this->sum, static_cast<std::uint64_t>(count)));
    }
  }
};

template <class T>
struct Product {
  Exact<T> product = 1;
  void take(T x) { product *= exact(x); }
  void join(const Product& other) { product *= other.product; }
  T result(std::int64_t) const { return static_cast<T>(product); }
};

template <class T>
struct Length {
  double sum = 0;
  void take(T x) { sum += static_cast<double>(x) * static_cast<double>(x); }
  void join(const Length& other) { sum += other.sum; }
  T result(std::int64_t) const { return engine::converted<T>(std::sqrt(sum)); }
};

template <class T>
struct LogOfSum {
  double sum = 0;
  void take(T x) { sum += static_cast<double>(x); }
  void join(const LogOfSum& other) { sum += other.sum; }
  T result(std::int64_t) const { return engine::converted<T>(std::log(sum)); }
};

// Relative to the largest element so far, so that nothing overflows.
template <class T>
struct LogOfSumOfPowers {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  void take(T x) { add(static_cast<double>(x), 1.0); }
  void join(const LogOfSumOfPowers& other) { add(other.largest, other.sum); }
  void add(double x, double weight) {
    if (x == largest) {
      sum += weight;
    } else if (x < largest) {
      sum += weight * std::exp(x - largest);
    } else {
      sum = sum * std::exp(largest - x) + weight;  // also where x is NaN
      largest = x;
    }
  }
  T result(std::int64_t) const { return engine::converted<T>(sum > 0 ? largest + std::log(sum) : engine::is_nan(sum) ? sum : largest); }
};

template <class T>
struct Largest {
  T value = std::numeric_limits<T>::has_infinity ? static_cast<T>(-std::numeric_limits<T>::infinity()) : std::numeric_limits<T>::lowest();
  void take(T x) { value = engine::Larger{}(value, x); }
  void join(const Largest& other) { take(other.value); }
  T result(std::int64_t) const { return value; }
};

template <class T>
struct Smallest {
  T value = std::numeric_limits<T>::has_infinity ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  void take(T x) { value = engine::Lesser{}(value, x); }
  void join(const Smallest& other) { take(other.value); }
  T result(std::int64_t) const { return value; }
};

// Booleans: any byte but 0 is true.
struct Any {
  std::uint8_t value = 0;
  void take(std::uint8_t x) { value = static_cast<std::uint8_t>(value | (x != 0 ? 1 : 0)); }
  void join(const Any& other) { take(other.value); }
  std::uint8_t result(std::int64_t) const { return value; }
};

struct All {
  std::uint8_t value = 1;
  void take(std::uint8_t x) { value = static_cast<std::uint8_t>(value & (x != 0 ? 1 : 0)); }
  void join(const All& other) { take(other.value); }
  std::uint8_t result(std::int64_t) const { return value; }
};

// Offsets of the elements that some dimensions span, by number in C order.
struct Steps {
  std::size_t rank = 0;
  std::array<std::int64_t, graph::max_rank> sizes = {}, strides = {};
  std::int64_t count = 1;

  void add(std::int64_t size, std::int64_t stride) {
    sizes[rank] = size;
    strides[rank++] = stride;
    count *= size;
  }
  std::int64_t at(std::int64_t number) const {
    std::int64_t offset = 0;
    for (std::size_t d = rank; d-- > 0;) {
      offset += (d == 0 ? number : number % sizes[d]) * strides[d];
      number /= sizes[d];
    }
    return offset;
  }
};

// The dimensions, neighbours of one kind merged, and the last of them apart.
struct Reduction {
  Steps kept, reduced;  // without the last
  bool last_reduced = false;
  std::int64_t last = 1;       // its size
  std::int64_t per_result = 1; // elements
  std::int64_t results = 1;
};

Reduction reduction_of(const PlainNode& node) {
  const Shape& x = node.inputs[0]->shape;
  const bool listed = node.inputs.size() > 1 && node.inputs[1] != nullptr;
  const auto axes = listed ? *graph::known_integers(*node.inputs[1]) : std::vector<std::int64_t>{};
  const bool all = axes.empty() && graph::int_attribute(node.node, "noop_with_empty_axes", 0) == 0;
  std::vector<bool> reduce(x.size(), all);
  for (const std::int64_t axis : axes) reduce[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis)] = true;

  struct Dimension {
    std::int64_t size;
    bool reduced;
  };
  std::vector<Dimension> merged;
  Reduction r;
  for (std::size_t d = 0; d < x.size(); ++d) {
    (reduce[d] ? r.per_result : r.results) *= x[d];
    if (x[d] == 1) continue;
    if (!merged.empty() && merged.back().reduced == reduce[d]) {
      merged.back().size *= x[d];
    } else {
      merged.push_back({x[d], reduce[d]});
    }
  }
  if (merged.empty() || r.per_result == 0 || r.results == 0) return r;
  r.last = merged.back().size;
  r.last_reduced = merged.back().reduced;
  merged.pop_back();
  std::vector<std::int64_t> strides(merged.size());
  std::int64_t stride = r.last;
  for (std::size_t d = merged.size(); d-- > 0; stride *= merged[d].size) strides[d] = stride;
  for (std::size_t d = 0; d < merged.size(); ++d) (merged[d].reduced ? r.reduced : r.kept).add(merged[d].size, strides[d]);
  return r;
}

constexpr std::size_t lanes = 16;  // partial sums that advance together

// One result: all its elements lie in runs of `last`.
template <class T, class Total>
void reduce_runs(const Reduction& r, const void* array, std::int64_t start, void* y, std::int64_t at) {
  const T* const x = static_cast<const T*>(array) + start;
  const auto run = static_cast<std::size_t>(r.last);
  std::array<Total, lanes> totals;
  for (std::int64_t j = 0; j < r.reduced.count; ++j) {
    const T* const from = x + r.reduced.at(j);
    std::size_t i = 0;
    for (; i + lanes <= run; i += lanes)
      for (std::size_t lane = 0; lane < lanes; ++lane) totals[lane].take(from[i + lane]);
    for (; i < run; ++i) totals[0].take(from[i]);
  }
  if (run >= lanes)
    for (std::size_t lane = 1; lane < lanes; ++lane) totals[0].join(totals[lane]);
  static_cast<T*>(y)[at] = totals[0].result(r.per_result);
}

// `size` results side by side.
constexpr std::size_t block = 64;
template <class T, class Total>
void reduce_columns(const Reduction& r, const void* array, std::int64_t start, void* y, std::int64_t at, std::size_t size) {
  const T* const x = static_cast<const T*>(array) + start;
  std::array<Total, block> totals;
  for (std::int64_t j = 0; j < r.reduced.count; ++j) {
    const T* const from = x + r.reduced.at(j);
    for (std::size_t i = 0; i < size; ++i) totals[i].take(from[i]);
  }
  for (std::size_t i = 0; i < size; ++i) static_cast<T*>(y)[static_cast<std::size_t>(at) + i] = totals[i].result(r.per_result);
}

template <class T, class Total>
void reduce_nothing(const Reduction& r, void* y) {
  std::fill_n(static_cast<T*>(y), r.results, Total{}.result(r.per_result));
}

// A reduction of some type behind one signature: what finds the pieces is compiled once.
struct Pieces {
  void (*runs)(const Reduction& r, const void* x, std::int64_t start, void* y, std::int64_t at);
  void (*columns)(const Reduction& r, const void* x, std::int64_t start, void* y, std::int64_t at, std::size_t size);
  void (*nothing)(const Reduction& r, void* y);
};

PlainKernel reduce_pieces(const PlainNode& node, Pieces of) {
  return {[of, r = reduction_of(node)](const PlainArrays& arrays) {
    const void* const x = arrays.in[0];
    void* const y = arrays.out[0];
    if (r.per_result == 0 || r.results == 0) return of.nothing(r, y);
    // Pieces of the results: single ones, or blocks of columns. A task has enough of them to be worth starting.
    const auto width = static_cast<std::int64_t>(block);
    const std::int64_t blocks = r.last_reduced ? 1 : engine::ceil_div(r.last, width), pieces = r.kept.count * blocks;
    const std::int64_t work = r.last_reduced ? r.per_result : r.per_result * std::min(width, r.last);
    const std::int64_t each = r.results * r.per_result <= (1 << 16) ? pieces : std::max<std::int64_t>(1, (1 << 15) / work);
    arrays.team->run(static_cast<std::size_t>(engine::ceil_div(pieces, each)), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * each;
      for (std::int64_t piece = first; piece < std::min(pieces, first + each); ++piece) {
        if (r.last_reduced) {
          of.runs(r, x, r.kept.at(piece), y, piece);
        } else {
          const std::int64_t row = piece / blocks, from = piece % blocks * width;
          of.columns(r, x, r.kept.at(row) + from, y, row * r.last + from, static_cast<std::size_t>(std::min(width, r.last - from)));
        }
      }
    });
  }};
}

template <class T, class Total>
PlainKernel reduce(const PlainNode& node) {
  return reduce_pieces(node, {reduce_runs<T, Total>, reduce_columns<T, Total>, reduce_nothing<T, Total>});
}

template <template <class> class Total>
PlainKernel of_numbers(const PlainNode& node) {
  return with_number(node.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) { return reduce<T, Total<T>>(node); });
}

template <template <class> class Total, class OfBooleans>
PlainKernel of_elements(const PlainNode& node) {
  return node.inputs[0]->dtype == DType::boolean ? reduce<std::uint8_t, OfBooleans>(node) : of_numbers<Total>(node);
}

}  // namespace

void add_plain_reduce(PlainOperators& t) {
  t["ReduceL1"] = of_numbers<SumOfMagnitudes>;
  t["ReduceL2"] = of_numbers<Length>;
  t["ReduceLogSum"] = of_numbers<LogOfSum>;
  t["ReduceLogSumExp"] = of_numbers<LogOfSumOfPowers>;
  t["ReduceMean"] = of_numbers<Mean>;
  t["ReduceProd"] = of_numbers<Product>;
  t["ReduceSum"] = of_numbers<Sum>;
  t["ReduceSumSquare"] = of_numbers<SumOfSquares>;
  t["ReduceMax"] = of_elements<Largest, Any>;
  t["ReduceMin"] = of_elements<Smallest, All>;
}

}  // namespace bittern::plan
