// Visibility of public symbols.
#pragma once

#if defined(_WIN32)
#define BITTERN_EXPORT
#else
#define BITTERN_EXPORT __attribute__((visibility("default")))
#endif
