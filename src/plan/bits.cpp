#include "plan/bits.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "base/fp_mode.h"
#include "graph/quantize.h"
#include "graph/windows.h"
#include "plan/thresholds.h"

namespace bittern::plan {
namespace {

using engine::BitConv;
using engine::ConvShape;

constexpr std::int64_t most_levels = 16;          // of an input: four planes; more never pay
constexpr std::int64_t most_asked = 256;          // where a kernel on bits is asked for by name
constexpr double most_border_work = 1 << 27;      // additions that find the offsets of borders

// Planes of codes up to `largest`.
std::int64_t planes_of(std::int64_t largest) { return static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(largest))); }

// The numbers of few levels that a value holds, or would hold: made by a quantiser, or moved from another value.
struct BitValue {
  std::shared_ptr<const BitLevels> levels;
  std::string from;    // the value that a pool, a view or another quantiser of the same levels reads; empty for a quantiser's own
  bool alias = false;  // the same bits as `from`
};

class BitUser {
 public:
  BitUser(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants, engine::Isa isa,
          const std::vector<std::string>& preferred)
      : items_(std::move(items)), types_(types), kept_(kept), constants_(constants), isa_(isa), preferred_(preferred) {}

  std::vector<Item> run() {
    const auto asks_for = [&](const char* loop) {
      return std::any_of(preferred_.begin(), preferred_.end(), [&](const std::string& name) { return name.rfind(loop, 0) == 0; });
    };
    asked_ = asks_for("bgemm_") || asks_for("pack_") || asks_for("maxpool_b1_") || asks_for("pad_b1_");
    if (!asked_ && (asks_for("gemm_") || asks_for("gemv_"))) return std::move(items_);
    for (std::size_t i = 0; i < items_.size(); ++i) {
      producer_[items_[i].output] = i;
      for (const std::string& input : items_[i].inputs) readers_[input].push_back(i);
      if (!items_[i].residual.empty()) readers_[items_[i].residual].push_back(i);
    }
    for (std::size_t i = 0; i < items_.size(); ++i) find_levels(i);
    for (Item& item : items_) {
      if (item.op != "Conv" || item.plain) continue;
      const auto made = producer_.find(item.inputs[0]);
      const bool codes = values_.count(item.inputs[0]) != 0 || (made != producer_.end() && items_[made->second].op == "DequantizeLinear");
      item.whole_sums = codes && constants_.has(item.inputs[1]) && constants_.integer_form(item.inputs[1]).has_value();
    }
    if (values_.empty()) return std::move(items_);
    forms_.resize(items_.size());
    bool any = false;
    for (std::size_t i = 0; i < items_.size(); ++i) any = layer(i) || any;
    if (!any) return std::move(items_);
    find_needs();
    for (std::size_t i = 0; i < items_.size(); ++i) fuse_quantiser(i);
    return rewrite();
  }

 private:
  const Shape& shape(const std::string& value) const { return types_.at(value).shape; }

  // A constant as one number for each channel or for all; nothing if it is none.
  std::vector<float> numbers(const std::string& name, std::size_t most) const {
    if (name.empty() || !constants_.has(name) || types_.at(name).dtype != DType::f32) return {};
    const auto all = constants_.floats(name);
    return all.size() <= most ? all : std::vector<float>{};
  }

