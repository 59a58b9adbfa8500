// Resize: sizes and scales of each axis.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "graph/move.h"

namespace bittern::graph {
namespace {

std::string one_of(const Node& node, const char* name, std::initializer_list<const char*> allowed) {
  const std::string value = string_attribute(node, name, *allowed.begin());
  std::string list;
  for (const char* a : allowed) list += (list.empty() ? "" : ", ") + std::string(a);
  require(std::find(allowed.begin(), allowed.end(), value) != allowed.end(), node, std::string(name) + " " + value, "allowed are " + list);
  return value;
}

ValueTypes resize(const Node& node, const Inputs& in) {
  const std::string mode = one_of(node, "mode", {"nearest", "linear", "cubic"});
  require_type(node, in, 0, in[0]->dtype == DType::f32 || (mode == "nearest" && (is_integer(in[0]->dtype) || in[0]->dtype == DType::boolean)),
               mode == "nearest" ? "f32, integers, bool" : "f32");
  one_of(node, "nearest_mode", {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"});
  require(mode != "nearest" || int_attribute(node, "antialias", 0) == 0, node, "antialias with mode nearest", "only linear and cubic have it");
  require(std::isfinite(float_attribute(node, "cubic_coeff_a", -0.75f)), node, "cubic_coeff_a is no number");
  Shape y;
  for (const ResizeAxis& axis : resize_axes(node, in)) y.push_back(axis.out);
  return {{in[0]->dtype, y, {}}};
}

}  // namespace

std::vector<ResizeAxis> resize_axes(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const std::string coordinates = one_of(node, "coordinate_transformation_mode",
                                         {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                                          "tf_half_pixel_for_nn", "tf_crop_and_resize"});
  const std::string policy = one_of(node, "keep_aspect_ratio_policy", {"stretch", "not_larger", "not_smaller"});
  std::vector<std::size_t> axes;
  if (node.attributes.count("axes") != 0) {
    for (const std::int64_t axis : ints_attribute(node, "axes", {})) {
      const auto a = static_cast<std::size_t>(normal_axis(node, axis, x.size()));
      require(std::find(axes.begin(), axes.end(), a) == axes.end(), node, "axis " + std::to_string(axis) + " occurs twice");
      axes.push_back(a);
    }
  } else {
    for (std::size_t d = 0; d < x.size(); ++d) axes.push_back(d);
  }
  // An empty tensor stands for an omitted one.
  const auto scales = given(in, 2) ? reals(node, in, 2) : std::vector<double>{};
  const auto sizes = given(in, 3) ? integers(node, in, 3) : std::vector<std::int64_t>{};
  const std::string count = std::to_string(axes.size());
  require(scales.empty() || sizes.empty(), node, "both scales and sizes are given", "give one of them");
  require(axes.empty() || !scales.empty() || !sizes.empty(), node, "neither scales nor sizes are given", "give one of them");
  require(scales.empty() || scales.size() == axes.size(), node, std::to_string(scales.size()) + " scales for " + count + " axes");
  require(sizes.empty() || sizes.size() == axes.size(), node, std::to_string(sizes.size()) + " sizes for " + count + " axes");
  std::vector<double> roi;
  if (coordinates == "tf_crop_and_resize") {
    require(given(in, 1), node, "tf_crop_and_resize without roi", "give start and end for each axis");
    roi = reals(node, in, 1);
    require(roi.size() == 2 * axes.size(), node, std::to_string(roi.size()) + " numbers in roi for " + count + " axes",
            "start and end for each axis are needed");
    for (const double r : roi) require(std::abs(r) <= 1e6, node, "a roi of " + std::to_string(r), "allowed are numbers up to 1e6");
  }

  std::vector<ResizeAxis> result;
  for (const std::int64_t d : x) result.push_back({1, d, d, 0, 1, true});
  double common = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    require(sizes[i] >= 0 && sizes[i] <= most_elements, node, "sizes " + to_string(sizes), "allowed are 0 to 2^44");
    require(x[axes[i]] != 0 || sizes[i] == 0, node, "axis " + std::to_string(axes[i]) + " of " + to_string(x) + " is empty", "it cannot be resized");
    const double scale = x[axes[i]] == 0 ? 1 : static_cast<double>(sizes[i]) / static_cast<double>(x[axes[i]]);
    common = i == 0 ? scale : policy == "not_larger" ? std::min(common, scale) : std::max(common, scale);
  }
  for (std::size_t i = 0; i < axes.size(); ++i) {
    ResizeAxis& axis = result[axes[i]];
    const auto in_size = static_cast<double>(axis.in);
    double out = 0;
    if (!scales.empty()) {
      axis.scale = scales[i];
      require(std::isfinite(axis.scale) && axis.scale > 0, node, "a scale of " + std::to_string(axis.scale), "scales are positive");
      out = axis.scale * in_size;
    } else if (policy == "stretch") {
      axis.scale = axis.in == 0 ? 1 : static_cast<double>(sizes[i]) / in_size;
      out = static_cast<double>(sizes[i]);
    } else {
      axis.scale = common;
      out = common * in_size + 0.5;
    }
    require(out <= static_cast<double>(most_elements), node, "a size of " + std::to_string(out) + " elements", "at most 2^44 elements are supported");
    axis.out = static_cast<std::int64_t>(out);
    if (!roi.empty()) {
      axis.roi_start = roi[i];
      axis.roi_end = roi[axes.size() + i];
    }
    const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-9 * std::max(std::abs(a), std::abs(b)); };
    axis.same = close(axis.scale, 1) && axis.in == axis.out && axis.roi_start == 0 && axis.roi_end == 1;
  }
  return result;
}

void add_resize(Schemas& t) {
  using enum AttributeType;
  t["Resize"] = {.max_inputs = 4,
                 .attributes = {{"antialias", integer},
                                {"axes", integers},
                                {"coordinate_transformation_mode", text},
                                {"cubic_coeff_a", real},
                                {"exclude_outside", integer},
                                {"extrapolation_value", real},
                                {"keep_aspect_ratio_policy", text},
                                {"mode", text},
                                {"nearest_mode", text}},
                 .infer = resize,
                 .required_inputs = 1,
                 .shape_inputs = {1, 2, 3},
                 .any_type = true};
}

}  // namespace bittern::graph
