#include "plan/bit_levels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <utility>

#include "base/fp_mode.h"
#include "graph/quantize.h"
#include "plan/thresholds.h"

namespace bittern::plan {
namespace {

constexpr std::int64_t most_levels = 16;          // of an input: four planes; more never pay
constexpr std::int64_t most_asked = 256;          // where a kernel on bits is asked for by name
constexpr std::int64_t most_planes = 4;           // of residual levels

// Planes of codes up to `largest`.
std::int64_t planes_of(std::int64_t largest) { return static_cast<std::int64_t>(std::bit_width(static_cast<std::uint64_t>(largest))); }

class LevelFinder {
 public:
  LevelFinder(const std::vector<Item>& items, const std::map<std::string, std::size_t>& producer, const Types& types, const Constants& constants, bool asked)
      : items_(items), producer_(producer), types_(types), constants_(constants), asked_(asked) {}

  FoundLevels run() {
    for (const Item& item : items_) find_levels(item);
    return std::move(found_);
  }

 private:
  const Shape& shape(const std::string& value) const { return types_.at(value).shape; }

  std::vector<float> numbers(const std::string& name, std::size_t most) const { return few_numbers(name, most, types_, constants_); }

  void find_levels(const Item& item) {
    if (item.inputs.empty() || item.inputs[0].empty() || !item.more_outputs.empty() || types_.at(item.output).dtype != DType::f32) return;
    const Shape& y = shape(item.output);
    if (y.size() < 2 || y.size() > 4) return;
    BitLevels levels;
    levels.name = item.name;
    std::string real = item.inputs[0];
    if (item.op == "BipolarQuant") {
      const auto scale = numbers(item.inputs[1], 1);
      if (scale.size() != 1 || !(scale[0] > 0) || !std::isfinite(scale[0])) return;
      levels.terms = {{{2, 1, 1}, scale[0]}};
      levels.thresholds = {0.0f};
      levels.count = 1;
    } else if (item.op == "Sign" && item.plain) {
      levels.terms = {{{1, 1, 2}, 1}};  // -1, 0 and 1
      levels.thresholds = {0.0f, std::numeric_limits<float>::min()};
      levels.count = 2;
    } else if (item.op == "MultiThreshold") {
      if (!thresholds_of(item, y, levels)) return;
    } else if (item.op == "DequantizeLinear") {
      const auto made = producer_.find(item.inputs[0]);
      if (made == producer_.end() || items_[made->second].op != "QuantizeLinear") return;
      const Item& coder = items_[made->second];
      real = coder.inputs[0];
      found_.between[item.output] = {item.inputs[0]};
      const auto known = found_.values.find(real);
      const auto scale = codes_scale(item);
      if (known != found_.values.end() && known->second.levels->terms.size() == 1 && scale && counts_as_codes(coder)) {
        // Codes of levels that are known.
        const BitLevels& levels_before = *known->second.levels;
        const BitTerm& same = levels_before.terms[0];
        const bool counts = known->second.from.empty() && found_.source.count(real) != 0 && same.values.factor == 1 && same.values.shift == 0 && same.unit == 1;
        if (counts && codes_scale(coder) == std::pair(1.0f, std::int64_t{0})) {
          levels = levels_before;
          levels.name = item.name;
          levels.terms[0].unit = scale->first;
          levels.terms[0].values.shift = static_cast<std::int32_t>(scale->second);
          found_.between[item.output].push_back(real);
          real = found_.source.at(real);
        } else if (same.values.factor == 1 && scale == codes_scale(coder) && same.unit == scale->first && same.values.shift == scale->second) {
          found_.values[item.output] = {known->second.levels, real, true};
          return;
        } else {
          return;
        }
      } else if (!codes_of(item, coder, levels)) {
        return;
      }
    } else {
      if (!scaled(item, y) && !residual(item, y)) moved(item, y);
      return;
    }
    if (types_.at(real).dtype != DType::f32) return;
    found_.source[item.output] = real;
    start_chain(item.output, item.output, levels);
    found_.values[item.output] = {std::make_shared<const BitLevels>(std::move(levels)), {}, false};
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
    levels.terms = {{{halves ? 2 : 1, static_cast<std::int32_t>(halves ? ratio : ratio / 2), planes_of(t[1])}, halves ? scale / 2 : scale}};
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
    levels.terms = {{{1, static_cast<std::int32_t>(zero - lo), planes_of(hi - lo)}, scale[0]}};
    levels.count = hi - lo;
    const engine::FlushToZero mode;  // as kernels compute
    for (std::int64_t j = 1; j <= hi - lo; ++j) {
      levels.thresholds.push_back(least_float([&](float x) { return quantiser.step_of(x) + static_cast<float>(zero) >= static_cast<float>(lo + j); }));
    }
    return true;
  }

