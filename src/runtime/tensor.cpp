#include <bittern/tensor.h>

namespace bittern {

std::size_t size_of(DType type) noexcept {
  switch (type) {
    case DType::i8:
    case DType::u8:
    case DType::boolean:
      return 1;
    case DType::f16:
    case DType::bf16:
    case DType::i16:
    case DType::u16:
      return 2;
    case DType::f32:
    case DType::i32:
    case DType::u32:
      return 4;
    case DType::f64:
    case DType::i64:
    case DType::u64:
      return 8;
  }
  return 0;
}

const char* name_of(DType type) noexcept {
  constexpr const char* names[] = {"f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"};
  return names[static_cast<int>(type)];
}

}  // namespace bittern
