// Convolution of integers, exact modulo 2^32, on planar arrays of three spatial dimensions.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "ops/planar_conv.h"

namespace bittern::engine {

// Sums of products wrap around, which is the same with and without a sign. Weights are O, I/groups, taps; padding counts as 0.
void integer_conv(const PlanarConvShape& shape, const std::uint32_t* x, const std::uint32_t* weights, std::uint32_t* y, Team& team);

}  // namespace bittern::engine