  // Pools and views of such values.
  void moved(const Item& item, const Shape& y) {
    const auto found = found_.values.find(item.inputs[0]);
    if (found == found_.values.end()) return;
    const BitLevels& levels = *found->second.levels;
    const Shape& x = shape(item.inputs[0]);
    const bool pool = item.op == "MaxPool" && !item.plain && item.fused.empty() && levels.rise() && x.size() == 4;
    const bool view = (item.op == "Flatten" || item.op == "Reshape") && !item.plain && x.size() == 4 && y.size() == 2 && y[0] == x[0] &&
                      y[1] == x[1] * x[2] * x[3];
    const bool pad = item.op == "Pad" && x.size() == 4 && bit_border(item, levels, types_, constants_).has_value();
    if (!pool && !view && !pad) return;
    found_.values[item.output] = {found->second.levels, item.inputs[0], view};
  }

  // Levels of a chain: -1 and +1, or -1, 0 and +1, times a factor. Such products are exact.
  struct Link {
    std::string origin;  // the quantiser's output
    BitTerm term;
    std::vector<float> thresholds;
    // What the quantiser reads: the chain's source, less the sums of these runs of links, one after the other.
    std::vector<std::pair<std::size_t, std::size_t>> subtracted;
    float real(std::size_t digit) const {
      return term.unit * static_cast<float>(term.values.factor * static_cast<std::int32_t>(digit) - term.values.shift);
    }
    bool operator==(const Link& other) const { return origin == other.origin && term.unit == other.term.unit; }
  };
  // A value that is the sum of links, or the source less that.
  struct Chain {
    std::string source;
    std::vector<Link> links;
    std::vector<std::pair<std::size_t, std::size_t>> subtracted;  // of a rest
    std::vector<std::string> between;                             // all values on the way
  };

  static bool is_link(const BitLevels& levels) {
    if (levels.terms.size() != 1 || levels.per_channel() || !levels.sign.empty()) return false;
    const engine::BitValues& v = levels.terms[0].values;
    return (v.factor == 2 && v.shift == 1 && levels.count == 1) || (v.factor == 1 && v.shift == 1 && levels.count == 2);
  }

  void start_chain(const std::string& value, const std::string& origin, const BitLevels& levels) {
    if (!is_link(levels)) return;
    Chain chain{found_.source.at(origin), {{origin, levels.terms[0], levels.thresholds, {}}}, {}, {origin}};
    if (value != origin) chain.between.push_back(value);
    sums_[value] = std::move(chain);
  }

  // Such levels times a constant.
  bool scaled(const Item& item, const Shape& y) {
    if (item.op != "Mul" || item.plain || item.clamped || !item.fused.empty()) return false;
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      const auto known = found_.values.find(item.inputs[side]);
      if (known == found_.values.end() || !is_link(*known->second.levels) || shape(item.inputs[side]) != y) continue;
      const auto factor = numbers(item.inputs[1 - side], 1);
      if (factor.size() != 1) return false;
      BitLevels levels = *known->second.levels;
      levels.terms[0].unit *= factor[0];
      if (!std::isnormal(levels.terms[0].unit)) return false;
      levels.name = item.name;
      if (known->second.from.empty()) start_chain(item.output, item.inputs[side], levels);
      found_.values[item.output] = {std::make_shared<const BitLevels>(std::move(levels)), item.inputs[side], true};
      return true;
    }
    return false;
  }

  // Residual levels: each quantises what those before it leave of the source, and all are added (ResBinNet, arXiv 1711.01243).
  bool residual(const Item& item, const Shape& y) {
    if ((item.op != "Add" && item.op != "Sub") || item.plain || item.clamped || !item.fused.empty() || item.inputs.size() != 2) return false;
    if (shape(item.inputs[0]) != y || shape(item.inputs[1]) != y) return false;
    if (item.op == "Sub") {
      const auto known = sums_.find(item.inputs[1]);
      if (known == sums_.end() || known->second.source != item.inputs[0]) return false;
      const Chain& sum = known->second;
      const auto before = rests_.find(item.inputs[0]);
      Chain rest = before != rests_.end() ? before->second : Chain{sum.source, {}, {}, {}};
      rest.subtracted.emplace_back(rest.links.size(), rest.links.size() + sum.links.size());
      rest.links.insert(rest.links.end(), sum.links.begin(), sum.links.end());
      rest.between.insert(rest.between.end(), sum.between.begin(), sum.between.end());
      rest.between.push_back(item.output);
      if (planes(rest) >= most_planes) return false;  // no level fits behind it
      rests_[item.output] = std::move(rest);
      found_.rests.insert(item.output);
      return true;
    }
    for (const std::size_t side : {std::size_t{0}, std::size_t{1}}) {
      const auto first = sums_.find(item.inputs[side]), second = sums_.find(item.inputs[1 - side]);
      if (first == sums_.end() || second == sums_.end() || second->second.links.size() != 1) continue;
      const auto rest = rests_.find(second->second.source);
      if (rest == rests_.end() || rest->second.source != first->second.source || rest->second.links != first->second.links) continue;
      Chain sum{first->second.source, first->second.links, {}, first->second.between};
      sum.links.push_back(second->second.links[0]);
      sum.links.back().subtracted = rest->second.subtracted;
      if (planes(sum) > most_planes) return false;
      for (const auto* other : {&rest->second.between, &second->second.between}) sum.between.insert(sum.between.end(), other->begin(), other->end());
      found_.source[item.output] = sum.source;
      found_.between[item.output] = sum.between;
      found_.values[item.output] = {levels_of(sum, item.name), {}, false};
      sum.between.push_back(item.output);
      sums_[item.output] = std::move(sum);
      return true;
    }
    return false;
  }

