// The vector vocabulary of the level being compiled: f32 vectors `vf` of `width` elements.
#pragma once

#include "simd/level.h"

#if BITTERN_VEC >= 3
#include "simd/avx512.h"
#elif BITTERN_VEC >= 1
#include "simd/avx2.h"
#else
#include "simd/scalar.h"
#endif
