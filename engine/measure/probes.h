// What the machine's limits are measured with: the fastest arithmetic and the fastest reading that a level can express.
#pragma once

#include <cstdint>

#include "base/isa.h"

namespace bittern::engine {

// A weight and where its input stands in the panel, in bytes: as the spmm loop has it, but a room of its own.
struct PanelEntry {
  std::uint32_t offset = 0;
  float weight = 0;
};

// Rows of `entries` products each, from one list; `sums` has the panel's vectors for each row.
struct PanelWalk {
  const float* panel = nullptr;
  const PanelEntry* list = nullptr;
  std::int64_t entries = 0, rows = 0;
  float* sums = nullptr;
};
using PanelFunction = void (*)(const PanelWalk&, std::int64_t rounds);

struct Probes {
  Isa isa;
  int chains;                   // floats of fma()'s state: chains * lanes
  std::int64_t flops;           // of one round of fma()
  // x = x * a + b in all chains, `rounds` times; `state` goes in and out.
  void (*fma)(std::int64_t rounds, float a, float b, float* state);
  // The sum of `count` floats, a multiple of load_step; `data` aligned to cache lines.
  float (*load)(const float* data, std::int64_t count);
  int lanes, vectors;           // of a vector; of the widest panel
  // sums += w * panel[offset] row by row, what the spmm loop can be at best: panels[v - 1] is v vectors wide.
  const PanelFunction* panels;
};

// Products of bytes, as the integer kernels compute them: every level has its own.
struct DotProbe {
  Isa isa;
  std::int64_t ops;             // of one round of dots(): a multiplication and an addition are two
  // sum += x . w in every accumulator of a register tile, `rounds` times: `x` four unsigned, `w` four signed bytes. `state`
  // goes in and out.
  void (*dots)(std::int64_t rounds, const unsigned char* x, const signed char* w, int* state);
};

// Ones of words, as the kernels on planes of bits count them.
struct BitProbe {
  Isa isa;
  std::int64_t ops;             // of one round of ones(): a product of two bits and its addition are two
  // sum += ones(x ^ w) in every accumulator of a register tile; `state` goes in and out.
  void (*ones)(std::int64_t rounds, const unsigned* x, const unsigned* w, int* state);
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
namespace scalar { const BitProbe& bit_probe(); }
namespace avx2 { const BitProbe& bit_probe(); }
namespace avx512 { const BitProbe& bit_probe(); }
namespace avx512icl { const BitProbe& bit_probe(); }

}  // namespace bittern::engine
