#include "plan/quantised.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "graph/quantize.h"
#include "plan/code_parts.h"
#include "plan/code_user.h"

namespace bittern::plan {
namespace {

using engine::Quantiser;

bool is_code(DType type) { return type == DType::u8 || type == DType::i8; }

// Operators of one input, element by element: 256 codes tell all.
bool is_elementwise(const std::string& op) {
  const char* const names[] = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus",
                               "Softsign", "Swish", "Abs", "Neg", "Exp", "Log", "Sqrt", "Erf", "Floor", "Ceil", "Round", "Sign", "ThresholdedRelu",
                               "Reciprocal", "Shrink", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"};
  return std::find(std::begin(names), std::end(names), op) != std::end(names);
}

// Operators of two inputs, one of which may be a constant number.
bool is_binary(const std::string& op) {
  const char* const names[] = {"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"};
  return std::find(std::begin(names), std::end(names), op) != std::end(names);
}

// Operators that put elements elsewhere and compute nothing: the same for codes, by the plain operators.
bool moves_elements(const graph::Node& node) {
  if (node.op == "Resize") {
    return graph::string_attribute(node, "mode", "nearest") == "nearest" &&
           graph::string_attribute(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize";
  }
  if (node.op == "Pad") return graph::string_attribute(node, "mode", "constant") != "constant";
  const char* const names[] = {"Transpose", "Slice", "Gather", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Concat"};
  return std::find(std::begin(names), std::end(names), node.op) != std::end(names);
}

bool is_view(const std::string& op) { return op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze"; }

}  // namespace

std::vector<Item> CodeUser::run() {
  find_quantisers();
  const auto integer = [](const Item& item) { return item.op == "ConvInteger" || item.op == "MatMulInteger"; };
  if (decoded_.empty() && coded_.empty() && dynamic_.empty() && std::none_of(items_.begin(), items_.end(), integer)) return std::move(items_);
  find_rows();
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!dead_[i]) convert(i);
  }
  drop_unused();  // what read the codes of a layer before
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!dead_[i] && items_[i].codes) fuse_residual(i);
  }
  recount();
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (!dead_[i] && items_[i].codes && items_[i].op == "Concat") requantise_parts(i);
  }
  std::vector<Item> result;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    if (dead_[i]) continue;
    if (item.op == "QuantizeLinear" && coded_.count(i) != 0 && counted_.count(i) == 0) item.conversion = coded_.at(i);
    if (item.codes) {
      for (const std::string& value : item.inputs) {
        if (rows_.count(value) != 0) item.codes->rows.push_back(value);
      }
      if (rows_.count(item.output) != 0) item.codes->rows.push_back(item.output);
    }
    if (const auto* d = decoded(item.output); item.op == "DequantizeLinear" && d != nullptr) item.conversion = d->quantiser;
    result.push_back(std::move(item));
  }
  return result;
}

void CodeUser::find_quantisers() {
  recount();
  for (std::size_t i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    if (item.op == "DequantizeLinear" && !constants_.has(item.inputs[0])) {
      if (const auto q = quantiser(item, types_.at(item.inputs[0]).dtype)) decoded_[item.output] = {item.inputs[0], *q, {}, {}};
      if (const auto made = producer_.find(item.inputs[0]); made != producer_.end() && item.inputs.size() == 3) {
        const Item& maker = items_[made->second];
        const bool all = maker.op == "DynamicQuantizeLinear" && maker.more_outputs.size() == 2 && maker.output == item.inputs[0];
        if (all && maker.more_outputs == std::vector<std::string>(item.inputs.begin() + 1, item.inputs.end())) {
          // With this zero point the offsets of the sums are the sums of the weights.
          dynamic_[item.output] = {item.inputs[0], Quantiser{1, -1, 0, 255}, item.inputs[1], item.inputs[2]};
        }
      }
    } else if (item.op == "QuantizeLinear") {
      if (const auto q = quantiser(item, types_.at(item.output).dtype)) coded_[i] = *q;
    }
  }
  recount();
  // Codes that are read with two meanings would need two halos.
  std::map<std::string, Quantiser> meaning;
  std::set<std::string> ambiguous;
  for (const auto& [value, d] : decoded_) {
    const auto [found, fresh] = meaning.emplace(d.codes, d.quantiser);
    if (!fresh && !(found->second == d.quantiser)) ambiguous.insert(d.codes);
  }
  for (const auto& [i, q] : coded_) {
    const auto found = meaning.find(items_[i].output);
    const auto counts = producer_.find(items_[i].inputs[0]);
    if (found != meaning.end() && counts != producer_.end() && items_[counts->second].op == "MultiThreshold" && q == Quantiser{1, 0, 0, 255}) {
      counted_[i] = found->second.zero;  // what counts of thresholds mean is up to who reads them
      continue;
    }
    if (found != meaning.end() && (found->second.zero != q.zero || found->second.scale != q.scale)) ambiguous.insert(items_[i].output);
  }
  std::erase_if(decoded_, [&](const auto& entry) { return ambiguous.count(entry.second.codes) != 0; });
}

