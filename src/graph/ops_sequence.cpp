// Operators on sequences and products of matrices: recurrent layers, MatMul, Gemm, normalisations over axes.
#include <algorithm>

#include <bittern/error.h>

#include "graph/recurrent.h"
#include "graph/schema.h"

namespace bittern::graph {
namespace {

ValueType of(DType dtype, Shape shape) { return {dtype, std::move(shape), {}}; }

bool multiplied(DType type) { return type == DType::f32 || type == DType::i32 || type == DType::i64 || type == DType::u32 || type == DType::u64; }

void check_factors(const Node& node, const Inputs& in) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] == nullptr) continue;
    require_type(node, in, i, multiplied(in[i]->dtype), "f32, i32, i64, u32, u64");
    require_type(node, in, i, in[i]->dtype == in[0]->dtype, "the type of input 0");
  }
}

}  // namespace

Shape matmul_shape(const Node& node, const Shape& a, const Shape& b) {
  require(!a.empty() && !b.empty(), node, "A " + to_string(a) + " and B " + to_string(b) + " do not fit", "at least rank 1 is needed");
  const std::int64_t inner = b.size() == 1 ? b[0] : b[b.size() - 2];
  require(a.back() == inner, node, "A " + to_string(a) + " and B " + to_string(b) + " do not fit", "the inner sizes must be equal");
  const Shape outer_a(a.begin(), a.end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(2, a.size())));
  const Shape outer_b(b.begin(), b.end() - static_cast<std::ptrdiff_t>(std::min<std::size_t>(2, b.size())));
  Shape y = broadcast_shape(outer_a, outer_b, "node " + node.name + " (" + node.op + ")");
  if (a.size() > 1) y.push_back(a[a.size() - 2]);
  if (b.size() > 1) y.push_back(b.back());
  return y;
}

namespace {

ValueTypes matmul(const Node& node, const Inputs& in) {
  check_factors(node, in);
  return {of(in[0]->dtype, matmul_shape(node, in[0]->shape, in[1]->shape))};
}

ValueTypes gemm(const Node& node, const Inputs& in) {
  check_factors(node, in);
  const Shape& a = shape_of(node, in, 0, 2);
  const Shape& b = shape_of(node, in, 1, 2);
  const bool ta = int_attribute(node, "transA", 0) != 0, tb = int_attribute(node, "transB", 0) != 0;
  const std::int64_t k = tb ? b[1] : b[0], n = tb ? b[0] : b[1], m = ta ? a[1] : a[0];
  require((ta ? a[0] : a[1]) == k, node, "A " + to_string(a) + " and B " + to_string(b) + " do not fit", "the inner sizes must be equal");
  if (given(in, 2)) {
    require(broadcast_shape(in[2]->shape, {m, n}, "node " + node.name) == Shape{m, n}, node, "C has shape " + to_string(in[2]->shape),
            "it must broadcast to " + to_string({m, n}));
  }
  if (in[0]->dtype != DType::f32) {
    for (const char* name : {"alpha", "beta"}) {
      const float value = float_attribute(node, name, 1.0f);
      require(value >= -65536.0f && value <= 65536.0f && value == static_cast<float>(static_cast<int>(value)), node,
              std::string(name) + " is " + std::to_string(value), "with integers it must be a whole number from -65536 to 65536");
    }
  }
  return {of(in[0]->dtype, {m, n})};
}

// The f32 operators on one tensor along an axis.
ValueTypes along_axis(const Node& node, const Inputs& in) {
  normal_axis(node, int_attribute(node, "axis", -1), std::max<std::size_t>(1, in[0]->shape.size()));
  if (node.op == "LpNormalization") {
    const std::int64_t p = int_attribute(node, "p", 2);
    require(p == 1 || p == 2, node, "p is " + std::to_string(p), "allowed are 1 and 2");
  }
  return {of(DType::f32, in[0]->shape)};
}

ValueTypes mean_variance(const Node& node, const Inputs& in) {
  std::vector<bool> seen(in[0]->shape.size());
  for (const std::int64_t axis : ints_attribute(node, "axes", {0, 2, 3})) {
    const auto a = static_cast<std::size_t>(normal_axis(node, axis, seen.size()));
    require(!seen[a], node, "axis " + std::to_string(axis) + " is there twice");
    seen[a] = true;
  }
  return {of(DType::f32, in[0]->shape)};
}

void check_stash(const Node& node) {
  const std::int64_t type = int_attribute(node, "stash_type", 1);
  require(type == 1, node, "stash_type is " + std::to_string(type), "statistics are computed in f32: only 1 is supported");
}

void check_scale(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  for (std::size_t i = 1; i < in.size(); ++i) {
    if (in[i] == nullptr) continue;
    require(broadcast_shape(in[i]->shape, x, "node " + node.name + " (" + node.op + ")") == x, node,
            "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape), "it must broadcast to " + to_string(x));
  }
}

ValueTypes layer_norm(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  const auto axis = static_cast<std::size_t>(normal_axis(node, int_attribute(node, "axis", -1), x.size()));
  check_stash(node);
  check_scale(node, in);
  Shape statistics = x;
  std::fill(statistics.begin() + static_cast<std::ptrdiff_t>(axis), statistics.end(), 1);
  return {of(DType::f32, x), of(DType::f32, statistics), of(DType::f32, statistics)};
}

ValueTypes channel_norm(const Node& node, const Inputs& in) {
  const Shape& x = in[0]->shape;
  require(x.size() >= 2, node, "input has shape " + to_string(x), "at least rank 2 is needed");
  for (std::size_t i = 1; i < 3; ++i) {
    require(in[i]->shape == Shape{x[1]}, node, "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape),
            "one element per channel (" + std::to_string(x[1]) + ") is needed");
  }
  if (node.op == "GroupNormalization") {
    const std::int64_t groups = int_attribute(node, "num_groups", 0);
    require(groups >= 1 && x[1] % groups == 0, node, "num_groups is " + std::to_string(groups) + " for " + std::to_string(x[1]) + " channels",
            "it must divide the channels");
    check_stash(node);
  }
  return {of(DType::f32, x)};
}

ValueTypes recurrent(const Node& node, const Inputs& in) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] != nullptr) require_type(node, in, i, in[i]->dtype == (i == 4 ? DType::i32 : DType::f32), i == 4 ? "i32" : "f32");
  }
  const engine::RecurrentShape r = recurrent_of(node, in);
  const Shape y = r.batch_first ? Shape{r.batch, r.steps, r.directions, r.hidden} : Shape{r.steps, r.directions, r.batch, r.hidden};
  const Shape state = r.batch_first ? Shape{r.batch, r.directions, r.hidden} : Shape{r.directions, r.batch, r.hidden};
  element_count({r.steps, r.batch, r.directions, r.gates() * r.hidden}, "node " + node.name + " (" + node.op + ")");
  return {of(DType::f32, y), of(DType::f32, state), of(DType::f32, state)};
}

}  // namespace

