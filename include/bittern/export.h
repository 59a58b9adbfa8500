// Visibility of public symbols; for C++ and C.
#pragma once

#if defined(_WIN32)
#define BITTERN_EXPORT
#define BITTERN_HIDDEN
#else
#define BITTERN_EXPORT __attribute__((visibility("default")))
#define BITTERN_HIDDEN __attribute__((visibility("hidden")))
#endif
