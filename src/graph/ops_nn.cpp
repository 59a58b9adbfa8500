// Operators over windows of maps, and normalisation by channel: maps of one to three dimensions unless said otherwise.
#include <algorithm>

#include "graph/schema.h"
#include "graph/windows.h"

namespace bittern::graph {
namespace {

using Types = ValueTypes;

Shape spatial(const Shape& shape) { return {shape.begin() + 2, shape.end()}; }

Shape with_spatial(std::int64_t batch, std::int64_t channels, const Shape& sizes) {
  Shape shape{batch, channels};
  shape.insert(shape.end(), sizes.begin(), sizes.end());
  return shape;
}

void require_map(const Node& node, const Shape& x, const char* what) {
  require(x.size() >= 3 && x.size() <= 5, node, "input has shape " + to_string(x), std::string("1-D, 2-D and 3-D ") + what + " are supported");
}

// Groups, kernel_shape and the bias of a layer; `outputs` is the number of output channels.
void check_layer(const Node& node, const Inputs& in, std::int64_t outputs) {
  const Shape sizes = spatial(in[1]->shape), kernel = ints_attribute(node, "kernel_shape", sizes);
  require(kernel == sizes, node, "kernel_shape " + to_string(kernel) + " differs from weight " + to_string(in[1]->shape));
  if (given(in, 2)) {
    require(in[2]->shape == Shape{outputs}, node, "bias has shape " + to_string(in[2]->shape), "one element per output channel is needed");
  }
}

Types conv(const Node& node, const Inputs& in) {
  const Shape &x = in[0]->shape, &w = in[1]->shape;
  require_map(node, x, "convolution");
  require(w.size() == x.size(), node, "weight " + to_string(w) + " for an input " + to_string(x), "both must have the same rank");
  const std::int64_t groups = int_attribute(node, "group", 1);
  require(groups >= 1 && x[1] % groups == 0 && w[0] % groups == 0 && w[1] == x[1] / groups, node,
          "input " + to_string(x) + ", weight " + to_string(w) + ", " + std::to_string(groups) + " groups do not fit",
          "input channels must be groups * weight[1], output channels a multiple of groups");
  check_layer(node, in, w[0]);
  return {{DType::f32, with_spatial(x[0], w[0], windows(node, spatial(x), spatial(w)).out), {}}};
}

}  // namespace

Types conv_types(const Node& node, const Inputs& in) { return conv(node, in); }

namespace {

// Weights are given for the transformed tiles; docs/format.md defines the operator.
Types winograd_conv(const Node& node, const Inputs& in) {
  const Shape &x = shape_of(node, in, 0, 4), &q = shape_of(node, in, 1, 4);
  const std::int64_t m = int_attribute(node, "m", 2), relu = int_attribute(node, "relu", 0);
  require(m == 2 || m == 4, node, "m " + std::to_string(m), "allowed are 2 and 4");
  require(relu == 0 || relu == 1, node, "relu " + std::to_string(relu), "allowed are 0 and 1");
  const Shape expected{q[0], x[1], m + 2, m + 2};
  require(q == expected, node, "weight " + to_string(q) + " for an input " + to_string(x) + " and m " + std::to_string(m),
          "shape " + to_string(expected) + " is needed");
  if (given(in, 2)) {
    require(in[2]->shape == Shape{q[0]}, node, "bias has shape " + to_string(in[2]->shape), "one element per output channel is needed");
  }
  return {{DType::f32, with_spatial(x[0], q[0], windows(node, spatial(x), {3, 3}).out), {}}};
}

Types conv_transpose(const Node& node, const Inputs& in) {
  const Shape &x = in[0]->shape, &w = in[1]->shape;
  require_map(node, x, "transposed convolution");
  require(w.size() == x.size(), node, "weight " + to_string(w) + " for an input " + to_string(x), "both must have the same rank");
  const std::int64_t groups = int_attribute(node, "group", 1);
  require(groups >= 1 && x[1] % groups == 0 && w[0] == x[1], node,
          "input " + to_string(x) + ", weight " + to_string(w) + ", " + std::to_string(groups) + " groups do not fit",
          "input channels must be weight[0], a multiple of groups");
  element_count({groups, w[1]}, "node " + node.name + " (" + node.op + ")");
  const std::int64_t outputs = groups * w[1];
  check_layer(node, in, outputs);
  return {{DType::f32, with_spatial(x[0], outputs, transposed_windows(node, spatial(x), spatial(w)).out), {}}};
}

Shape pool_shape(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require_map(node, x, "pooling");
  return with_spatial(x[0], x[1], windows(node, spatial(x), pool_kernel(node, x)).out);
}

Types pool(const Node& node, const Inputs& in) { return {{DType::f32, pool_shape(node, in), {}}}; }

Types max_pool(const Node& node, const Inputs& in) {
  const DType type = in[0]->dtype;
  require_type(node, in, 0, type == DType::f32 || type == DType::i8 || type == DType::u8, "f32, i8, u8");
  const std::int64_t order = int_attribute(node, "storage_order", 0);
  require(order == 0 || order == 1, node, "storage_order " + std::to_string(order), "allowed are 0 and 1");
  const Shape y = pool_shape(node, in);
  return {{type, y, {}}, {DType::i64, y, {}}};
}

std::int64_t exponent(const Node& node) {
  const std::int64_t p = int_attribute(node, "p", 2);
  require(p >= 1 && p <= 1024, node, "p " + std::to_string(p), "allowed are 1 to 1024");
  return p;
}

Types lp_pool(const Node& node, const Inputs& in) {
  exponent(node);
  return pool(node, in);
}

Types global_pool(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require(x.size() >= 3, node, "input has shape " + to_string(x), "a tensor of rank 3 or more is needed");
  require(std::find(x.begin() + 2, x.end(), 0) == x.end(), node, "an empty map " + to_string(x));
  return {{DType::f32, with_spatial(x[0], x[1], Shape(x.size() - 2, 1)), {}}};
}

Types global_lp_pool(const Node& node, const Inputs& in) {
  exponent(node);
  return global_pool(node, in);
}

Types lrn(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require(x.size() >= 3, node, "input has shape " + to_string(x), "a tensor of rank 3 or more is needed");
  const std::int64_t size = int_attribute(node, "size", 0);
  require(size >= 1 && size <= 4096, node, "size " + std::to_string(size), "allowed are 1 to 4096");
  return {{DType::f32, x, {}}};
}

Types batch_norm(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require(x.size() >= 2, node, "input has shape " + to_string(x), "at least rank 2 is needed");
  const Shape channels{x[1]};
  for (std::size_t i = 1; i < 5; ++i) {
    require(in[i]->shape == channels, node, "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape),
            "one element per channel (" + std::to_string(x[1]) + ") is needed");
  }
  require(int_attribute(node, "training_mode", 0) == 0, node, "training_mode 1 is not supported", "export the network in inference mode");
  return {{DType::f32, x, {}}};
}

}  // namespace

void add_nn(Schemas& t) {
  using enum AttributeType;
  using Attributes = std::map<std::string, AttributeType>;
  const auto with = [](Attributes more) {
    more.insert({{"auto_pad", text}, {"dilations", integers}, {"kernel_shape", integers}, {"pads", integers}, {"strides", integers}});
    return more;
  };
  t["Conv"] = {.min_inputs = 2, .max_inputs = 3, .attributes = with({{"group", integer}}), .infer = conv};
  t["ConvTranspose"] = {.min_inputs = 2, .max_inputs = 3,
                        .attributes = with({{"group", integer}, {"output_padding", integers}, {"output_shape", integers}}), .infer = conv_transpose};
  t["WinogradConv"] = {.min_inputs = 2, .max_inputs = 3, .attributes = {{"m", integer}, {"pads", integers}, {"relu", integer}}, .infer = winograd_conv};
  t["MaxPool"] = {.attributes = with({{"ceil_mode", integer}, {"storage_order", integer}}), .infer = max_pool, .max_outputs = 2, .any_type = true};
  t["AveragePool"] = {.attributes = with({{"ceil_mode", integer}, {"count_include_pad", integer}}), .infer = pool};
  t["LpPool"] = {.attributes = with({{"ceil_mode", integer}, {"p", integer}}), .infer = lp_pool};
  t["GlobalAveragePool"] = {.infer = global_pool};
  t["GlobalMaxPool"] = {.infer = global_pool};
  t["GlobalLpPool"] = {.attributes = {{"p", integer}}, .infer = global_lp_pool};
  t["LRN"] = {.attributes = {{"alpha", real}, {"beta", real}, {"bias", real}, {"size", integer}}, .infer = lrn};
  t["BatchNormalization"] = {.min_inputs = 5, .max_inputs = 5,
                             .attributes = {{"epsilon", real}, {"momentum", real}, {"training_mode", integer}}, .infer = batch_norm};
}

}  // namespace bittern::graph
