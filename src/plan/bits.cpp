#include "plan/bits.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <utility>

#include "base/fp_mode.h"
#include "graph/windows.h"
#include "plan/bit_levels.h"
#include "plan/thresholds.h"

namespace bittern::plan {
namespace {

using engine::BitConv;
using engine::ConvShape;

constexpr double most_border_work = 1 << 27;  // additions that find the offsets of borders

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
    found_ = find_levels(items_, producer_, types_, constants_, asked_);
    for (Item& item : items_) {
      if (item.op != "Conv" || item.plain) continue;
      const auto made = producer_.find(item.inputs[0]);
      const auto value = found_.values.find(item.inputs[0]);
      const bool codes = value != found_.values.end() ? value->second.levels->terms.size() == 1 : made != producer_.end() && items_[made->second].op == "DequantizeLinear";
      item.whole_sums = codes && constants_.has(item.inputs[1]) && constants_.integer_form(item.inputs[1]).has_value();
    }
    if (found_.values.empty()) return std::move(items_);
    forms_.resize(items_.size());
    bool any = false;
    for (std::size_t i = 0; i < items_.size(); ++i) any = layer(i) || any;
    if (!any) return std::move(items_);
    find_needs();
    for (std::size_t i = 0; i < items_.size(); ++i) fuse_factors(i);
    for (std::size_t i = 0; i < items_.size(); ++i) fuse_quantiser(i);
    return rewrite();
  }

 private:
  const Shape& shape(const std::string& value) const { return types_.at(value).shape; }

  // The value whose bits are read: behind views.
  std::string origin(std::string value) const {
    while (found_.values.at(value).alias) value = found_.values.at(value).from;
    return value;
  }

  bool layer(std::size_t i) {
    const Item& item = items_[i];
    if (item.plain || item.codes || (item.op != "Conv" && item.op != "Gemm" && item.op != "MatMul")) return false;
    const auto found = found_.values.find(item.inputs[0]);
    if (found == found_.values.end() || !constants_.has(item.inputs[1])) return false;
    const bool conv = item.op == "Conv";
    if (!conv && (shape(item.inputs[0]).size() != 2 || graph::float_attribute(*item.node, "alpha", 1) != 1 ||
                  graph::float_attribute(*item.node, "beta", 1) != 1 || graph::int_attribute(*item.node, "transA", 0) != 0)) {
      return false;
    }
    const bool transposed = !conv && graph::int_attribute(*item.node, "transB", 0) != 0;
    const int channel_axis = conv || transposed ? 0 : 1;
    const auto parts = constants_.integer_parts(item.inputs[1]);
    if (parts.empty()) return false;
    for (const format::IntegerForm& part : parts) {
      if (part.alphabet.empty() || (part.axis >= 0 && part.axis != channel_axis)) return false;
      if (!std::all_of(part.scale.begin(), part.scale.end(), [](float scale) { return std::isfinite(scale); })) return false;
    }
    const std::int64_t channels = shape(item.inputs[1])[static_cast<std::size_t>(channel_axis)];
    if (item.inputs.size() > 2 && !item.inputs[2].empty()) {
      const auto bias = few_numbers(item.inputs[2], static_cast<std::size_t>(channels), types_, constants_);
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
    if (graph::element_count(shape(item.inputs[1]), item.name) != s.oc * (s.c / s.groups) * s.kh * s.kw) return false;
    if (s.groups > 1 && s.c == s.groups && !asked_) return false;  // one channel a group has kernels of its own
    double border_work = 0;
    for (std::size_t p = 0; p < parts.size(); ++p) {
      std::vector<std::int16_t> alphabet = parts[p].alphabet;
      if (!BitConv::groups_fit(s) && !std::binary_search(alphabet.begin(), alphabet.end(), std::int16_t{0})) {
        alphabet.insert(std::upper_bound(alphabet.begin(), alphabet.end(), std::int16_t{0}), 0);
      }
      const auto planes = engine::bit_weight_form(alphabet);
      if (!planes) return false;
      for (const BitTerm& term : form.from->terms) {
        // Borders differ in the taps that lie inside: as many kinds of rows as two for each tap, and as many of columns.
        const bool bordered = term.values.shift != 0 && (s.pad_top | s.pad_left | s.pad_bottom | s.pad_right) != 0;
        const double kinds = bordered ? 4.0 * static_cast<double>((s.kh + 2) * (s.kw + 2)) : 1.0;
        border_work += kinds * static_cast<double>(s.kh * s.kw) * static_cast<double>(s.oc);
        if (!BitConv::fits(s, *planes, term.values)) return false;
        form.sums.push_back({term, p, *planes, parts[p].scale});
      }
    }
    if (border_work > most_border_work) return false;
    const auto made = producer_.find(item.inputs[0]);
    const bool codes = made != producer_.end() && items_[made->second].op == "DequantizeLinear" && form.sums.size() == 1 &&
                       form.from->terms[0].values.factor == 1;
    if (!bits_pay(form, s, codes, item.whole_sums, isa_) && !asked_) return false;
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
      const auto value = found_.values.find(item.output);
      if (value != found_.values.end()) {
        const std::string& from = value->second.from;
        if (!from.empty() && wants_bits_.count(item.output) != 0) wants_bits_.insert(from);
        if (!needed(item.output)) {
          if (from.empty() && wants_bits_.count(item.output) != 0) wants_real_.insert(found_.source.at(item.output));
          continue;
        }
      }
      if ((item.op == "QuantizeLinear" || found_.rests.count(item.output) != 0) && !needed(item.output)) continue;
      for (const std::string& input : item.inputs) wants_real_.insert(input);
      if (!item.residual.empty()) wants_real_.insert(item.residual);
    }
  }

