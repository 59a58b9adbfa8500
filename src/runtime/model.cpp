#include <bittern/model.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <set>

#include <bittern/error.h>

#include "base/checked.h"
#include "base/cpu_features.h"
#include "base/cpu_count.h"
#include "base/fp_mode.h"
#include "format/decode.h"
#include "format/reader.h"
#include "graph/ops.h"
#include "plan/builder.h"
#include "plan/plain.h"
#include "registry.h"
#include "runtime/model_impl.h"
#include "runtime/options.h"

namespace bittern {
namespace {

constexpr std::size_t plans_kept = 16;

// Loading does no more work than these, so that nobody waits for a small file to be refused. Operations on constants, bytes
// of decoded constants; the latter besides a share per byte of the file, far beyond what any encoding of a network reaches.
constexpr double most_folding = 1e8;
constexpr std::uint64_t most_decoded = std::uint64_t{1} << 30, most_decoded_per_byte = 4096;

ValueInfo to_public(const graph::ValueInfo& info) {
  ValueInfo result{info.name, info.dtype, {}, info.any_shape};
  for (const graph::Dim& dim : info.shape) result.shape.push_back({dim.value, dim.symbol});
  return result;
}

// Two plans for the same elements, in whichever memory.
bool same_values(const plan::InputValues& a, const plan::InputValues& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) { return x == y || (x != nullptr && y != nullptr && *x == *y); });
}

void check_options(const LoadOptions& options) {
  if (options.device != "cpu") throw Error(ErrorCode::unsupported, "device", "unknown device " + options.device, "this build runs on cpu");
  for (const std::string& name : options.kernels) {
    const auto& all = engine::kernels();
    if (std::none_of(all.begin(), all.end(), [&](const engine::KernelInfo& k) { return name == k.name; })) {
      throw Error(ErrorCode::input, "kernels", "unknown kernel " + name, "bittern kernels lists them");
    }
    if (std::any_of(all.begin(), all.end(), [&](const engine::KernelInfo& k) { return name == k.name && !engine::isa_usable(k.isa); })) {
      throw Error(ErrorCode::unsupported, "kernels", "this machine cannot run " + name, "bittern kernels lists those that it can");
    }
  }
}

}  // namespace

Model::Impl::Impl(std::string place, const LoadOptions& options)
    : place_(std::move(place)),
      options_(options),
      isa_(runtime::choose_isa(options.isa)),
      budget_(options.memory_limit != 0 ? options.memory_limit : engine::granted_memory()),
      weights_(budget_) {
  check_options(options_);
  isa_name = engine::name_of(isa_);
}

void Model::Impl::open_file(const std::string& path) {
  file_.emplace(path);
  load(file_->bytes());
}

void Model::Impl::open_bytes(std::span<const std::byte> bytes) {
  budget_.take(bytes.size(), place_);
  copy_ = engine::AlignedBuffer(bytes.size());
  if (!bytes.empty()) std::memcpy(copy_.data(), bytes.data(), bytes.size());
  load({copy_.as<const std::byte>(), bytes.size()});
}

void Model::Impl::load(std::span<const std::byte> bytes) {
  const engine::StandardMode mode;
  bytes_ = bytes;
  graph_ = format::read_graph(bytes, place_, options_.checksum == Checksum::eager);
  // The checksum has touched every page; packing will touch them again one layer after the other.
  if (file_) file_->release(bytes.data(), bytes.size());
  graph::validate(graph_, place_);
  for (const auto& info : graph_.inputs) inputs.push_back(to_public(info));
  for (const auto& info : graph_.outputs) outputs.push_back(to_public(info));
  std::uint64_t decoded = 0;
  for (const auto& [name, encoding] : graph_.constants) {
    const std::uint64_t cost = format::decode_cost(*encoding);
    budget_.check(cost, constant_place(name));
    decoded = engine::saturating_add(decoded, cost);
  }
  if (decoded > most_decoded && (decoded - most_decoded) / most_decoded_per_byte > bytes.size()) {
    throw Error(ErrorCode::resource, place_, "a file of " + std::to_string(bytes.size()) + " bytes whose constants take " + std::to_string(decoded) + " bytes",
                "at most 4096 for each byte of the file, and 2^30 besides, are accepted");
  }
  fold_constants();
  shape_deciding_inputs = plan::shape_deciding_inputs(graph_);
  any_decides = std::find(shape_deciding_inputs.begin(), shape_deciding_inputs.end(), true) != shape_deciding_inputs.end();
  for (std::size_t i = 0; i < graph_.inputs.size(); ++i) {
    const DType type = graph_.inputs[i].dtype;
    if (type == DType::f16 || type == DType::bf16 || type == DType::f64) {
      throw Error(ErrorCode::unsupported, place_ + ": input " + graph_.inputs[i].name, std::string("its type is ") + name_of(type),
                  "f32, integers and booleans are computed");
    }
  }
  if (options_.checksum == Checksum::lazy) return;
  if (any_decides) return check_constants();  // no plan without the elements of an input

  // Plan for the likeliest shapes now: mistakes in the file show at load, and the weights are packed.
  bool symbolic = false;
  std::vector<Shape> shapes;
  for (const graph::ValueInfo& info : graph_.inputs) {
    Shape shape;
    for (const graph::Dim& dim : info.shape) {
      symbolic = symbolic || !dim.symbol.empty();
      shape.push_back(dim.symbol.empty() ? dim.value : 1);
    }
    shapes.push_back(std::move(shape));
  }
  try {
    plan_for(shapes, {}, {});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::input) throw;
    // Symbols may stand for sizes that 1 does not fit; the real ones come with the first input.
    if (!symbolic) throw Error(ErrorCode::format, place_ + ": " + error.place(), error.problem(), error.remedy());
  }
  check_constants();
}

