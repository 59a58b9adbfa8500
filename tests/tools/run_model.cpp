// Runs a network from C++ with nothing but the public headers; also the example of embedding the library.
//
//   run_model FILE INPUT.f32 OUTPUT.f32 [--isa LEVEL] [--threads N] [--batch N]
//
// INPUT.f32 holds the inputs as raw little-endian float32, one after the other in the order the network declares them;
// OUTPUT.f32 gets the outputs likewise. Symbolic sizes become the batch. Prints one line per output: name and shape.
#include <bittern/bittern.h>

#include <bit>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace {

static_assert(std::endian::native == std::endian::little, "the files are read and written as they stand in memory");

using bittern::Error;
using bittern::ErrorCode;

struct Arguments {
  std::vector<std::string> files;  // network, input, output
  std::string isa;
  int threads = 0, batch = 1;
};

int whole_number(std::string_view option, const char* text, int least) {
  const std::string_view digits = text;
  int value = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc{} || end != digits.data() + digits.size() || value < least) {
    throw Error(ErrorCode::input, std::string(option), "'" + std::string(digits) + "' is no number of at least " + std::to_string(least));
  }
  return value;
}

Arguments parse(std::span<char*> words) {
  Arguments arguments;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (!word.starts_with("--")) {
      arguments.files.emplace_back(word);
      continue;
    }
    if (word != "--isa" && word != "--threads" && word != "--batch") throw Error(ErrorCode::input, std::string(word), "no such option");
    if (++i == words.size()) throw Error(ErrorCode::input, std::string(word), "its value is missing");
    if (word == "--isa") arguments.isa = words[i];
    if (word == "--threads") arguments.threads = whole_number(word, words[i], 0);
    if (word == "--batch") arguments.batch = whole_number(word, words[i], 1);
  }
  if (arguments.files.size() != 3) {
    throw Error(ErrorCode::input, "command line", std::to_string(arguments.files.size()) + " files given",
                "usage: run_model FILE INPUT.f32 OUTPUT.f32 [--isa LEVEL] [--threads N] [--batch N]");
  }
  return arguments;
}

// The declared shape with symbols replaced by the batch.
bittern::Shape sizes(const bittern::ValueInfo& value, int batch) {
  bittern::Shape shape;
  for (const bittern::Dimension& dimension : value.shape) shape.push_back(dimension.value < 0 ? batch : dimension.value);
  return shape;
}

std::size_t elements(const bittern::Shape& shape) {
  std::size_t product = 1;
  for (const std::int64_t size : shape) product *= static_cast<std::size_t>(size);
  return product;
}

void need_float32(const bittern::ValueInfo& value) {
  if (value.dtype != bittern::DType::f32) throw Error(ErrorCode::unsupported, value.name, std::string("is ") + name_of(value.dtype), "f32 is needed");
}

// Numbers from the whole of a file, which must hold exactly so many.
std::vector<float> read(const std::string& path, std::size_t count) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw Error(ErrorCode::io, path, "cannot be read", "check the path");
  const std::streamoff bytes = file.tellg(), needed = static_cast<std::streamoff>(count * sizeof(float));
  if (bytes != needed) throw Error(ErrorCode::input, path, "has " + std::to_string(bytes) + " bytes", "the inputs take " + std::to_string(needed));
  std::vector<float> numbers(count);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(numbers.data()), needed);
  if (!file) throw Error(ErrorCode::io, path, "cannot be read");
  return numbers;
}

void write(const std::string& path, const std::vector<float>& numbers) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(numbers.data()), static_cast<std::streamsize>(numbers.size() * sizeof(float)));
  file.close();
  if (!file) throw Error(ErrorCode::io, path, "cannot be written", "check the path and the disk");
}

void run(const Arguments& arguments) {
  bittern::LoadOptions options;
  options.isa = arguments.isa;
  const bittern::Model model = bittern::Model::load(arguments.files[0], options);
  bittern::Session session(model, {.threads = arguments.threads});

  std::vector<bittern::Shape> shapes;
  std::size_t count = 0;
  for (const bittern::ValueInfo& value : model.inputs()) {
    need_float32(value);
    shapes.push_back(sizes(value, arguments.batch));
    count += elements(shapes.back());
  }
  const std::vector<float> numbers = read(arguments.files[1], count);
  std::vector<bittern::ConstView> inputs;
  const float* next = numbers.data();
  for (const bittern::Shape& shape : shapes) {
    inputs.push_back(bittern::view(next, shape));
    next += elements(shape);
  }

  const std::vector<bittern::ValueInfo> outputs = session.prepare(shapes).outputs;  // sizes all known now
  count = 0;
  for (const bittern::ValueInfo& value : outputs) {
    need_float32(value);
    count += elements(sizes(value, arguments.batch));
  }
  std::vector<float> results(count);
  std::vector<bittern::View> views;
  float* place = results.data();
  for (const bittern::ValueInfo& value : outputs) {
    views.push_back(bittern::view(place, sizes(value, arguments.batch)));
    place += elements(views.back().shape);
  }
  session.run(inputs, views);
  write(arguments.files[2], results);

  for (std::size_t i = 0; i < outputs.size(); ++i) {
    std::string text;
    for (const std::int64_t size : views[i].shape) text += (text.empty() ? "" : "x") + std::to_string(size);
    std::printf("%s %s\n", outputs[i].name.c_str(), text.empty() ? "scalar" : text.c_str());
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(parse({words, static_cast<std::size_t>(count)}));
    return 0;
  } catch (const std::exception& error) {  // bittern::Error, or no memory
    std::fprintf(stderr, "run_model: %s\n", error.what());
    return 2;
  }
}
