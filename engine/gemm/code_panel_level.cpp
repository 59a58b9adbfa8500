// The expansion of weights held as codes into a panel of floats, compiled once per instruction-set level.
#include "gemm/code_panel.h"
#include "simd/dot.h"
#include "simd/vec.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Tables of up to `most` entries in registers. Codes of fewer bits have others above them: the table is repeated instead of
// masking them.
#if BITTERN_VEC == 0
constexpr int most_in_registers = 0;
inline vi shifted(vi a, int bits) { return {a.v >> bits}; }
#elif BITTERN_VEC <= 2
constexpr int most_in_registers = 32;
inline vi shifted(vi a, int bits) { return {_mm256_srl_epi32(a.v, _mm_cvtsi32_si128(bits))}; }
template <int entries>
struct Registers {
  __m256 part[entries / 8];
  inline __attribute__((always_inline)) explicit Registers(const float* p) {
    BITTERN_UNROLL
    for (int i = 0; i < entries / 8; ++i) part[i] = _mm256_loadu_ps(p + i * 8);
  }
  inline __attribute__((always_inline)) vf at(vi codes) const {
    // Bit 3 and those above it choose the part: moved to the sign, which the blend reads.
    __m256 found[entries / 8];
    BITTERN_UNROLL
    for (int i = 0; i < entries / 8; ++i) found[i] = _mm256_permutevar8x32_ps(part[i], codes.v);
    int shift = 28;
    BITTERN_UNROLL
    for (int left = entries / 16; left > 0; left /= 2, --shift) {
      const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(codes.v, shift));
      BITTERN_UNROLL
      for (int i = 0; i < left; ++i) found[i] = _mm256_blendv_ps(found[2 * i], found[2 * i + 1], upper);
    }
    return {found[0]};
  }
};
#else
constexpr int most_in_registers = 256;
inline vi shifted(vi a, int bits) { return {_mm512_maskz_srl_epi32(0xffff, a.v, _mm_cvtsi32_si128(bits))}; }
template <int entries>
struct Registers {
  static constexpr int pairs = entries / 32;
  __m512 part[entries / 16];
  inline __attribute__((always_inline)) explicit Registers(const float* p) {
    BITTERN_UNROLL
    for (int i = 0; i < entries / 16; ++i) part[i] = _mm512_loadu_ps(p + i * 16);
  }
  inline __attribute__((always_inline)) vf at(vi codes) const {
    if constexpr (entries == 16) {
      return {_mm512_maskz_permutexvar_ps(0xffff, codes.v, part[0])};
    } else {
      __m512 found[pairs];
      BITTERN_UNROLL
      for (int i = 0; i < pairs; ++i) found[i] = _mm512_permutex2var_ps(part[2 * i], codes.v, part[2 * i + 1]);
      int bit = 32;
      BITTERN_UNROLL
      for (int left = pairs / 2; left > 0; left /= 2, bit *= 2) {
        const __mmask16 upper = _mm512_test_epi32_mask(codes.v, _mm512_set1_epi32(bit));
        BITTERN_UNROLL
        for (int i = 0; i < left; ++i) found[i] = _mm512_mask_blend_ps(upper, found[2 * i], found[2 * i + 1]);
      }
      return {found[0]};
    }
  }
};
#endif

// Entries that are consecutive whole numbers.
struct Consecutive {
  vf first;
  inline __attribute__((always_inline)) vf at(vi codes) const { return add(to_float(codes), first); }
};

inline vi load_word(const unsigned char* p) {
  vi word;
  __builtin_memcpy(&word.v, p, sizeof word.v);
  return word;
}

// The factors of the vectors of a panel, one after the other: how many, and whether the first is that of a group of k.
template <int scales, bool grouped>
struct Factors {
  const CodeTable& table;
  const float* scale;
  std::int64_t cols, channel = 0, k = 0;

  inline __attribute__((always_inline)) explicit Factors(const ExpandPanelArgs& args) : table(args.table), scale(args.table.scale), cols(args.cols) {
    if constexpr (grouped) scale = table.scale + table.scale_rows[0] * table.scale_step;
  }
  inline __attribute__((always_inline)) vf times(vf w) const {
    if constexpr (scales > 0) w = mul(w, load(scale + channel));
    if constexpr (scales > 1) w = mul(w, load(table.fold + channel));
    return w;
  }
  inline __attribute__((always_inline)) float times(float w, int lane) const {
    if constexpr (scales > 0) w *= scale[channel + lane];
    if constexpr (scales > 1) w *= table.fold[channel + lane];
    return w;
  }
  inline __attribute__((always_inline)) void next() {
    channel += width;
    if (channel < cols) return;
    channel = 0;
    if constexpr (grouped) scale = table.scale + table.scale_rows[++k] * table.scale_step;
  }
};

