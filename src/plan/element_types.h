// From an element type to the C++ type that holds it.
#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include <bittern/error.h>
#include <bittern/tensor.h>

namespace bittern::plan {

// f(std::type_identity<T>{}) for a type of numbers that plain operators compute with; schemas let no other through.
template <class F>
decltype(auto) with_integer(DType type, F&& f) {
  switch (type) {
    case DType::i8: return std::forward<F>(f)(std::type_identity<std::int8_t>{});
    case DType::u8: return std::forward<F>(f)(std::type_identity<std::uint8_t>{});
    case DType::i16: return std::forward<F>(f)(std::type_identity<std::int16_t>{});
    case DType::u16: return std::forward<F>(f)(std::type_identity<std::uint16_t>{});
    case DType::i32: return std::forward<F>(f)(std::type_identity<std::int32_t>{});
    case DType::u32: return std::forward<F>(f)(std::type_identity<std::uint32_t>{});
    case DType::i64: return std::forward<F>(f)(std::type_identity<std::int64_t>{});
    case DType::u64: return std::forward<F>(f)(std::type_identity<std::uint64_t>{});
    default: throw Error(ErrorCode::unsupported, "a plain operator", std::string("elements of type ") + name_of(type));
  }
}

template <class F>
decltype(auto) with_number(DType type, F&& f) {
  if (type == DType::f32) return std::forward<F>(f)(std::type_identity<float>{});
  return with_integer(type, std::forward<F>(f));
}

}  // namespace bittern::plan