  // The item that makes `value` for these readers alone.
  std::size_t sole_maker(const std::string& value, const std::set<std::size_t>& readers) const {
    const auto made = producer_.find(value);
    const auto found = readers_.find(value);
    const bool alone = found != readers_.end() && kept_.count(value) == 0 &&
                       std::all_of(found->second.begin(), found->second.end(), [&](std::size_t i) { return readers.count(i) != 0; });
    return made != producer_.end() && alone ? made->second : items_.size();
  }

  // A factor for each pixel, such as the map of XNOR-Net (arXiv 1603.05279), becomes part of the layer on bits before it.
  void fuse_factors(std::size_t i) {
    const Item& item = items_[i];
    if (item.op != "Mul" || item.plain || types_.at(item.output).dtype != DType::f32 || found_.values.count(item.output) != 0) return;
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      const std::string &value = item.inputs[side], &factors = item.inputs[1 - side];
      const std::size_t maker = sole_maker(value, {i});
      if (maker == items_.size() || forms_[maker] == nullptr || items_[maker].clamped || !forms_[maker]->factors.empty()) continue;
      Shape one = shape(value);
      if (shape(item.output) != one || value == factors) continue;
      one[1] = 1;
      if (shape(factors) != one) continue;
      auto form = std::make_shared<BitsForm>(*forms_[maker]);
      form->factors = factors;
      forms_[maker] = form;
      multiplies_[i] = maker;
      later_.insert(maker);
      return;
    }
  }

  // What a quantiser quantises becomes part of it, as far as nobody else sees it: batch normalisation, and the layer on bits before it.
  // A max-pooling between them takes the greatest codes instead, or the least where the normalisation turns numbers round.
  void fuse_quantiser(std::size_t i) {
    const Item& item = items_[i];
    const auto value = found_.values.find(item.output);
    if (value == found_.values.end() || !value->second.from.empty() || wants_bits_.count(item.output) == 0 || wants_real_.count(item.output) != 0) return;
    std::set<std::size_t> readers{i};
    if (const auto between = found_.between.find(item.output); between != found_.between.end()) {
      for (const std::string& other : between->second) {
        if (wants_real_.count(other) != 0 || wants_bits_.count(other) != 0) return;
        readers.insert(producer_.at(other));
      }
    }
    auto levels = value->second.levels;
    std::size_t maker = sole_maker(found_.source.at(item.output), readers);
    if (maker == items_.size()) return;
    if (const Item& norm = items_[maker]; norm.op == "BatchNormalization" && !norm.plain && !norm.clamped && types_.at(norm.inputs[0]).dtype == DType::f32) {
      levels = normalised(norm, *levels);
      if (levels == nullptr) return;
      made_by_[item.output] = levels;
      found_.source[item.output] = norm.inputs[0];
      swallowed_.insert(maker);
      maker = sole_maker(norm.inputs[0], {maker});
      if (maker == items_.size()) return;
    }
    const Item& pool = items_[maker];
    if (pool.op == "MaxPool" && forms_[maker] == nullptr && !pool.plain && !pool.clamped && pool.fused.empty() && shape(pool.output).size() == 4) {
      const std::size_t layer = sole_maker(pool.inputs[0], {maker});
      if (layer == items_.size() || !gives_bits(layer, levels)) return;
      pools_[maker] = item.output;
      fused_[item.output] = items_.size();
    } else if (gives_bits(maker, levels)) {
      fused_[item.output] = maker;
    }
  }

  // A layer on bits now gives codes of these levels.
  bool gives_bits(std::size_t i, const std::shared_ptr<const BitLevels>& levels) {
    if (forms_[i] == nullptr || forms_[i]->sums.size() != 1 || !items_[i].residual.empty() || !forms_[i]->factors.empty()) return false;
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
      if (swallowed_.count(i) != 0 || later_.count(i) != 0) continue;
      if (const auto layer = multiplies_.find(i); layer != multiplies_.end()) {
        Item whole = std::move(items_[layer->second]);
        whole.fused.push_back(item.name);
        whole.fused.insert(whole.fused.end(), item.fused.begin(), item.fused.end());
        whole.output = item.output;
        whole.lo = item.lo;
        whole.hi = item.hi;
        whole.clamped = item.clamped;
        whole.bits = forms_[layer->second];
        result.push_back(std::move(whole));
        continue;
      }
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
      const auto value = found_.values.find(item.output);
      if (value != found_.values.end()) {
        const bool own = value->second.from.empty();
        if (wants_bits_.count(item.output) != 0 && fused_.count(item.output) == 0 && !value->second.alias) {
          Item bits = item;
          auto form = std::make_shared<BitsForm>();
          form->role = own ? BitRole::pack : item.op == "Pad" ? BitRole::pad : BitRole::pool;
          if (form->role == BitRole::pad) {
            const BitBorder border = *bit_border(item, *value->second.levels, types_, constants_);
            form->pad_code = border.code;
            form->pad_top = border.top;
            form->pad_left = border.left;
          }
          form->input = own ? found_.source.at(item.output) : origin(value->second.from);
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
      if ((item.op == "QuantizeLinear" || found_.rests.count(item.output) != 0) && wants_real_.count(item.output) == 0) continue;
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
  FoundLevels found_;
  std::vector<std::shared_ptr<BitsForm>> forms_;
  std::set<std::string> wants_bits_, wants_real_;
  std::map<std::string, std::size_t> fused_;    // a quantiser's output -> the layer that gives it, or none if a pool does
  std::map<std::size_t, std::string> pools_;    // a pool between a layer and a quantiser -> the quantiser's output
  std::map<std::string, std::shared_ptr<const BitLevels>> made_by_;
  std::set<std::size_t> swallowed_;
  std::map<std::size_t, std::size_t> multiplies_;  // a product -> the layer that takes it up
  std::set<std::size_t> later_;                    // these layers: where the products were
};

}  // namespace

std::vector<Item> use_bits(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants, engine::Isa isa,
                           const std::vector<std::string>& preferred) {
  return BitUser(std::move(items), types, kept, constants, isa, preferred).run();
}

}  // namespace bittern::plan
