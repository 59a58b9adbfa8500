#include "plan/fuse.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>

namespace bittern::plan {
namespace {

bool is_convolution(const std::string& op) { return op == "Conv" || op == "WinogradConv"; }
bool is_layer(const std::string& op) { return is_convolution(op) || op == "Gemm" || op == "MatMul"; }
bool is_binary(const std::string& op) { return op == "Add" || op == "Sub" || op == "Mul" || op == "Div"; }
bool can_clamp(const std::string& op) { return is_layer(op) || is_binary(op) || op == "BatchNormalization"; }

// True if lower_conv, lower_gemm or lower_op have the node; else it runs as a plain operator.
bool tuned(const graph::Node& node, const Types& types, const Constants& constants) {
  const auto type = [&](std::size_t i) -> const graph::ValueType& { return types.at(node.inputs[i]); };
  const auto is_given = [&](std::size_t i) { return i < node.inputs.size() && !node.inputs[i].empty(); };
  const auto constant = [&](std::size_t i) { return !is_given(i) || constants.has(node.inputs[i]); };
  const auto f32 = [&](std::size_t i) { return !is_given(i) || type(i).dtype == DType::f32; };
  const bool map = is_given(0) && (type(0).shape.size() == 3 || type(0).shape.size() == 4);
  const std::string& op = node.op;
  if (node.inputs.empty() || node.outputs.size() > 1) return false;
  if (op == "Identity" || op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze") return true;  // views
  if (op == "Dropout") {
    return !is_given(2) || (constants.has(node.inputs[2]) && constants.integers(node.inputs[2]) == std::vector<std::int64_t>{0});
  }
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (!f32(i)) return false;
  if (op == "Conv") return map && constant(1) && constant(2) && graph::element_count(type(1).shape, op) > 0;
  if (op == "WinogradConv") {
    const Shape& w = type(1).shape;
    return constant(1) && constant(2) && graph::element_count(w, op) > 0 && std::max(w[0], w[1]) < 1 << 24;
  }
  if (op == "Gemm") return constant(1) && graph::element_count(type(1).shape, op) > 0;
  if (op == "MatMul") return constant(1) && type(1).shape.size() == 2 && !type(0).shape.empty() && graph::element_count(type(1).shape, op) > 0;
  if (op == "BatchNormalization") {
    return constant(1) && constant(2) && constant(3) && constant(4) && graph::int_attribute(node, "training_mode", 0) == 0;
  }
  if (op == "MaxPool" || op == "AveragePool") return map && graph::tuned_pool(node, type(0).shape);
  if (op == "GlobalAveragePool" || op == "GlobalMaxPool" || op == "LRN") return map;
  if (op == "Clip") return constant(1) && constant(2);
  const char* const others[] = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "Add", "Sub", "Mul", "Div", "Concat", "Transpose"};
  return std::find(std::begin(others), std::end(others), op) != std::end(others);
}

class Fuser {
 public:
  Fuser(const graph::Graph& graph, const Types& types, const std::set<std::string>& kept, const Constants& constants)
      : types_(types), kept_(kept), constants_(constants) {
    for (const graph::Node& node : graph.nodes) {
      const auto known = [&](const std::string& output) { return output.empty() || types.at(output).known != nullptr; };
      if (std::all_of(node.outputs.begin(), node.outputs.end(), known)) continue;
      Item item;
      item.node = &node;
      item.op = node.op;
      item.name = node.name;
      item.inputs = node.inputs;
      item.output = node.outputs[0];
      item.more_outputs.assign(node.outputs.begin() + 1, node.outputs.end());
      item.plain = !tuned(node, types, constants);
      if (node.op == "Dropout" && !item.plain) item.inputs.resize(1);
      items_.push_back(std::move(item));
    }
  }

  std::vector<Item> run() {
    drop_no_ops();
    recount();
    for (std::size_t i = 0; i < items_.size(); ++i) {
      if (dead_[i] || items_[i].plain) continue;
      if (!fold_channel_affine(i) && !fuse_residual(i) && !join_shuffle(i)) fuse_clamp(i);
    }
    std::vector<Item> result;
    for (std::size_t i = 0; i < items_.size(); ++i)
      if (!dead_[i]) result.push_back(std::move(items_[i]));
    return result;
  }

