// Elementary functions in the vector vocabulary: a few units in the last place, the same algorithm on every level.
#pragma once

#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {

static inline vf absolute(vf x) { return max(x, sub(zero(), x)); }

// e^x: x = n ln 2 + r with |r| <= ln 2 / 2, a Taylor polynomial of degree 7 for e^r, and 2^n by its bits. Below -87.3, where the
// result leaves the normal numbers, it is 0; above 88.7 it is infinity; NaN stays NaN.
static inline vf exp(vf x) {
  const vf magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vf lowest = set1(-87.3f), highest = set1(88.7f);
  const vf inside = min(highest, max(lowest, x));
  const vf t = fma(inside, set1(1.44269504088896341f), magic), n = sub(t, magic);
  // ln 2 in two parts: the products with n are exact in the first.
  vf r = fma(n, set1(-0.693359375f), inside);
  r = fma(n, set1(2.12194440e-4f), r);
  vf p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, mul(r, r), add(r, set1(1.0f)));
  // 2^n in two factors: 2^128 is no float, e^88.6 is one.
  const vf half = sub(fma(n, set1(0.5f), magic), magic), rest = sub(n, half);
  vf y = mul(mul(p, exponent(add(half, magic))), exponent(add(rest, magic)));
  y = where_less(x, lowest, zero(), y);
  return where_less(highest, x, set1(__builtin_inff()), y);
}

// 1 / (1 + e^-x), through the exponential of a non-positive number only.
static inline vf sigmoid(vf x) {
  const vf e = exp(sub(zero(), absolute(x))), one = set1(1.0f);
  return div(where_less(x, zero(), e, one), add(one, e));
}

// tanh x: an odd polynomial near zero, where the quotient below would cancel; else (1 - e) / (1 + e) with e = e^-2|x|.
static inline vf tanh(vf x) {
  const vf z = mul(x, x), a = absolute(x), one = set1(1.0f);
  vf p = set1(-5.70498872745e-3f);
  p = fma(p, z, set1(2.06390887954e-2f));
  p = fma(p, z, set1(-5.37397155531e-2f));
  p = fma(p, z, set1(1.33314422036e-1f));
  p = fma(p, z, set1(-3.33332819422e-1f));
  const vf near = fma(mul(x, z), p, x);
  const vf e = exp(mul(set1(-2.0f), a)), far = div(sub(one, e), add(one, e));
  return where_less(a, set1(0.625f), near, where_less(x, zero(), sub(zero(), far), far));
}

}  // namespace bittern::engine::BITTERN_LEVEL
