// How codes are found and used in a list of items: one pass over them (plan/quantised.h). In quantised.cpp and, as far as layers with
// weights go, in quantised_layers.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/fuse.h"

namespace bittern::plan {

inline constexpr std::int32_t signed_shift = 128;  // codes of signed tensors are stored plus this

class CodeUser {
 public:
  CodeUser(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants)
      : items_(std::move(items)), types_(types), kept_(kept), constants_(constants), dead_(items_.size(), false) {}

  std::vector<Item> run();

 private:
  // The real numbers that DequantizeLinear makes of codes.
  struct Decoded {
    std::string codes;
    engine::Quantiser quantiser;
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
  std::optional<engine::Quantiser> quantiser(const Item& item, DType type) const;
  void find_quantisers();

  // Values that products read keep rows of their last dimension together; those that convolutions read too do not.
  void find_rows();

  // The form of the codes that an operator gives: what their readers expected gives way.
  void set_rows(const std::string& codes, bool rows) {
    if (!rows) rows_.erase(codes);
    if (rows && types_.at(codes).shape.size() != 2) rows_.insert(codes);
  }
  bool has_rows(const std::string& codes) const { return types_.at(codes).shape.size() == 2 || rows_.count(codes) != 0; }

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

  const Decoded* decoded_or_dynamic(const std::string& value) const {
    const auto found = dynamic_.find(value);
    return found == dynamic_.end() ? decoded(value) : &found->second;
  }

  // The item now gives the codes that QuantizeLinear `q` gave.
  void take_over(std::size_t i, std::size_t q, CodesForm& form, bool rows) {
    form.output = coded_.at(q);
    form.fixed_point = is_fixed_point(q);
    items_[i].fused.push_back(items_[q].name);
    items_[i].output = items_[q].output;
    dead_[q] = true;
    set_rows(items_[i].output, rows);
  }

  // True if no code is outside the quantiser's: all bytes are inside, or such a quantiser made them.
  bool bounded_by(const std::string& codes, const engine::Quantiser& q) const {
    if (q.lo == 0 && q.hi == 255) return true;
    const auto made = producer_.find(codes);
    const auto by = made == producer_.end() ? coded_.end() : coded_.find(made->second);
    return by != coded_.end() && by->second == q;
  }

  bool is_fixed_point(std::size_t q) const { return graph::string_attribute(*items_[q].node, "requantize", "") == "tflite"; }

  void convert(std::size_t i);
  bool softmax_of_rows(const Item& item, const graph::Node& quantiser, const engine::Quantiser& from) const;
  // True if the parts of a concatenation of channels start blocks of 16.
  bool joins_blocks(const Item& item) const;
  // An operator that computes nothing, on the codes as they are.
  void move_codes(std::size_t i, std::size_t q);
  // Counts of thresholds that a real number reaches, as codes.
  void thresholds(std::size_t i, std::size_t q);
  // Why an operator between codes computes with real numbers.
  static const char* why_real(const Item& item, bool same);
  // Codes of one quantiser as codes of another.
  void requantise(std::size_t i);

  // Convolution and product with weights of few bits (quantised_layers.cpp).
  void layer(std::size_t i);
  bool has_static_reader(const std::string& codes) const {
    return std::any_of(decoded_.begin(), decoded_.end(), [&](const auto& entry) { return entry.second.codes == codes; });
  }

  // ConvInteger and MatMulInteger with constant weights: exact sums.
  void integer_layer(std::size_t i);

  // The sum of two maps of codes, one of them just computed by a layer: into that layer, the last of the two if both are.
  void fuse_residual(std::size_t i);
  // The output's quantiser with the bounds of a clamp, which becomes an inner one. A bound that is no number is the lowest.
  static engine::Quantiser bounded(const Item& item);
  // Parts of a concatenation that a layer alone makes are quantised for it a second time there, so that it can be in place.
  void requantise_parts(std::size_t i);

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
  std::set<std::string> rows_;                   // codes of more than 2 dimensions that stand in rows of the last
  std::map<std::string, std::int32_t> zeros_;    // of the inputs of ConvInteger
  std::map<std::size_t, engine::Quantiser> coded_;
  std::map<std::size_t, std::int32_t> counted_;  // of QuantizeLinear behind thresholds: the code of zero for its readers
  std::map<std::string, int> uses_;
  std::map<std::string, std::size_t> producer_, reader_;
};

}  // namespace bittern::plan
