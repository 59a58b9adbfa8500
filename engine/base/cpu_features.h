// What this processor and this operating system can run.
#pragma once

#include <string>
#include <vector>

#include "base/isa.h"

namespace bittern::engine {

struct CpuFeatures {
  std::string name;                    // brand string, or the architecture where there is none
  std::vector<std::string> features;   // the instruction-set extensions that levels ask for, where usable
  bool usable[isa_count] = {};         // the processor has them and the system saves their registers
};

// Detected once, at the first call.
const CpuFeatures& cpu_features();

// Levels compiled into this library.
bool isa_built(Isa isa) noexcept;

inline bool isa_usable(Isa isa) { return isa_built(isa) && cpu_features().usable[static_cast<int>(isa)]; }

// The highest level that is built and usable.
Isa best_isa();

}  // namespace bittern::engine
