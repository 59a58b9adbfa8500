// How the level being compiled stores integer sums: gemm/int_store.h says what is computed.
#pragma once

#include "gemm/int_store.h"
#include "simd/dot.h"

namespace bittern::engine::BITTERN_LEVEL {

// The first `lanes` of a vector of sums, at c + c_at (in elements of `out`) and residual + residual_at.
template <IntOut out>
inline __attribute__((always_inline)) void store_sums(const IntStore& how, vi sums, vf scale, vf bias, void* target, std::int64_t c_at,
                                                      std::int64_t residual_at, int lanes) {
  if constexpr (out == IntOut::sums) {
    int* c = static_cast<int*>(target) + c_at;
    if (lanes == width) {
      store_int(c, sums);
    } else {
      int all[width];
      store_int(all, sums);
      for (int i = 0; i < lanes; ++i) c[i] = all[i];
    }
    return;
  }
  vf y = add(mul(to_float(sums), scale), bias);
  if (how.inner) {
    y = min(max(y, set1(how.inner_lo)), set1(how.inner_hi));
    y = mul(to_float(round_int(y)), set1(how.inner_scale));
  }
  if (how.residual != nullptr) {
    const std::uint8_t* r = how.residual + residual_at;
    vf codes;
    if (lanes == width) {
      codes = load_bytes(r);
    } else {
      unsigned char some[width] = {};
      for (int i = 0; i < lanes; ++i) some[i] = r[i];
      codes = load_bytes(some);
    }
    y = add(y, mul(sub(codes, set1(how.residual_zero)), set1(how.residual_scale)));
  }
  if constexpr (out == IntOut::floats) {
    y = min(set1(how.hi), max(set1(how.lo), y));  // in this order a NaN stays one
    float* c = static_cast<float*>(target) + c_at;
    if (lanes == width) {
      store(c, y);
    } else {
      store_first(c, y, lanes);
    }
  } else {
    // In this order a NaN becomes the lowest code.
    y = min(max(y, set1(how.lo)), set1(how.hi));
    auto* c = static_cast<unsigned char*>(target) + c_at;
    const vi codes = plus(round_int(y), how.zero);
    if (lanes == width) {
      store_bytes(c, codes);
    } else {
      unsigned char all[width];
      store_bytes(all, codes);
      for (int i = 0; i < lanes; ++i) c[i] = all[i];
    }
  }
}

}  // namespace bittern::engine::BITTERN_LEVEL
