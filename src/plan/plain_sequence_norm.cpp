// Plain operators: normalisations and LogSoftmax, Hardmax.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/normalise.h"
#include "ops/plain.h"
#include "plan/plain_sequence.h"

namespace bittern::plan {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// A tensor seen along one axis: outer x size x inner.
struct AlongAxis {
  std::int64_t outer = 1, size = 1, inner = 1;
};

AlongAxis along(const PlainNode& node) {
  const Shape& x = node.inputs[0]->shape;
  AlongAxis a;
  if (x.empty()) return a;
  const std::int64_t axis = graph::int_attribute(node.node, "axis", -1);
  const auto at = static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis);
  for (std::size_t i = 0; i < x.size(); ++i) (i < at ? a.outer : i == at ? a.size : a.inner) *= x[i];
  return a;
}

// f(x, y, inner): `size` elements, `inner` apart, of each vector along the axis. Tasks are stretches of vectors.
template <class F>
PlainKernel for_vectors(const PlainNode& node, F f) {
  const AlongAxis a = along(node);
  PlainKernel kernel;
  const std::int64_t vectors = a.outer * a.inner;
  if (vectors == 0 || a.size == 0) {
    kernel.run = [](const PlainArrays&) {};
    return kernel;
  }
  const std::int64_t stretch = std::max<std::int64_t>(1, 16384 / a.size), tasks = (vectors + stretch - 1) / stretch;
  kernel.run = [=](const PlainArrays& arrays) {
    const auto* x = static_cast<const float*>(arrays.in[0]);
    auto* y = static_cast<float*>(arrays.out[0]);
    arrays.team->run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * stretch, last = std::min(vectors, first + stretch);
      for (std::int64_t v = first; v < last; ++v) {
        const std::int64_t at = v / a.inner * a.size * a.inner + v % a.inner;
        f(x + at, y + at, a.size, a.inner);
      }
    });
  };
  return kernel;
}

}  // namespace

PlainKernel prepare_log_softmax(const PlainNode& node) {
  return for_vectors(node, [](const float* x, float* y, std::int64_t size, std::int64_t step) {
    float largest = x[0];
    for (std::int64_t i = 1; i < size; ++i) largest = std::max(largest, x[i * step]);
    double sum = 0;
    for (std::int64_t i = 0; i < size; ++i) sum += std::exp(x[i * step] - largest);
    const float shift = static_cast<float>(std::log(sum));
    for (std::int64_t i = 0; i < size; ++i) y[i * step] = x[i * step] - largest - shift;
  });
}

PlainKernel prepare_hardmax(const PlainNode& node) {
  return for_vectors(node, [](const float* x, float* y, std::int64_t size, std::int64_t step) {
    std::int64_t best = 0;
    for (std::int64_t i = 1; i < size; ++i)
      if (x[i * step] > x[best * step]) best = i;
    for (std::int64_t i = 0; i < size; ++i) y[i * step] = i == best ? 1.0f : 0.0f;
  });
}

PlainKernel prepare_lp_norm(const PlainNode& node) {
  const bool squares = graph::int_attribute(node.node, "p", 2) == 2;
  return for_vectors(node, [squares](const float* x, float* y, std::int64_t size, std::int64_t step) {
    double sum = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      const double v = x[i * step];
      sum += squares ? v * v : std::fabs(v);
    }
    const double norm = squares ? std::sqrt(sum) : sum;
    for (std::int64_t i = 0; i < size; ++i) y[i * step] = norm == 0 ? 0.0f : static_cast<float>(x[i * step] / norm);
  });
}

