// Transposition of float matrices by 4 x 4 squares. For baseline units only: it is inline.
#pragma once

#include <cstdint>
#include <cstring>

namespace bittern::engine {

// Four vectors of four floats, rows to columns; the compilers' portable vector notation.
typedef float Quad __attribute__((vector_size(16)));

inline Quad load_quad(const float* p) {
  Quad q;
  std::memcpy(&q, p, sizeof q);
  return q;
}

// Copies a 4 x 4 square: rows `from_step` apart become columns `to_step` apart.
inline void transpose_square(const float* from, std::int64_t from_step, float* to, std::int64_t to_step) {
  const Quad a = load_quad(from), b = load_quad(from + from_step), c = load_quad(from + 2 * from_step), d = load_quad(from + 3 * from_step);
  const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Quad rows[4] = {__builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7),
                        __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * to_step, &rows[i], sizeof rows[i]);
}

// to[c * to_step + r] = from[r * from_step + c] for r < rows and c < columns.
inline void transpose(const float* from, std::int64_t from_step, std::int64_t rows, std::int64_t columns, float* to, std::int64_t to_step) {
  const std::int64_t whole_rows = rows / 4 * 4, whole_columns = columns / 4 * 4;
  for (std::int64_t c = 0; c < whole_columns; c += 4)
    for (std::int64_t r = 0; r < whole_rows; r += 4) transpose_square(from + r * from_step + c, from_step, to + c * to_step + r, to_step);
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::int64_t r = c < whole_columns ? whole_rows : 0; r < rows; ++r) to[c * to_step + r] = from[r * from_step + c];
}

}  // namespace bittern::engine
