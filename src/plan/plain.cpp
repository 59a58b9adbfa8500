#include "plan/plain.h"

#include <algorithm>
#include <iterator>

#include <bittern/error.h>

#include "base/aligned_buffer.h"
#include "plan/builder.h"
#include "plan/layer_parts.h"
#include "plan/sparse_layers.h"
#include "registry.h"

namespace bittern::plan {

Prepare plain_operator(const std::string& op) {
  static const PlainOperators operators = [] {
    PlainOperators all;
    add_plain_elementwise(all);
    add_plain_move(all);
    add_plain_nn(all);
    add_plain_quantize(all);
    add_plain_sequence(all);
    return all;
  }();
  const auto found = operators.find(op);
  return found == operators.end() ? nullptr : found->second;
}

double work_of(const graph::Node& node, const std::vector<const graph::ValueType*>& inputs, const std::vector<graph::ValueType>& outputs) {
  const auto count = [&](const graph::ValueType& type) { return static_cast<double>(graph::element_count(type.shape, node.name)); };
  double results = 0, most = 0, each = 1;
  for (const graph::ValueType& output : outputs) results += count(output);
  for (const graph::ValueType* input : inputs) {
    if (input != nullptr) most = std::max(most, count(*input));
  }
  // Operators that pass over their second input for each result.
  const char* const weighted[] = {"Conv", "ConvTranspose", "ConvInteger", "WinogradConv", "Gemm", "MatMul", "MatMulInteger", "MultiThreshold", "LSTM", "GRU", "RNN"};
  const bool has_weights = std::find(std::begin(weighted), std::end(weighted), node.op) != std::end(weighted);
  if (has_weights && inputs.size() > 1 && inputs[1] != nullptr) each = count(*inputs[1]);
  for (const std::int64_t size : graph::ints_attribute(node, "kernel_shape", {})) each *= static_cast<double>(std::max<std::int64_t>(1, size));
  if (node.op == "LRN") each = static_cast<double>(graph::int_attribute(node, "size", 1));
  return most + results * std::min(each, std::max(1.0, most));
}

std::int64_t bytes_of(const graph::ValueType& type) {
  return graph::element_count(type.shape, "a value") * static_cast<std::int64_t>(size_of(type.dtype));
}

void evaluate(const graph::Node& node, const std::vector<const graph::ValueType*>& inputs, std::vector<graph::ValueType>& outputs) {
  const Prepare prepare = plain_operator(node.op);
  if (prepare == nullptr) return;
  std::int64_t bytes = 0;
  for (const graph::ValueType& type : outputs) bytes += bytes_of(type);
  if (bytes > most_known_bytes) return;
  const PlainKernel kernel = prepare({node, inputs, outputs});
  if (kernel.scratch_bytes > static_cast<std::uint64_t>(most_known_bytes)) return;

  std::vector<engine::AlignedBuffer> arrays;  // aligned for any type, unlike a vector of bytes
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const graph::ValueType* input : inputs) {
    if (input == nullptr) {
      in.push_back(nullptr);
      continue;
    }
    arrays.emplace_back(std::max<std::size_t>(1, input->known->size()));
    std::copy(input->known->begin(), input->known->end(), arrays.back().as<std::byte>());
    in.push_back(arrays.back().data());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    arrays.emplace_back(std::max<std::size_t>(1, static_cast<std::size_t>(bytes_of(outputs[i]))));
    out.push_back(node.outputs[i].empty() ? nullptr : arrays.back().data());
  }
  const engine::AlignedBuffer scratch(std::max<std::uint64_t>(1, kernel.scratch_bytes));
  engine::Team team(1);
  kernel.run({in.data(), out.data(), scratch.as<std::byte>(), &team});
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (out[i] == nullptr) continue;
    const auto* data = static_cast<const std::byte*>(out[i]);
    outputs[i].known = std::make_shared<const std::vector<std::byte>>(data, data + bytes_of(outputs[i]));
  }
}