// Values that the file decides alone are computed once; the nodes vanish. Before the model is shared: the graph does not
// change any more afterwards.
void Model::Impl::fold_constants() {
  const std::vector<graph::Node> all = graph_.nodes;
  graph::Graph part;
  std::vector<graph::Node> rest;
  std::map<std::string, bool> known;
  for (const auto& [name, encoding] : graph_.constants) known[name] = true;
  for (graph::Node& node : graph_.nodes) {
    const bool constant = std::all_of(node.inputs.begin(), node.inputs.end(), [&](const std::string& i) { return i.empty() || known.count(i) != 0; });
    if (constant && !node.inputs.empty()) {
      for (const std::string& output : node.outputs) known[output] = true;
      part.nodes.push_back(std::move(node));
    } else {
      rest.push_back(std::move(node));
    }
  }
  graph_.nodes = std::move(rest);
  if (part.nodes.empty()) return;

  try {
    // Shapes may hang on values that are computed here, so it goes node by node: each result is a constant for the next.
    std::vector<graph::Node> nodes = std::move(part.nodes);
    std::set<std::string> folded;
    double work = 0;
    for (graph::Node& node : nodes) {
      const bool known_inputs = std::all_of(node.inputs.begin(), node.inputs.end(), [&](const std::string& i) { return i.empty() || has(i); });
      if (!known_inputs) continue;
      const std::string result = node.outputs[0];
      part.constants.clear();
      for (const std::string& input : node.inputs) {
        if (!input.empty()) part.constants[input] = graph_.constants.at(input);
      }
      part.nodes = {std::move(node)};
      if (fold(part, work)) folded.insert(result);
    }
    if (folded.size() == nodes.size()) return;
    // The others run with the network.
    graph_.nodes.clear();
    for (const graph::Node& node : all) {
      if (folded.count(node.outputs[0]) == 0) graph_.nodes.push_back(node);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::input) throw;
    throw Error(ErrorCode::format, place_ + ": " + error.place(), error.problem(), error.remedy());
  }
}

bool Model::Impl::fold(graph::Graph& part, double& work) {
  part.outputs.clear();
  const auto types = plan::infer_types(part, *this, {}, {});
  const graph::Node& node = part.nodes[0];
  std::vector<const graph::ValueType*> arguments;
  std::vector<graph::ValueType> made;
  for (const std::string& input : node.inputs) arguments.push_back(input.empty() ? nullptr : &types.at(input));
  for (const std::string& output : node.outputs) made.push_back(types.at(output));
  work += plan::work_of(node, arguments, made);
  if (work > most_folding) return false;
  for (const std::string& name : part.nodes[0].outputs) {
    part.outputs.push_back({name, types.at(name).dtype, {}, true});
  }
  const plan::Source source{&part, this, &weights_, &budget_, isa_, &options_.kernels, options_.winograd, place_};
  const plan::Plan plan = plan::make_plan(source, {}, {}, {});
  budget_.check(plan.info.arena_bytes, place_);
  const engine::AlignedBuffer arena(plan.info.arena_bytes);
  std::vector<void*> results;
  for (const ValueInfo& info : plan.info.outputs) {
    auto encoding = std::make_shared<graph::Encoding>();
    for (const Dimension& d : info.shape) encoding->shape.push_back(d.value);
    encoding->real = info.dtype == DType::f32;
    encoding->dtype = info.dtype;
    const auto bytes = static_cast<std::uint64_t>(graph::element_count(encoding->shape, info.name)) * size_of(info.dtype);
    plan::SharedBuffer buffer = weights_.get("folded" + plan::key_part(info.name), (bytes + sizeof(float) - 1) / sizeof(float), constant_place(info.name), [](float*) {});
    encoding->leaf = {info.name, info.dtype, encoding->shape, buffer->as<const std::byte>(), bytes};
    results.push_back(buffer->data());
    folded_.push_back(std::move(buffer));
    graph_.constants[info.name] = std::move(encoding);
  }
  const engine::FlushToZero mode;
  engine::Team team(1);
  const plan::RunContext run{arena.as<std::byte>(), plan.buffer_offsets.data(), nullptr, results.data(), &team};
  for (const plan::Step& step : plan.steps) step.run(run);
  return true;
}

