// Statistics of a row and its normalisation.
#pragma once

#include <cstdint>

namespace bittern::engine {

struct Statistics {
  float mean = 0, inverse = 0;  // inverse: 1 / sqrt(variance + epsilon)
};

// Of `count` numbers; not `centred`: around zero, so that the variance is the mean of squares.
Statistics statistics(const float* x, std::int64_t count, float epsilon, bool centred);

// y = (x - mean) * inverse * scale + bias; scale and bias have `count` elements or are null.
void normalise(const float* x, float* y, std::int64_t count, const Statistics& s, const float* scale, const float* bias);

}  // namespace bittern::engine
