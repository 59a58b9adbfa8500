// The plain operators of plain_sequence*.cpp.
#pragma once

#include "plan/plain.h"

namespace bittern::plan {

PlainKernel prepare_matmul(const PlainNode& node);
PlainKernel prepare_matmul_integer(const PlainNode& node);
PlainKernel prepare_gemm(const PlainNode& node);
PlainKernel prepare_log_softmax(const PlainNode& node);
PlainKernel prepare_hardmax(const PlainNode& node);
PlainKernel prepare_lp_norm(const PlainNode& node);
PlainKernel prepare_mean_variance(const PlainNode& node);
PlainKernel prepare_layer_norm(const PlainNode& node);
PlainKernel prepare_channel_norm(const PlainNode& node);

}  // namespace bittern::plan
