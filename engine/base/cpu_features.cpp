#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#include <cstring>
#endif

namespace bittern::engine {
namespace {

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (leaf <= static_cast<unsigned>(__get_cpuid_max(leaf & 0x80000000u, nullptr))) __cpuid_count(leaf, subleaf, r.a, r.b, r.c, r.d);
  return r;
}

// The register sets that the operating system saves on a context switch.
std::uint64_t enabled_states() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

CpuFeatures detect() {
  CpuFeatures found;
  char brand[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i);
    const unsigned words[4] = {r.a, r.b, r.c, r.d};
    std::memcpy(brand + i * 16, words, sizeof words);
  }
  found.name = brand;
  while (!found.name.empty() && found.name.back() == ' ') found.name.pop_back();
  if (found.name.empty()) found.name = "x86-64";

  const Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1), extended = cpuid(0x80000001u);
  const auto bit = [](unsigned word, int index) { return ((word >> index) & 1u) != 0; };
  const std::uint64_t states = bit(one.c, 27) ? enabled_states() : 0;
  const bool ymm = (states & 0x6) == 0x6, zmm = (states & 0xe6) == 0xe6;

  struct Feature {
    const char* name;
    bool present;
    Isa level;  // what needs it: this level and those that contain it
  };
  // Which levels contain a level's features.
  const auto contains = [](Isa level, Isa part) {
    if (part == Isa::avx2vnni) return level == Isa::avx2vnni;
    return level >= part;
  };
  const Feature features[] = {
      {"avx", bit(one.c, 28) && ymm, Isa::avx2},
      {"fma", bit(one.c, 12) && ymm, Isa::avx2},
      {"f16c", bit(one.c, 29) && ymm, Isa::avx2},
      {"movbe", bit(one.c, 22), Isa::avx2},
      {"popcnt", bit(one.c, 23), Isa::avx2},
      {"avx2", bit(seven.b, 5) && ymm, Isa::avx2},
      {"bmi1", bit(seven.b, 3), Isa::avx2},
      {"bmi2", bit(seven.b, 8), Isa::avx2},
      {"lzcnt", bit(extended.c, 5), Isa::avx2},
      {"avxvnni", bit(seven_one.a, 4) && ymm, Isa::avx2vnni},
      {"avx512f", bit(seven.b, 16) && zmm, Isa::avx512},
      {"avx512dq", bit(seven.b, 17) && zmm, Isa::avx512},
      {"avx512cd", bit(seven.b, 28) && zmm, Isa::avx512},
      {"avx512bw", bit(seven.b, 30) && zmm, Isa::avx512},
      {"avx512vl", bit(seven.b, 31) && zmm, Isa::avx512},
      {"avx512vnni", bit(seven.c, 11) && zmm, Isa::avx512vnni},
      {"avx512vbmi", bit(seven.c, 1) && zmm, Isa::avx512icl},
      {"avx512vbmi2", bit(seven.c, 6) && zmm, Isa::avx512icl},
      {"gfni", bit(seven.c, 8), Isa::avx512icl},
      {"avx512bitalg", bit(seven.c, 12) && zmm, Isa::avx512icl},
      {"avx512vpopcntdq", bit(seven.c, 14) && zmm, Isa::avx512icl},
  };
  for (bool& usable : found.usable) usable = true;
  for (const Feature& feature : features) {
    if (feature.present) {
      found.features.emplace_back(feature.name);
      continue;
    }
    for (int level = 0; level < isa_count; ++level) {
      if (contains(static_cast<Isa>(level), feature.level)) found.usable[level] = false;
    }
  }
  return found;
}

#else

CpuFeatures detect() {
  CpuFeatures found;
#if defined(__aarch64__)
  found.name = "aarch64";
#else
  found.name = "generic";
#endif
  found.usable[static_cast<int>(Isa::scalar)] = true;
  return found;
}

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

bool isa_built(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar:
      return true;
    case Isa::avx2:
    case Isa::avx2vnni:
    case Isa::avx512:
    case Isa::avx512vnni:
    case Isa::avx512icl:
#if defined(BITTERN_BUILD_X86)
      return true;
#else
      return false;
#endif
  }
  return false;
}

Isa best_isa() {
  for (int level = isa_count - 1; level > 0; --level) {
    if (isa_usable(static_cast<Isa>(level))) return static_cast<Isa>(level);
  }
  return Isa::scalar;
}

}  // namespace bittern::engine
