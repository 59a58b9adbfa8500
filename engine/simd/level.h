// The instruction-set level of the translation unit being compiled: BITTERN_LEVEL is its name and its namespace.
//
// Units that include this are compiled once per level, with that level's flags. A function that two of them shared
// would be kept once by the linker, perhaps in the wide form: so everything in them is inside
// bittern::engine::BITTERN_LEVEL or has internal linkage, and they use no standard-library templates.
#pragma once

#if !defined(BITTERN_LEVEL)
#error "BITTERN_LEVEL must be defined by the build: the name of a level"
#endif

// Register tiles are arrays that live in registers only if every loop over them is unrolled: asked for by name.
#if defined(__clang__)
#define BITTERN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BITTERN_UNROLL _Pragma("GCC unroll 32")
#endif

#define BITTERN_CONCAT_(a, b) a##b
#define BITTERN_CONCAT(a, b) BITTERN_CONCAT_(a, b)

#define BITTERN_VEC_scalar 0
#define BITTERN_VEC_avx2 1
#define BITTERN_VEC_avx2vnni 2
#define BITTERN_VEC_avx512 3
#define BITTERN_VEC_avx512vnni 4
#define BITTERN_VEC_avx512icl 5
#define BITTERN_VEC BITTERN_CONCAT(BITTERN_VEC_, BITTERN_LEVEL)

// For names of kernels: a macro's text, and the lanes of a vector.
#define BITTERN_TEXT_(text) #text
#define BITTERN_TEXT(text) BITTERN_TEXT_(text)
#if BITTERN_VEC == 0
#define BITTERN_WIDTH_TEXT "4"
#elif BITTERN_VEC <= 2
#define BITTERN_WIDTH_TEXT "8"
#else
#define BITTERN_WIDTH_TEXT "16"
#endif

// BITTERN_ONLY(level, text): `text` in units of that level, nothing in others. Kernel lists are filtered with it.
#define BITTERN_ONLY(level, ...) BITTERN_CONCAT(BITTERN_ONLY_, level)(__VA_ARGS__)
#define BITTERN_ONLY_scalar(...)
#define BITTERN_ONLY_avx2(...)
#define BITTERN_ONLY_avx2vnni(...)
#define BITTERN_ONLY_avx512(...)
#define BITTERN_ONLY_avx512vnni(...)
#define BITTERN_ONLY_avx512icl(...)
#if BITTERN_VEC == 0
#undef BITTERN_ONLY_scalar
#define BITTERN_ONLY_scalar(...) __VA_ARGS__
#elif BITTERN_VEC == 1
#undef BITTERN_ONLY_avx2
#define BITTERN_ONLY_avx2(...) __VA_ARGS__
#elif BITTERN_VEC == 2
#undef BITTERN_ONLY_avx2vnni
#define BITTERN_ONLY_avx2vnni(...) __VA_ARGS__
#elif BITTERN_VEC == 3
#undef BITTERN_ONLY_avx512
#define BITTERN_ONLY_avx512(...) __VA_ARGS__
#elif BITTERN_VEC == 4
#undef BITTERN_ONLY_avx512vnni
#define BITTERN_ONLY_avx512vnni(...) __VA_ARGS__
#elif BITTERN_VEC == 5
#undef BITTERN_ONLY_avx512icl
#define BITTERN_ONLY_avx512icl(...) __VA_ARGS__
#endif