void CodeUser::find_rows() {
  std::set<std::string> maps;
  for (const Item& item : items_) {
    const bool conv = item.op == "Conv" || item.op == "ConvInteger", product = item.op == "MatMul" || item.op == "MatMulInteger";
    if ((!conv && !product) || item.inputs.size() < 2 || !constants_.has(item.inputs[1])) continue;
    std::string codes = item.inputs[0];
    if (const Decoded* from = decoded_or_dynamic(codes); from != nullptr) codes = from->codes;
    const bool matrix = product && types_.at(item.inputs[1]).shape.size() == 2 && types_.at(item.inputs[0]).shape.size() > 2;
    if (matrix) rows_.insert(codes);
    if (conv) maps.insert(codes);
  }
  for (const std::string& codes : maps) rows_.erase(codes);
}

void CodeUser::convert(std::size_t i) {
  Item& item = items_[i];
  if (item.inputs.empty() || item.op == "DequantizeLinear" || item.bits != nullptr) return;
  if (item.op == "QuantizeLinear") return requantise(i);
  if (item.op == "Conv" || item.op == "Gemm" || item.op == "MatMul") return layer(i);
  if (item.op == "ConvInteger" || item.op == "MatMulInteger") return integer_layer(i);
  const std::ptrdiff_t q = sole_quantiser(item.output);
  if (q < 0 || !item.more_outputs.empty()) return;
  if (item.op == "MultiThreshold") return thresholds(i, static_cast<std::size_t>(q));
  // A constant number may stand on either side.
  const std::size_t place = is_binary(item.op) && item.inputs.size() == 2 && constants_.has(item.inputs[0]) ? 1 : 0;
  const auto from = decoded(item.inputs[place]);
  if (from == nullptr) return;
  const Quantiser to = coded_.at(static_cast<std::size_t>(q));
  const Shape& shape = types_.at(item.inputs[place]).shape;
  const Item& quantiser = items_[static_cast<std::size_t>(q)];
  bool rows = has_rows(from->codes);
  const bool map = !rows && (shape.size() == 4 || shape.size() == 3), tabled = shape.size() >= 2 && shape.size() <= 4;
  const bool same = from->quantiser == to && bounded_by(from->codes, to) && types_.at(from->codes).dtype == types_.at(quantiser.output).dtype;
  const bool constant = is_binary(item.op) && item.inputs.size() == 2 && constants_.has(item.inputs[1 - place]);
  CodesForm form;
  form.inputs = {from->quantiser};
  const bool pooled = !item.plain && map && shape[1] > 4;  // blocks of 16 channels
  const auto stay = [&](const char* why) { item.stays_real = why; };
  if (item.op == "MaxPool" && pooled && same) {
  } else if ((item.op == "AveragePool" || item.op == "GlobalAveragePool") && pooled) {
    // Sums of windows stay exact in 32 bits and in a float's 24.
    const Shape window = item.op == "AveragePool" ? graph::ints_attribute(*item.node, "kernel_shape", {}) : Shape(shape.begin() + 2, shape.end());
    double taps = 1;
    for (const std::int64_t size : window) taps *= static_cast<double>(size);
    if (taps * 255 >= 1 << 24) return stay("sums of its windows could leave 24 bits");
  } else if (item.op == "Add" && !item.plain && !constant && tabled && item.inputs.size() == 2 &&
             types_.at(item.inputs[1]).shape == shape) {
    const auto other = decoded(item.inputs[1]);
    if (other == nullptr) return stay("one of its inputs is no tensor of 8-bit codes with one scale");
    if (has_rows(other->codes) != rows) return stay("one of its inputs is kept in rows, the other in blocks of channels");
    form.inputs.push_back(other->quantiser);
  } else if (item.op == "Concat" && !item.plain && joins_blocks(item)) {
    form.inputs.clear();
    for (const std::string& input : item.inputs) form.inputs.push_back(decoded(input)->quantiser);
  } else if (item.op == "Softmax" && softmax_of_rows(item, *quantiser.node, from->quantiser)) {
  } else if (is_view(item.op) && same && tabled) {
    rows = rows_.count(quantiser.output) != 0;  // whoever reads it has said what it wants
  } else if ((is_elementwise(item.op) ? item.fused.empty() : constant) && tabled) {
    form.table = table_of(item, place, constant, from->quantiser, to, types_, constants_);
    if (form.table == nullptr) return stay("its other inputs are no constant numbers");
  } else if ((moves_elements(*item.node) || is_view(item.op)) && same) {
    return move_codes(i, static_cast<std::size_t>(q));
  } else {
    return stay(why_real(item, same));
  }
  for (std::size_t p = 0; p < form.inputs.size(); ++p) item.inputs[p] = decoded(item.inputs[form.table != nullptr ? place : p])->codes;
  if (form.table != nullptr) item.inputs.resize(1);
  item.plain = false;
  take_over(i, static_cast<std::size_t>(q), form, rows);
  item.codes = std::move(form);
}