// Constants that no plan has decoded yet are looked through too: a damaged file is refused now, not in the middle of work.
void Model::Impl::check_constants() {
  std::map<std::string, bool> decoded;
  if (!plans_.empty()) {
    for (const graph::Node& node : graph_.nodes) {
      for (std::size_t i = 0; i < node.inputs.size(); ++i) decoded[node.inputs[i]] = true;
    }
  }
  for (const auto& [name, encoding] : graph_.constants) {
    if (decoded.count(name) == 0) format::check(*encoding, constant_place(name));
  }
}

std::vector<float> Model::Impl::floats(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  if (!encoding.real) {
    throw Error(ErrorCode::unsupported, constant_place(name), std::string("its type is ") + name_of(encoding.dtype), "only f32 is computed");
  }
  return format::decode_real(encoding, constant_place(name));
}

const float* Model::Impl::stored(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  const bool plain = encoding.kind == graph::EncodingKind::dense && encoding.dtype == DType::f32 && !encoding.ohwi;
  if (!plain || reinterpret_cast<std::uintptr_t>(encoding.leaf.data) % alignof(float) != 0) return nullptr;
  return reinterpret_cast<const float*>(encoding.leaf.data);
}

// What decoding allocates besides what the budget counts must not escape as std::bad_alloc either.
template <class Body>
auto Model::Impl::within_memory(const std::string& name, const Body& body) const {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::resource, constant_place(name), "not enough memory to decode it", "free memory, or use a smaller network");
  }
}

std::optional<format::IntegerForm> Model::Impl::integer_form(const std::string& name) const {
  return within_memory(name, [&] { return format::integer_form(*graph_.constants.at(name), constant_place(name)); });
}

std::vector<format::IntegerForm> Model::Impl::integer_parts(const std::string& name) const {
  return within_memory(name, [&] { return format::integer_parts(*graph_.constants.at(name), constant_place(name)); });
}

std::vector<std::int16_t> Model::Impl::part_values(const std::string& name, std::size_t part) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return within_memory(name, [&] { return format::part_values(encoding, part, constant_place(name)); });
}

std::optional<format::LookUpForm> Model::Impl::look_up_form(const std::string& name) const {
  return within_memory(name, [&] { return format::look_up_form(*graph_.constants.at(name), constant_place(name)); });
}

std::vector<std::uint8_t> Model::Impl::look_up_codes(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return within_memory(name, [&] { return format::look_up_codes(encoding, constant_place(name)); });
}

std::optional<format::RowForm> Model::Impl::row_form(const std::string& name) const {
  return within_memory(name, [&] { return format::row_form(*graph_.constants.at(name), constant_place(name)); });
}

std::vector<std::uint8_t> Model::Impl::row_codes(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return within_memory(name, [&] { return format::row_codes(encoding, constant_place(name)); });
}

std::vector<std::int16_t> Model::Impl::integer_values(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return within_memory(name, [&] { return format::integer_values(encoding, constant_place(name)); });
}

std::vector<std::int64_t> Model::Impl::wide_integer_values(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return within_memory(name, [&] { return format::wide_integer_values(encoding, constant_place(name)); });
}

void Model::Impl::release(const std::string& name) const {
  if (file_) file_->release(graph_.constants.at(name)->leaf.data, graph_.constants.at(name)->leaf.bytes);
}

void Model::Impl::release(const float* first, std::int64_t count) const {
  if (file_) file_->release(reinterpret_cast<const std::byte*>(first), static_cast<std::size_t>(count) * sizeof(float));
}

std::vector<std::int64_t> Model::Impl::integers(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  if (encoding.real) throw Error(ErrorCode::format, constant_place(name), "holds f32 where integers are needed");
  budget_.check(format::decode_cost(encoding), constant_place(name));
  return format::decode_integers(encoding, constant_place(name));
}

std::shared_ptr<const std::vector<std::byte>> Model::Impl::bytes(const std::string& name) const {
  const graph::Encoding& encoding = *graph_.constants.at(name);
  auto result = std::make_shared<std::vector<std::byte>>();
  if (encoding.real) {
    const auto values = floats(name);
    result->resize(values.size() * sizeof(float));
    if (!values.empty()) std::memcpy(result->data(), values.data(), result->size());
    return result;
  }
  const std::size_t size = size_of(encoding.dtype);
  const auto values = integers(name);
  result->resize(values.size() * size);
  for (std::size_t i = 0; i < values.size(); ++i) std::memcpy(result->data() + i * size, &values[i], size);  // hosts are little endian
  return result;
}