void lower_plain(Builder& builder, const Item& item) {
  const Prepare prepare = plain_operator(item.op);
  if (prepare == nullptr) {
    throw Error(ErrorCode::unsupported, "node " + item.name + " (" + item.op + ")", "no kernel runs it with these inputs",
                "weights computed at run time and types other than f32 are supported by few operators");
  }
  graph::Node node = *item.node;
  node.inputs = item.inputs;
  node.outputs = item.outputs();
  std::vector<const graph::ValueType*> inputs;
  for (const std::string& name : node.inputs) inputs.push_back(name.empty() ? nullptr : &builder.type(name));
  std::vector<graph::ValueType> outputs;
  for (const std::string& name : node.outputs) outputs.push_back(name.empty() ? graph::ValueType{} : builder.type(name));
  const Constants& constants = *builder.source().constants;
  std::vector<bool> packed(node.inputs.size());
  std::uint64_t packed_bytes = 0, encoded_bytes = 0;
  std::string encoding;  // of the packed inputs: the weights
  bool decoded = false;
  const auto constant_real = [&](std::size_t i) { return constants.has(node.inputs[i]) && inputs[i]->dtype == DType::f32; };
  // Notes that the input is packed, and says under which key.
  const auto take = [&](std::size_t i, const std::string& form, std::int64_t floats) {
    packed[i] = true;
    const graph::Encoding& stored_as = *builder.source().graph->constants.at(node.inputs[i]);
    const std::string named = graph::describe(stored_as);
    encoding = encoding.empty() || encoding == named ? named : encoding + ", " + named;
    encoded_bytes += graph::encoded_bytes(stored_as);
    packed_bytes += static_cast<std::uint64_t>(floats) * sizeof(float);
    return form + key_part(item.op) + key_part(item.name) + key_part(node.inputs[i]);
  };
  const std::string what = builder.source().place + ": node " + item.name + " (" + item.op + ")";
  using Fill = std::function<void(const float*, float*)>;
  using FillCodes = std::function<void(const std::uint8_t*, float*)>;
  const Pack pack = [&](std::size_t i, const std::string& form, std::int64_t floats, const Fill& fill) -> const float* {
    if (!constant_real(i)) return nullptr;
    const std::string& name = node.inputs[i];
    decoded = decoded || builder.source().graph->constants.at(name)->kind != graph::EncodingKind::dense;
    return builder.weights(take(i, form, floats), floats, what, [&](float* target) {
      if (const float* stored = constants.stored(name); stored != nullptr) {
        fill(stored, target);
      } else {
        fill(constants.floats(name).data(), target);
      }
      constants.release(name);
    });
  };
  const FormOf form_of = [&](std::size_t i) -> std::optional<format::RowForm> {
    if (!constant_real(i) || asks_for_tiles(builder)) return std::nullopt;
    return constants.row_form(node.inputs[i]);
  };
  const PackCodes pack_codes = [&](std::size_t i, const std::string& form, std::int64_t floats, const FillCodes& fill) {
    const std::string& name = node.inputs[i];
    return builder.weights(take(i, form, floats), floats, what, [&](float* target) {
      fill(constants.row_codes(name).data(), target);
      constants.release(name);
    });
  };
  const WholeOf whole_of = [&](std::size_t i) -> std::optional<format::IntegerForm> {
    if (!constant_real(i) || asks_for_tiles(builder)) return std::nullopt;
    return constants.integer_form(node.inputs[i]);
  };
  const PackWhole pack_whole = [&](std::size_t i, const std::string& form, std::int64_t floats, const auto& fill) {
    const std::string& name = node.inputs[i];
    return builder.weights(take(i, form, floats), floats, what, [&](float* target) {
      fill(constants.integer_values(name).data(), target);
      constants.release(name);
    });
  };
  const auto* asked = asked_kernel<engine::SpmvKernel>(builder, engine::spmv_kernels);
  Charge rows_charge(*builder.source().budget);  // while the layer is made
  const SparseOf sparse_of = [&](std::size_t i) -> std::optional<engine::SparseRows> {
    if (!constant_real(i) || asks_for_tiles(builder)) return std::nullopt;
    const std::string& name = node.inputs[i];
    if (asked == nullptr && !may_hold_zeros(*builder.source().graph->constants.at(name))) return std::nullopt;
    const std::vector<float> values = constants.floats(name);
    rows_charge.take(static_cast<std::uint64_t>(engine::count_nonzero(values)) * bytes_of_entry, what);
    const std::int64_t columns = inputs[i]->shape.back();
    return engine::sparse_rows(values.data(), columns == 0 ? 0 : static_cast<std::int64_t>(values.size()) / columns, columns);
  };
  const PackSparse pack_sparse = [&](std::size_t i, const std::string& form, std::int64_t floats, const std::function<void(float*)>& fill) {
    const std::string& name = node.inputs[i];
    return builder.weights(take(i, form, floats), floats, what, [&](float* target) {
      fill(target);
      constants.release(name);
    });
  };
  const PlainKernel kernel =
      prepare({node, inputs, outputs, builder.source().isa, pack, form_of, pack_codes, whole_of, pack_whole, sparse_of, pack_sparse, asked, &builder.charge()});
  std::vector<Place> in, out, uses;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (packed[i]) inputs[i] = nullptr;
    in.push_back(inputs[i] == nullptr ? Place{} : builder.planar(node.inputs[i]).place);
    if (inputs[i] != nullptr) uses.push_back(in.back());
  }
  builder.layer(item);
  for (const std::string& name : node.outputs) {
    out.push_back(name.empty() ? Place{} : builder.make_planar(name).place);
    if (!name.empty()) uses.push_back(out.back());
  }
  // The tables of addresses stand in front of the kernel's own scratch memory: runs allocate nothing, and plans are shared.
  constexpr std::size_t line = engine::buffer_alignment;
  const std::size_t tables = ((in.size() + out.size()) * sizeof(void*) + line - 1) / line * line;
  const Place scratch = builder.scratch(static_cast<std::int64_t>((tables + kernel.scratch_bytes + sizeof(float) - 1) / sizeof(float)));
  uses.push_back(scratch);
  LayerInfo& info = builder.current();
  info.kernel = "plain";
  info.isa = "scalar";
  info.layout = "planar -> planar";
  info.reason = "portable code on plain arrays";
  info.macs = kernel.macs;
  info.packed_bytes = packed_bytes;
  info.encoding = encoding;
  info.encoded_bytes = encoded_bytes;
  if (kernel.product != nullptr || kernel.kernel != nullptr) {
    info.kernel = kernel.kernel != nullptr ? kernel.kernel : kernel.product->name;
    info.isa = engine::name_of(kernel.kernel != nullptr ? kernel.isa : kernel.product->isa);
    info.reason = kernel.reason.empty() ? "products by this tile, all else plain" : kernel.reason;
    const std::string why = kernel.why_decoded.empty() ? "no kernel runs this encoding yet" : kernel.why_decoded;
    if (decoded) info.reason += "; weights decoded to dense f32 at load: " + (asks_for_tiles(builder) ? "tiles were asked for" : why);
  }

  std::vector<bool> has_input, has_output;
  for (const graph::ValueType* input : inputs) has_input.push_back(input != nullptr);
  for (const std::string& name : node.outputs) has_output.push_back(!name.empty());
  builder.emit([=, run_kernel = kernel.run](const RunContext& run) {
    auto* memory = run.write<std::byte>(scratch);
    auto** sources = reinterpret_cast<const void**>(memory);
    auto** targets = reinterpret_cast<void**>(memory) + in.size();
    for (std::size_t i = 0; i < in.size(); ++i) sources[i] = has_input[i] ? run.read(in[i]) : nullptr;
    for (std::size_t i = 0; i < out.size(); ++i) targets[i] = has_output[i] ? run.write(out[i]) : nullptr;
    run_kernel({sources, targets, memory + tables, run.team});
  }, uses);
}

}  // namespace bittern::plan
