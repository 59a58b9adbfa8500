// Plain operators between numbers and integer codes.
#include <bittern/error.h>

#include "graph/quantize.h"
#include "plan/plain.h"

namespace bittern::plan {
namespace {

// f(std::type_identity<T>{}) for a type of codes; the schema lets no other through.
template <class F>
PlainKernel with_codes(DType type, const F& f) {
  switch (type) {
    case DType::i8: return f(std::type_identity<std::int8_t>{});
    case DType::u8: return f(std::type_identity<std::uint8_t>{});
    case DType::i16: return f(std::type_identity<std::int16_t>{});
    case DType::u16: return f(std::type_identity<std::uint16_t>{});
    case DType::i32: return f(std::type_identity<std::int32_t>{});
    default: throw Error(ErrorCode::unsupported, "a quantiser", std::string("codes of type ") + name_of(type));
  }
}

// The optional third input.
template <class T>
const T* zero_points(const PlainArrays& a, bool there) {
  return there ? static_cast<const T*>(a.in[2]) : nullptr;
}

PlainKernel quantize(const PlainNode& n) {
  const DType type = n.outputs[0].dtype;
  return with_codes(type, [&]<class T>(std::type_identity<T>) -> PlainKernel {
    return {[grid = graph::scale_grid(n.node, n.inputs), range = graph::code_range(n.node, type), there = n.inputs.size() > 2](const PlainArrays& a) {
      const auto *x = static_cast<const float*>(a.in[0]), *scales = static_cast<const float*>(a.in[1]);
      engine::quantize<T>(grid, range, x, scales, zero_points<T>(a, there), static_cast<T*>(a.out[0]), *a.team);
    }};
  });
}

PlainKernel dequantize(const PlainNode& n) {
  return with_codes(n.inputs[0]->dtype, [&]<class T>(std::type_identity<T>) -> PlainKernel {
    return {[grid = graph::scale_grid(n.node, n.inputs), there = n.inputs.size() > 2](const PlainArrays& a) {
      const auto* scales = static_cast<const float*>(a.in[1]);
      engine::dequantize<T>(grid, static_cast<const T*>(a.in[0]), scales, zero_points<T>(a, there), static_cast<float*>(a.out[0]), *a.team);
    }};
  });
}

}  // namespace

void add_plain_quantize(PlainOperators& t) {
  t["QuantizeLinear"] = quantize;
  t["DequantizeLinear"] = dequantize;
}

}  // namespace bittern::plan
