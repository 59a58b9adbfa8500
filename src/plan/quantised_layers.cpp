// Which layers with weights run on codes, and what runs inside them.
#include <algorithm>
#include <limits>

#include "plan/code_parts.h"
#include "plan/code_user.h"

namespace bittern::plan {

using engine::Quantiser;

void CodeUser::layer(std::size_t i) {
  Item& item = items_[i];
  const Decoded* from = decoded(item.inputs[0]);
  const auto at_run_time = dynamic_.find(item.inputs[0]);
  const bool dynamic = from == nullptr && at_run_time != dynamic_.end();
  if (dynamic) from = &at_run_time->second;
  const auto stay = [&](const char* why) { item.stays_real = why; };
  if (item.plain) {
    if (from == nullptr) return;
    if (!constants_.has(item.inputs[1])) return stay("its weights are computed at run time");
    return stay("it is no convolution of 1 or 2 dimensions, or product with a matrix");
  }
  if (from == nullptr) return stay("its input is no tensor of 8-bit codes with one scale");
  if (!constants_.has(item.inputs[1])) return stay("its weights are computed at run time");
  if (!item.residual.empty()) return stay("it adds a tensor of real numbers");
  const Shape& x = types_.at(item.inputs[0]).shape;
  const Shape& w = types_.at(item.inputs[1]).shape;
  const bool conv = item.op == "Conv";
  if (!conv && x.size() < 2) return stay("its input is a vector");
  if (!conv && !has_rows(from->codes)) return stay("its input is kept in blocks of channels for other layers");
  if (conv && has_rows(from->codes)) return stay("its input is kept in rows for products");
  // Around a map stands its code of zero: -1 for one that is known at run time only.
  if (conv && dynamic && (has_static_reader(from->codes) || zeros_.emplace(from->codes, -1).first->second != -1)) {
    return stay("its input's codes are read with two zero points");
  }
  const bool transposed = !conv && graph::int_attribute(*item.node, "transB", 0) != 0;
  if (!conv && (graph::float_attribute(*item.node, "alpha", 1) != 1 || graph::float_attribute(*item.node, "beta", 1) != 1 ||
                graph::int_attribute(*item.node, "transA", 0) != 0)) {
    return stay("alpha, beta or transA is set");
  }
  const int channel_axis = conv || transposed ? 0 : 1;
  const bool biased = item.inputs.size() > 2 && !item.inputs[2].empty();
  const std::int64_t channels = w[static_cast<std::size_t>(channel_axis)];
  if (biased && !bias_fits(item, channels, types_, constants_)) return stay("its bias is not one constant per output channel");
  auto weights = constants_.integer_form(item.inputs[1]);
  if (!weights || (weights->axis >= 0 && weights->axis != channel_axis)) return stay("its weights are not whole numbers times a scale per output channel");
  const std::ptrdiff_t q = dynamic ? -1 : sole_quantiser(item.output);
  const bool fixed = q >= 0 && is_fixed_point(static_cast<std::size_t>(q));
  CodesForm form;
  form.inputs = {from->quantiser};
  form.dynamic_scale = from->scale;
  form.dynamic_zero = from->zero;
  if (biased && !dynamic) form.bias = bias_of_sums(item.inputs[2], *weights, from->quantiser, channels, fixed, constants_);
  if (fixed && ((biased && form.bias == nullptr) || !item.scale.empty())) return stay("TensorFlow Lite's rounding needs an integer bias and no factors");
  std::int64_t largest_bias = 0;
  if (form.bias != nullptr) {
    for (const std::int32_t b : *form.bias) largest_bias = std::max(largest_bias, std::abs(std::int64_t{b}));
  }
  const std::int64_t each = channels == 0 ? 0 : graph::element_count(w, item.name) / channels;
  if (!sums_fit(item.inputs[1], *weights, each, largest_bias, dynamic ? 255 : from->quantiser.zero, constants_)) {
    return stay("its sums could leave 32 bits, or its weights two bytes");
  }
  form.two_terms = weights->least < -128 || weights->greatest > 127;
  form.weights = std::move(weights);
  if (q >= 0) take_over(i, static_cast<std::size_t>(q), form, !conv);
  item.inputs[0] = from->codes;
  item.codes = std::move(form);
}

void CodeUser::integer_layer(std::size_t i) {
  Item& item = items_[i];
  const auto stay = [&](const char* why) { item.stays_real = why; };
  const auto given = [&](std::size_t p) { return item.inputs.size() > p && !item.inputs[p].empty(); };
  const auto count = [&](const std::string& name) { return graph::element_count(types_.at(name).shape, item.name); };
  const bool conv = item.op == "ConvInteger";
  const std::string x = item.inputs[0];
  const Shape& shape = types_.at(x).shape;
  const Shape& w = types_.at(item.inputs[1]).shape;
  if (!constants_.has(item.inputs[1])) return stay("its weights are computed at run time");
  if (constants_.has(x)) return stay("its first input is constant");
  const bool fits = conv ? shape.size() == 3 || shape.size() == 4 : w.size() == 2 && shape.size() >= 2;
  if (!fits) return stay("it is no convolution of 1 or 2 dimensions, or product with a matrix");
  if (count(item.output) == 0 || count(item.inputs[1]) == 0) return stay("it has no elements");
  if (given(2) && count(item.inputs[2]) != 1) return stay("its input has a zero point for each row");
  if (given(3) && !constants_.has(item.inputs[3])) return stay("the zero points of its weights are computed at run time");
  const int axis = conv ? 0 : 1;
  const auto zeros = given(3) ? constants_.integers(item.inputs[3]) : std::vector<std::int64_t>{};
  if (zeros.size() > 1 && static_cast<std::int64_t>(zeros.size()) != w[static_cast<std::size_t>(axis)]) {
    return stay("zero points of its weights are not one per output channel");
  }
  auto weights = whole_weights(item.inputs[1], zeros, axis, types_, constants_);
  if (!weights) return stay("its sums could leave 32 bits, or its weights two bytes");
  CodesForm form;
  const bool at_run_time = given(2) && !constants_.has(item.inputs[2]);
  const std::int32_t shift = types_.at(x).dtype == DType::i8 ? signed_shift : 0;
  const std::int32_t zero = at_run_time ? -1 : shift + (given(2) ? static_cast<std::int32_t>(constants_.integers(item.inputs[2]).at(0)) : 0);
  if (conv) {
    if (has_rows(x)) return stay("its input is kept in rows for products");
    const bool other = std::any_of(decoded_.begin(), decoded_.end(), [&](const auto& entry) {
      return entry.second.codes == x && entry.second.quantiser.zero != zero;
    });
    const auto made = producer_.find(x);
    const auto by = made == producer_.end() ? coded_.end() : coded_.find(made->second);
    const bool made_otherwise = by != coded_.end() && by->second.zero != zero && !at_run_time;
    if (other || made_otherwise || zeros_.emplace(x, zero).first->second != zero) {
      return stay("its input's codes are read with two zero points");
    }
  } else if (!has_rows(x)) {
    return stay("its input is kept in blocks of channels for other layers");
  }
  form.inputs = {Quantiser{1, zero, 0, 255}};
  form.sums = true;
  if (at_run_time) form.dynamic_zero = item.inputs[2];
  form.weights = std::move(weights);
  form.zeros = zeros;
  form.two_terms = form.weights->least < -128 || form.weights->greatest > 127;
  item.inputs.resize(2);
  item.plain = false;
  item.codes = std::move(form);
}

void CodeUser::fuse_residual(std::size_t i) {
  Item& add = items_[i];
  if (add.op != "Add" || add.inputs.size() != 2 || add.inputs[0] == add.inputs[1] || add.codes->fixed_point) return;
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

Quantiser CodeUser::bounded(const Item& item) {
  Quantiser q = *item.codes->output;
  const auto code = [&](float bound) { return static_cast<std::int32_t>(q.step_of(bound)) + q.zero; };
  if (item.clamped) {
    const std::int32_t hi = code(item.hi), lo = std::min(code(item.lo), hi);
    q.lo = lo;
    q.hi = hi;
  }
  return q;
}

void CodeUser::requantise_parts(std::size_t i) {
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

}  // namespace bittern::plan