 private:
  // What drop_no_ops() knows of the items it has kept: without an index, many named outputs would take forever.
  struct Kept {
    std::vector<Item> items;
    std::map<std::string, std::size_t> maker;                  // value -> item
    std::map<std::string, std::vector<std::size_t>> readers;   // value -> items
    std::map<std::string, std::string> stands_for;             // dropped value -> what is read instead
    std::map<std::string, std::vector<std::string>> names_of;  // the other way round

    void keep(Item&& item) {
      maker[item.output] = items.size();
      for (const std::string& input : item.inputs) readers[input].push_back(items.size());
      items.push_back(std::move(item));
    }
    void replace(const std::string& dropped, const std::string& target) {
      stands_for[dropped] = target;
      names_of[target].push_back(dropped);
    }
  };

  // Identity and Dropout pass their input on.
  void drop_no_ops() {
    Kept left;
    for (Item& item : items_) {
      for (std::string& input : item.inputs) {
        if (const auto found = left.stands_for.find(input); found != left.stands_for.end()) input = found->second;
      }
      const bool passes = (item.op == "Identity" || item.op == "Dropout") && !item.plain;
      if (passes && kept_.count(item.output) != 0 && rename(left, item.inputs[0], item.output)) continue;
      if (passes && kept_.count(item.output) == 0) {
        left.replace(item.output, item.inputs[0]);
      } else {
        left.keep(std::move(item));
      }
    }
    items_ = std::move(left.items);
    dead_.assign(items_.size(), false);
  }

  // A no-op that names an output: whoever computes `from` computes the output `to` instead, and all others read that.
  bool rename(Kept& before, const std::string& from, const std::string& to) const {
    const auto maker = before.maker.find(from);
    if (maker == before.maker.end() || kept_.count(from) != 0) return false;
    before.items[maker->second].output = to;
    before.maker[to] = maker->second;
    before.maker.erase(maker);
    std::vector<std::size_t> readers = std::move(before.readers[from]);
    for (const std::size_t i : readers) std::replace(before.items[i].inputs.begin(), before.items[i].inputs.end(), from, to);
    before.readers[to] = std::move(readers);
    const std::vector<std::string> names = std::move(before.names_of[from]);
    for (const std::string& name : names) before.replace(name, to);
    before.replace(from, to);
    return true;
  }

  void recount() {
    uses_.clear();
    producer_.clear();
    for (std::size_t i = 0; i < items_.size(); ++i) {
      for (const std::string& input : items_[i].inputs) ++uses_[input];
      producer_[items_[i].output] = i;
      for (const std::string& output : items_[i].more_outputs) producer_[output] = i;
    }
  }

  // The item that makes `value`, if nobody but the asking item sees the value.
  Item* sole_producer(const std::string& value) {
    const auto found = producer_.find(value);
    if (found == producer_.end() || uses_[value] != 1 || kept_.count(value) != 0 || items_[found->second].plain) return nullptr;
    return &items_[found->second];
  }

  // Item i now runs inside `into`, which takes over its output.
  void absorb(Item& into, std::size_t i) {
    into.fused.push_back(items_[i].name);
    into.fused.insert(into.fused.end(), items_[i].fused.begin(), items_[i].fused.end());
    into.output = items_[i].output;
    producer_[into.output] = static_cast<std::size_t>(&into - items_.data());
    dead_[i] = true;
  }

  // The axis of a layer's result along which its output channels lie: the second of a Conv, the last of a product.
  std::size_t channel_axis(const Item& layer, const std::string& value) const {
    return is_convolution(layer.op) ? 1 : types_.at(value).shape.size() - 1;
  }

