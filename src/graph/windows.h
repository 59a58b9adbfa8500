// Where the windows of convolution and pooling lie, in any number of dimensions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/ops.h"

namespace bittern::graph {

// One entry per spatial dimension; automatic padding is resolved.
struct Windows {
  Shape kernel, stride, dilation, before, after, out;
};

// `sizes` are the spatial sizes of the input. Throws Error(input) for attributes that do not fit them.
Windows windows(const Node& node, const Shape& sizes, const Shape& kernel);
// Of a transposed convolution: `before` and `after` are cut off what the windows cover together.
Windows transposed_windows(const Node& node, const Shape& sizes, const Shape& kernel);

// The attribute kernel_shape of a pooling operator, which must name all spatial sizes of `input`.
Shape pool_kernel(const Node& node, const Shape& input);

}  // namespace bittern::graph
