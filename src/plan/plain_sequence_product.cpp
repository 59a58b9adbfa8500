// Plain operators: MatMul and Gemm with matrices computed at run time, and of integers.
#include <algorithm>
#include <cstring>
#include <memory>
#include <type_traits>

#include "gemm/product.h"
#include "graph/quantize.h"
#include "plan/plain_quantize.h"
#include "plan/plain_sequence.h"

namespace bittern::plan {
namespace {

using engine::Product;
using engine::Team;

// Tiles keep a list of panels of columns.
constexpr std::int64_t most_columns = 1 << 24;

std::int64_t product_of(const Shape& shape, std::size_t first, std::size_t last) {
  std::int64_t count = 1;
  for (std::size_t i = first; i < last; ++i) count *= shape[i];
  return count;
}

// Matrices that are multiplied, one pair per index of the outer sizes. No table of them: shapes alone must not take memory.
struct Pairs {
  std::int64_t m = 1, k = 1, n = 1, count = 1;
  std::int64_t b_count = 1;                      // matrices of B
  std::vector<std::int64_t> sizes, a_steps, b_steps;  // outer sizes; between matrices, 0 where they repeat

  std::int64_t a(std::int64_t pair) const { return at(pair, a_steps); }
  std::int64_t b(std::int64_t pair) const { return at(pair, b_steps); }

