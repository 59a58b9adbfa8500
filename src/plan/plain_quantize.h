// Shared by the files of plain operators on integer codes.
#pragma once

#include "ops/broadcast.h"
#include "plan/plain.h"

namespace bittern::plan {

// An array of bytes less its zero points, as integers modulo 2^32.
class Centred {
 public:
  // Inputs of the node by number; `zero_shape` broadcasts to the array. A zero point that is left out is 0.
  Centred(const PlainNode& node, std::size_t input, std::size_t zero_point, const Shape& zero_shape);

  std::int64_t elements() const noexcept { return grid_.total(); }
  void run(const PlainArrays& arrays, std::uint32_t* to) const;

 private:
  std::size_t input_, zero_point_;
  bool is_signed_, there_;
  engine::Broadcast grid_;
};

PlainKernel prepare_conv_integer(const PlainNode& node);  // plain_nn.cpp

}  // namespace bittern::plan
