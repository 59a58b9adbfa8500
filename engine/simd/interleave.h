// Every second element of two vectors, and back.
#pragma once

#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {

// even: a[0], a[2] ... b[0], b[2] ...; odd: those between.
static inline void deinterleave(vf a, vf b, vf& even, vf& odd) {
#if BITTERN_VEC >= 3
  even.v = __builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  odd.v = __builtin_shufflevector(a.v, b.v, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif BITTERN_VEC >= 1
  even.v = __builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14);
  odd.v = __builtin_shufflevector(a.v, b.v, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  even.v = __builtin_shufflevector(a.v, b.v, 0, 2, 4, 6);
  odd.v = __builtin_shufflevector(a.v, b.v, 1, 3, 5, 7);
#endif
}

// The other way round: a has even[0], odd[0], even[1] ..., b goes on.
static inline void interleave(vf even, vf odd, vf& a, vf& b) {
#if BITTERN_VEC >= 3
  a.v = __builtin_shufflevector(even.v, odd.v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  b.v = __builtin_shufflevector(even.v, odd.v, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif BITTERN_VEC >= 1
  a.v = __builtin_shufflevector(even.v, odd.v, 0, 8, 1, 9, 2, 10, 3, 11);
  b.v = __builtin_shufflevector(even.v, odd.v, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  a.v = __builtin_shufflevector(even.v, odd.v, 0, 4, 1, 5);
  b.v = __builtin_shufflevector(even.v, odd.v, 2, 6, 3, 7);
#endif
}

}  // namespace bittern::engine::BITTERN_LEVEL
