// How much of the machine this process may really use.
#pragma once

#include <cstdint>

namespace bittern::engine {

// CPUs granted by affinity mask and control-group quota, at least 1.
int granted_cpus();

// CPUs online in the machine.
int present_cpus();

// Bytes of memory granted by the machine and the control group.
std::uint64_t granted_memory();

}  // namespace bittern::engine