void add_sequence(Schemas& t) {
  using enum AttributeType;
  using Attributes = std::map<std::string, AttributeType>;
  t["MatMul"] = {.min_inputs = 2, .max_inputs = 2, .infer = matmul, .any_type = true};
  t["Gemm"] = {.min_inputs = 2, .max_inputs = 3, .attributes = {{"alpha", real}, {"beta", real}, {"transA", integer}, {"transB", integer}},
               .infer = gemm, .any_type = true};
  t["LogSoftmax"] = {.attributes = {{"axis", integer}}, .infer = along_axis};
  t["Hardmax"] = {.attributes = {{"axis", integer}}, .infer = along_axis};
  t["LpNormalization"] = {.attributes = {{"axis", integer}, {"p", integer}}, .infer = along_axis};
  t["MeanVarianceNormalization"] = {.attributes = {{"axes", integers}}, .infer = mean_variance};
  t["LayerNormalization"] = {.min_inputs = 2, .max_inputs = 3, .attributes = {{"axis", integer}, {"epsilon", real}, {"stash_type", integer}},
                             .infer = layer_norm, .max_outputs = 3};
  t["RMSNormalization"] = {.min_inputs = 2, .max_inputs = 2, .attributes = {{"axis", integer}, {"epsilon", real}, {"stash_type", integer}},
                           .infer = layer_norm};
  t["InstanceNormalization"] = {.min_inputs = 3, .max_inputs = 3, .attributes = {{"epsilon", real}}, .infer = channel_norm};
  t["GroupNormalization"] = {.min_inputs = 3, .max_inputs = 3, .attributes = {{"epsilon", real}, {"num_groups", integer}, {"stash_type", integer}},
                             .infer = channel_norm};
  const Attributes common = {{"activation_alpha", reals}, {"activation_beta", reals}, {"activations", text}, {"clip", real},
                             {"direction", text}, {"dynamic_quantization", integer}, {"hidden_size", integer}, {"layout", integer}};
  const auto with = [&](Attributes more) {
    more.insert(common.begin(), common.end());
    return more;
  };
  t["RNN"] = {.min_inputs = 3, .max_inputs = 6, .attributes = common, .infer = recurrent, .max_outputs = 2, .any_type = true};
  t["GRU"] = {.min_inputs = 3, .max_inputs = 6, .attributes = with({{"linear_before_reset", integer}}), .infer = recurrent, .max_outputs = 2,
              .any_type = true};
  t["LSTM"] = {.min_inputs = 3, .max_inputs = 8, .attributes = with({{"cell_clip", real}, {"input_forget", integer}}), .infer = recurrent, .max_outputs = 3,
               .any_type = true};
}

}  // namespace bittern::graph
