// Products of few rows of real numbers with weights of few bits, compiled once per level.
#include "gemm/lut_gemv.h"
#include "simd/table.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Vectors of a panel. Two sets of six sums and a table fit 32 registers; more vectors share the inputs. No prefetch by hand:
// the weights are one stream.
constexpr int usual = 4, wide = 6;

// Sums of `rows` rows and `vecs` of a panel's vectors, from the vector `first` on. One row has two sets of them, of even and
// odd inputs, so that a product waits for the one before last.
template <int rows, int vectors>
struct Sums {
  static constexpr int registers = BITTERN_VEC >= 3 ? 16 : 8;
  static constexpr int sets = rows == 1 ? 2 : 1, most = registers / (rows * sets), vecs = most < vectors ? vectors / 2 : vectors;
  vf of[sets][rows][vecs];

  void clear() {
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      BITTERN_UNROLL
      for (int v = 0; v < vecs; ++v) {
        of[0][r][v] = zero();
        if constexpr (sets == 2) of[1][r][v] = zero();
      }
    }
  }
  void add_products(int set, const vf (&x)[rows], int v, vf w) {
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) of[set % sets][r][v] = fma(x[r], w, of[set % sets][r][v]);
  }
  vf total(int r, int v) const {
    if constexpr (sets == 2) return add(of[0][r][v], of[1][r][v]);
    return of[0][r][v];
  }
  void finish(const LutGemvArgs& args, int first) const {
    const vf lo = set1(args.lo), hi = set1(args.hi);
    BITTERN_UNROLL
    for (int v = 0; v < vecs; ++v) {
      const int at = (first + v) * width;
      const std::int64_t left = args.valid - at;
      if (left <= 0) break;
      const bool whole = left >= width;
      const vf scale = load(args.scale + at);
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        vf y = mul(total(r, v), scale);
        if (args.bias != nullptr) {
          const float* bias = args.bias + r * args.bias_step + at;
          y = add(y, whole ? load(bias) : load_first(bias, static_cast<int>(left)));
        }
        y = min(hi, max(lo, y));
        float* c = args.c + r * args.c_step + at;
        if (whole) {
          store(c, y);
        } else {
          store_first(c, y, static_cast<int>(left));
        }
      }
    }
  }
  // Where four lanes next to each other are sums of one channel.
  void finish_fours(const LutGemvArgs& args, int first) const {
    constexpr int channels = width / 4;
    BITTERN_UNROLL
    for (int v = 0; v < vecs; ++v) {
      BITTERN_UNROLL
      for (int r = 0; r < rows; ++r) {
        float part[width];
        store(part, total(r, v));
        for (int i = 0; i < channels && (first + v) * channels + i < args.valid; ++i) {
          const int at = (first + v) * channels + i;
          float y = (part[4 * i] + part[4 * i + 1]) + (part[4 * i + 2] + part[4 * i + 3]);
          if (args.bias != nullptr) y += args.bias[r * args.bias_step + at];
          y = y < args.lo ? args.lo : y > args.hi ? args.hi : y;  // a NaN stays
          args.c[r * args.c_step + at] = y;
        }
      }
    }
  }
};

template <int rows>
inline void spread_inputs(const LutGemvArgs& args, std::int64_t i, vf (&x)[rows]) {
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) x[r] = set1(args.x[r * args.x_step + i]);
}

// Four inputs in every four lanes; zeros behind the last.
template <int rows>
inline void spread_fours(const LutGemvArgs& args, std::int64_t i, vf (&x)[rows]) {
  BITTERN_UNROLL
  for (int r = 0; r < rows; ++r) {
    const float* from = args.x + r * args.x_step + i;
    if (i + 4 <= args.k) {
      x[r] = repeat_four(from);
      continue;
    }
    float few[4] = {};
    for (int j = 0; i + j < args.k; ++j) few[j] = from[j];
    x[r] = repeat_four(few);
  }
}

// Codes into one table.
template <class Table, int vectors>
struct OneTable {
  template <int rows>
  static void run(const LutGemvArgs& args) {
    constexpr int bits = Table::bits, per_byte = 8 / bits, per_step = 32 / bits, bytes = 4 * width;  // bytes of a vector's step
    using Block = Sums<rows, vectors>;
    const Table table = Table::load(args.table);
    for (int first = 0; first < vectors; first += Block::vecs) {
      Block sums;
      sums.clear();
      const unsigned char* w = args.w + first * bytes;
      std::int64_t i = 0;
      for (; i + per_step <= args.k; i += per_step, w += vectors * bytes) {
        BITTERN_UNROLL
        for (int byte = 0; byte < 4; ++byte) {
          // Loaded once for all inputs of a byte: most of these loads cross lines of the cache.
          vi codes[Block::vecs];
          BITTERN_UNROLL
          for (int v = 0; v < Block::vecs; ++v) codes[v] = load_codes(w + v * bytes + byte);
          // Two inputs at a time, vector by vector: all look-ups in a row, then all that need a shift, crowd the same ports.
          BITTERN_UNROLL
          for (int pair = 0; pair < per_byte; pair += 2) {
            vf x[2][rows];
            BITTERN_UNROLL
            for (int part = 0; part < 2; ++part) spread_inputs(args, i + byte * per_byte + pair + part, x[part]);
            BITTERN_UNROLL
            for (int v = 0; v < Block::vecs; ++v) {
              BITTERN_UNROLL
              for (int part = 0; part < 2; ++part) {
                sums.add_products(part, x[part], v, table.of(pair + part == 0 ? codes[v] : shifted(codes[v], (pair + part) * bits)));
              }
            }
          }
        }
      }
      for (std::int64_t j = 0; i + j < args.k; ++j) {
        vf x[rows];
        spread_inputs(args, i + j, x);
        BITTERN_UNROLL
        for (int v = 0; v < Block::vecs; ++v) {
          sums.add_products(0, x, v, table.of(shifted(load_codes(w + v * bytes), static_cast<int>(j) * bits)));
        }
      }
      sums.finish(args, first);
    }
  }
};

