// The instruction-set level of the translation unit being compiled: BITTERN_LEVEL is its name and its namespace.
//
// Units that include this are compiled once per level, with that level's flags. A function that two of them shared
// would be kept once by the linker, perhaps in the wide form: so everything in them is inside
// bittern::engine::BITTERN_LEVEL or has internal linkage, and they use no standard-library templates.
#pragma once

#if !defined(BITTERN_LEVEL)
#error "BITTERN_LEVEL must be defined by the build: scalar, avx2 or avx512"
#endif

// Register tiles are arrays that live in registers only if every loop over them is unrolled: asked for by name.
#if defined(__clang__)
#define BITTERN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BITTERN_UNROLL _Pragma("GCC unroll 32")
#endif

#define BITTERN_CONCAT_(a, b) a##b
#define BITTERN_CONCAT(a, b) BITTERN_CONCAT_(a, b)

// BITTERN_ONLY(level, text): `text` in units of that level, nothing in others. Kernel lists are filtered with it.
#define BITTERN_IS_scalar_scalar(...) __VA_ARGS__
#define BITTERN_IS_scalar_avx2(...)
#define BITTERN_IS_scalar_avx512(...)
#define BITTERN_IS_avx2_scalar(...)
#define BITTERN_IS_avx2_avx2(...) __VA_ARGS__
#define BITTERN_IS_avx2_avx512(...)
#define BITTERN_IS_avx512_scalar(...)
#define BITTERN_IS_avx512_avx2(...)
#define BITTERN_IS_avx512_avx512(...) __VA_ARGS__
#define BITTERN_ONLY(level, ...) BITTERN_CONCAT(BITTERN_CONCAT(BITTERN_IS_, BITTERN_LEVEL), BITTERN_CONCAT(_, level))(__VA_ARGS__)
