// One file through the library as far as it goes: load, every constant, a plan, a run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <bittern/bittern.h>

#include "rng.h"

namespace fuzz {

inline constexpr std::uint64_t memory_limit = std::uint64_t{32} << 20;  // what the library is told to stay below

enum class Phase : int { idle, load, use, run };  // use: constants and a plan

struct Exercise {
  enum class End { refused, run, too_much_work, run_refused };
  End end = End::refused;
  bittern::ErrorCode code = bittern::ErrorCode::format;
  std::string message;
};

// Options and numbers fed to the network come from `rng`; `entered` is called at the start of each phase. A file that was
// accepted is run only if that is not too much work. Lets every exception but bittern::Error through.
Exercise exercise(std::span<const std::byte> file, bool sealed, Rng& rng, void (*entered)(Phase));

}  // namespace fuzz
