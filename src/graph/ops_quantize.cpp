// Operators between numbers and integer codes.
#include <algorithm>
#include <iterator>

#include "graph/quantize.h"
#include "graph/schema.h"

namespace bittern::graph {
namespace {

using Types = ValueTypes;

constexpr DType code_types[] = {DType::i8, DType::u8, DType::i16, DType::u16, DType::i32};
constexpr const char* code_names = "i8, u8, i16, u16, i32";

bool is_code(DType type) { return std::find(std::begin(code_types), std::end(code_types), type) != std::end(code_types); }

bool is_single(const Shape& shape) { return std::all_of(shape.begin(), shape.end(), [](std::int64_t size) { return size == 1; }); }

void check_parameters(const Node& node, const Inputs& in) {
  require_type(node, in, 1, in[1]->dtype == DType::f32, "f32");
  scale_grid(node, in);
  if (!given(in, 2)) return;
  const Shape &scale = in[1]->shape, &zero = in[2]->shape;
  require(scale == zero || (is_single(scale) && is_single(zero)), node, "scale " + to_string(scale) + " and zero point " + to_string(zero),
          "they must have one shape");
}

Types quantize(const Node& node, const Inputs& in) {
  require_type(node, in, 0, in[0]->dtype == DType::f32, "f32");
  check_parameters(node, in);
  const std::string named = string_attribute(node, "output_dtype", "");
  DType type = given(in, 2) ? in[2]->dtype : DType::u8;
  if (!named.empty()) {
    const auto* found = std::find_if(std::begin(code_types), std::end(code_types), [&](DType code) { return named == name_of(code); });
    require(found != std::end(code_types), node, "output_dtype '" + named + "'", std::string("allowed are ") + code_names);
    require(!given(in, 2) || type == *found, node, "output_dtype is " + named + ", the zero point is " + name_of(type), "they must agree");
    type = *found;
  }
  require(is_code(type), node, std::string("codes of type ") + name_of(type), std::string("supported: ") + code_names);
  code_range(node, type);
  return {{type, in[0]->shape, {}}};
}

Types dequantize(const Node& node, const Inputs& in) {
  require_type(node, in, 0, is_code(in[0]->dtype), code_names);
  check_parameters(node, in);
  require(!given(in, 2) || in[2]->dtype == in[0]->dtype, node,
          std::string("the codes are ") + name_of(in[0]->dtype) + ", the zero point is " + (given(in, 2) ? name_of(in[2]->dtype) : ""),
          "they must be of one type");
  code_range(node, in[0]->dtype);
  return {{DType::f32, in[0]->shape, {}}};
}

void check_single(const Node& node, const Inputs& in, std::size_t i) {
  require(is_single(in[i]->shape), node, "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape), "one number is needed");
}

bool is_byte(DType type) { return type == DType::i8 || type == DType::u8; }

Types dynamic_quantize(const Node&, const Inputs& in) { return {{DType::u8, in[0]->shape, {}}, {DType::f32, {}, {}}, {DType::u8, {}, {}}}; }

// Bytes, and zero points of their types.
void check_bytes(const Node& node, const Inputs& in) {
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (in[i] == nullptr) continue;
    require_type(node, in, i, is_byte(in[i]->dtype), "i8, u8");
    if (i >= 2) require_type(node, in, i, in[i]->dtype == in[i - 2]->dtype, "the type of what it is the zero point of");
  }
}

Types conv_integer(const Node& node, const Inputs& in) {
  check_bytes(node, in);
  const Types y = conv_types(node, {in[0], in[1]});
  if (given(in, 2)) check_single(node, in, 2);
  if (given(in, 3)) {
    const Shape outputs{in[1]->shape[0]};
    require(is_single(in[3]->shape) || in[3]->shape == outputs, node, "input 3 has shape " + to_string(in[3]->shape),
            "one number, or one per output channel, is needed");
  }
  return {{DType::i32, y[0].shape, {}}};
}

Types matmul_integer(const Node& node, const Inputs& in) {
  check_bytes(node, in);
  for (std::size_t i = 2; i < in.size(); ++i) {
    if (in[i] == nullptr) continue;
    const Shape &tensor = in[i - 2]->shape, zero = matmul_zero_shape(tensor, in[i]->shape, i == 2);
    require(broadcast_shape(tensor, zero, "node " + node.name + " (" + node.op + ")") == tensor, node,
            "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape), "one number is needed, or one per row of A, column of B");
  }
  return {{DType::i32, matmul_shape(node, in[0]->shape, in[1]->shape), {}}};
}

// An input that broadcasts to the first one without changing its shape.
void check_broadcast(const Node& node, const Inputs& in, std::size_t i) {
  require(broadcast_shape(in[0]->shape, in[i]->shape, "node " + node.name + " (" + node.op + ")") == in[0]->shape, node,
          "input " + std::to_string(i) + " has shape " + to_string(in[i]->shape), "it must broadcast to the first input, " + to_string(in[0]->shape));
}

Types quant(const Node& node, const Inputs& in) {
  check_broadcast(node, in, 1);
  check_broadcast(node, in, 2);
  check_single(node, in, 3);
  rounding_mode(node, "ROUND");
  return {{DType::f32, in[0]->shape, {}}};
}

Types bipolar_quant(const Node& node, const Inputs& in) {
  check_broadcast(node, in, 1);
  return {{DType::f32, in[0]->shape, {}}};
}

Types trunc(const Node& node, const Inputs& in) {
  check_broadcast(node, in, 1);
  for (const std::size_t i : {std::size_t{2}, std::size_t{3}, in.size() - 1}) check_single(node, in, i);
  if (in.size() > 5) check_broadcast(node, in, 4);
  rounding_mode(node, "FLOOR");
  return {{DType::f32, in[0]->shape, {}}};
}

Types multi_threshold(const Node& node, const Inputs& in) {
  const Shape &x = in[0]->shape, &thresholds = shape_of(node, in, 1, 2);
  require(!x.empty(), node, "a scalar", "at least one dimension is needed");
  const std::int64_t channels = x[threshold_axis(node, x.size())];
  require(thresholds[0] == 1 || thresholds[0] == channels, node,
          "thresholds " + to_string(thresholds) + " for " + std::to_string(channels) + " channels", "one row, or one per channel, is needed");
  return {{DType::f32, x, {}}};
}

}  // namespace

Shape matmul_zero_shape(const Shape& matrix, const Shape& zero, bool rows) {
  return rows && matrix.size() > 1 && zero.size() == 1 ? Shape{zero[0], 1} : zero;
}

engine::Rounding rounding_mode(const Node& node, const char* fallback) {
  constexpr const char* names[] = {"ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"};
  const std::string mode = string_attribute(node, "rounding_mode", fallback);
  const auto* found = std::find_if(std::begin(names), std::end(names), [&](const char* name) { return mode == name; });
  require(found != std::end(names), node, "rounding_mode '" + mode + "'", "allowed are ROUND, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN");
  return static_cast<engine::Rounding>(found - std::begin(names));
}

std::size_t threshold_axis(const Node& node, std::size_t rank) {
  const std::string layout = string_attribute(node, "data_layout", "NCHW");
  const bool planar = layout == "NCHW" || layout == "NCW";
  require(planar || layout == "NHWC" || layout == "NWC" || layout == "NC", node, "data_layout '" + layout + "'",
          "allowed are NCHW, NHWC, NCW, NWC, NC");
  // QONNX takes the last dimension where NCHW does not fit.
  const bool second = rank > 1 && planar && (layout == "NCW" || rank == 2 || rank == 4);
  return second ? 1 : rank - 1;
}

engine::ScaleGrid scale_grid(const Node& node, const std::vector<const ValueType*>& in) {
  const Shape &x = in[0]->shape, &scale = in[1]->shape;
  const std::int64_t block = int_attribute(node, "block_size", 0);
  require(block >= 0, node, "block_size " + std::to_string(block), "it must not be negative");
  engine::ScaleGrid grid;
  if (block == 0 && is_single(scale)) {
    for (const std::int64_t size : x) grid.inner *= size;
    return grid;
  }
  const auto axis = static_cast<std::size_t>(normal_axis(node, int_attribute(node, "axis", 1), x.size()));
  Shape expected{x[axis]};
  if (block != 0) {
    expected = x;
    expected[axis] = x[axis] == 0 ? 0 : (x[axis] - 1) / block + 1;
  }
  require(scale == expected, node, "scale has shape " + to_string(scale) + " for a tensor " + to_string(x),
          "one number, or shape " + to_string(expected) + (block == 0 ? "; scales of blocks need block_size" : ""));
  for (std::size_t d = 0; d < x.size(); ++d) (d < axis ? grid.outer : d == axis ? grid.axis : grid.inner) *= x[d];
  grid.block = block;
  return grid;
}

engine::CodeRange code_range(const Node& node, DType type) {
  const std::int64_t bits = int_attribute(node, "bits", 8), narrow = int_attribute(node, "narrow", 0);
  require(bits >= 2 && bits <= 8, node, "bits " + std::to_string(bits), "allowed are 2 to 8");
  require(narrow == 0 || narrow == 1, node, "narrow " + std::to_string(narrow), "allowed are 0, 1");
  require(bits == 8 || type == DType::i8 || type == DType::u8, node, "bits " + std::to_string(bits) + " in codes of type " + name_of(type),
          "fewer bits than 8 are held in u8 or i8");
  require(narrow == 0 || type == DType::i8, node, std::string("narrow in codes of type ") + name_of(type), "only i8 has a narrow range");
  switch (type) {
    case DType::u8: return {0, (std::int64_t{1} << bits) - 1};
    case DType::i8: return {narrow - (std::int64_t{1} << (bits - 1)), (std::int64_t{1} << (bits - 1)) - 1};
    case DType::u16: return {0, 65535};
    case DType::i16: return {-32768, 32767};
    default: return {-(std::int64_t{1} << 31), (std::int64_t{1} << 31) - 1};
  }
}

void add_quantize(Schemas& t) {
  using enum AttributeType;
  t["QuantizeLinear"] = {.min_inputs = 2, .max_inputs = 3,
                         .attributes = {{"axis", integer}, {"bits", integer}, {"block_size", integer}, {"narrow", integer}, {"output_dtype", text}},
                         .infer = quantize, .any_type = true};
  t["DequantizeLinear"] = {.min_inputs = 2, .max_inputs = 3,
                           .attributes = {{"axis", integer}, {"bits", integer}, {"block_size", integer}, {"narrow", integer}},
                           .infer = dequantize, .any_type = true};
  t["DynamicQuantizeLinear"] = {.infer = dynamic_quantize, .max_outputs = 3};
  const std::map<std::string, AttributeType> window = {{"auto_pad", text}, {"dilations", integers}, {"group", integer},
                                                       {"kernel_shape", integers}, {"pads", integers}, {"strides", integers}};
  t["ConvInteger"] = {.min_inputs = 2, .max_inputs = 4, .attributes = window, .infer = conv_integer, .any_type = true};
  t["MatMulInteger"] = {.min_inputs = 2, .max_inputs = 4, .infer = matmul_integer, .any_type = true};
  const std::map<std::string, AttributeType> codes = {{"narrow", integer}, {"rounding_mode", text}, {"signed", integer}};
  t["Quant"] = {.min_inputs = 4, .max_inputs = 4, .attributes = codes, .infer = quant};
  t["BipolarQuant"] = {.min_inputs = 2, .max_inputs = 2, .infer = bipolar_quant};
  t["Trunc"] = {.min_inputs = 5, .max_inputs = 6, .attributes = codes, .infer = trunc, .required_inputs = 6};
  t["MultiThreshold"] = {.min_inputs = 2, .max_inputs = 2,
                         .attributes = {{"data_layout", text}, {"out_bias", real}, {"out_scale", real}}, .infer = multi_threshold};
}

}  // namespace bittern::graph