// Only differences of codes count, and of those there are 256. TensorFlow Lite has an arithmetic of its own.
bool CodeUser::softmax_of_rows(const Item& item, const graph::Node& quantiser, const Quantiser& from) const {
  const std::int64_t axis = graph::int_attribute(*item.node, "axis", -1);
  const bool finite = from.scale > 0 && from.scale <= std::numeric_limits<float>::max();
  return types_.at(item.output).shape.size() == 2 && (axis == 1 || axis == -1) && !item.plain && item.fused.empty() && finite &&
         graph::string_attribute(quantiser, "requantize", "").empty();
}

bool CodeUser::joins_blocks(const Item& item) const {
  const std::int64_t axis = graph::int_attribute(*item.node, "axis", 0);
  if (types_.at(item.output).shape.size() != 4 || (axis != 1 && axis != -3)) return false;
  std::int64_t channels = 0;
  for (const std::string& input : item.inputs) {
    const Decoded* part = decoded(input);
    if (part == nullptr || channels % 16 != 0 || has_rows(part->codes)) return false;
    channels += types_.at(input).shape[1];
  }
  return channels >= 16;
}

void CodeUser::move_codes(std::size_t i, std::size_t q) {
  Item& item = items_[i];
  const Decoded* first = decoded(item.inputs[0]);
  const std::size_t parts = item.op == "Concat" ? item.inputs.size() : 1;
  for (std::size_t p = 1; p < parts; ++p) {
    const Decoded* part = decoded(item.inputs[p]);
    const bool same = part != nullptr && part->quantiser == first->quantiser && types_.at(part->codes).dtype == types_.at(first->codes).dtype;
    if (!same || !bounded_by(part->codes, part->quantiser)) {
      item.stays_real = "its parts have different scales or zero points, or do not fill blocks of 16 channels";
      return;
    }
  }
  for (std::size_t p = 0; p < parts; ++p) item.inputs[p] = decoded(item.inputs[p])->codes;
  item.fused.push_back(items_[q].name);
  item.output = items_[q].output;
  item.plain = item.plain || !is_view(item.op);
  item.on_codes = true;
  dead_[q] = true;
}

