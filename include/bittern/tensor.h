// Element types, shapes, and views of arrays that the caller owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <bittern/export.h>

namespace bittern {

enum class DType : std::uint8_t { f32, f16, bf16, f64, i8, u8, i16, u16, i32, u32, i64, u64, boolean };

BITTERN_EXPORT std::size_t size_of(DType type) noexcept;
BITTERN_EXPORT const char* name_of(DType type) noexcept;  // "f32", ..., "bool"

using Shape = std::vector<std::int64_t>;

// Memory to read from. `strides` are in bytes, one per dimension, and may be zero or negative; empty means C order.
struct ConstView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::int64_t> strides;
};

// Memory to write to; same conventions.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::vector<std::int64_t> strides;
};

inline ConstView view(const float* data, Shape shape) { return {data, DType::f32, static_cast<Shape&&>(shape), {}}; }
inline View view(float* data, Shape shape) { return {data, DType::f32, static_cast<Shape&&>(shape), {}}; }

}  // namespace bittern
