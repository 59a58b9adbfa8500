#include "plan/code_parts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "plan/plain.h"

namespace bittern::plan {

using engine::Quantiser;

namespace {

constexpr std::int64_t least_weight = -256, greatest_weight = 254;  // sums of two bytes
constexpr std::size_t most_letters = 16;

bool fits(const format::IntegerForm& weights, std::int64_t each, std::int64_t largest_bias, std::int64_t most) {
  const std::int64_t largest = std::max(std::abs(weights.least), std::abs(weights.greatest));
  return weights.least >= least_weight && weights.greatest <= greatest_weight && each * largest * most + largest_bias <= 0x7fffffff;
}

}  // namespace

std::shared_ptr<const std::vector<std::byte>> table_of(const Item& item, std::size_t place, bool scalars, const Quantiser& from, const Quantiser& to,
                                                       const Types& types, const Constants& constants) {
  std::vector<float> x(256);
  for (int code = 0; code < 256; ++code) x[static_cast<std::size_t>(code)] = static_cast<float>(code - from.zero) * from.scale;
  graph::ValueType all{DType::f32, {256}, nullptr};
  const auto* bytes = reinterpret_cast<const std::byte*>(x.data());
  all.known = std::make_shared<const std::vector<std::byte>>(bytes, bytes + x.size() * sizeof(float));
  std::vector<graph::ValueType> others;
  others.reserve(item.inputs.size());
  std::vector<const graph::ValueType*> inputs;
  for (std::size_t p = 0; p < item.inputs.size(); ++p) {
    if (p == place || item.inputs[p].empty()) {
      inputs.push_back(p == place ? &all : nullptr);
      continue;
    }
    if (!constants.has(item.inputs[p])) return nullptr;
    others.push_back(types.at(item.inputs[p]));
    if (scalars) {
      if (graph::element_count(others.back().shape, item.name) != 1 || others.back().dtype != DType::f32) return nullptr;
      others.back().shape.clear();
    }
    others.back().known = constants.bytes(item.inputs[p]);
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
    const float clamped = std::min(std::max(y[code], item.lo), item.hi);  // by an activation that was fused into it
    const float bounded = std::min(std::max(to.lowest(), clamped / to.scale), to.highest());
    (*table)[code] = static_cast<std::byte>(static_cast<std::int32_t>(std::nearbyint(bounded)) + to.zero);
  }
  return table;
}

bool bias_fits(const Item& item, std::int64_t channels, const Types& types, const Constants& constants) {
  if (!constants.has(item.inputs[2])) return false;
  const Shape& shape = types.at(item.inputs[2]).shape;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  return (count == channels && (shape.empty() || shape.back() == channels)) || count == 1;
}

std::shared_ptr<const std::vector<std::int32_t>> bias_of_sums(const std::string& name, const format::IntegerForm& weights, const Quantiser& x,
                                                              std::int64_t channels, bool rounded, const Constants& constants) {
  const auto form = constants.integer_form(name);
  if (!form) return nullptr;
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    const float own = form->scale[form->scale.size() == 1 ? 0 : c], wanted = x.scale * weights.scale[weights.scale.size() == 1 ? 0 : c];
    if (!(rounded ? std::abs(own - wanted) <= 1e-5f * std::abs(wanted) : own == wanted)) return nullptr;
  }
  const auto values = constants.wide_integer_values(name);
  auto bias = std::make_shared<std::vector<std::int32_t>>();
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    const std::int64_t value = values[values.size() == 1 ? 0 : c];
    if (value != static_cast<std::int32_t>(value)) return nullptr;
    bias->push_back(static_cast<std::int32_t>(value));
  }
  return bias;
}

bool sums_fit(const std::string& name, format::IntegerForm& weights, std::int64_t each, std::int64_t largest_bias, std::int64_t zero,
              const Constants& constants) {
  const std::int64_t most = 255 + std::abs(zero);
  const bool narrow = weights.least >= -128 && weights.greatest <= 127;
  if (narrow && fits(weights, each, largest_bias, most)) return true;
  const auto narrow_to = [&](const auto& values) {
    const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
    weights.least = least == values.end() ? 0 : *least;
    weights.greatest = least == values.end() ? 0 : *greatest;
  };
  if (weights.least < -32768 || weights.greatest > 32767) {
    narrow_to(constants.wide_integer_values(name));
  } else {
    narrow_to(constants.integer_values(name));
  }
  return fits(weights, each, largest_bias, most);
}

namespace {

// f(value) for all weights of ConvInteger or MatMulInteger in their order.
template <class F>
void for_whole_weights(const std::string& name, const std::vector<std::int64_t>& zeros, int axis, const graph::ValueType& type,
                       const Constants& constants, const F& f) {
  const auto bytes = constants.bytes(name);
  const auto channels = static_cast<std::size_t>(type.shape[static_cast<std::size_t>(axis)]);
  const std::size_t inner = axis == 0 ? bytes->size() / channels : 1;
  for (std::size_t i = 0; i < bytes->size(); ++i) {
    const auto byte = std::to_integer<std::uint8_t>((*bytes)[i]);
    const std::int64_t code = type.dtype == DType::i8 ? static_cast<std::int8_t>(byte) : byte;
    f(code - (zeros.empty() ? 0 : zeros[zeros.size() == 1 ? 0 : i / inner % channels]));
  }
}

}  // namespace

std::optional<format::IntegerForm> whole_weights(const std::string& name, const std::vector<std::int64_t>& zeros, int axis, const Types& types,
                                                 const Constants& constants) {
  const graph::ValueType& type = types.at(name);
  std::vector<bool> present(512);  // from -256 on
  for_whole_weights(name, zeros, axis, type, constants, [&](std::int64_t value) { present[static_cast<std::size_t>(value + 256)] = true; });
  std::vector<std::int16_t> letters;
  for (std::int64_t value = -256; value < 256; ++value) {
    if (present[static_cast<std::size_t>(value + 256)]) letters.push_back(static_cast<std::int16_t>(value));
  }
  format::IntegerForm form;
  form.scale = {1.0f};
  form.least = letters.empty() ? 0 : letters.front();
  form.greatest = letters.empty() ? 0 : letters.back();
  if (letters.size() <= most_letters) form.alphabet = letters;
  const std::int64_t channels = type.shape[static_cast<std::size_t>(axis)];
  if (!fits(form, graph::element_count(type.shape, name) / channels, 0, 511)) return std::nullopt;
  return form;
}

std::vector<std::int16_t> whole_values(const std::string& name, const std::vector<std::int64_t>& zeros, int axis, const graph::ValueType& type,
                                       const Constants& constants) {
  std::vector<std::int16_t> values;
  for_whole_weights(name, zeros, axis, type, constants, [&](std::int64_t value) { values.push_back(static_cast<std::int16_t>(value)); });
  return values;
}

}  // namespace bittern::plan