template <int bits, class Factors, class Entries>
void expand_vectors(const ExpandPanelArgs& args, Factors factors, const Entries& entries) {
  constexpr int count = bits == 8 ? 4 : 32 / bits, bytes = count * width * bits / 8;
  const unsigned char* codes = args.codes;
  float* target = args.target;
  for (std::int64_t g = 0; g < args.groups; ++g, codes += bytes) {
    const vi word = bits == 8 ? vi{} : load_word(codes);
    BITTERN_UNROLL
    for (int j = 0; j < count; ++j, target += width) {
      const vf w = entries.at(bits == 8 ? widen(codes + j * width) : shifted(word, j * bits % 32));
      store(target, factors.times(w));
      factors.next();
    }
  }
}

// One after the other: large tables, and tables of each channel.
struct Singly {};
template <int bits, class Factors>
void expand_vectors(const ExpandPanelArgs& args, Factors factors, const Singly&) {
  constexpr int count = bits == 8 ? 4 : 32 / bits, bytes = count * width * bits / 8;
  const CodeTable& table = args.table;
  const unsigned char* codes = args.codes;
  float* target = args.target;
  for (std::int64_t g = 0; g < args.groups; ++g, codes += bytes) {
    for (int j = 0; j < count; ++j, target += width) {
      const float* entries = table.entries + factors.channel * table.stride;
      for (int lane = 0; lane < width; ++lane, entries += table.stride) {
        unsigned code;
        if constexpr (bits == 8) {
          code = codes[j * width + lane];
        } else {
          code = codes[lane * 4 + j * bits / 8];
          code = code >> (j * bits % 8) & ((1u << bits) - 1u);
        }
        target[lane] = factors.times(entries[code], lane);
      }
      factors.next();
    }
  }
}

template <int bits, class Entries>
void expand_scaled(const ExpandPanelArgs& args, const Entries& entries) {
  const CodeTable& table = args.table;
  if (table.scale == nullptr) return expand_vectors<bits>(args, Factors<0, false>(args), entries);
  if (table.scale_rows != nullptr) {
    if (table.fold == nullptr) return expand_vectors<bits>(args, Factors<1, true>(args), entries);
    return expand_vectors<bits>(args, Factors<2, true>(args), entries);
  }
  if (table.fold == nullptr) return expand_vectors<bits>(args, Factors<1, false>(args), entries);
  expand_vectors<bits>(args, Factors<2, false>(args), entries);
}

template <int bits>
void expand(const ExpandPanelArgs& args) {
  const CodeTable& table = args.table;
  if constexpr (bits == 8) {
    if (table.consecutive) return expand_scaled<bits>(args, Consecutive{set1(table.first)});
  }
  if (table.stride != 0 || table.count > most_in_registers) return expand_scaled<bits>(args, Singly{});
#if BITTERN_VEC != 0
  if constexpr (bits < 8) {
    expand_scaled<bits>(args, Registers<16>(table.entries));
  } else {
    if (table.count <= 32) return expand_scaled<bits>(args, Registers<32>(table.entries));
#if BITTERN_VEC >= 3
    if (table.count <= 64) return expand_scaled<bits>(args, Registers<64>(table.entries));
    if (table.count <= 128) return expand_scaled<bits>(args, Registers<128>(table.entries));
    expand_scaled<bits>(args, Registers<256>(table.entries));
#endif
  }
#endif
}

#define BITTERN_CODES(level, bits, rows, cols) \
  {"gemm_f32_lut" #bits "_f32_" #rows "x" #cols "__" #level, Isa::level, bits, rows, cols, width, &expand<bits>},
constexpr CodeGemmKernel list[] = {
#define BITTERN_GEMM(level, rows, vectors, cols) \
  BITTERN_ONLY(level, BITTERN_CODES(level, 2, rows, cols) BITTERN_CODES(level, 4, rows, cols) BITTERN_CODES(level, 8, rows, cols))
#include "gemm/kernels.inc"
#undef BITTERN_GEMM
};

}  // namespace

const CodeGemmKernel* code_gemm_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