std::shared_ptr<const plan::Plan> Model::Impl::plan_for(const std::vector<Shape>& shapes, const plan::InputValues& values,
                                                        const std::vector<std::string>& taps) {
  const engine::StandardMode mode;
  for (std::size_t i = 0; i < shape_deciding_inputs.size(); ++i) {
    if (shape_deciding_inputs[i] && (i >= values.size() || values[i] == nullptr)) {
      throw Error(ErrorCode::input, "input " + inputs[i].name, "its elements decide shapes", "prepare the network with the inputs, not with their shapes alone");
    }
  }
  const std::lock_guard lock(mutex_);
  if (options_.checksum == Checksum::lazy) {
    std::call_once(checksum_verified_, [&] { format::verify_checksum(bytes_, place_); });
  }
  const auto found = std::find_if(plans_.begin(), plans_.end(), [&](const CachedPlan& p) { return p.inputs == shapes && p.taps == taps && same_values(p.values, values); });
  if (found != plans_.end()) {
    plans_.splice(plans_.begin(), plans_, found);
    return plans_.front().plan;
  }
  const plan::Source source{&graph_, this, &weights_, &budget_, isa_, &options_.kernels, options_.winograd, place_};
  auto plan = std::make_shared<const plan::Plan>(plan::make_plan(source, shapes, values, taps));
  plans_.push_front({shapes, values, taps, plan});
  if (plans_.size() > plans_kept) plans_.pop_back();
  return plan;
}

Model Model::load(const std::string& path, const LoadOptions& options) {
  auto impl = std::make_shared<Impl>(path, options);
  impl->open_file(path);
  return Model(std::move(impl));
}

Model Model::from_bytes(std::span<const std::byte> bytes, const std::string& place, const LoadOptions& options) {
  auto impl = std::make_shared<Impl>(place, options);
  impl->open_bytes(bytes);
  return Model(std::move(impl));
}

const std::vector<ValueInfo>& Model::inputs() const noexcept { return impl_->inputs; }
const std::vector<bool>& Model::shape_deciding_inputs() const noexcept { return impl_->shape_deciding_inputs; }
const std::vector<ValueInfo>& Model::outputs() const noexcept { return impl_->outputs; }
const std::map<std::string, std::string>& Model::metadata() const noexcept { return impl_->graph().metadata; }
const std::string& Model::name() const noexcept { return impl_->graph().name; }
const std::string& Model::isa() const noexcept { return impl_->isa_name; }
std::uint64_t Model::weight_bytes() const noexcept { return impl_->budget().used(); }

std::vector<std::string> Model::values() const {
  std::vector<std::string> names;
  for (const graph::Node& node : impl_->graph().nodes) names.insert(names.end(), node.outputs.begin(), node.outputs.end());
  return names;
}

std::vector<std::string> Model::constants() const {
  std::vector<std::string> names;
  for (const auto& [name, encoding] : impl_->graph().constants) names.push_back(name);
  return names;
}

ValueInfo Model::constant_info(const std::string& name) const {
  const auto& constants = impl_->graph().constants;
  const auto found = constants.find(name);
  if (found == constants.end()) throw Error(ErrorCode::input, "constant " + name, "the network has no such constant");
  ValueInfo info{name, found->second->real ? DType::f32 : found->second->dtype, {}};
  for (const std::int64_t d : found->second->shape) info.shape.push_back({d, {}});
  return info;
}

void Model::read_constant(const std::string& name, const View& out) const {
  const ValueInfo info = constant_info(name);
  Shape shape;
  for (const Dimension& d : info.shape) shape.push_back(d.value);
  if (out.shape != shape || out.dtype != info.dtype || !out.strides.empty()) {
    throw Error(ErrorCode::input, "constant " + name, "the array does not fit", std::string("it must be ") + name_of(info.dtype) + " " + graph::to_string(shape) + " in C order");
  }
  const engine::StandardMode mode;
  if (info.dtype == DType::f32) {
    const auto values = impl_->floats(name);
    if (!values.empty()) std::memcpy(out.data, values.data(), values.size() * sizeof(float));
    return;
  }
  const std::size_t size = size_of(info.dtype);
  auto* target = static_cast<std::byte*>(out.data);
  for (const std::int64_t value : impl_->integers(name)) {
    std::memcpy(target, &value, size);  // the low bytes: hosts are little endian
    target += size;
  }
}

}  // namespace bittern
