#include "plan/quantised.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "plan/plain.h"

namespace bittern::plan {
namespace {

using engine::Quantiser;

constexpr std::int32_t signed_shift = 128;  // codes of signed tensors are stored plus this

bool is_code(DType type) { return type == DType::u8 || type == DType::i8; }

// Operators of one input, element by element: 256 codes tell all.
bool is_elementwise(const std::string& op) {
  const char* const names[] = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus",
                               "Softsign", "Swish", "Abs", "Neg", "Exp", "Log", "Sqrt", "Erf", "Floor", "Ceil", "Round", "Sign", "ThresholdedRelu"};
  return std::find(std::begin(names), std::end(names), op) != std::end(names);
}

bool is_view(const std::string& op) { return op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze"; }

class CodeUser {
 public:
  CodeUser(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants)
      : items_(std::move(items)), types_(types), kept_(kept), constants_(constants), dead_(items_.size(), false) {}

  std::vector<Item> run() {
    find_quantisers();
    if (decoded_.empty() && coded_.empty() && dynamic_.empty()) return std::move(items_);
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
      if (item.op == "QuantizeLinear" && coded_.count(i) != 0) item.conversion = coded_.at(i);
      if (const auto* d = decoded(item.output); item.op == "DequantizeLinear" && d != nullptr) item.conversion = d->quantiser;
      result.push_back(std::move(item));
    }
    return result;
  }

 private:
  // The real numbers that DequantizeLinear makes of codes.
  struct Decoded {
    std::string codes;
    Quantiser quantiser;
    std::string scale, zero;  // of DynamicQuantizeLinear: values at run time
  };

  std::optional<float> scalar(const std::string& name) const {
    if (!constants_.has(name) || types_.at(name).dtype != DType::f32) return std::nullopt;
    const auto values = constants_.floats(name);
    if (values.size() != 1 || !(values[0] > 0) || !std::isfinite(values[0])) return std::nullopt;
    return values[0];
  }

  // The quantiser of a QuantizeLinear or DequantizeLinear whose codes have `type`; nothing if it is none of 8 bits for the
  // whole tensor.
  std::optional<Quantiser> quantiser(const Item& item, DType type) const {
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

  void find_quantisers() {
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
      if (found != meaning.end() && (found->second.zero != q.zero || found->second.scale != q.scale)) ambiguous.insert(items_[i].output);
    }
    std::erase_if(decoded_, [&](const auto& entry) { return ambiguous.count(entry.second.codes) != 0; });
  }

  void recount() {
    uses_.clear();
    producer_.clear();
    reader_.clear();
    for (std::size_t i = 0; i < items_.size(); ++i) {
      if (dead_[i]) continue;
      for (const std::string& input : items_[i].inputs) {
        ++uses_[input];
        reader_[input] = i;
      }
      if (!items_[i].residual.empty()) {
        ++uses_[items_[i].residual];
        reader_[items_[i].residual] = i;
      }
      for (const std::string& output : items_[i].outputs()) producer_[output] = i;
    }
  }

  // The QuantizeLinear that alone reads this value, or -1.
  std::ptrdiff_t sole_quantiser(const std::string& value) const {
    const auto uses = uses_.find(value);
    if (uses == uses_.end() || uses->second != 1 || kept_.count(value) != 0) return -1;
    const std::size_t reader = reader_.at(value);
    return coded_.count(reader) != 0 && items_[reader].inputs[0] == value ? static_cast<std::ptrdiff_t>(reader) : -1;
  }

  const Decoded* decoded(const std::string& value) const {
    const auto found = decoded_.find(value);
    return found == decoded_.end() ? nullptr : &found->second;
  }

  // The item now gives the codes that QuantizeLinear `q` gave.
  void take_over(std::size_t i, std::size_t q, CodesForm& form) {
    form.output = coded_.at(q);
    form.fixed_point = is_fixed_point(q);
    items_[i].fused.push_back(items_[q].name);
    items_[i].output = items_[q].output;
    dead_[q] = true;
  }

  // True if no code is outside the quantiser's: all bytes are inside, or such a quantiser made them.
  bool bounded_by(const std::string& codes, const Quantiser& q) const {
    if (q.lo == 0 && q.hi == 255) return true;
    const auto made = producer_.find(codes);
    const auto by = made == producer_.end() ? coded_.end() : coded_.find(made->second);
    return by != coded_.end() && by->second == q;
  }

  bool is_fixed_point(std::size_t q) const { return graph::string_attribute(*items_[q].node, "requantize", "") == "tflite"; }

  void convert(std::size_t i) {
    Item& item = items_[i];
    if (item.inputs.empty() || item.op == "DequantizeLinear") return;
    if (item.op == "QuantizeLinear") return requantise(i);
    if (item.op == "Conv" || item.op == "Gemm" || item.op == "MatMul") return layer(i);
    const std::ptrdiff_t q = sole_quantiser(item.output);
    if (q < 0 || !item.more_outputs.empty()) return;
    const auto from = decoded(item.inputs[0]);
    if (from == nullptr) return;
    const Quantiser to = coded_.at(static_cast<std::size_t>(q));
    const Shape& shape = types_.at(item.inputs[0]).shape;
    const bool map = shape.size() == 4 || shape.size() == 3;
    const bool same = from->quantiser == to && bounded_by(from->codes, to) && types_.at(from->codes).dtype == types_.at(items_[static_cast<std::size_t>(q)].output).dtype;
    CodesForm form;
    form.inputs = {from->quantiser};
    const bool pooled = !item.plain && map && shape[1] > 4;  // blocks of 16 channels
    if (item.op == "MaxPool" && pooled && same) {
    } else if ((item.op == "AveragePool" || item.op == "GlobalAveragePool") && pooled) {
      // Sums of windows stay exact in 32 bits and in a float's 24.
      const Shape window = item.op == "AveragePool" ? graph::ints_attribute(*item.node, "kernel_shape", {}) : Shape(shape.begin() + 2, shape.end());
      double taps = 1;
      for (const std::int64_t size : window) taps *= static_cast<double>(size);
      if (taps * 255 >= 1 << 24) return;
    } else if (item.op == "Add" && !item.plain && map && item.inputs.size() == 2 && types_.at(item.inputs[1]).shape == shape) {
      const auto other = decoded(item.inputs[1]);
      if (other == nullptr) return;
      form.inputs.push_back(other->quantiser);
    } else if (item.op == "Concat" && !item.plain && shape.size() == 4) {
      const std::int64_t axis = graph::int_attribute(*item.node, "axis", 0);
      if (axis != 1 && axis != -3) return;
      std::int64_t channels = 0;
      form.inputs.clear();
      for (const std::string& input : item.inputs) {
        const auto part = decoded(input);
        if (part == nullptr || channels % 16 != 0) return;
        form.inputs.push_back(part->quantiser);
        channels += types_.at(input).shape[1];
      }
      if (channels < 16) return;
    } else if (is_view(item.op) && same && (shape.size() == 4 || shape.size() == 2)) {
    } else if (is_elementwise(item.op) && item.fused.empty() && (shape.size() == 4 || shape.size() == 2)) {
      form.table = table_of(item, from->quantiser, to);
      if (form.table == nullptr) return;
    } else {
      return;
    }
    for (std::size_t p = 0; p < form.inputs.size(); ++p) item.inputs[p] = decoded(item.inputs[p])->codes;
    if (form.table != nullptr) item.inputs.resize(1);
    item.plain = false;
    take_over(i, static_cast<std::size_t>(q), form);
    item.codes = std::move(form);
  }

  // Codes of one quantiser as codes of another.
  void requantise(std::size_t i) {
    const auto to = coded_.find(i);
    const auto from = decoded(items_[i].inputs[0]);
    const std::size_t rank = types_.at(items_[i].output).shape.size();
    if (to == coded_.end() || from == nullptr || (rank != 4 && rank != 2)) return;
    CodesForm form;
    form.inputs = {from->quantiser};
    form.output = to->second;
    Item& item = items_[i];
    item.inputs = {from->codes};
    item.op = "Requantize";
    item.plain = false;
    item.codes = std::move(form);
  }

  // The operator's results on all 256 codes, as codes.
  std::shared_ptr<const std::vector<std::byte>> table_of(const Item& item, const Quantiser& from, const Quantiser& to) const {
    std::vector<float> x(256);
    for (int code = 0; code < 256; ++code) x[static_cast<std::size_t>(code)] = static_cast<float>(code - from.zero) * from.scale;
    graph::ValueType all{DType::f32, {256}, nullptr};
    const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
    all.known = std::make_shared<const std::vector<std::byte>>(bytes, bytes + x.size() * sizeof(float));
    std::vector<graph::ValueType> others;
    others.reserve(item.inputs.size());
    std::vector<const graph::ValueType*> inputs{&all};
    for (std::size_t p = 1; p < item.inputs.size(); ++p) {
      if (item.inputs[p].empty()) {
        inputs.push_back(nullptr);
        continue;
      }
      if (!constants_.has(item.inputs[p])) return nullptr;
      others.push_back(types_.at(item.inputs[p]));
      others.back().known = constants_.bytes(item.inputs[p]);
      inputs.push_back(&others.back());
    }
    std::vector<graph::ValueType> outputs{{DType::f32, {256}, nullptr}};
    evaluate(*item.node, inputs, outputs);
    if (outputs[0].known == nullptr) return nullptr;
    std::vector<float> y(256);
    std::memcpy(y.data(), outputs[0].known->data(), y.size() * sizeof(float));
    auto table = std::make_shared<std::vector<std::byte>>(256);
    for (std::size_t code = 0; code < 256; ++code) {
      // In this order a NaN becomes the lowest code.
      const float bounded = std::min(std::max(to.lowest(), y[code] / to.scale), to.highest());
      (*table)[code] = static_cast<std::byte>(static_cast<std::int32_t>(std::nearbyint(bounded)) + to.zero);
    }
    return table;
  }

  // Convolution and product with weights of few bits.
  void layer(std::size_t i) {
    Item& item = items_[i];
    const Decoded* from = decoded(item.inputs[0]);
    const auto at_run_time = dynamic_.find(item.inputs[0]);
    const bool dynamic = from == nullptr && item.op != "Conv" && at_run_time != dynamic_.end();
    if (dynamic) from = &at_run_time->second;
    const auto stay = [&](const char* why) { item.stays_real = why; };
    if (item.plain) return;
    if (from == nullptr) return stay("its input is no tensor of 8-bit codes with one scale");
    if (!constants_.has(item.inputs[1])) return stay("its weights are computed at run time");
    if (!item.residual.empty()) return stay("it adds a tensor of real numbers");
    const Shape& x = types_.at(item.inputs[0]).shape;
    const Shape& w = types_.at(item.inputs[1]).shape;
    const bool conv = item.op == "Conv";
    if (!conv && x.size() != 2) return stay("its input is no matrix");
    const bool transposed = !conv && graph::int_attribute(*item.node, "transB", 0) != 0;
    if (!conv && (graph::float_attribute(*item.node, "alpha", 1) != 1 || graph::float_attribute(*item.node, "beta", 1) != 1 ||
                  graph::int_attribute(*item.node, "transA", 0) != 0)) {
      return stay("alpha, beta or transA is set");
    }
    const int channel_axis = conv || transposed ? 0 : 1;
    const bool biased = item.inputs.size() > 2 && !item.inputs[2].empty();
    const std::int64_t channels = w[static_cast<std::size_t>(channel_axis)];
    if (biased && !bias_fits(item, channels)) return stay("its bias is not one constant per output channel");
    auto weights = constants_.integer_form(item.inputs[1]);
    if (!weights || (weights->axis >= 0 && weights->axis != channel_axis)) return stay("its weights are not whole numbers times a scale per output channel");
    const std::ptrdiff_t q = dynamic ? -1 : sole_quantiser(item.output);
    const bool fixed = q >= 0 && is_fixed_point(static_cast<std::size_t>(q));
    CodesForm form;
    form.inputs = {from->quantiser};
    form.dynamic_scale = from->scale;
    form.dynamic_zero = from->zero;
    if (biased && !dynamic) form.bias = bias_of_sums(item.inputs[2], *weights, from->quantiser, channels, fixed);
    if (fixed && ((biased && form.bias == nullptr) || !item.scale.empty())) return stay("TensorFlow Lite's rounding needs an integer bias and no factors");
    std::int64_t largest_bias = 0;
    if (form.bias != nullptr) {
      for (const std::int32_t b : *form.bias) largest_bias = std::max(largest_bias, std::abs(std::int64_t{b}));
    }
    const std::int64_t each = channels == 0 ? 0 : graph::element_count(w, item.name) / channels;
    if (!sums_fit(item.inputs[1], *weights, each, largest_bias, dynamic ? 255 : from->quantiser.zero)) {
      return stay("its sums could leave 32 bits, or its weights two bytes");
    }
    form.two_terms = weights->least < -128 || weights->greatest > 127;
    form.weights = std::move(weights);
    if (q >= 0) take_over(i, static_cast<std::size_t>(q), form);
    item.inputs[0] = from->codes;
    item.codes = std::move(form);
  }

  bool bias_fits(const Item& item, std::int64_t channels) const {
    if (!constants_.has(item.inputs[2])) return false;
    const Shape& shape = types_.at(item.inputs[2]).shape;
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    return (count == channels && (shape.empty() || shape.back() == channels)) || count == 1;
  }

  // A bias whose scale is that of the sums is added to them exactly; else null. `rounded`: a file's own rounding of the scale does not count.
  std::shared_ptr<const std::vector<std::int32_t>> bias_of_sums(const std::string& name, const format::IntegerForm& weights, const Quantiser& x,
                                                                std::int64_t channels, bool rounded) const {
    const auto form = constants_.integer_form(name);
    if (!form) return nullptr;
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
      const float own = form->scale[form->scale.size() == 1 ? 0 : c], wanted = x.scale * weights.scale[weights.scale.size() == 1 ? 0 : c];
      if (!(rounded ? std::abs(own - wanted) <= 1e-5f * std::abs(wanted) : own == wanted)) return nullptr;
    }
    const auto values = constants_.wide_integer_values(name);
    auto bias = std::make_shared<std::vector<std::int32_t>>();
    for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
      const std::int64_t value = values[values.size() == 1 ? 0 : c];
      if (value != static_cast<std::int32_t>(value)) return nullptr;
      bias->push_back(static_cast<std::int32_t>(value));
    }
    return bias;
  }

  // True if weights are within two bytes' reach, and all sums, and the codes of zero times the weights, within 32 bits.
  // Where what the encoding allows would not fit, the weights themselves decide, and narrow the form.
  bool sums_fit(const std::string& name, format::IntegerForm& weights, std::int64_t each, std::int64_t largest_bias, std::int64_t zero) const {
    const std::int64_t most = 255 + std::abs(zero);
    const auto fits = [&] {
      const std::int64_t largest = std::max(std::abs(weights.least), std::abs(weights.greatest));
      return weights.least >= -256 && weights.greatest <= 254 && each * largest * most + largest_bias <= 0x7fffffff;
    };
    const bool narrow = weights.least >= -128 && weights.greatest <= 127;
    if (narrow && fits()) return true;
    const auto narrow_to = [&](const auto& values) {
      const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
      weights.least = least == values.end() ? 0 : *least;
      weights.greatest = least == values.end() ? 0 : *greatest;
    };
    if (weights.least < -32768 || weights.greatest > 32767) {
      narrow_to(constants_.wide_integer_values(name));
    } else {
      narrow_to(constants_.integer_values(name));
    }
    return fits();
  }

  // The sum of two maps of codes, one of them just computed by a layer: into that layer, the last of the two if both are.
  void fuse_residual(std::size_t i) {
    Item& add = items_[i];
    if (add.op != "Add" || add.inputs[0] == add.inputs[1] || add.codes->fixed_point) return;
    std::ptrdiff_t best = -1;
    std::size_t best_side = 0;
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      const std::string &value = add.inputs[side], &other = add.inputs[1 - side];
      const auto made = producer_.find(value);
      if (made == producer_.end() || uses_[value] != 1 || kept_.count(value) != 0) continue;
      const Item& into = items_[made->second];
      if (!into.codes || into.op != "Conv" || into.codes->inner || !into.codes->output || into.codes->fixed_point) continue;
      const auto other_made = producer_.find(other);
      if (other_made != producer_.end() && other_made->second > made->second) continue;
      if (static_cast<std::ptrdiff_t>(made->second) > best) {
        best = static_cast<std::ptrdiff_t>(made->second);
        best_side = side;
      }
    }
    if (best < 0) return;
    Item& into = items_[static_cast<std::size_t>(best)];
    into.residual = add.inputs[1 - best_side];
    into.codes->residual = add.codes->inputs[1 - best_side];
    into.codes->inner = bounded(into);
    into.lo = add.lo;
    into.hi = add.hi;
    into.clamped = add.clamped;
    into.codes->output = add.codes->output;
    into.fused.push_back(add.name);
    into.fused.insert(into.fused.end(), add.fused.begin(), add.fused.end());
    into.output = add.output;
    producer_[into.output] = static_cast<std::size_t>(best);
    dead_[i] = true;
  }

  // The output's quantiser with the bounds of a clamp, which becomes an inner one. A bound that is no number is the lowest.
  static Quantiser bounded(const Item& item) {
    Quantiser q = *item.codes->output;
    const auto code = [&](float bound) { return static_cast<std::int32_t>(q.step_of(bound)) + q.zero; };
    if (item.clamped) {
      const std::int32_t hi = code(item.hi), lo = std::min(code(item.lo), hi);
      q.lo = lo;
      q.hi = hi;
    }
    return q;
  }

  // Parts of a concatenation that a layer alone makes are quantised for it a second time there, so that it can be in place.
  void requantise_parts(std::size_t i) {
    Item& concat = items_[i];
    for (std::size_t p = 0; p < concat.inputs.size(); ++p) {
      Quantiser& from = concat.codes->inputs[p];
      const Quantiser& to = *concat.codes->output;
      const std::string& value = concat.inputs[p];
      const auto made = producer_.find(value);
      if (from == to || made == producer_.end() || uses_[value] != 1 || kept_.count(value) != 0) continue;
      Item& into = items_[made->second];
      if (!into.codes || into.op != "Conv" || into.codes->inner || !into.codes->output || into.codes->fixed_point) continue;
      into.codes->inner = bounded(into);
      into.codes->output = to;
      into.clamped = false;
      into.lo = -std::numeric_limits<float>::infinity();
      into.hi = std::numeric_limits<float>::infinity();
      from = to;
    }
  }

  void drop_unused() {
    recount();
    for (std::size_t i = items_.size(); i-- > 0;) {
      const bool quantiser = items_[i].op == "DequantizeLinear";
      if (dead_[i] || !quantiser || uses_[items_[i].output] != 0 || kept_.count(items_[i].output) != 0) continue;
      dead_[i] = true;
    }
    recount();
  }

  std::vector<Item> items_;
  const Types& types_;
  const std::set<std::string>& kept_;
  const Constants& constants_;
  std::vector<bool> dead_;
  std::map<std::string, Decoded> decoded_, dynamic_;
  std::map<std::size_t, Quantiser> coded_;
  std::map<std::string, int> uses_;
  std::map<std::string, std::size_t> producer_, reader_;
};

}  // namespace

std::vector<Item> use_codes(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants) {
  return CodeUser(std::move(items), types, kept, constants).run();
}

}  // namespace bittern::plan
