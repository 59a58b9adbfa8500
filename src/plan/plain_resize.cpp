// Plain operators: Resize, one axis after the other. Coordinates and weights in double, when the plan is made.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/aligned_buffer.h"
#include "graph/move.h"
#include "ops/move.h"
#include "ops/resize.h"
#include "plan/plain_move.h"

namespace bittern::plan {
namespace {

using engine::ResizeTaps;
using graph::ResizeAxis;

// Where result j lies in the source; nothing where tf_crop_and_resize extrapolates.
struct Coordinates {
  std::string mode;
  ResizeAxis axis;

  bool at(std::int64_t j, double& x) const {
    const auto position = static_cast<double>(j), in = static_cast<double>(axis.in), out = axis.scale * in;
    if (mode == "align_corners") {
      x = out == 1 ? 0 : position * (in - 1) / (out - 1);
    } else if (mode == "asymmetric") {
      x = position / axis.scale;
    } else if (mode == "tf_half_pixel_for_nn") {
      x = (position + 0.5) / axis.scale;
    } else if (mode == "pytorch_half_pixel") {
      x = out == 1 ? -0.5 : (position + 0.5) / axis.scale - 0.5;
    } else if (mode == "half_pixel_symmetric") {
      const double offset = in / 2 * (1 - static_cast<double>(axis.out) / out);
      x = offset + (position + 0.5) / axis.scale - 0.5;
    } else if (mode == "tf_crop_and_resize") {
      const double length = axis.roi_end - axis.roi_start;
      x = (out == 1 ? length * (in - 1) / 2 : position * length * (in - 1) / (out - 1)) + axis.roi_start * (in - 1);
      return x >= 0 && x <= in - 1;
    } else {
      x = (position + 0.5) / axis.scale - 0.5;
    }
    return true;
  }
};

double cubic(double x, double a) {
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

struct Filter {
  bool is_cubic, antialias;
  double a;  // of the cubic

  // Distance from the first tap of x to the element at its left; as wide on the other side.
  std::int64_t reach(double scale) const {
    const double shrink = antialias ? std::min(scale, 1.0) : 1.0;
    return -static_cast<std::int64_t>(std::floor(-(is_cubic ? 2 : 1) / shrink) + 1);
  }
  // Weights of the elements -reach to reach + 1 beside x's left neighbour, for an x by `ratio` to the right of it.
  void weights(double ratio, double scale, std::vector<double>& w) const {
    const double shrink = antialias ? std::min(scale, 1.0) : 1.0;
    const std::int64_t first = -reach(scale);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double distance = shrink * (static_cast<double>(first + static_cast<std::int64_t>(i)) - ratio);
      w[i] = is_cubic ? cubic(distance, a) : std::max(0.0, 1 - std::abs(distance));
      sum += w[i];
    }
    if (antialias && sum != 0)
      for (double& v : w) v /= sum;
  }
};

ResizeTaps taps_of(const PlainNode& p, const Coordinates& coordinates, const Filter& filter, bool exclude_outside) {
  const ResizeAxis& axis = coordinates.axis;
  const double width = 2 / (filter.antialias ? std::min(axis.scale, 1.0) : 1.0) * (filter.is_cubic ? 2 : 1) + 2;
  check_table(p, static_cast<std::int64_t>(std::min(width * static_cast<double>(axis.out), 1e18)));
  std::vector<double> w(static_cast<std::size_t>(2 * filter.reach(axis.scale) + 2));
  ResizeTaps taps;
  taps.in = axis.in;
  taps.begin.push_back(0);
  for (std::int64_t j = 0; j < axis.out; ++j) {
    double x = 0;
    if (coordinates.at(j, x)) {
      // An x on an element counts as its left neighbour's right end.
      const double left = std::ceil(x) - 1;
      filter.weights(x - left, axis.scale, w);
      const std::int64_t first = static_cast<std::int64_t>(left) - filter.reach(axis.scale);
      const auto outside = [&](std::size_t i) { return first + static_cast<std::int64_t>(i) < 0 || first + static_cast<std::int64_t>(i) >= axis.in; };
      if (exclude_outside) {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
          if (outside(i)) w[i] = 0;
          sum += w[i];
        }
        if (sum != 0)
          for (double& v : w) v /= sum;
      }
      // Elements beyond an end are the one at the end; those without weight are not read, so that infinities stay where they are.
      const std::size_t start = taps.source.size();
      for (std::size_t i = 0; i < w.size(); ++i) {
        const std::int64_t at = std::clamp<std::int64_t>(first + static_cast<std::int64_t>(i), 0, axis.in - 1);
        if (w[i] == 0) continue;
        if (taps.source.size() > start && taps.source.back() == at) {
          taps.weight.back() += static_cast<float>(w[i]);
        } else {
          taps.source.push_back(at);
          taps.weight.push_back(static_cast<float>(w[i]));
        }
      }
      if (taps.source.size() == start) {
        taps.source.push_back(std::clamp<std::int64_t>(first, 0, axis.in - 1));
        taps.weight.push_back(0);
      }
    }
    taps.begin.push_back(static_cast<std::int64_t>(taps.source.size()));
  }
  return taps;
}

// The element that a coordinate falls to.
std::int64_t nearest_element(double x, const std::string& mode, std::int64_t size) {
  const double left = std::floor(x), ratio = x - left;
  const bool up = ratio > 0 && (mode == "ceil" || (mode == "round_prefer_floor" && ratio > 0.5) || (mode == "round_prefer_ceil" && ratio >= 0.5));
  return static_cast<std::int64_t>(std::clamp(left + (up ? 1 : 0), 0.0, static_cast<double>(size - 1)));
}

// A number as an element of this type, at the end of the range where it does not fit.
std::array<std::byte, sizeof(std::uint64_t)> element(double value, DType type) {
  std::array<std::byte, sizeof(std::uint64_t)> bytes{};
  if (type == DType::f32) {
    const auto single = static_cast<float>(value);
    std::memcpy(bytes.data(), &single, sizeof single);
    return bytes;
  }
  const bool is_unsigned = type == DType::u8 || type == DType::u16 || type == DType::u32 || type == DType::u64;
  const int bits = type == DType::boolean ? 1 : static_cast<int>(8 * size_of(type)) - (is_unsigned ? 0 : 1);
  const double limit = std::ldexp(1.0, bits);
  std::uint64_t whole = 0;
  if (value >= limit) {
    whole = ~std::uint64_t{0} >> (64 - bits);
  } else if (value >= 0) {
    whole = static_cast<std::uint64_t>(value);
  } else if (!is_unsigned && type != DType::boolean && value < 0) {
    const std::int64_t lowest = -static_cast<std::int64_t>(~std::uint64_t{0} >> (64 - bits)) - 1;
    whole = static_cast<std::uint64_t>(value <= -limit ? lowest : static_cast<std::int64_t>(value));
  }
  std::memcpy(bytes.data(), &whole, size_of(type));  // hosts are little endian
  return bytes;
}

PlainKernel prepare_nearest(const PlainNode& p, const std::vector<ResizeAxis>& axes, const std::string& coordinates, float extrapolation) {
  const std::string mode = graph::string_attribute(p.node, "nearest_mode", "round_prefer_floor");
  const auto strides = strides_of(p.inputs[0]->shape);
  std::vector<engine::TakeAxis> takes;
  for (const ResizeAxis& axis : axes) {
    const std::int64_t stride = strides[takes.size()];
    engine::TakeAxis take{axis.out, stride, {}};
    if (!axis.same) {
      take.table = position_table(p, axis.out);
      for (std::size_t j = 0; j < take.table.size(); ++j) {
        double x = 0;
        const bool inside = Coordinates{coordinates, axis}.at(static_cast<std::int64_t>(j), x);
        take.table[j] = inside ? nearest_element(x, mode, axis.in) * stride : engine::Take::nothing;
      }
    }
    takes.push_back(std::move(take));
  }
  const engine::Take take(std::move(takes), 0, element_size(p.outputs[0]));
  return {[take, other = element(extrapolation, p.outputs[0].dtype)](const PlainArrays& a) { take.run(a.in[0], other.data(), a.out[0], *a.team); }};
}

// One axis in turn.
struct Pass {
  ResizeTaps taps;
  std::int64_t outer, inner;
};

PlainKernel prepare_resize(const PlainNode& p) {
  const auto axes = graph::resize_axes(p.node, p.inputs);
  const std::string mode = graph::string_attribute(p.node, "mode", "nearest");
  const std::string coordinates = graph::string_attribute(p.node, "coordinate_transformation_mode", "half_pixel");
  const float other = graph::float_attribute(p.node, "extrapolation_value", 0);
  if (graph::element_count(p.outputs[0].shape, "a value") == 0) return {[](const PlainArrays&) {}};
  if (mode == "nearest") return prepare_nearest(p, axes, coordinates, other);

  const double coefficient = static_cast<double>(graph::float_attribute(p.node, "cubic_coeff_a", -0.75f));
  const Filter filter{mode == "cubic", graph::int_attribute(p.node, "antialias", 0) != 0, coefficient};
  const bool exclude = graph::int_attribute(p.node, "exclude_outside", 0) != 0;
  // Axes that shrink come first: then the others have less to do.
  std::vector<std::size_t> order;
  for (std::size_t d = 0; d < axes.size(); ++d)
    if (!axes[d].same) order.push_back(d);
  const auto growth = [&](std::size_t d) { return static_cast<double>(axes[d].out) / static_cast<double>(axes[d].in); };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return growth(a) < growth(b); });

  Shape shape = p.inputs[0]->shape;
  std::vector<Pass> passes;
  std::array<std::int64_t, 2> between{};  // elements of results that wait for the next pass: every other one in the same place
  for (const std::size_t d : order) {
    const graph::Around s = graph::around(shape, d);
    passes.push_back({taps_of(p, {coordinates, axes[d]}, filter, exclude), s.outer, s.inner});
    shape[d] = axes[d].out;
    const std::int64_t count = graph::element_count(shape, p.node.name);
    if (passes.size() < order.size()) between[passes.size() % 2] = std::max(between[passes.size() % 2], count);
  }
  if (passes.empty()) {
    return {[bytes = bytes_of(p.outputs[0])](const PlainArrays& a) { engine::copy(a.in[0], a.out[0], bytes, *a.team); }};
  }
  constexpr std::int64_t line = engine::buffer_alignment / sizeof(float);
  const std::int64_t second = (between[1] + line - 1) / line * line;  // where the others lie, behind those of the first pass
  PlainKernel kernel;
  kernel.scratch_bytes = static_cast<std::uint64_t>(second + between[0]) * sizeof(float);
  kernel.run = [passes = std::move(passes), second, other](const PlainArrays& a) {
    auto* scratch = reinterpret_cast<float*>(a.scratch);
    const auto* x = static_cast<const float*>(a.in[0]);
    for (std::size_t i = 0; i < passes.size(); ++i) {
      float* y = i + 1 == passes.size() ? static_cast<float*>(a.out[0]) : scratch + (i % 2 == 0 ? 0 : second);
      engine::resize_axis(passes[i].taps, passes[i].outer, passes[i].inner, x, other, y, *a.team);
      x = y;
    }
  };
  return kernel;
}

}  // namespace

void add_plain_resize(PlainOperators& t) { t["Resize"] = prepare_resize; }

}  // namespace bittern::plan