void CodeUser::thresholds(std::size_t i, std::size_t q) {
  Item& item = items_[i];
  const auto stay = [&](const char* why) { item.stays_real = why; };
  const Shape& shape = types_.at(item.inputs[0]).shape;
  const Quantiser& to = coded_.at(q);
  const bool counts = graph::float_attribute(*item.node, "out_scale", 1.0f) == 1.0f && graph::float_attribute(*item.node, "out_bias", 0.0f) == 0.0f;
  if (!counts || !(to == Quantiser{1.0f, 0, 0, 255})) return stay("its results are no counts of 8 bits");
  if (!constants_.has(item.inputs[1])) return stay("its thresholds are computed at run time");
  if (types_.at(item.inputs[1]).shape[1] > 255) return stay("it has more than 255 thresholds");
  const std::size_t axis = graph::threshold_axis(*item.node, shape.size());
  const bool rows = shape.size() == 2 || rows_.count(items_[q].output) != 0;
  if (shape.size() < 2 || shape.size() > 4 || axis != (rows ? shape.size() - 1 : 1)) {
    return stay("its channels are neither the second dimension nor the columns of a product");
  }
  CodesForm form;
  item.plain = false;
  take_over(i, q, form, rows);
  if (const auto zero = counted_.find(q); zero != counted_.end()) form.output->zero = zero->second;
  item.codes = std::move(form);
}

const char* CodeUser::why_real(const Item& item, bool same) {
  if (item.op == "MaxPool" && !same) return "its result has another scale, zero point or type than its input";
  if (item.op == "MaxPool" || item.op == "AveragePool" || item.op == "GlobalAveragePool") {
    return "it is no pooling of 1 or 2 dimensions over more than 4 channels";
  }
  if (item.op == "Concat") return "its parts have different scales or zero points, or do not fill blocks of 16 channels";
  if (moves_elements(*item.node) || is_view(item.op)) return "its result has another scale, zero point or type than its input";
  if (is_elementwise(item.op)) return "it has no table of codes: the tensor has not 2 to 4 dimensions, or an activation is fused into it";
  return "no kernel computes it on codes";
}

void CodeUser::requantise(std::size_t i) {
  const auto to = coded_.find(i);
  const auto from = decoded(items_[i].inputs[0]);
  if (to == coded_.end() || from == nullptr) return;
  const bool rows = has_rows(from->codes);
  const std::size_t rank = types_.at(items_[i].output).shape.size();
  if (rank < 2 || rank > 4) return;
  CodesForm form;
  form.inputs = {from->quantiser};
  form.output = to->second;
  Item& item = items_[i];
  set_rows(item.output, rows);
  item.inputs = {from->codes};
  item.op = "Requantize";
  item.plain = false;
  item.codes = std::move(form);
}

std::optional<Quantiser> CodeUser::quantiser(const Item& item, DType type) const {
  if (!is_code(type) || graph::int_attribute(*item.node, "block_size", 0) != 0) return std::nullopt;
  const auto scale = scalar(item.inputs[1]);
  if (!scale) return std::nullopt;
  Quantiser q;
  q.scale = *scale;
  if (item.inputs.size() > 2 && !item.inputs[2].empty()) {
    if (!constants_.has(item.inputs[2])) return std::nullopt;
    const auto zero = constants_.integers(item.inputs[2]);
    if (zero.size() != 1) return std::nullopt;
    q.zero = static_cast<std::int32_t>(zero[0]);
  }
  const auto bits = static_cast<int>(graph::int_attribute(*item.node, "bits", 8));
  const std::int32_t shift = type == DType::i8 ? signed_shift : 0, codes = 1 << bits;
  q.lo = type == DType::i8 ? -codes / 2 + static_cast<std::int32_t>(graph::int_attribute(*item.node, "narrow", 0)) : 0;
  q.hi = type == DType::i8 ? codes / 2 - 1 : codes - 1;
  q.zero += shift;
  q.lo += shift;
  q.hi += shift;
  return q;
}

std::vector<Item> use_codes(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants) {
  return CodeUser(std::move(items), types, kept, constants).run();
}

}  // namespace bittern::plan