  // A constant as one number per element of `axis` of the value `like`, if it broadcasts that way.
  std::optional<std::vector<float>> per_channel(const std::string& name, const std::string& like, std::size_t axis) const {
    if (!constants_.has(name) || types_.at(name).dtype != DType::f32) return std::nullopt;
    const Shape& shape = types_.at(name).shape;
    const Shape& target = types_.at(like).shape;
    if (axis >= target.size() || shape.size() > target.size()) return std::nullopt;
    const std::int64_t channels = target[axis];
    const std::size_t missing = target.size() - shape.size();
    std::int64_t count = 1;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      if (shape[i] == 1) continue;
      if (i + missing != axis || shape[i] != channels) return std::nullopt;
      count = channels;
    }
    std::vector<float> values = constants_.floats(name);
    if (count == 1) values.assign(static_cast<std::size_t>(channels), values.at(0));
    return values;
  }

  static void apply(Item& item, const std::vector<float>& scale, const std::vector<float>& shift) {
    const std::size_t channels = scale.size();
    if (item.scale.empty()) {
      item.scale.assign(channels, 1.0f);
      item.shift.assign(channels, 0.0f);
    }
    for (std::size_t c = 0; c < channels; ++c) {
      item.scale[c] *= scale[c];
      item.shift[c] = item.shift[c] * scale[c] + shift[c];
    }
  }

  // Conv or Gemm followed by batch normalisation, or by a constant per channel: into the weights.
  bool fold_channel_affine(std::size_t i) {
    Item& item = items_[i];
    if (item.op == "BatchNormalization") {
      Item* into = foldable(item.inputs[0]);
      for (std::size_t p = 1; p < 5; ++p)
        if (!constants_.has(item.inputs[p])) return false;
      // Batch normalisation has its channels on the second axis.
      if (into == nullptr || channel_axis(*into, item.inputs[0]) != 1) return false;
      std::vector<float> scale, shift;
      batch_norm_affine(item, constants_, scale, shift);
      apply(*into, scale, shift);
      absorb(*into, i);
      return true;
    }
    if (!is_binary(item.op)) return false;
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      if (side == 1 && (item.op == "Sub" || item.op == "Div")) continue;
      const std::string &value = item.inputs[side], &constant = item.inputs[1 - side];
      if (constants_.has(value) || types_.at(item.output).shape != types_.at(value).shape) continue;
      Item* into = foldable(value);
      if (into == nullptr) continue;
      const auto numbers = per_channel(constant, value, channel_axis(*into, value));
      if (!numbers) continue;
      std::vector<float> scale(numbers->size(), 1.0f), shift(numbers->size(), 0.0f);
      for (std::size_t c = 0; c < numbers->size(); ++c) {
        const float x = (*numbers)[c];
        if (item.op == "Add") shift[c] = x;
        if (item.op == "Sub") shift[c] = -x;
        if (item.op == "Mul") scale[c] = x;
        if (item.op == "Div") scale[c] = 1.0f / x;
      }
      apply(*into, scale, shift);
      absorb(*into, i);
      return true;
    }
    return false;
  }

  Item* foldable(const std::string& value) {
    Item* into = sole_producer(value);
    if (into == nullptr || !is_layer(into->op) || into->clamped || !into->residual.empty()) return nullptr;
    if (!constants_.has(into->inputs[1])) return nullptr;
    // A Gemm whose C is no row vector adds it after the product: a scaling would have to reach it too.
    if (into->op == "Gemm" && into->inputs.size() > 2 && !into->inputs[2].empty() && !per_channel(into->inputs[2], value, 1)) return nullptr;
    if (is_convolution(into->op) && into->inputs.size() > 2 && !into->inputs[2].empty() && !constants_.has(into->inputs[2])) return nullptr;
    return into;
  }