PlainKernel prepare_mean_variance(const PlainNode& node) {
  const Shape& x_shape = node.inputs[0]->shape;
  const std::size_t rank = x_shape.size();
  std::vector<bool> reduced(rank);
  for (const std::int64_t axis : graph::ints_attribute(node.node, "axes", {0, 2, 3})) {
    reduced[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis)] = true;
  }
  // Neighbouring axes that are alike are one.
  std::vector<std::int64_t> sizes, steps;  // steps: between statistics, 0 along reduced axes
  for (std::size_t i = 0; i < rank; ++i) {
    if (i > 0 && reduced[i] == reduced[i - 1]) {
      sizes.back() *= x_shape[i];
    } else {
      sizes.push_back(x_shape[i]);
      steps.push_back(reduced[i] ? 0 : 1);
    }
  }
  std::int64_t count = graph::element_count(x_shape, "a value"), kept = 1;
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (steps[i] == 0) continue;
    steps[i] = kept;
    kept *= sizes[i];
  }
  PlainKernel kernel;
  if (count == 0) {
    kernel.run = [](const PlainArrays&) {};
    return kernel;
  }
  kernel.scratch_bytes = static_cast<std::uint64_t>(kept) * 2 * sizeof(double);
  kernel.run = [=](const PlainArrays& arrays) {
    const auto* x = static_cast<const float*>(arrays.in[0]);
    auto* y = static_cast<float*>(arrays.out[0]);
    auto* mean = reinterpret_cast<double*>(arrays.scratch);
    double* deviation = mean + kept;
    const auto each = [&](const auto& f) {
      std::int64_t index[engine::max_rank] = {}, statistic = 0;
      for (std::int64_t i = 0; i < count; ++i) {
        f(i, statistic);
        for (std::size_t d = sizes.size(); d-- > 0;) {
          statistic += steps[d];
          if (++index[d] < sizes[d]) break;
          statistic -= steps[d] * sizes[d];
          index[d] = 0;
        }
      }
    };
    const double share = static_cast<double>(kept) / static_cast<double>(count);
    std::fill(mean, mean + 2 * kept, 0.0);
    each([&](std::int64_t i, std::int64_t s) { mean[s] += x[i]; });
    for (std::int64_t s = 0; s < kept; ++s) mean[s] *= share;
    each([&](std::int64_t i, std::int64_t s) { deviation[s] += (x[i] - mean[s]) * (x[i] - mean[s]); });
    for (std::int64_t s = 0; s < kept; ++s) deviation[s] = std::sqrt(deviation[s] * share) + 1e-9;
    each([&](std::int64_t i, std::int64_t s) { y[i] = static_cast<float>((x[i] - mean[s]) / deviation[s]); });
  };
  return kernel;
}

namespace {

// Strides of an input that broadcasts to `target`.
std::vector<std::int64_t> broadcast_strides(const Shape& shape, const Shape& target) {
  std::vector<std::int64_t> strides(target.size());
  std::int64_t step = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t from = shape.size() - 1 - i;
    strides[target.size() - 1 - i] = shape[from] == 1 ? 0 : step;
    step *= shape[from];
  }
  return strides;
}

}  // namespace