  void find_levels(std::size_t i) {
    const Item& item = items_[i];
    if (item.inputs.empty() || item.inputs[0].empty() || !item.more_outputs.empty() || types_.at(item.output).dtype != DType::f32) return;
    const Shape& y = shape(item.output);
    if (y.size() < 2 || y.size() > 4) return;
    BitLevels levels;
    levels.name = item.name;
    std::string real = item.inputs[0];
    if (item.op == "BipolarQuant") {
      const auto scale = numbers(item.inputs[1], 1);
      if (scale.size() != 1 || !(scale[0] > 0) || !std::isfinite(scale[0])) return;
      levels.unit = scale[0];
      levels.values = {2, 1, 1};
      levels.thresholds = {0.0f};
      levels.count = 1;
    } else if (item.op == "Sign" && item.plain) {
      levels.values = {1, 1, 2};  // -1, 0 and 1
      levels.thresholds = {0.0f, std::numeric_limits<float>::min()};
      levels.count = 2;
    } else if (item.op == "MultiThreshold") {
      if (!thresholds_of(item, y, levels)) return;
    } else if (item.op == "DequantizeLinear") {
      const auto made = producer_.find(item.inputs[0]);
      if (made == producer_.end() || items_[made->second].op != "QuantizeLinear") return;
      const Item& coder = items_[made->second];
      real = coder.inputs[0];
      between_[item.output] = {item.inputs[0]};
      const auto known = values_.find(real);
      const auto scale = codes_scale(item);
      if (known != values_.end() && scale && counts_as_codes(coder)) {
        // Codes of levels that are known.
        const BitLevels& same = *known->second.levels;
        const bool counts = known->second.from.empty() && source_.count(real) != 0 && same.values.factor == 1 && same.values.shift == 0 && same.unit == 1;
        if (counts && codes_scale(coder) == std::pair(1.0f, std::int64_t{0})) {
          levels = same;
          levels.name = item.name;
          levels.unit = scale->first;
          levels.values.shift = static_cast<std::int32_t>(scale->second);
          between_[item.output].push_back(real);
          real = source_.at(real);
        } else if (same.values.factor == 1 && scale == codes_scale(coder) && same.unit == scale->first && same.values.shift == scale->second) {
          values_[item.output] = {known->second.levels, real, true};
          return;
        } else {
          return;
        }
      } else if (!codes_of(item, coder, levels)) {
        return;
      }
    } else {
      moved(item, y);
      return;
    }
    if (types_.at(real).dtype != DType::f32) return;
    source_[item.output] = real;
    values_[item.output] = {std::make_shared<const BitLevels>(std::move(levels)), {}, false};
  }

  // Scale and zero point of one quantiser for the whole tensor.
  std::optional<std::pair<float, std::int64_t>> codes_scale(const Item& item) const {
    const auto scale = numbers(item.inputs[1], 1);
    if (scale.size() != 1 || !(scale[0] > 0) || !std::isfinite(scale[0]) || graph::int_attribute(*item.node, "block_size", 0) != 0) return std::nullopt;
    if (item.inputs.size() < 3 || item.inputs[2].empty()) return std::pair(scale[0], std::int64_t{0});
    if (!constants_.has(item.inputs[2])) return std::nullopt;
    const auto zero = constants_.integers(item.inputs[2]);
    if (zero.size() != 1 || zero[0] < 0 || zero[0] > 255) return std::nullopt;
    return std::pair(scale[0], zero[0]);
  }

  // True if all counts that planes hold are codes of the quantiser.
  bool counts_as_codes(const Item& coder) const {
    return types_.at(coder.output).dtype == DType::u8 && graph::int_attribute(*coder.node, "bits", 8) == 8 &&
           graph::string_attribute(*coder.node, "requantize", "").empty();
  }

  // Counts of thresholds: real = scale * q + bias, in whole numbers of a unit.
  bool thresholds_of(const Item& item, const Shape& y, BitLevels& levels) const {
    const Shape& t = shape(item.inputs[1]);
    if (!constants_.has(item.inputs[1]) || t.size() != 2 || t[1] < 1 || t[1] >= most_levels) return false;
    if (t[0] != 1 && graph::threshold_axis(*item.node, y.size()) != 1) return false;
    const float scale = graph::float_attribute(*item.node, "out_scale", 1.0f), bias = graph::float_attribute(*item.node, "out_bias", 0.0f);
    const float ratio = -2 * bias / scale;
    if (!(scale != 0) || !std::isfinite(scale) || !(std::abs(ratio) <= 1024) || ratio != std::nearbyint(ratio) || ratio * scale != -2 * bias) return false;
    const bool halves = std::fmod(ratio, 2.0f) != 0;
    levels.unit = halves ? scale / 2 : scale;
    levels.values = {halves ? 2 : 1, static_cast<std::int32_t>(halves ? ratio : ratio / 2), planes_of(t[1])};
    levels.thresholds = constants_.floats(item.inputs[1]);
    levels.count = t[1];
    for (std::size_t c = 0; c < levels.thresholds.size(); c += static_cast<std::size_t>(t[1])) {
      const auto first = levels.thresholds.begin() + static_cast<std::ptrdiff_t>(c);
      std::sort(first, first + t[1]);
      if (std::isnan(*first) || std::any_of(first, first + t[1], [](float x) { return std::isnan(x); })) return false;
    }
    return true;
  }