 private:
  std::int64_t at(std::int64_t pair, const std::vector<std::int64_t>& steps) const {
    std::int64_t matrix = 0;
    for (std::size_t d = sizes.size(); d-- > 0; pair /= sizes[d]) matrix += pair % sizes[d] * steps[d];
    return matrix;
  }
};

// Of tensors without empty dimensions.
Pairs pairs_of(const Shape& a_shape, const Shape& b_shape) {
  Shape a = a_shape, b = b_shape;
  if (a.size() == 1) a.insert(a.begin(), 1);
  if (b.size() == 1) b.push_back(1);
  Pairs p;
  p.m = a[a.size() - 2], p.k = a.back(), p.n = b.back();
  p.b_count = product_of(b, 0, b.size() - 2);
  if (p.b_count == 1) {  // one matrix for all: their rows follow each other
    p.m = product_of(a, 0, a.size() - 1);
    return p;
  }
  const std::size_t rank = std::max(a.size(), b.size()) - 2;
  a.insert(a.begin(), rank + 2 - a.size(), 1);
  b.insert(b.begin(), rank + 2 - b.size(), 1);
  for (std::size_t d = 0; d < rank; ++d) {
    p.sizes.push_back(std::max(a[d], b[d]));
    p.a_steps.push_back(a[d] == 1 ? 0 : product_of(a, d + 1, rank));
    p.b_steps.push_back(b[d] == 1 ? 0 : product_of(b, d + 1, rank));
  }
  p.count = product_of(p.sizes, 0, rank);
  return p;
}

// Calls f(T{}) for the element type; all others have been refused.
template <class F>
auto for_factor(DType type, const F& f) {
  switch (type) {
    case DType::i32:
    case DType::u32: return f(std::uint32_t{});
    case DType::i64:
    case DType::u64: return f(std::uint64_t{});
    default: return f(float{});
  }
}

// Columns [first, last) of a row y = x B, B stored as k x n. Integers wrap around, which is the same with and without a sign.
template <class T>
void multiply_row(const T* x, const T* b, T* y, std::int64_t k, std::int64_t n, std::int64_t first, std::int64_t last) {
  std::fill(y + first, y + last, T{});
  for (std::int64_t j = 0; j < k; ++j) {
    const T factor = x[j];
    const T* row = b + j * n;
    for (std::int64_t o = first; o < last; ++o) y[o] += factor * row[o];
  }
}

template <class T>
PlainKernel multiply_pairs(Pairs pairs) {
  constexpr std::int64_t stretch = 1024;
  const std::int64_t stretches = (pairs.n + stretch - 1) / stretch;
  PlainKernel kernel;
  kernel.run = [p = std::move(pairs), stretches](const PlainArrays& arrays) {
    const T *a = static_cast<const T*>(arrays.in[0]), *b = static_cast<const T*>(arrays.in[1]);
    T* y = static_cast<T*>(arrays.out[0]);
    arrays.team->run(static_cast<std::size_t>(p.count * p.m * stretches), [&](std::size_t task) {
      const std::int64_t index = static_cast<std::int64_t>(task) / stretches, first = static_cast<std::int64_t>(task) % stretches * stretch;
      const std::int64_t pair = index / p.m, row = index % p.m;
      multiply_row(a + (p.a(pair) * p.m + row) * p.k, b + p.b(pair) * p.k * p.n, y + index * p.n, p.k, p.n, first, std::min(p.n, first + stretch));
    });
  };
  return kernel;
}

// All of y = x B, B stored as k x n, or as n x k if `rows`.
template <class T>
void multiply(const T* x, const T* b, T* y, std::int64_t m, std::int64_t k, std::int64_t n, bool rows) {
  for (std::int64_t i = 0; i < m; ++i) {
    if (!rows) {
      multiply_row(x + i * k, b, y + i * n, k, n, 0, n);
      continue;
    }
    for (std::int64_t o = 0; o < n; ++o) {
      T sum{};
      for (std::int64_t j = 0; j < k; ++j) sum += x[i * k + j] * b[o * k + j];
      y[i * n + o] = sum;
    }
  }
}

PlainKernel zeros(std::int64_t bytes) {
  PlainKernel kernel;
  kernel.run = [bytes](const PlainArrays& arrays) {
    if (bytes > 0) std::memset(arrays.out[0], 0, static_cast<std::size_t>(bytes));
  };
  return kernel;
}

}  // namespace

PlainKernel prepare_matmul(const PlainNode& node) {
  if (const std::int64_t bytes = bytes_of(node.outputs[0]); bytes == 0 || node.inputs[0]->shape.back() == 0) return zeros(bytes);
  Pairs p = pairs_of(node.inputs[0]->shape, node.inputs[1]->shape);
  const double macs = static_cast<double>(p.m * p.n) * static_cast<double>(p.k) * static_cast<double>(p.count);
  // A single row of A meets every element of B once: packing would take as long as the product.
  if (node.inputs[0]->dtype != DType::f32 || p.m == 1 || p.n > most_columns) {
    PlainKernel kernel = for_factor(node.inputs[0]->dtype, [&](auto type) { return multiply_pairs<decltype(type)>(std::move(p)); });
    kernel.macs = macs;
    return kernel;
  }
  const auto product = std::make_shared<const Product>(node.isa, p.m, p.k, p.n);
  const std::int64_t each = product->packed_floats();
  const auto pack_all = [=, count = p.b_count, size = p.k * p.n](const float* b, float* to) {
    for (std::int64_t i = 0; i < count; ++i) product->pack_columns(b + i * size, to + i * each);
  };
  const float* packed = node.pack ? node.pack(1, std::string("product ") + product->kernel().name, p.b_count * each, pack_all) : nullptr;
  // Many small products are shared out whole, each task with a packed matrix of its own; few large ones are taken in turn.
  const std::int64_t count = p.count;
  const std::int64_t tasks = count >= 4 ? std::min<std::int64_t>(count, 16) : 1;
  PlainKernel kernel;
  kernel.macs = macs;
  kernel.product = &product->kernel();
  if (packed == nullptr) kernel.scratch_bytes = static_cast<std::uint64_t>(tasks * each) * sizeof(float);
  kernel.run = [=, p = std::move(p)](const PlainArrays& arrays) {
    const float *a = static_cast<const float*>(arrays.in[0]), *b = static_cast<const float*>(arrays.in[1]);
    float* y = static_cast<float*>(arrays.out[0]);
    const auto run = [&](std::int64_t task, Team& team) {
      float* own = packed == nullptr ? reinterpret_cast<float*>(arrays.scratch) + task * each : nullptr;
      std::int64_t last = -1;
      for (std::int64_t i = count * task / tasks; i < count * (task + 1) / tasks; ++i) {
        const std::int64_t matrix = p.b(i);
        if (packed == nullptr && matrix != last) product->pack_columns(b + matrix * p.k * p.n, own);
        last = matrix;
        product->run(a + p.a(i) * p.m * p.k, packed != nullptr ? packed + matrix * each : own, nullptr, nullptr, y + i * p.m * p.n, team);
      }
    };
    if (tasks == 1) return run(0, *arrays.team);
    arrays.team->run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      Team alone(1);
      run(static_cast<std::int64_t>(task), alone);
    });
  };
  return kernel;
}

