// Loads each given file as far as it goes: graph, every constant, a plan, a run on zeros. For damaged files under sanitizers.
//
//   load_file FILE...
//
// Prints `ok` or the error for each. Exit code 0 if every file was accepted or politely refused, 1 otherwise.
#include <bittern/bittern.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <vector>

namespace {

using bittern::Error;
using bittern::ErrorCode;

constexpr std::uint64_t memory_limit = std::uint64_t{256} << 20;

// Room for a value, refused where the library's own limit would refuse it.
std::vector<std::byte> room(const bittern::ValueInfo& value, bittern::Shape& shape) {
  std::uint64_t bytes = size_of(value.dtype);
  for (const bittern::Dimension& dimension : value.shape) {
    shape.push_back(dimension.value < 0 ? 1 : dimension.value);
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(shape.back()), &bytes) || bytes > memory_limit) {
      throw Error(ErrorCode::resource, value.name, "is larger than this program wants to hold");
    }
  }
  return std::vector<std::byte>(bytes);
}

void exercise(const char* path) {
  bittern::LoadOptions options;
  options.memory_limit = memory_limit;
  const bittern::Model model = bittern::Model::load(path, options);
  for (const std::string& name : model.constants()) {
    const bittern::ValueInfo info = model.constant_info(name);
    bittern::View view;
    std::vector<std::byte> bytes = room(info, view.shape);
    view.data = bytes.data();
    view.dtype = info.dtype;
    model.read_constant(name, view);
  }

  bittern::Session session(model, {.threads = 2});
  std::vector<std::vector<std::byte>> memory;
  std::vector<bittern::Shape> shapes;
  std::vector<bittern::ConstView> inputs;
  for (const bittern::ValueInfo& info : model.inputs()) {
    memory.push_back(room(info, shapes.emplace_back()));
    inputs.push_back({memory.back().data(), info.dtype, shapes.back(), {}});
  }
  const std::vector<bittern::ValueInfo> infos = session.prepare(shapes).outputs;
  std::vector<bittern::View> outputs;
  for (const bittern::ValueInfo& info : infos) {
    bittern::Shape shape;
    memory.push_back(room(info, shape));
    outputs.push_back({memory.back().data(), info.dtype, shape, {}});
  }
  session.run(inputs, outputs);
}

}  // namespace

int main(int count, char** words) {
  int failures = 0;
  for (int i = 1; i < count; ++i) {
    try {
      exercise(words[i]);
      std::printf("%s: ok\n", words[i]);
    } catch (const Error& error) {
      std::printf("%s\n", error.what());
    } catch (const std::exception& error) {
      std::printf("%s: not an error of the library: %s\n", words[i], error.what());
      ++failures;
    }
  }
  return failures == 0 ? 0 : 1;
}