  static std::int64_t planes(const Chain& chain) {
    std::int64_t all = 0;
    for (const Link& link : chain.links) all += link.term.values.planes;
    return all;
  }

  // The code has a digit for each link, the first the highest. A greater number never has a smaller code: numbers of one first digit keep
  // their order when the same is taken from each, and so on.
  static std::shared_ptr<const BitLevels> levels_of(const Chain& chain, const std::string& name) {
    BitLevels levels;
    levels.name = name;
    std::int64_t first = planes(chain);
    levels.count = (std::int64_t{1} << first) - 1;
    for (const Link& link : chain.links) {
      levels.terms.push_back(link.term);
      levels.terms.back().values.first = first -= link.term.values.planes;
    }
    const auto code_of = [&](float x) {
      std::vector<float> reals;
      std::int64_t code = 0;
      for (const Link& link : chain.links) {
        float rest = x;
        for (const auto& [begin, end] : link.subtracted) {
          float sum = reals[begin];
          for (std::size_t i = begin + 1; i < end; ++i) sum += reals[i];
          rest -= sum;
        }
        std::size_t digit = 0;
        for (const float threshold : link.thresholds) digit += rest >= threshold ? 1 : 0;
        reals.push_back(link.real(digit));
        code = code << link.term.values.planes | static_cast<std::int64_t>(digit);
      }
      return code;
    };
    const engine::FlushToZero mode;  // as kernels compute
    for (std::int64_t j = 1; j <= levels.count; ++j) levels.thresholds.push_back(least_float([&](float x) { return code_of(x) >= j; }));
    return std::make_shared<const BitLevels>(std::move(levels));
  }

  const std::vector<Item>& items_;
  const std::map<std::string, std::size_t>& producer_;
  const Types& types_;
  const Constants& constants_;
  bool asked_;
  FoundLevels found_;
  std::map<std::string, Chain> sums_, rests_;
};

}  // namespace

FoundLevels find_levels(const std::vector<Item>& items, const std::map<std::string, std::size_t>& producer, const Types& types,
                        const Constants& constants, bool asked) {
  return LevelFinder(items, producer, types, constants, asked).run();
}

std::optional<BitBorder> bit_border(const Item& item, const BitLevels& levels, const Types& types, const Constants& constants) {
  const Shape &x = types.at(item.inputs[0]).shape, &y = types.at(item.output).shape;
  if (graph::string_attribute(*item.node, "mode", "constant") != "constant" || item.inputs.size() > 3 || !item.fused.empty()) return std::nullopt;
  if (!constants.has(item.inputs[1]) || y[0] != x[0] || y[1] != x[1]) return std::nullopt;
  const auto pads = constants.integers(item.inputs[1]);
  if (pads.size() != 8 || pads[0] != 0 || pads[1] != 0 || std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p < 0; })) return std::nullopt;
  float value = 0;
  if (item.inputs.size() > 2 && !item.inputs[2].empty()) {
    const auto given = few_numbers(item.inputs[2], 1, types, constants);
    if (given.size() != 1) return std::nullopt;
    value = given[0];
  }
  for (std::int64_t code = 0; code <= levels.count; ++code) {
    if (levels.real(code) == value) return BitBorder{code, pads[2], pads[3]};
  }
  return std::nullopt;
}

std::vector<float> few_numbers(const std::string& name, std::size_t most, const Types& types, const Constants& constants) {
  if (name.empty() || !constants.has(name) || types.at(name).dtype != DType::f32) return {};
  const auto all = constants.floats(name);
  return all.size() <= most ? all : std::vector<float>{};
}

float BitLevels::real(std::int64_t code) const {
  float sum = 0;
  bool first = true;
  for (const BitTerm& term : terms) {
    const std::int64_t digit = code >> term.values.first & ((std::int64_t{1} << term.values.planes) - 1);
    const float value = static_cast<float>(term.values.factor * digit - term.values.shift) * term.unit;
    sum = first ? value : sum + value;
    first = false;
  }
  return sum;
}

bool BitLevels::rise() const {
  if (terms.size() == 1) return terms[0].unit > 0;
  for (std::int64_t code = 1; code <= count; ++code)
    if (!(real(code) >= real(code - 1))) return false;
  return true;
}

}  // namespace bittern::plan