  // Codes of 4 bits and fewer with one scale.
  bool codes_of(const Item& to_real, const Item& to_code, BitLevels& levels) const {
    const graph::Node& node = *to_code.node;
    if (to_code.inputs.size() != to_real.inputs.size() || graph::int_attribute(node, "block_size", 0) != 0) return false;
    if (graph::string_attribute(node, "requantize", "") == "tflite") return false;
    for (std::size_t p = 1; p < to_code.inputs.size(); ++p)
      if (to_code.inputs[p] != to_real.inputs[p]) return false;
    const auto scale = numbers(to_code.inputs[1], 1);
    if (scale.size() != 1 || !(scale[0] > 0) || !std::isfinite(scale[0])) return false;
    std::int64_t zero = 0;
    if (to_code.inputs.size() > 2 && !to_code.inputs[2].empty()) {
      if (!constants_.has(to_code.inputs[2])) return false;
      const auto all = constants_.integers(to_code.inputs[2]);
      if (all.size() != 1) return false;
      zero = all[0];
    }
    const DType type = types_.at(to_code.output).dtype;
    if (type != DType::u8 && type != DType::i8) return false;
    const std::int64_t bits = graph::int_attribute(node, "bits", 8), codes = std::int64_t{1} << bits;
    const std::int64_t lo = type == DType::i8 ? -codes / 2 + graph::int_attribute(node, "narrow", 0) : 0;
    const std::int64_t hi = type == DType::i8 ? codes / 2 - 1 : codes - 1;
    if (hi - lo >= (asked_ ? most_asked : most_levels) || hi <= lo) return false;
    const engine::Quantiser quantiser{scale[0], static_cast<std::int32_t>(zero), static_cast<std::int32_t>(lo), static_cast<std::int32_t>(hi)};
    levels.unit = scale[0];
    levels.values = {1, static_cast<std::int32_t>(zero - lo), planes_of(hi - lo)};
    levels.count = hi - lo;
    const engine::FlushToZero mode;  // as kernels compute
    for (std::int64_t j = 1; j <= hi - lo; ++j) {
      levels.thresholds.push_back(least_float([&](float x) { return quantiser.step_of(x) + static_cast<float>(zero) >= static_cast<float>(lo + j); }));
    }
    return true;
  }

  // Pools and views of such values.
  void moved(const Item& item, const Shape& y) {
    const auto found = values_.find(item.inputs[0]);
    if (found == values_.end()) return;
    const BitLevels& levels = *found->second.levels;
    const Shape& x = shape(item.inputs[0]);
    const bool pool = item.op == "MaxPool" && !item.plain && item.fused.empty() && levels.unit > 0 && x.size() == 4;
    const bool view = (item.op == "Flatten" || item.op == "Reshape") && !item.plain && x.size() == 4 && y.size() == 2 && y[0] == x[0] &&
                      y[1] == x[1] * x[2] * x[3];
    const bool pad = item.op == "Pad" && x.size() == 4 && pad_of(item, x, y, levels).has_value();
    if (!pool && !view && !pad) return;
    values_[item.output] = {found->second.levels, item.inputs[0], view};
  }