  // Add of two equal shapes: into the convolution that comes last, if the other side is ready by then.
  bool fuse_residual(std::size_t i) {
    Item& item = items_[i];
    if (item.op != "Add" || item.inputs[0] == item.inputs[1]) return false;
    if (types_.at(item.inputs[0]).shape != types_.at(item.inputs[1]).shape) return false;
    Item* best = nullptr;
    std::size_t best_at = 0, best_side = 0;
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      Item* into = sole_producer(item.inputs[side]);
      if (into == nullptr || !is_convolution(into->op) || into->clamped || !into->residual.empty()) continue;
      const std::size_t at = producer_[item.inputs[side]];
      const auto other = producer_.find(item.inputs[1 - side]);
      if (other != producer_.end() && other->second > at) continue;
      if (best == nullptr || at > best_at) {
        best = into;
        best_at = at;
        best_side = side;
      }
    }
    if (best == nullptr) return false;
    best->residual = item.inputs[1 - best_side];
    absorb(*best, i);
    return true;
  }

  // Reshape to groups, transpose groups and members, reshape back: a channel shuffle (ShuffleNet, arXiv 1707.01083).
  bool join_shuffle(std::size_t i) {
    Item& last = items_[i];
    if (last.op != "Reshape") return false;
    Item* transpose = sole_producer(last.inputs[0]);
    if (transpose == nullptr || transpose->op != "Transpose") return false;
    Item* first = sole_producer(transpose->inputs[0]);
    if (first == nullptr || first->op != "Reshape") return false;
    const Shape &x = types_.at(first->inputs[0]).shape, &split = types_.at(first->output).shape;
    if (x.size() != 4 || types_.at(first->inputs[0]).dtype != DType::f32 || types_.at(last.output).shape != x || split.size() != 5 || split[1] * split[2] != x[1]) return false;
    if (split != Shape{x[0], split[1], split[2], x[2], x[3]}) return false;
    if (graph::ints_attribute(*transpose->node, "perm", {}) != std::vector<std::int64_t>{0, 2, 1, 3, 4}) return false;
    last.op = "ChannelShuffle";
    last.groups = split[1];
    last.inputs = {first->inputs[0]};
    for (const Item* part : {first, transpose}) {
      last.fused.push_back(part->name);
      dead_[static_cast<std::size_t>(part - items_.data())] = true;
    }
    return true;
  }

  bool fuse_clamp(std::size_t i) {
    Item& item = items_[i];
    float lo = -std::numeric_limits<float>::infinity(), hi = std::numeric_limits<float>::infinity();
    if (item.op == "Relu") {
      lo = 0;
    } else if (item.op == "Clip") {
      for (std::size_t b = 1; b < item.inputs.size(); ++b) {
        if (item.inputs[b].empty()) continue;
        if (!constants_.has(item.inputs[b])) return false;
        (b == 1 ? lo : hi) = constants_.floats(item.inputs[b]).at(0);
      }
    } else {
      return false;
    }
    item.lo = lo;
    item.hi = hi;
    item.clamped = true;
    Item* into = sole_producer(item.inputs[0]);
    if (into == nullptr || !can_clamp(into->op) || into->clamped) return false;
    into->lo = lo;
    into->hi = hi;
    into->clamped = true;
    absorb(*into, i);
    return true;
  }

  const Types& types_;
  const std::set<std::string>& kept_;
  const Constants& constants_;
  std::vector<Item> items_;
  std::vector<bool> dead_;
  std::map<std::string, int> uses_;
  std::map<std::string, std::size_t> producer_;
};

}  // namespace

void batch_norm_affine(const Item& item, const Constants& constants, std::vector<float>& scale, std::vector<float>& shift) {
  const auto gamma = constants.floats(item.inputs[1]), beta = constants.floats(item.inputs[2]);
  const auto mean = constants.floats(item.inputs[3]), variance = constants.floats(item.inputs[4]);
  const float epsilon = graph::float_attribute(*item.node, "epsilon", 1e-5f);
  for (std::size_t c = 0; c < gamma.size(); ++c) {
    // In double: the folded weights are rounded once.
    const double s = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + epsilon);
    scale.push_back(static_cast<float>(s));
    shift.push_back(static_cast<float>(beta[c] - mean[c] * s));
  }
}

std::vector<Item> fuse(const graph::Graph& graph, const Types& types, const std::set<std::string>& kept, const Constants& constants) {
  return Fuser(graph, types, kept, constants).run();
}

}  // namespace bittern::plan
