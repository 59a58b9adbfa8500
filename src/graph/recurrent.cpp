#include "graph/recurrent.h"

#include <algorithm>
#include <cctype>
#include <iterator>

#include "graph/schema.h"

namespace bittern::graph {
namespace {

using engine::Activation;
using engine::ActivationFunction;
using engine::Cell;

// Names in small letters, as activations are compared without case; defaults of alpha and beta where the function has them.
struct Known {
  const char* name;
  Activation kind;
  bool has_alpha, has_beta;
  float alpha, beta;
};

constexpr Known known_activations[] = {
    {"affine", Activation::affine, true, true, 1.0f, 0.0f},
    {"elu", Activation::elu, true, false, 1.0f, 0.0f},
    {"hardsigmoid", Activation::hard_sigmoid, true, true, 0.2f, 0.5f},
    {"leakyrelu", Activation::leaky_relu, true, false, 0.01f, 0.0f},
    {"relu", Activation::relu, false, false, 0.0f, 0.0f},
    {"scaledtanh", Activation::scaled_tanh, true, true, 1.0f, 1.0f},
    {"sigmoid", Activation::sigmoid, false, false, 0.0f, 0.0f},
    {"softplus", Activation::softplus, false, false, 0.0f, 0.0f},
    {"softsign", Activation::softsign, false, false, 0.0f, 0.0f},
    {"tanh", Activation::tanh, false, false, 0.0f, 0.0f},
    {"thresholdedrelu", Activation::thresholded_relu, true, false, 1.0f, 0.0f},
};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return parts;
}

std::vector<ActivationFunction> activations(const Node& node, std::size_t directions, const char* defaults, std::size_t each) {
  std::vector<std::string> names = split(string_attribute(node, "activations", defaults));
  if (node.attributes.count("activations") == 0) {
    for (std::size_t i = 0; i < each && directions == 2; ++i) names.push_back(names[i]);
  }
  // By default RNN names one function for each of two directions, even if it has one.
  if (node.op == "RNN" && names.size() == 2) names.resize(directions);
  require(names.size() == each * directions, node, "activations name " + std::to_string(names.size()) + " functions",
          std::to_string(each * directions) + " are needed: " + std::to_string(each) + " per direction, joined by commas");
  // Values go in turn to the functions that take one.
  const std::vector<double> alphas = reals_attribute(node, "activation_alpha", {}), betas = reals_attribute(node, "activation_beta", {});
  std::size_t next_alpha = 0, next_beta = 0;
  std::vector<ActivationFunction> result;
  for (const std::string& name : names) {
    const auto found = std::find_if(std::begin(known_activations), std::end(known_activations), [&](const Known& k) { return name == k.name; });
    require(found != std::end(known_activations), node, "unknown activation " + name,
            "allowed are Affine, Elu, HardSigmoid, LeakyRelu, Relu, ScaledTanh, Sigmoid, Softplus, Softsign, Tanh, ThresholdedRelu");
    ActivationFunction a{found->kind, found->alpha, found->beta};
    if (found->has_alpha && next_alpha < alphas.size()) a.alpha = static_cast<float>(alphas[next_alpha++]);
    if (found->has_beta && next_beta < betas.size()) a.beta = static_cast<float>(betas[next_beta++]);
    result.push_back(a);
  }
  return result;
}

}  // namespace

engine::RecurrentShape recurrent_of(const Node& node, const std::vector<const ValueType*>& in) {
  engine::RecurrentShape r;
  const bool lstm = node.op == "LSTM", gru = node.op == "GRU";
  r.cell = lstm ? Cell::lstm : gru ? Cell::gru : Cell::rnn;
  const std::int64_t layout = int_attribute(node, "layout", 0);
  require(layout == 0 || layout == 1, node, "layout is " + std::to_string(layout), "allowed are 0 and 1");
  r.batch_first = layout == 1;
  const std::string direction = string_attribute(node, "direction", "forward");
  require(direction == "forward" || direction == "reverse" || direction == "bidirectional", node, "direction is " + direction,
          "allowed are forward, reverse, bidirectional");
  r.reverse = direction == "reverse";
  r.directions = direction == "bidirectional" ? 2 : 1;

  const Shape& x = shape_of(node, in, 0, 3);
  const Shape& w = shape_of(node, in, 1, 3);
  const Shape& recurrence = shape_of(node, in, 2, 3);
  r.steps = x[r.batch_first ? 1 : 0];
  r.batch = x[r.batch_first ? 0 : 1];
  r.input = x[2];
  r.hidden = recurrence[2];
  // Sizes of tensors are below 2^44, so that a few times one of them cannot overflow.
  require(r.hidden >= 1 && r.input >= 1, node,
          "X " + to_string(x) + " and R " + to_string(recurrence), "at least one input and one hidden element are needed");
  const auto shaped = [&](std::size_t i, const char* name, const Shape& wanted) {
    if (!given(in, i)) return;
    require(in[i]->shape == wanted, node, std::string(name) + " has shape " + to_string(in[i]->shape), "it must be " + to_string(wanted));
  };
  require(w == Shape{r.directions, r.gates() * r.hidden, r.input}, node, "W has shape " + to_string(w),
          "it must be " + to_string({r.directions, r.gates() * r.hidden, r.input}) + " for X " + to_string(x) + " and R " + to_string(recurrence));
  shaped(2, "R", {r.directions, r.gates() * r.hidden, r.hidden});
  shaped(3, "B", {r.directions, 2 * r.gates() * r.hidden});
  shaped(4, "sequence_lens", {r.batch});
  const Shape state = r.batch_first ? Shape{r.batch, r.directions, r.hidden} : Shape{r.directions, r.batch, r.hidden};
  shaped(5, "initial_h", state);
  shaped(6, "initial_c", state);
  shaped(7, "P", {r.directions, 3 * r.hidden});
  const std::int64_t hidden = int_attribute(node, "hidden_size", r.hidden);
  require(hidden == r.hidden, node, "hidden_size is " + std::to_string(hidden), "R " + to_string(recurrence) + " says " + std::to_string(r.hidden));

  r.clip = float_attribute(node, "clip", 0.0f);
  require(r.clip >= 0.0f, node, "clip is " + std::to_string(r.clip), "it must be positive");
  if (lstm) r.cell_clip = float_attribute(node, "cell_clip", 0.0f);
  require(r.cell_clip >= 0.0f, node, "cell_clip is " + std::to_string(r.cell_clip), "it must be positive, or 0 for no bound");
  const std::int64_t dynamic = int_attribute(node, "dynamic_quantization", 0);
  require(dynamic == 0 || dynamic == 1, node, "dynamic_quantization is " + std::to_string(dynamic), "allowed are 0 and 1");
  r.dynamic = dynamic == 1;
  r.linear_before_reset = gru && int_attribute(node, "linear_before_reset", 0) != 0;
  r.input_forget = lstm && int_attribute(node, "input_forget", 0) != 0;
  const char* defaults = lstm ? "Sigmoid,Tanh,Tanh" : gru ? "Sigmoid,Tanh" : "Tanh";
  r.activations = activations(node, static_cast<std::size_t>(r.directions), defaults, lstm ? 3 : gru ? 2 : 1);
  return r;
}

}  // namespace bittern::graph
