// Layers of real numbers whose weights stay codes in memory: whether they may, what it costs, and their step.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gemm/code_conv.h"
#include "plan/layer_parts.h"

namespace bittern::plan {

// How a layer's weights would run as codes.
struct CodesPlan {
  const engine::CodeGemmKernel* kernel = nullptr;  // null: they cannot, or dense floats are better
  bool asked = false;                              // by name
  double cost = 0;                                 // as GemmConv::cost
  std::string reason;                              // why, or why not; begins with "; "
  std::shared_ptr<const engine::CodeConv> layer;
  engine::CodeTable table;                         // its pointers are set when weights are packed
  std::vector<float> entries, scale, fold;         // what they will point to
  std::vector<std::int32_t> scale_rows;
  std::uint8_t pad = 0;                            // the code of what does not exist

  std::int64_t tables() const noexcept;  // numbers of 32 bits that the table points to
  // Of codes and tables, without a bias.
  std::int64_t bytes() const noexcept;
};

// Of a layer that runs on `shape` and these maps; `dense` is the tile that the dense layer would take, at `dense_cost`, and
// `output_axis` that of the output channels in the weight's shape.
CodesPlan plan_codes(Builder& builder, const Item& item, const engine::ConvShape& shape, const engine::Map& in, const engine::Map& out,
                     const engine::Map& residual, const engine::GemmKernel& dense, double dense_cost, bool dense_asked, int output_axis);

// Emits the layer's step and fills its row. Codes of output and input channel stand `out` and `in` elements apart; `bias` is
// null if there is none.
void emit_codes(Builder& builder, const Item& item, const CodesPlan& codes, std::int64_t out_step, std::int64_t in_step, const Storage& in,
                const Storage& out, const Storage& residual, const std::function<std::vector<float>()>* bias);

}  // namespace bittern::plan
