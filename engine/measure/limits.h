// The limits of this machine, measured: what kernels are compared with.
#pragma once

#include <cstdint>
#include <vector>

#include "base/isa.h"

namespace bittern::engine {

struct CacheLimit {
  int level = 0;
  std::uint64_t bytes = 0;       // size of the cache
  double load = 0;               // bytes per second, all threads together
};

struct Limits {
  Isa isa{};                     // the level asked for
  int threads = 1;               // that took part
  double flops = 0;              // f32 multiply-adds per second, counted as two; all threads together
  double int8_ops = 0;           // products of unsigned and signed bytes summed exactly in 32 bits, counted as two
  double bit_ops = 0;            // ones of the exclusive or of words summed in 32 bits, each bit counted as two
  std::vector<CacheLimit> caches;
  double memory_load = 0;        // bytes per second
  double memory_copy = 0;        // bytes per second, read and written
};

// f32 multiply-adds per second, counted as two, of what the spmm loop does at best: a broadcast weight times `vectors`
// aligned vectors of a panel in the first-level cache, at random offsets; a row's sums come and go after `entries` weights.
// All threads together; 0 for more vectors than the level's widest panel. Throws std::bad_alloc.
double measure_panel(Isa isa, int threads, int vectors, std::int64_t entries);
int widest_panel(Isa isa) noexcept;  // vectors

// The best of some short runs each; about half a second. Uses up to `threads` threads. Throws std::bad_alloc.
Limits measure_limits(Isa isa, int threads);

}  // namespace bittern::engine
