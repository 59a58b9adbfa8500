// What the lowering of layers shares.
#pragma once

#include <span>
#include <string>

#include "base/cpu_features.h"
#include "gemm/conv.h"
#include "gemm/lut_gemv.h"
#include "ops/maps.h"
#include "plan/builder.h"

namespace bittern::plan {

std::string place_of(const Item& item);
bool has_bias(const Item& item);

// The tree of the layer's weight. Throws Error(unsupported) if it is no constant.
const graph::Encoding* weight_encoding(Builder& builder, const Item& item);
// Writes it into the layer's row.
void describe_weight(Builder& builder, const Item& item);

// What distinguishes the packed weights of one layer from those of another use of the same constants.
std::string weights_key(const Item& item, const std::string& how);

// True if the kernel was asked for by name.
bool preferred(const Builder& builder, const char* name);

// The kernel of a list that was asked for by name, at any usable level up to the source's; or null.
template <class Kernel>
const Kernel* asked_kernel(const Builder& builder, std::span<const Kernel> (*list)(engine::Isa)) {
  for (int level = static_cast<int>(builder.source().isa); level >= 0; --level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    for (const Kernel& kernel : list(static_cast<engine::Isa>(level))) {
      if (preferred(builder, kernel.name)) return &kernel;
    }
  }
  return nullptr;
}

// True if tiles of the gemm loop were asked for: then no layer takes a loop of its own.
bool asks_for_tiles(const Builder& builder);

// The kernel of one row for weights of this form and so many outputs, at this level.
const engine::LutGemvKernel& row_kernel(engine::Isa isa, const format::RowForm& form, std::int64_t channels);
engine::CodedNumbers coded_numbers(const format::RowForm& form);
std::string stays_codes(const engine::LutGemvKernel& kernel);  // "weights stay 4-bit codes, looked up in registers"

std::string percent(double ratio);  // "+12 %"

// Weights of a binary, ternary or integer network in float form: its sums are exact, and steps behind them would turn any
// rounding into other answers.
bool all_integers(const float* weights, std::int64_t count);

// Estimated time of the dense float kernel that the layer would take, in cycles of the level's vector unit; and its name. `exact`: it
// must not round as Winograd does.
double dense_conv_cost(const Builder& builder, const engine::ConvShape& shape, bool exact, const char** kernel);

engine::PoolShape pool_shape(Builder& builder, const Item& item);
// Of maps [n, c, h, w] before and behind a convolution.
engine::ConvShape conv_shape(const graph::Node& node, const Shape& x, const Shape& y, const graph::Window& win);
engine::ConvShape conv_shape(Builder& builder, const Item& item, const graph::Window& win);

}  // namespace bittern::plan