// Exact modulo 2^32, zero points subtracted first.
PlainKernel prepare_matmul_integer(const PlainNode& node) {
  if (const std::int64_t bytes = bytes_of(node.outputs[0]); bytes == 0 || node.inputs[0]->shape.back() == 0) return zeros(bytes);
  const auto centred = [&](std::size_t input) {
    const graph::ValueType* zero = input + 2 < node.inputs.size() ? node.inputs[input + 2] : nullptr;
    const Shape shape = zero != nullptr ? graph::matmul_zero_shape(node.inputs[input]->shape, zero->shape, input == 0) : Shape{};
    return Centred(node, input, input + 2, shape);
  };
  const Centred a = centred(0), b = centred(1);
  const Pairs p = pairs_of(node.inputs[0]->shape, node.inputs[1]->shape);
  PlainKernel kernel = multiply_pairs<std::uint32_t>(p);
  kernel.macs = static_cast<double>(p.m * p.n) * static_cast<double>(p.k) * static_cast<double>(p.count);
  kernel.scratch_bytes = static_cast<std::uint64_t>(a.elements() + b.elements()) * sizeof(std::uint32_t);
  kernel.run = [=, multiply = kernel.run](const PlainArrays& arrays) {
    auto* wide = reinterpret_cast<std::uint32_t*>(arrays.scratch);
    a.run(arrays, wide);
    b.run(arrays, wide + a.elements());
    const void* const factors[] = {wide, wide + a.elements()};
    multiply({factors, arrays.out, arrays.scratch, arrays.team});
  };
  return kernel;
}

namespace {

template <class T>
PlainKernel gemm_of(const PlainNode& node) {
  const bool ta = graph::int_attribute(node.node, "transA", 0) != 0, tb = graph::int_attribute(node.node, "transB", 0) != 0;
  const Shape& a_shape = node.inputs[0]->shape;
  const std::int64_t m = node.outputs[0].shape[0], n = node.outputs[0].shape[1], k = a_shape[ta ? 0 : 1];
  const float alpha = graph::float_attribute(node.node, "alpha", 1.0f), beta = graph::float_attribute(node.node, "beta", 1.0f);
  const bool added = node.inputs.size() > 2 && node.inputs[2] != nullptr;
  const Shape c = added ? node.inputs[2]->shape : Shape{};
  const std::int64_t c_column = c.empty() || c.back() == 1 ? 0 : 1, c_row = c.size() == 2 && c[0] != 1 ? c[1] : 0;
  std::shared_ptr<const Product> product;
  if (std::is_same_v<T, float> && m > 0 && n > 0 && k > 0 && n <= most_columns) product = std::make_shared<const Product>(node.isa, m, k, n);
  PlainKernel kernel;
  kernel.macs = static_cast<double>(m * n) * static_cast<double>(k);
  if (product) kernel.product = &product->kernel();
  const auto rows_bytes = ta ? (static_cast<std::size_t>(m * k) * sizeof(T) + 63) / 64 * 64 : 0;
  kernel.scratch_bytes = rows_bytes + (product ? static_cast<std::size_t>(product->packed_floats()) * sizeof(float) : 0);
  kernel.run = [=](const PlainArrays& arrays) {
    const T *a = static_cast<const T*>(arrays.in[0]), *b = static_cast<const T*>(arrays.in[1]);
    T* y = static_cast<T*>(arrays.out[0]);
    if (ta) {
      T* rows = reinterpret_cast<T*>(arrays.scratch);
      for (std::int64_t i = 0; i < m; ++i)
        for (std::int64_t j = 0; j < k; ++j) rows[i * k + j] = a[j * m + i];
      a = rows;
    }
    if constexpr (std::is_same_v<T, float>) {
      if (product) {
        auto* packed = reinterpret_cast<float*>(arrays.scratch + rows_bytes);
        tb ? product->pack_rows(b, packed) : product->pack_columns(b, packed);
        product->run(a, packed, nullptr, nullptr, y, *arrays.team);
      } else {
        multiply(a, b, y, m, k, n, tb);
      }
    } else {
      multiply(a, b, y, m, k, n, tb);
    }
    const T* addend = added ? static_cast<const T*>(arrays.in[2]) : nullptr;
    // Whole numbers if T is an integer; a negative one wraps as it should.
    const auto factor = [](float value) {
      if constexpr (std::is_same_v<T, float>) return value;
      else return static_cast<T>(static_cast<std::int64_t>(value));
    };
    const T x_factor = factor(alpha), c_factor = factor(beta);
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        T value = x_factor * y[i * n + j];
        if (addend != nullptr) value += c_factor * addend[i * c_row + j * c_column];
        y[i * n + j] = value;
      }
    }
  };
  return kernel;
}

}  // namespace

PlainKernel prepare_gemm(const PlainNode& node) {
  return for_factor(node.inputs[0]->dtype, [&](auto type) { return gemm_of<decltype(type)>(node); });
}

}  // namespace bittern::plan