  // A border of one level around a map.
  struct Border {
    std::int64_t code = 0, top = 0, left = 0;
  };
  std::optional<Border> pad_of(const Item& item, const Shape& x, const Shape& y, const BitLevels& levels) const {
    if (graph::string_attribute(*item.node, "mode", "constant") != "constant" || item.inputs.size() > 3 || !item.fused.empty()) return std::nullopt;
    if (!constants_.has(item.inputs[1]) || y[0] != x[0] || y[1] != x[1]) return std::nullopt;
    const auto pads = constants_.integers(item.inputs[1]);
    if (pads.size() != 8 || pads[0] != 0 || pads[1] != 0 || std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p < 0; })) return std::nullopt;
    float value = 0;
    if (item.inputs.size() > 2 && !item.inputs[2].empty()) {
      const auto given = numbers(item.inputs[2], 1);
      if (given.size() != 1) return std::nullopt;
      value = given[0];
    }
    for (std::int64_t code = 0; code <= levels.count; ++code) {
      if (static_cast<float>(levels.values.factor * code - levels.values.shift) * levels.unit == value) return Border{code, pads[2], pads[3]};
    }
    return std::nullopt;
  }

  // The value whose bits are read: behind views.
  std::string origin(std::string value) const {
    while (values_.at(value).alias) value = values_.at(value).from;
    return value;
  }

  bool layer(std::size_t i) {
    const Item& item = items_[i];
    if (item.plain || item.codes || (item.op != "Conv" && item.op != "Gemm" && item.op != "MatMul")) return false;
    const auto found = values_.find(item.inputs[0]);
    if (found == values_.end() || !constants_.has(item.inputs[1])) return false;
    const bool conv = item.op == "Conv";
    if (!conv && (shape(item.inputs[0]).size() != 2 || graph::float_attribute(*item.node, "alpha", 1) != 1 ||
                  graph::float_attribute(*item.node, "beta", 1) != 1 || graph::int_attribute(*item.node, "transA", 0) != 0)) {
      return false;
    }
    const bool transposed = !conv && graph::int_attribute(*item.node, "transB", 0) != 0;
    const int channel_axis = conv || transposed ? 0 : 1;
    const auto weights = constants_.integer_form(item.inputs[1]);
    if (!weights || weights->alphabet.empty() || (weights->axis >= 0 && weights->axis != channel_axis)) return false;
    const std::int64_t channels = shape(item.inputs[1])[static_cast<std::size_t>(channel_axis)];
    if (item.inputs.size() > 2 && !item.inputs[2].empty()) {
      const auto bias = numbers(item.inputs[2], static_cast<std::size_t>(channels));
      if (static_cast<std::int64_t>(bias.size()) != channels && bias.size() != 1) return false;
      if (!shape(item.inputs[2]).empty() && shape(item.inputs[2]).back() != channels && bias.size() != 1) return false;
    }
    BitsForm form;
    form.from = found->second.levels;
    form.input = origin(item.inputs[0]);
    form.flattened = shape(form.input).size() != shape(item.inputs[0]).size();
    if (form.flattened && shape(form.input).size() != 4) return false;
    const ConvShape s = bit_shape(item, form, types_);
    if (s.c == 0 || s.oc == 0) return false;
    const bool finite = std::all_of(weights->scale.begin(), weights->scale.end(), [](float scale) { return std::isfinite(scale); });
    if (!finite || graph::element_count(shape(item.inputs[1]), item.name) != s.oc * (s.c / s.groups) * s.kh * s.kw) return false;
    if (s.groups > 1 && s.c == s.groups && !asked_) return false;  // one channel a group has kernels of its own
    std::vector<std::int16_t> alphabet = weights->alphabet;
    if (!BitConv::groups_fit(s) && !std::binary_search(alphabet.begin(), alphabet.end(), std::int16_t{0})) {
      alphabet.insert(std::upper_bound(alphabet.begin(), alphabet.end(), std::int16_t{0}), 0);
    }
    auto planes = engine::bit_weight_form(alphabet);
    if (!planes) return false;
    // Borders differ in the taps that lie inside: as many kinds of rows as two for each tap, and as many of columns.
    const bool bordered = form.from->values.shift != 0 && (s.pad_top | s.pad_left | s.pad_bottom | s.pad_right) != 0;
    const double kinds = bordered ? 4.0 * static_cast<double>((s.kh + 2) * (s.kw + 2)) : 1.0;
    if (!BitConv::fits(s, *planes, form.from->values) || kinds * static_cast<double>(s.kh * s.kw) * static_cast<double>(s.oc) > most_border_work) return false;
    form.weights = std::move(*planes);
    form.scale = weights->scale;
    const auto made = producer_.find(item.inputs[0]);
    const bool codes = made != producer_.end() && items_[made->second].op == "DequantizeLinear" && form.from->values.factor == 1;
    if (!bits_pay(form, s, codes, isa_) && !asked_) return false;
    forms_[i] = std::make_shared<BitsForm>(std::move(form));
    return true;
  }

  void find_needs() {
    for (const std::string& value : kept_) wants_real_.insert(value);
    for (std::size_t i = items_.size(); i-- > 0;) {
      const Item& item = items_[i];
      const auto needed = [&](const std::string& value) { return wants_real_.count(value) != 0; };
      if (forms_[i] != nullptr) {
        wants_bits_.insert(forms_[i]->input);
        if (!item.residual.empty()) wants_real_.insert(item.residual);
        continue;
      }
      const auto value = values_.find(item.output);
      if (value != values_.end()) {
        const std::string& from = value->second.from;
        if (!from.empty() && wants_bits_.count(item.output) != 0) wants_bits_.insert(from);
        if (!needed(item.output)) {
          if (from.empty() && wants_bits_.count(item.output) != 0) wants_real_.insert(source_.at(item.output));
          continue;
        }
      }
      if (item.op == "QuantizeLinear" && !needed(item.output)) continue;
      for (const std::string& input : item.inputs) wants_real_.insert(input);
      if (!item.residual.empty()) wants_real_.insert(item.residual);
    }
  }

  bool is_read_only_by(const std::string& value, std::size_t reader) const {
    const auto found = readers_.find(value);
    return found != readers_.end() && kept_.count(value) == 0 &&
           std::all_of(found->second.begin(), found->second.end(), [&](std::size_t i) { return i == reader; });
  }

  // The item that makes `value` for this reader alone.
  std::size_t sole_maker(const std::string& value, std::size_t reader) const {
    const auto made = producer_.find(value);
    return made != producer_.end() && is_read_only_by(value, reader) ? made->second : items_.size();
  }

  // What a quantiser quantises becomes part of it, as far as nobody else sees it: batch normalisation, and the layer on bits before it.
  // A max-pooling between them takes the greatest codes instead, or the least where the normalisation turns numbers round.
  void fuse_quantiser(std::size_t i) {
    const Item& item = items_[i];
    const auto value = values_.find(item.output);
    if (value == values_.end() || !value->second.from.empty() || wants_bits_.count(item.output) == 0 || wants_real_.count(item.output) != 0) return;
    std::size_t reader = i;
    if (const auto between = between_.find(item.output); between != between_.end()) {
      for (const std::string& other : between->second) {
        if (wants_real_.count(other) != 0 || wants_bits_.count(other) != 0) return;
      }
      reader = producer_.at(between->second.back());
    }
    auto levels = value->second.levels;
    std::size_t maker = sole_maker(source_.at(item.output), reader);
    if (maker == items_.size()) return;
    if (const Item& norm = items_[maker]; norm.op == "BatchNormalization" && !norm.plain && !norm.clamped && types_.at(norm.inputs[0]).dtype == DType::f32) {
      levels = normalised(norm, *levels);
      if (levels == nullptr) return;
      made_by_[item.output] = levels;
      source_[item.output] = norm.inputs[0];
      swallowed_.insert(maker);
      reader = maker;
      maker = sole_maker(norm.inputs[0], reader);
      if (maker == items_.size()) return;
    }
    const Item& pool = items_[maker];
    if (pool.op == "MaxPool" && forms_[maker] == nullptr && !pool.plain && !pool.clamped && pool.fused.empty() && shape(pool.output).size() == 4) {
      const std::size_t layer = sole_maker(pool.inputs[0], maker);
      if (layer == items_.size() || !gives_bits(layer, levels)) return;
      pools_[maker] = item.output;
      fused_[item.output] = items_.size();
    } else if (gives_bits(maker, levels)) {
      fused_[item.output] = maker;
    }
  }

  // A layer on bits now gives codes of these levels.
  bool gives_bits(std::size_t i, const std::shared_ptr<const BitLevels>& levels) {
    if (forms_[i] == nullptr || !items_[i].residual.empty()) return false;
    auto form = std::make_shared<BitsForm>(*forms_[i]);
    form->to = levels;
    forms_[i] = form;
    return true;
  }

  // The same levels for those who read them; thresholds of the numbers before a normalisation. Null if they are none.
  std::shared_ptr<const BitLevels> normalised(const Item& norm, const BitLevels& old) const {
    std::vector<float> scale, shift;
    batch_norm_affine(norm, constants_, scale, shift);
    const auto finite = [](float x) { return std::isfinite(x); };
    if (!std::all_of(scale.begin(), scale.end(), finite) || !std::all_of(shift.begin(), shift.end(), finite)) return nullptr;
    const engine::FlushToZero mode;
    BitLevels levels = old;
    levels.thresholds.clear();
    for (std::size_t c = 0; c < scale.size(); ++c) {
      levels.sign.push_back(scale[c] < 0 ? -1.0f : scale[c] > 0 ? 1.0f : 0.0f);  // 0 times infinity is no number here, too
      for (std::int64_t j = 0; j < old.count; ++j) {
        const float least = old.threshold(static_cast<std::int64_t>(c), j);
        levels.thresholds.push_back(least_float([&](float x) { return x * levels.sign[c] * scale[c] + shift[c] >= least; }));
      }
    }
    return std::make_shared<const BitLevels>(std::move(levels));
  }

  // The max-pooling whose input has become bits of the levels that the quantiser behind it gives.
  Item pooled(std::size_t i) {
    Item item = std::move(items_[i]);
    auto form = std::make_shared<BitsForm>();
    form->role = BitRole::pool;
    form->input = item.inputs[0];
    form->from = form->to = forms_[producer_.at(form->input)]->to;
    item.fused.push_back(form->to->name);
    item.output = pools_.at(i);
    item.bits = std::move(form);
    return item;
  }

  std::vector<Item> rewrite() {
    std::vector<Item> result;
    for (std::size_t i = 0; i < items_.size(); ++i) {
      Item& item = items_[i];
      if (swallowed_.count(i) != 0) continue;
      if (pools_.count(i) != 0) {
        result.push_back(pooled(i));
        continue;
      }
      if (forms_[i] != nullptr) {
        auto form = std::make_shared<BitsForm>(*forms_[i]);
        if (form->to != nullptr) {
          for (const auto& [output, maker] : fused_) {
            if (maker != i) continue;
            item.fused.push_back(form->to->name);
            item.output = output;
          }
        }
        item.bits = std::move(form);
        result.push_back(std::move(item));
        continue;
      }
      const auto value = values_.find(item.output);
      if (value != values_.end()) {
        const bool own = value->second.from.empty();
        if (wants_bits_.count(item.output) != 0 && fused_.count(item.output) == 0 && !value->second.alias) {
          Item bits = item;
          auto form = std::make_shared<BitsForm>();
          form->role = own ? BitRole::pack : item.op == "Pad" ? BitRole::pad : BitRole::pool;
          if (form->role == BitRole::pad) {
            const Border border = *pad_of(item, shape(item.inputs[0]), shape(item.output), *value->second.levels);
            form->pad_code = border.code;
            form->pad_top = border.top;
            form->pad_left = border.left;
          }
          form->input = own ? source_.at(item.output) : origin(value->second.from);
          form->from = form->to = value->second.levels;
          if (const auto made = made_by_.find(item.output); made != made_by_.end()) form->to = made->second;
          bits.inputs = {form->input};
          if (item.op == "DequantizeLinear") bits.op = "QuantizeLinear";
          bits.plain = false;
          bits.bits = std::move(form);
          result.push_back(std::move(bits));
        }
        if (wants_real_.count(item.output) == 0) continue;
      }
      if (item.op == "QuantizeLinear" && wants_real_.count(item.output) == 0) continue;
      result.push_back(std::move(item));
    }
    return result;
  }

  std::vector<Item> items_;
  const Types& types_;
  const std::set<std::string>& kept_;
  const Constants& constants_;
  engine::Isa isa_;
  const std::vector<std::string>& preferred_;
  bool asked_ = false;                          // for a kernel on bits, by name
  std::map<std::string, std::size_t> producer_;
  std::map<std::string, std::vector<std::size_t>> readers_;
  std::map<std::string, BitValue> values_;
  std::map<std::string, std::string> source_;   // what a quantiser's input is
  std::map<std::string, std::vector<std::string>> between_;  // values between it and the quantiser's output
  std::vector<std::shared_ptr<BitsForm>> forms_;
  std::set<std::string> wants_bits_, wants_real_;
  std::map<std::string, std::size_t> fused_;    // a quantiser's output -> the layer that gives it, or none if a pool does
  std::map<std::size_t, std::string> pools_;    // a pool between a layer and a quantiser -> the quantiser's output
  std::map<std::string, std::shared_ptr<const BitLevels>> made_by_;
  std::set<std::size_t> swallowed_;
};

}  // namespace

std::vector<Item> use_bits(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants, engine::Isa isa,
                           const std::vector<std::string>& preferred) {
  return BitUser(std::move(items), types, kept, constants, isa, preferred).run();
}

}  // namespace bittern::plan
