// The vector vocabulary of the level being compiled: f32 vectors `vf` of `width` elements.
#pragma once

#include "simd/level.h"

#define BITTERN_VEC_scalar 0
#define BITTERN_VEC_avx2 1
#define BITTERN_VEC_avx512 2
#define BITTERN_VEC BITTERN_CONCAT(BITTERN_VEC_, BITTERN_LEVEL)

#if BITTERN_VEC == 2
#include "simd/avx512.h"
#elif BITTERN_VEC == 1
#include "simd/avx2.h"
#else
#include "simd/scalar.h"
#endif
