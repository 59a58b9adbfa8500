// What the machine's limits are measured with: the fastest arithmetic and the fastest reading that a level can express.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

struct Probes {
  Isa isa;
  int chains;                   // floats of fma()'s state: chains * lanes
  std::int64_t flops;           // of one round of fma()
  // x = x * a + b in all chains, `rounds` times; `state` goes in and out.
  void (*fma)(std::int64_t rounds, float a, float b, float* state);
  // The sum of `count` floats, a multiple of load_step; `data` aligned to cache lines.
  float (*load)(const float* data, std::int64_t count);
};

// Products of bytes, as the integer kernels compute them: every level has its own.
struct DotProbe {
  Isa isa;
  std::int64_t ops;             // of one round of dots(): a multiplication and an addition are two
  // sum += x . w in every accumulator of a register tile, `rounds` times: `x` four unsigned, `w` four signed bytes. `state`
  // goes in and out.
  void (*dots)(std::int64_t rounds, const unsigned char* x, const signed char* w, int* state);
};

inline constexpr std::int64_t load_step = 256;
inline constexpr int largest_state = 24 * 16;

namespace scalar { const Probes* probes(int& count); }
namespace avx2 { const Probes* probes(int& count); }
namespace avx512 { const Probes* probes(int& count); }
namespace scalar { const DotProbe& dot_probe(); }
namespace avx2 { const DotProbe& dot_probe(); }
namespace avx2vnni { const DotProbe& dot_probe(); }
namespace avx512 { const DotProbe& dot_probe(); }
namespace avx512vnni { const DotProbe& dot_probe(); }

}  // namespace bittern::engine
