#include "plan/plan.h"

#include <algorithm>

#include <bittern/error.h>

#include "plan/bits.h"
#include "plan/builder.h"
#include "plan/plain.h"
#include "plan/quantised.h"
#include "plan/sparse_layers.h"

namespace bittern::plan {
namespace {

// Halos and concatenations in place depend on consumers, which lowering meets later: told to the builder beforehand.
void look_ahead(Builder& builder, const std::vector<Item>& items, const std::set<std::string>& kept, const Types& types) {
  choose_sparse_layers(builder, items);
  const auto sparse = [&](const Item& item) {
    const SparseLayer* layer = builder.sparse(item.output);
    return layer != nullptr && layer->chosen;
  };
  std::set<std::string> blocked;
  for (const Item& item : items) {
    if (item.bits != nullptr && item.bits->to != nullptr) continue;
    if (!item.plain && !sparse(item) && (item.op == "Conv" || item.op == "MaxPool" || item.op == "AveragePool")) blocked.insert(item.output);
  }
  const auto makes_blocked = [&](const std::string& value) { return blocked.count(value) != 0; };
  std::map<std::string, int> concatenated;
  for (const Item& item : items) {
    if (item.op != "Concat") continue;
    for (const std::string& input : item.inputs) ++concatenated[input];
  }
  for (const Item& item : items) {
    if (item.op != "Concat" || item.plain || builder.shape(item.output).size() != 4) continue;
    const std::int64_t axis = graph::int_attribute(*item.node, "axis", 0);
    if (axis != 1 && axis != -3) continue;
    // All or nothing: a concatenation that is planar in part would be converted as a whole.
    std::int64_t channel = 0;
    // Codes of another quantiser have to be mapped on the way, codes beyond the result's saturated.
    if (item.codes && std::any_of(item.codes->inputs.begin(), item.codes->inputs.end(), [&](const engine::Quantiser& q) {
          const engine::Quantiser& to = *item.codes->output;
          return q.scale != to.scale || q.zero != to.zero || q.lo < to.lo || q.hi > to.hi;
        })) {
      continue;
    }
    const bool all = std::all_of(item.inputs.begin(), item.inputs.end(), [&](const std::string& input) {
      const bool fits = channel % 16 == 0 && makes_blocked(input) && concatenated[input] == 1 && kept.count(input) == 0;
      channel += builder.shape(input)[1];
      return fits;
    });
    // A part that is itself such a concatenation is excluded: makes_blocked() is false for it.
    if (!all || concatenated[item.output] != 0) continue;
    channel = 0;
    for (const std::string& input : item.inputs) {
      builder.concatenate_in_place(input, item.output, channel);
      channel += builder.shape(input)[1];
    }
  }
  for (const Item& item : items) {
    if (item.codes) {
      for (const std::string& input : item.inputs) builder.expect_codes(input);
      for (const std::string& value : item.codes->rows) builder.expect_rows(value);
      if (!item.residual.empty()) builder.expect_codes(item.residual);
    }
    if (item.bits != nullptr) {
      if (item.bits->role == BitRole::layer) builder.ask_bit_halo(item.bits->input, bit_shape(item, *item.bits, types));
      continue;
    }
    if ((item.op != "Conv" && item.op != "ConvInteger") || item.plain || sparse(item)) continue;
    const Shape w = builder.map_shape(item.inputs[1]);
    builder.ask_halo(item.inputs[0], graph::window(*item.node, builder.shape(item.inputs[0]), w[2], w[3]));
  }
}

// What the file says of its outputs must be what its nodes give.
void check_declared(const graph::Graph& graph, const Types& types, const std::string& place) {
  for (const graph::ValueInfo& output : graph.outputs) {
    const Shape& shape = types.at(output.name).shape;
    if (const DType type = types.at(output.name).dtype; type != output.dtype) {
      throw Error(ErrorCode::format, place + ": output " + output.name, std::string("is declared as ") + name_of(output.dtype) + ", its nodes give " + name_of(type),
                  "the file was not written correctly");
    }
    if (output.any_shape) continue;
    bool fits = output.shape.size() == shape.size();
    for (std::size_t d = 0; fits && d < shape.size(); ++d) fits = !output.shape[d].symbol.empty() || output.shape[d].value == shape[d];
    if (!fits) {
      std::string declared = "[";
      for (const graph::Dim& dim : output.shape) declared += (declared.size() == 1 ? "" : ", ") + (dim.symbol.empty() ? std::to_string(dim.value) : dim.symbol);
      throw Error(ErrorCode::format, place + ": output " + output.name, "is declared as " + declared + "], its nodes give " + graph::to_string(shape),
                  "the file was not written correctly");
    }
  }
}

}  // namespace

Types infer_types(const graph::Graph& graph, const Constants& constants, const std::vector<Shape>& inputs, const InputValues& values) {
  Types types;
  std::map<std::string, std::int64_t> symbols;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const graph::ValueInfo& info = graph.inputs[i];
    const std::string place = "input " + info.name;
    if (inputs[i].size() != info.shape.size()) {
      throw Error(ErrorCode::input, place, "shape " + graph::to_string(inputs[i]) + " has rank " + std::to_string(inputs[i].size()),
                  "rank " + std::to_string(info.shape.size()) + " is needed");
    }
    for (std::size_t d = 0; d < info.shape.size(); ++d) {
      const graph::Dim& dim = info.shape[d];
      std::int64_t wanted = dim.value;
      if (!dim.symbol.empty()) wanted = symbols.emplace(dim.symbol, inputs[i][d]).first->second;
      if (inputs[i][d] != wanted) {
        throw Error(ErrorCode::input, place, "shape " + graph::to_string(inputs[i]) + ": size " + std::to_string(d) + " is " + std::to_string(inputs[i][d]),
                    "it must be " + std::to_string(wanted) + (dim.symbol.empty() ? "" : ", as " + dim.symbol + " elsewhere"));
      }
    }
    graph::element_count(inputs[i], place);
    types[info.name] = {info.dtype, inputs[i], i < values.size() ? values[i] : nullptr};
  }
  for (const auto& [name, encoding] : graph.constants) {
    graph::ValueType type{encoding->real ? DType::f32 : encoding->dtype, encoding->shape, {}};
    types[name] = std::move(type);
  }
  // Decodes a constant if it is small; true if the value is known then. "" is an omitted input.
  const auto learn = [&](const std::string& name) {
    if (name.empty()) return true;
    graph::ValueType& type = types.at(name);
    if (type.known == nullptr && constants.has(name) && bytes_of(type) <= most_known_bytes) type.known = constants.bytes(name);
    return type.known != nullptr;
  };
  // Operations on known values: shapes take thousands, and nobody waits for a small file to be refused.
  constexpr double most_work = 1e7;
  double work = 0;
  for (const graph::Node& node : graph.nodes) {
    std::vector<const graph::ValueType*> arguments;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i].empty()) {
        arguments.push_back(nullptr);
        continue;
      }
      arguments.push_back(&types.at(node.inputs[i]));
      if (graph::shape_input(node.op, i)) learn(node.inputs[i]);
    }
    auto results = graph::infer(node, arguments);
    // What follows from shapes is computed now; what follows from constants alone was when the model was loaded.
    const auto is_known = [](const graph::ValueType& type) { return type.known != nullptr; };
    bool all_known = !arguments.empty() && !std::all_of(results.begin(), results.end(), is_known), any_computed = false;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      if (arguments[i] == nullptr) continue;
      const bool computed = arguments[i]->known != nullptr && !constants.has(node.inputs[i]);
      any_computed = any_computed || computed;
      all_known = all_known && (computed || constants.has(node.inputs[i]));
    }
    if (all_known && any_computed && std::all_of(node.inputs.begin(), node.inputs.end(), learn)) {
      work += work_of(node, arguments, results);
      if (work <= most_work) evaluate(node, arguments, results);  // else it runs with the network
    }
    for (std::size_t o = 0; o < results.size(); ++o) types[node.outputs[o]] = std::move(results[o]);
  }
  return types;
}

