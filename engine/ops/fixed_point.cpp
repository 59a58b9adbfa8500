#include "ops/fixed_point.h"

#include <algorithm>
#include <cmath>

#include "ops/map_rows.h"

namespace bittern::engine {
namespace {

std::uint8_t bounded(std::int64_t code, std::int32_t lo, std::int32_t hi) {
  return static_cast<std::uint8_t>(std::min<std::int64_t>(std::max<std::int64_t>(code, lo), hi));
}

}  // namespace

FixedScale fixed_scale(double real) noexcept {
  if (!(real > 0)) return {0, 1};                                          // NaN among them
  if (real >= 1073741824.0) return {(std::int64_t{1} << 31) - 1, 1};      // any sum but zero saturates
  int shift = 0;
  const double fraction = std::frexp(real, &shift);
  auto m = static_cast<std::int64_t>(std::floor(fraction * 2147483648.0 + 0.5));
  if (m == std::int64_t{1} << 31) m /= 2, ++shift;
  if (shift < -31) return {0, 1};
  return {m, 31 - shift};
}

void fixed_requantise(const FixedScale* scales, std::int32_t zero, std::int32_t lo, std::int32_t hi, const Map& in, const std::int32_t* sums,
                      const Map& out, std::uint8_t* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::int32_t* x = sums + row_at(in, n, b, y);
    std::uint8_t* to = target + row_at(out, n, b, y);
    const FixedScale* scale = scales + b * out.block;
    const std::int64_t lanes = out.lanes(b);
    for (std::int64_t p = 0; p < out.w; ++p, x += in.block, to += out.block)
      for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = bounded(scale[lane](x[lane]) + zero, lo, hi);
  });
}

FixedAdd fixed_add_of(const Quantiser& a, const Quantiser& b, const Quantiser& to) noexcept {
  const double widest = 2 * std::max(static_cast<double>(a.scale), static_cast<double>(b.scale));
  FixedAdd how;
  how.a = fixed_scale(static_cast<double>(a.scale) / widest);
  how.b = fixed_scale(static_cast<double>(b.scale) / widest);
  how.sum = fixed_scale(widest / (1048576.0 * static_cast<double>(to.scale)));
  how.a_zero = a.zero;
  how.b_zero = b.zero;
  how.zero = to.zero;
  how.lo = to.lo;
  how.hi = to.hi;
  return how;
}

void fixed_add(const FixedAdd& how, const Map& a_map, const std::uint8_t* a, const Map& b_map, const std::uint8_t* b, const Map& y_map, std::uint8_t* y,
               Team& team) {
  // What each code amounts to: 256 of them.
  std::int64_t a_part[256], b_part[256];
  for (int code = 0; code < 256; ++code) {
    a_part[code] = how.a(static_cast<std::int64_t>(code - how.a_zero) * 1048576);
    b_part[code] = how.b(static_cast<std::int64_t>(code - how.b_zero) * 1048576);
  }
  for_rows(y_map, team, [&](std::int64_t n, std::int64_t block, std::int64_t line) {
    const std::uint8_t *from_a = a + row_at(a_map, n, block, line), *from_b = b + row_at(b_map, n, block, line);
    std::uint8_t* to = y + row_at(y_map, n, block, line);
    const std::int64_t lanes = y_map.lanes(block);
    for (std::int64_t p = 0; p < y_map.w; ++p, from_a += a_map.block, from_b += b_map.block, to += y_map.block)
      for (std::int64_t lane = 0; lane < lanes; ++lane) to[lane] = bounded(how.sum(a_part[from_a[lane]] + b_part[from_b[lane]]) + how.zero, how.lo, how.hi);
  });
}

void fixed_average_pool(const PoolShape& s, std::uint8_t flip, const Map& in, const std::uint8_t* source, const Map& out, std::uint8_t* target, Team& team) {
  for_rows(out, team, [&](std::int64_t n, std::int64_t b, std::int64_t y) {
    const std::int64_t top = y * s.stride_h - s.pad_top, first_row = std::max<std::int64_t>(0, top), last_row = std::min(in.h, top + s.kh);
    std::uint8_t* to = target + row_at(out, n, b, y);
    for (std::int64_t p = 0; p < out.w; ++p, to += out.block) {
      const std::int64_t left = p * s.stride_w - s.pad_left, first = std::max<std::int64_t>(0, left), last = std::min(in.w, left + s.kw);
      const std::int64_t count = std::max<std::int64_t>(1, (last_row - first_row) * (last - first));
      for (std::int64_t lane = 0; lane < out.lanes(b); ++lane) {
        std::int64_t sum = 0;
        for (std::int64_t r = first_row; r < last_row; ++r)
          for (std::int64_t c = first; c < last; ++c) sum += static_cast<std::int64_t>(source[row_at(in, n, b, r) + c * in.block + lane]) - flip;
        const std::int64_t mean = sum > 0 ? (sum + count / 2) / count : -((-sum + count / 2) / count);
        to[lane] = static_cast<std::uint8_t>(mean + flip);
      }
    }
  });
}

}  // namespace bittern::engine
