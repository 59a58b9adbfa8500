#include "plan/layer_parts.h"

#include <algorithm>
#include <cstdio>

#include <bittern/error.h>

#include "registry.h"

namespace bittern::plan {

std::string place_of(const Item& item) { return "node " + item.name + " (" + item.op + ")"; }

const graph::Encoding* weight_encoding(Builder& builder, const Item& item) {
  const auto& constants = builder.source().graph->constants;
  const auto found = constants.find(item.inputs[1]);
  if (found == constants.end()) {
    throw Error(ErrorCode::unsupported, place_of(item), "its weight " + item.inputs[1] + " is computed at run time", "only constant weights are supported");
  }
  return found->second.get();
}

bool has_bias(const Item& item) { return item.inputs.size() > 2 && !item.inputs[2].empty(); }

// What distinguishes the packed weights of one layer from those of another use of the same constants.
std::string weights_key(const Item& item, const std::string& how) {
  std::string key = how + key_part(item.name);
  if (!item.scale.empty()) {
    for (const std::string& name : item.fused) key += key_part(name);
  }
  return key;
}

bool preferred(const Builder& builder, const char* name) {
  const auto& list = *builder.source().preferred;
  return std::find(list.begin(), list.end(), name) != list.end();
}

bool asks_for_tiles(const Builder& builder) {
  const auto& list = *builder.source().preferred;
  return std::any_of(list.begin(), list.end(), [](const std::string& name) { return name.rfind("gemm_", 0) == 0; });
}

const engine::LutGemvKernel& row_kernel(engine::Isa isa, const format::RowForm& form, std::int64_t channels) {
  using engine::RowCodes;
  const RowCodes codes = form.tables                ? RowCodes::tables4
                         : form.table.empty()       ? RowCodes::bytes
                         : form.table.size() <= 4   ? RowCodes::table4
                                                    : RowCodes::table16;
  const engine::LutGemvKernel* best = nullptr;
  std::int64_t least = 0;
  for (const engine::LutGemvKernel& kernel : engine::lut_gemv_kernels(isa)) {
    if (kernel.codes != codes) continue;
    const std::int64_t padded = (channels + kernel.cols - 1) / kernel.cols * kernel.cols, slack = padded / 16;
    // Wide panels are faster, unless they compute much that nobody needs.
    if (best == nullptr || padded < least || (kernel.cols > best->cols && padded <= least + slack)) best = &kernel, least = padded;
  }
  return *best;
}

engine::CodedNumbers coded_numbers(const format::RowForm& form) { return {form.table, form.scale}; }

std::string stays_codes(const engine::LutGemvKernel& kernel) {
  const char* how = kernel.codes == engine::RowCodes::bytes ? "decoded" : "looked up";
  return "weights stay " + std::to_string(kernel.bits) + "-bit codes, " + how + " in registers";
}

std::string percent(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, "%+.0f %%", 100.0 * (ratio - 1.0));
  return text;
}

engine::ConvShape conv_shape(const graph::Node& node, const Shape& x, const Shape& y, const graph::Window& win) {
  engine::ConvShape s;
  s.n = x[0], s.c = x[1], s.h = x[2], s.w = x[3];
  s.oc = y[1], s.oh = y[2], s.ow = y[3];
  s.kh = win.kh, s.kw = win.kw;
  s.stride_h = win.stride_h, s.stride_w = win.stride_w, s.dilation_h = win.dilation_h, s.dilation_w = win.dilation_w;
  s.pad_top = win.pad_top, s.pad_left = win.pad_left, s.pad_bottom = win.pad_bottom, s.pad_right = win.pad_right;
  s.groups = graph::int_attribute(node, "group", 1);
  return s;
}

engine::ConvShape conv_shape(Builder& builder, const Item& item, const graph::Window& win) {
  return conv_shape(*item.node, builder.map_shape(item.inputs[0]), builder.map_shape(item.output), win);
}

void describe_weight(Builder& builder, const Item& item) {
  const graph::Encoding* encoding = weight_encoding(builder, item);
  LayerInfo& info = builder.current();
  info.encoding = graph::describe(*encoding);
  info.encoded_bytes = graph::encoded_bytes(*encoding);
  const auto& constants = builder.source().graph->constants;
  if (has_bias(item)) {
    if (const auto bias = constants.find(item.inputs[2]); bias != constants.end()) info.encoded_bytes += graph::encoded_bytes(*bias->second);
  }
}

engine::PoolShape pool_shape(Builder& builder, const Item& item) {
  const Shape x = builder.map_shape(item.inputs[0]);
  engine::PoolShape s;
  if (item.op == "GlobalAveragePool" || item.op == "GlobalMaxPool") {
    s.kh = x[2];
    s.kw = x[3];
    return s;
  }
  const Shape& shape = builder.shape(item.inputs[0]);
  auto kernel = graph::ints_attribute(*item.node, "kernel_shape", {});
  if (shape.size() == 3) kernel.insert(kernel.begin(), 1);
  const graph::Window win = graph::window(*item.node, shape, kernel[0], kernel[1]);
  return {win.kh, win.kw, win.stride_h, win.stride_w, win.dilation_h, win.dilation_w, win.pad_top, win.pad_left, win.pad_bottom, win.pad_right,
          graph::int_attribute(*item.node, "count_include_pad", 0) != 0};
}

}  // namespace bittern::plan
