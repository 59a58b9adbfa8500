// What this build and this machine offer: for reports, tests and benchmarks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <bittern/export.h>

namespace bittern {

struct KernelInfo {
  std::string name, loop, isa, description;
  bool usable = false;     // this machine can run it
  int rows = 0, cols = 0;  // register tile: pixels and output channels; 0 where there is none
};

struct CpuInfo {
  std::string name;
  std::vector<std::string> features;
  std::vector<std::string> isa_built, isa_usable;  // lowest first
  std::string isa;                                 // the default level
  int cpus_granted = 0, cpus_present = 0;
  std::uint64_t memory_granted = 0;                // bytes
};

struct CacheLimit {
  int level = 0;
  std::uint64_t bytes = 0;
  double load_gbs = 0;  // 10^9 bytes per second
};

// What this machine can do at best, measured; of all threads together.
struct LimitInfo {
  std::string isa;
  int threads = 0;                 // that took part
  double fma_gflops = 0;           // f32 multiply-adds, counted as two operations each
  double int8_gops = 0;            // exact multiply-adds of unsigned and signed bytes, counted as two operations each
  std::vector<CacheLimit> caches;  // reading, first level first
  double memory_load_gbs = 0;
  double memory_copy_gbs = 0;      // bytes read and bytes written
  double bit_gops = 0;             // products of two numbers of one bit, summed exactly, counted as two operations each
};

BITTERN_EXPORT std::vector<KernelInfo> kernels();
BITTERN_EXPORT CpuInfo cpu();  // throws Error(input) if BITTERN_ISA names a level that cannot be used
// Takes about half a second. `isa`: a level, empty for the default; `threads`: 0 for all granted CPUs.
// Throws Error(input) for a level or thread count that cannot be used, Error(resource) without memory for it.
BITTERN_EXPORT LimitInfo limits(const std::string& isa = {}, int threads = 1);
// What a kernel on non-zero weights can do at best, in 10^9 operations per second: multiply-adds, counted as two, of a
// weight and `vectors` vectors out of the first-level cache, `entries` of them between loading and storing a row's sums.
// Throws as limits() does, and Error(input) for numbers below 1 or panels wider than the level has.
BITTERN_EXPORT double panel_limit(int vectors, std::int64_t entries, const std::string& isa = {}, int threads = 1);
BITTERN_EXPORT const char* version() noexcept;
BITTERN_EXPORT const char* compiler() noexcept;

}  // namespace bittern
