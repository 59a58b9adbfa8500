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

BITTERN_EXPORT std::vector<KernelInfo> kernels();
BITTERN_EXPORT CpuInfo cpu();  // throws Error(input) if BITTERN_ISA names a level that cannot be used
BITTERN_EXPORT const char* version() noexcept;
BITTERN_EXPORT const char* compiler() noexcept;

}  // namespace bittern
