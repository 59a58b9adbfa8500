// The data caches that a core sees.
#pragma once

#include <cstdint>
#include <vector>

namespace bittern::engine {

struct Cache {
  int level = 0;
  std::uint64_t bytes = 0;
};

// First level first, strictly growing; what the system tells, else the sizes of a small machine. Never empty.
std::vector<Cache> data_caches();

}  // namespace bittern::engine
