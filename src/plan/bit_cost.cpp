// What a layer on bits is as a convolution, and whether it is worth it.
#include <algorithm>
#include <cstdio>

#include "gemm/conv.h"
#include "gemm/winograd.h"
#include "graph/windows.h"
#include "plan/bits.h"
#include "plan/layer_parts.h"
#include "registry.h"

namespace bittern::plan {

using engine::ConvShape;

ConvShape bit_shape(const Item& item, const BitsForm& form, const Types& types) {
  const Shape x = graph::map_shape(types.at(form.input).shape);
  if (item.op == "Conv") {
    const Shape w = graph::map_shape(types.at(item.inputs[1]).shape), y = graph::map_shape(types.at(item.output).shape);
    return conv_shape(*item.node, x, y, graph::window(*item.node, types.at(form.input).shape, w[2], w[3]));
  }
  const Shape& y = types.at(item.output).shape;
  ConvShape s;
  s.oc = y[1];
  if (form.flattened) {
    s.n = x[0], s.c = x[1], s.h = x[2], s.w = x[3];
    s.kh = s.h, s.kw = s.w;
  } else {
    s.c = types.at(form.input).shape[1], s.w = s.ow = y[0];
  }
  return s;
}

bool bits_pay(BitsForm& form, const ConvShape& s, bool codes, bool exact, engine::Isa isa) {
  constexpr double bytes_a_cycle = 6;  // that weights are read at, where each is used once
  const bool row = s.n * s.oh * s.ow == 1;
  const double weights = static_cast<double>(s.oc) * static_cast<double>(s.c / s.groups * s.kh * s.kw);
  double bits = 0;
  for (const BitSum& sum : form.sums) {
    const auto weight_planes = static_cast<std::int64_t>(sum.weights.coefficients.size());
    double own = 0;
    for (const engine::BitGemmKernel& kernel : engine::bit_gemm_kernels(isa)) {
      if (kernel.conjunction != sum.weights.conjunction) continue;
      const double cost = engine::BitConv::cost(kernel, s, sum.input.values.planes, weight_planes);
      if (own == 0 || cost < own) own = cost;
    }
    if (row) own = std::max(own, weights * static_cast<double>(weight_planes) / 8 / bytes_a_cycle);
    bits += own;
  }
  double other = 0;
  if (codes) {
    for (const engine::IntGemmKernel& kernel : engine::int_gemm_kernels(isa)) {
      const double cost = engine::IntConv::cost(kernel, s, s.c <= 4 ? 4 : 16);
      if (other == 0 || cost < other) other = cost;
    }
    // Products of one row read packed codes of at least two bits.
    const double packed_bits = std::max<double>(2, static_cast<double>(form.sums[0].weights.coefficients.size()));
    if (row) other = std::min(other, std::max(weights * packed_bits / 8 / bytes_a_cycle, weights / 64));
  } else {
    for (const engine::GemmKernel& kernel : engine::gemm_kernels(isa)) {
      const double cost = engine::GemmConv::cost(kernel, s, 16, s.kh * s.kw == 1);
      if (other == 0 || cost < other) other = cost;
      if (exact || !engine::WinogradConv::fits(s)) continue;
      for (const engine::WinogradKernel& winograd : engine::winograd_kernels(isa)) other = std::min(other, engine::WinogradConv::cost(winograd, kernel, s));
    }
  }
  const std::size_t terms = form.from->terms.size(), parts = form.sums.size() / terms;
  std::string product = std::to_string(form.from->planes()) + " x ";
  std::int64_t weight_planes = 0;
  for (std::size_t p = 0; p < parts; ++p) weight_planes += static_cast<std::int64_t>(form.sums[p * terms].weights.coefficients.size());
  product += std::to_string(weight_planes);
  if (terms > 1) product += ", " + std::to_string(terms) + " levels";
  if (parts > 1) product += ", weights in " + std::to_string(parts) + " parts";
  char text[64];
  std::snprintf(text, sizeof text, ": %.1f times the estimated speed of %s", other / std::max(1.0, bits), codes ? "8-bit codes" : "real numbers");
  form.reason = "planes of bits, " + product + text;
  return bits < other;
}

}  // namespace bittern::plan