template <class Table>
using UsualTable = OneTable<Table, usual>;
template <class Table>
using WideTable = OneTable<Table, wide>;

// Codes into a table of each channel: in four lanes, which look up in their own table, stand four inputs of a channel.
struct Tables {
  template <int rows>
  static void run(const LutGemvArgs& args) {
    constexpr int vectors = usual, bytes = 4 * width, per_step = 64;
    using Block = Sums<rows, vectors>;
    for (int first = 0; first < vectors; first += Block::vecs) {
      Block sums;
      sums.clear();
      Table4 tables[Block::vecs];
      BITTERN_UNROLL
      for (int v = 0; v < Block::vecs; ++v) tables[v] = load_tables(args.table + (first + v) * width);
      const unsigned char* w = args.w + first * bytes;
      std::int64_t i = 0;
      for (; i + per_step <= args.k; i += per_step, w += vectors * bytes) {
        BITTERN_UNROLL
        for (int j = 0; j < 16; ++j) {
          vf x[rows];
          BITTERN_UNROLL
          for (int r = 0; r < rows; ++r) x[r] = repeat_four(args.x + r * args.x_step + i + 4 * j);
          BITTERN_UNROLL
          for (int v = 0; v < Block::vecs; ++v) {
            const vi codes = load_codes(w + v * bytes + j / 4);
            sums.add_products(j % 2, x, v, tables[v].of(j % 4 == 0 ? codes : shifted(codes, j % 4 * 2)));
          }
        }
      }
      for (int j = 0; i + 4 * j < args.k; ++j) {
        vf x[rows];
        spread_fours(args, i + 4 * j, x);
        BITTERN_UNROLL
        for (int v = 0; v < Block::vecs; ++v) sums.add_products(0, x, v, tables[v].of(shifted(load_codes(w + v * bytes), 2 * j)));
      }
      sums.finish_fours(args, first);
    }
  }
};

struct Bytes {
  template <int rows>
  static void run(const LutGemvArgs& args) {
    constexpr int vectors = usual;
    using Block = Sums<rows, vectors>;
    for (int first = 0; first < vectors; first += Block::vecs) {
      Block sums;
      sums.clear();
      const auto take = [&](std::int64_t i, int odd) {
        vf x[rows];
        spread_inputs(args, i, x);
        BITTERN_UNROLL
        for (int v = 0; v < Block::vecs; ++v) sums.add_products(odd, x, v, to_float(signed_bytes(args.w + (i * vectors + first + v) * width)));
      };
      std::int64_t i = 0;
      for (; i + 2 <= args.k; i += 2) {
        take(i, 0);
        take(i + 1, 1);
      }
      if (i < args.k) take(i, 0);
      sums.finish(args, first);
    }
  }
};

// Weights are decoded once for up to four rows.
template <class Kind>
void run(const LutGemvArgs& all) {
  LutGemvArgs args = all;
  const auto next = [&](int rows) {
    args.rows -= rows;
    args.x += rows * args.x_step;
    if (args.bias != nullptr) args.bias += rows * args.bias_step;
    args.c += rows * args.c_step;
  };
  for (; args.rows >= 4; next(4)) Kind::template run<4>(args);
  if (args.rows == 3) Kind::template run<3>(args);
  if (args.rows == 2) Kind::template run<2>(args);
  if (args.rows == 1) Kind::template run<1>(args);
}

#if BITTERN_VEC == 0
#define BITTERN_ALL "16"
#define BITTERN_QUARTER "4"
#elif BITTERN_VEC <= 2
#define BITTERN_ALL "32"
#define BITTERN_QUARTER "8"
#else
#define BITTERN_ALL "64"
#define BITTERN_QUARTER "16"
#endif
#define BITTERN_ROW(weight, codes, bits, cols, run) {"gemv_f32_" weight "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, codes, bits, cols, run}
constexpr LutGemvKernel list[] = {
    BITTERN_ROW("lut4_f32_1x" BITTERN_ALL, RowCodes::table16, 4, usual * width, &run<UsualTable<Table16>>),
    BITTERN_ROW("lut2_f32_1x" BITTERN_ALL, RowCodes::table4, 2, usual * width, &run<UsualTable<Table4>>),
    BITTERN_ROW("lut2c_f32_1x" BITTERN_QUARTER, RowCodes::tables4, 2, usual * width / 4, &run<Tables>),
    BITTERN_ROW("s8_f32_1x" BITTERN_ALL, RowCodes::bytes, 8, usual * width, &run<Bytes>),
#if BITTERN_VEC >= 3
    BITTERN_ROW("lut4_f32_1x96", RowCodes::table16, 4, wide * width, &run<WideTable<Table16>>),
    BITTERN_ROW("lut2_f32_1x96", RowCodes::table4, 2, wide * width, &run<WideTable<Table4>>),
#endif
};

}  // namespace

const LutGemvKernel* lut_gemv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
