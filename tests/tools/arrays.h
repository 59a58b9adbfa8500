// Arrays for every input of a model, filled with numbers that depend on the seed alone, and for every output.
#pragma once

#include <bittern/bittern.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tools {

// Sizes of a value; symbols stand for `batch`.
inline bittern::Shape shape_of(const bittern::ValueInfo& value, std::int64_t batch) {
  bittern::Shape shape;
  for (const bittern::Dimension& d : value.shape) shape.push_back(d.value < 0 ? batch : d.value);
  return shape;
}

inline std::size_t bytes_of(const bittern::Shape& shape, bittern::DType type) {
  std::size_t bytes = size_of(type);
  for (const std::int64_t d : shape) bytes *= static_cast<std::size_t>(d);
  return bytes;
}

// Floats between -2 and 2, subnormals among them; integers 0 to 3; booleans.
inline void fill(std::byte* data, std::size_t bytes, bittern::DType type, std::uint32_t seed) {
  const std::size_t width = size_of(type);
  for (std::size_t i = 0; i < bytes / width; ++i) {
    seed = seed * 1664525u + 1013904223u;
    if (type == bittern::DType::f32) {
      float x = static_cast<float>(static_cast<std::int32_t>(seed >> 8) - (1 << 23)) / static_cast<float>(1 << 22);
      if ((seed >> 28) == 0) x *= 1e-38f;
      std::memcpy(data + i * width, &x, sizeof x);
    } else {
      std::memset(data + i * width, 0, width);
      data[i * width] = std::byte(seed >> 30 & (type == bittern::DType::boolean ? 1u : 3u));
    }
  }
}

using Arrays = std::vector<std::vector<std::byte>>;

inline Arrays inputs_of(const bittern::Model& model, std::int64_t batch, std::uint32_t seed) {
  Arrays arrays;
  for (const bittern::ValueInfo& info : model.inputs()) {
    arrays.emplace_back(bytes_of(shape_of(info, batch), info.dtype));
    fill(arrays.back().data(), arrays.back().size(), info.dtype, seed++);
  }
  return arrays;
}

inline std::vector<bittern::Shape> input_shapes(const bittern::Model& model, std::int64_t batch) {
  std::vector<bittern::Shape> shapes;
  for (const bittern::ValueInfo& info : model.inputs()) shapes.push_back(shape_of(info, batch));
  return shapes;
}

inline std::vector<bittern::ConstView> views(const bittern::Model& model, std::int64_t batch, const Arrays& arrays) {
  std::vector<bittern::ConstView> result;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    result.push_back({arrays[i].data(), model.inputs()[i].dtype, shape_of(model.inputs()[i], batch), {}});
  }
  return result;
}

inline std::vector<bittern::View> views(const std::vector<bittern::ValueInfo>& outputs, Arrays& arrays) {
  std::vector<bittern::View> result;
  arrays.resize(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const bittern::Shape shape = shape_of(outputs[i], 0);
    arrays[i].assign(bytes_of(shape, outputs[i].dtype), std::byte{0});
    result.push_back({arrays[i].data(), outputs[i].dtype, shape, {}});
  }
  return result;
}

// One run with arrays of its own.
inline Arrays run(const bittern::Model& model, bittern::Session& session, std::int64_t batch, const Arrays& inputs) {
  const std::vector<bittern::ValueInfo> infos = session.prepare(input_shapes(model, batch)).outputs;
  Arrays outputs;
  session.run(views(model, batch, inputs), views(infos, outputs));
  return outputs;
}

}  // namespace tools