PlainKernel prepare_layer_norm(const PlainNode& node) {
  const Shape x_shape = node.inputs[0]->shape;
  const std::int64_t axis = graph::int_attribute(node.node, "axis", -1);
  const auto first = static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x_shape.size()) : axis);
  std::int64_t rows = 1, length = 1;
  for (std::size_t i = 0; i < x_shape.size(); ++i) (i < first ? rows : length) *= x_shape[i];
  const float epsilon = graph::float_attribute(node.node, "epsilon", 1e-5f);
  const bool centred = node.node.op != "RMSNormalization", shifted = node.inputs.size() > 2 && node.inputs[2] != nullptr;
  // Scale and bias usually have the normalised shape; otherwise they follow in passes of their own.
  const Shape row_shape(x_shape.begin() + static_cast<std::ptrdiff_t>(first), x_shape.end());
  const auto whole = [&](std::size_t i) {
    Shape shape = node.inputs[i]->shape;
    while (shape.size() > row_shape.size() && shape[0] == 1) shape.erase(shape.begin());
    return shape == row_shape;
  };
  const bool together = whole(1) && (!shifted || whole(2));
  const auto scale_strides = broadcast_strides(node.inputs[1]->shape, x_shape), strides = broadcast_strides(x_shape, x_shape);
  const auto bias_strides = shifted ? broadcast_strides(node.inputs[2]->shape, x_shape) : strides;
  const std::size_t outputs = node.outputs.size();
  const std::int64_t stretch = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, length)), tasks = (rows + stretch - 1) / stretch;
  PlainKernel kernel;
  kernel.run = [=](const PlainArrays& arrays) {
    const auto *x = static_cast<const float*>(arrays.in[0]), *scale = static_cast<const float*>(arrays.in[1]);
    const auto* bias = shifted ? static_cast<const float*>(arrays.in[2]) : nullptr;
    auto* y = static_cast<float*>(arrays.out[0]);
    auto* means = outputs > 1 ? static_cast<float*>(arrays.out[1]) : nullptr;
    auto* inverses = outputs > 2 ? static_cast<float*>(arrays.out[2]) : nullptr;
    arrays.team->run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      for (std::int64_t r = static_cast<std::int64_t>(task) * stretch; r < std::min(rows, static_cast<std::int64_t>(task + 1) * stretch); ++r) {
        const engine::Statistics s = engine::statistics(x + r * length, length, epsilon, centred);
        engine::normalise(x + r * length, y == nullptr ? nullptr : y + r * length, length, s, together ? scale : nullptr, together ? bias : nullptr);
        if (means != nullptr) means[r] = s.mean;
        if (inverses != nullptr) inverses[r] = s.inverse;
      }
    });
    if (together || y == nullptr || rows * length == 0) return;
    engine::broadcast(engine::Eltwise::mul, x_shape, y, strides, scale, scale_strides, y, -infinity, infinity);
    if (bias != nullptr) engine::broadcast(engine::Eltwise::add, x_shape, y, strides, bias, bias_strides, y, -infinity, infinity);
  };
  return kernel;
}

// InstanceNormalization is GroupNormalization with one channel a group.
PlainKernel prepare_channel_norm(const PlainNode& node) {
  const Shape& x_shape = node.inputs[0]->shape;
  if (graph::element_count(x_shape, "a value") == 0) return {.run = [](const PlainArrays&) {}};
  const std::int64_t channels = x_shape[1];
  const std::int64_t groups = node.node.op == "GroupNormalization" ? graph::int_attribute(node.node, "num_groups", 1) : channels;
  std::int64_t pixels = 1;
  for (std::size_t i = 2; i < x_shape.size(); ++i) pixels *= x_shape[i];
  const std::int64_t each = channels / groups, length = each * pixels, rows = x_shape[0] * groups;
  const float epsilon = graph::float_attribute(node.node, "epsilon", 1e-5f);
  PlainKernel kernel;
  const std::int64_t stretch = std::max<std::int64_t>(1, 16384 / length), tasks = (rows + stretch - 1) / stretch;
  kernel.run = [=](const PlainArrays& arrays) {
    const auto *x = static_cast<const float*>(arrays.in[0]), *scale = static_cast<const float*>(arrays.in[1]);
    const auto* bias = static_cast<const float*>(arrays.in[2]);
    auto* y = static_cast<float*>(arrays.out[0]);
    arrays.team->run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
      for (std::int64_t r = static_cast<std::int64_t>(task) * stretch; r < std::min(rows, static_cast<std::int64_t>(task + 1) * stretch); ++r) {
        const engine::Statistics s = engine::statistics(x + r * length, length, epsilon, true);
        for (std::int64_t c = 0; c < each; ++c) {
          const std::int64_t channel = r % groups * each + c, at = r * length + c * pixels;
          const float factor = s.inverse * scale[channel];
          for (std::int64_t i = 0; i < pixels; ++i) y[at + i] = (x[at + i] - s.mean) * factor + bias[channel];
        }
      }
    });
  };
  return kernel;
}

}  // namespace bittern::plan
