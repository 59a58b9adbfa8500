// Options of the caller and of the environment, checked.
#pragma once

#include <string>

#include "base/isa.h"

namespace bittern::runtime {

// The level asked for; if `asked` is empty, that of BITTERN_ISA; else the best. Throws Error(input) if it is unknown or
// cannot be used here.
engine::Isa choose_isa(const std::string& asked);

}  // namespace bittern::runtime