std::vector<bool> shape_deciding_inputs(const graph::Graph& graph) {
  std::set<std::string> needed;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool wanted = std::any_of(node->outputs.begin(), node->outputs.end(), [&](const std::string& o) { return needed.count(o) != 0; });
    for (std::size_t i = 0; i < node->inputs.size(); ++i) {
      // Shape and Size look at no element.
      if ((wanted && node->op != "Shape" && node->op != "Size") || graph::shape_input(node->op, i)) needed.insert(node->inputs[i]);
    }
  }
  std::vector<bool> decides;
  for (const graph::ValueInfo& input : graph.inputs) decides.push_back(needed.count(input.name) != 0);
  return decides;
}

Plan make_plan(const Source& source, const std::vector<Shape>& inputs, const InputValues& values, const std::vector<std::string>& taps) {
  const graph::Graph& graph = *source.graph;
  const Types types = infer_types(graph, *source.constants, inputs, values);
  std::vector<std::string> outputs;
  for (const graph::ValueInfo& output : graph.outputs) outputs.push_back(output.name);
  for (const std::string& tap : taps) {
    if (types.count(tap) == 0) throw Error(ErrorCode::input, "tap " + tap, "the network has no such value", "name an output of one of its nodes");
    outputs.push_back(tap);
  }
  const std::set<std::string> kept(outputs.begin(), outputs.end());
  check_declared(graph, types, source.place);
  std::vector<Item> fused = fuse(graph, types, kept, *source.constants);
  std::vector<Item> on_bits = use_bits(std::move(fused), types, kept, *source.constants, source.isa, *source.preferred);
  const std::vector<Item> items = use_codes(std::move(on_bits), types, kept, *source.constants);
  Builder builder(source, types, outputs);
  look_ahead(builder, items, kept, types);
  for (const Item& item : items) {
    if (item.bits != nullptr) {
      lower_bits(builder, item);
    } else if (item.codes) {
      lower_codes(builder, item);
    } else if (item.conversion && lower_code_conversion(builder, item)) {
    } else if (item.plain) {
      lower_plain(builder, item);
    } else if (item.op == "Conv") {
      lower_conv(builder, item);
    } else if (item.op == "WinogradConv") {
      lower_winograd(builder, item);
    } else if (item.op == "Gemm" || item.op == "MatMul") {
      lower_gemm(builder, item);
    } else {
      lower_op(builder, item);
    }
    // Lowering of layers says it itself, where it has more to say.
    if (item.stays_real != nullptr && (item.plain || (item.op != "Conv" && item.op != "Gemm" && item.op != "MatMul"))) {
      std::string& reason = builder.current().reason;
      const bool integer = item.op == "ConvInteger" || item.op == "MatMulInteger";
      reason += (reason.empty() ? "" : "; ") + std::string(integer ? "no integer kernel, because " : "in float32, because ") + item.stays_real;
    }
    if (item.on_codes) builder.current().reason += "; it moves the codes as they are";
  }
  Plan plan = builder.finish(outputs);
  for (const std::string& output : outputs) {
    ValueInfo info{output, types.at(output).dtype, {}};
    for (const std::int64_t d : types.at(output).shape) info.shape.push_back({d, {}});
    plan.info.outputs.push_back(std::move(info));
  }
  return plan;
}

}  // namespace bittern::plan
