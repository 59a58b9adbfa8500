#include "exercise.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace fuzz {
namespace {

using bittern::Error;
using bittern::ErrorCode;

constexpr std::uint64_t most_room = std::uint64_t{8} << 20;  // for one array of the caller's
constexpr double most_work = 2e6;                            // multiplications; instrumented ones are slow

const std::vector<std::string>& levels() {
  static const std::vector<std::string> usable = bittern::cpu().isa_usable;
  return usable;
}

// Room for a value of known sizes; false if that is more than we want to hold.
bool room(const bittern::ValueInfo& value, bittern::Shape& shape, std::vector<std::byte>& bytes) {
  std::uint64_t count = size_of(value.dtype);
  bool empty = false;
  for (const bittern::Dimension& dimension : value.shape) {
    shape.push_back(dimension.value);
    empty = empty || dimension.value == 0;
    const auto size = static_cast<std::uint64_t>(dimension.value == 0 ? 1 : dimension.value);
    if (__builtin_mul_overflow(count, size, &count) || count > most_room) return false;
  }
  bytes.resize(empty ? 0 : count);
  return true;
}

void fill(std::vector<std::byte>& bytes, const bittern::ValueInfo& value, Rng& rng) {
  const std::size_t way = rng.below(4);
  if (value.dtype == bittern::DType::boolean) {
    for (std::byte& byte : bytes) byte = std::byte(rng.below(2));
  } else if (value.dtype == bittern::DType::f32 && way != 0) {
    static constexpr float odd[] = {0.0f, -0.0f, 1e-40f, 3.4e38f, -3.4e38f, __builtin_inff(), -__builtin_inff(), __builtin_nanf(""), 0.5f};
    for (std::size_t i = 0; i + sizeof(float) <= bytes.size(); i += sizeof(float)) {
      const float x = way == 1 ? rng.pick(odd) : static_cast<float>(static_cast<std::int64_t>(rng.below(2001)) - 1000) / 256.0f;
      std::memcpy(bytes.data() + i, &x, sizeof x);
    }
  } else {
    for (std::byte& byte : bytes) byte = std::byte(way == 2 ? rng.below(4) : rng.below(256));
  }
}

bool read_constants(const bittern::Model& model) {
  std::size_t left = 64;  // names; a file may hold thousands
  for (const std::string& name : model.constants()) {
    if (left-- == 0) break;
    const bittern::ValueInfo info = model.constant_info(name);
    bittern::View view;
    std::vector<std::byte> bytes;
    if (!room(info, view.shape, bytes)) return false;
    view.data = bytes.data();
    view.dtype = info.dtype;
    model.read_constant(name, view);
  }
  return true;
}

// False if it would be too much work.
bool run(const bittern::Model& model, Rng& rng, void (*entered)(Phase)) {
  bittern::Session session(model, {.threads = 1});
  std::vector<std::vector<std::byte>> memory;
  std::vector<bittern::Shape> shapes;
  std::vector<bittern::ConstView> inputs;
  const auto symbol_size = static_cast<std::int64_t>(rng.chance(60) ? 1 : rng.chance(80) ? rng.below(5) : rng.below(40));
  for (bittern::ValueInfo info : model.inputs()) {
    for (bittern::Dimension& dimension : info.shape) {
      if (dimension.value < 0) dimension.value = symbol_size;
    }
    if (!room(info, shapes.emplace_back(), memory.emplace_back())) return false;
    fill(memory.back(), info, rng);
    inputs.push_back({memory.back().data(), info.dtype, shapes.back(), {}});
  }
  std::vector<std::string> taps;
  if (const std::vector<std::string> values = model.values(); !values.empty() && rng.chance(15)) {
    for (std::size_t n = rng.below(3) + 1; n > 0; --n) taps.push_back(rng.pick(values));
  }
  const bittern::PlanInfo& plan = session.prepare(shapes, taps);
  double work = 0;
  for (const bittern::LayerInfo& layer : plan.layers) work += layer.macs;
  if (work > most_work) return false;
  const std::vector<bittern::ValueInfo> results = plan.outputs;
  std::vector<bittern::View> outputs;
  for (const bittern::ValueInfo& info : results) {
    bittern::Shape shape;
    if (!room(info, shape, memory.emplace_back())) return false;
    outputs.push_back({memory.back().data(), info.dtype, shape, {}});
  }
  entered(Phase::run);
  session.run(inputs, outputs, taps);
  return true;
}

}  // namespace

Exercise exercise(std::span<const std::byte> file, bool sealed, Rng& rng, void (*entered)(Phase)) {
  bittern::LoadOptions options;
  options.memory_limit = memory_limit;
  options.isa = levels()[rng.below(levels().size())];
  options.winograd = rng.chance(80);
  const std::size_t way = rng.below(10);
  options.checksum = way == 0 ? bittern::Checksum::lazy : way == 1 || (!sealed && way < 8) ? bittern::Checksum::skip : bittern::Checksum::eager;
  Exercise result;
  bool loaded = false;
  try {
    entered(Phase::load);
    const bittern::Model model = bittern::Model::from_bytes(file, "<bytes>", options);
    loaded = true;
    entered(Phase::use);
    const bool small = read_constants(model);
    result.end = run(model, rng, entered) && small ? Exercise::End::run : Exercise::End::too_much_work;
  } catch (const Error& error) {
    result.end = loaded ? Exercise::End::run_refused : Exercise::End::refused;
    result.code = error.code();
    result.message = error.what();
  }
  entered(Phase::idle);
  return result;
}

}  // namespace fuzz
