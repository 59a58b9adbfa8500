// Numbers and texts that files should not hold, and the words that they do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "rng.h"

namespace fuzz {

inline constexpr std::size_t largest_file = std::size_t{1} << 18;  // what a mutation may grow a file to

inline constexpr const char* kinds[] = {"dense", "affine", "codebook", "ternary", "signs", "pow2", "sum", "seeded", "sparse", "packed", "trits", "separable_signs", "huffman", "rans",
                                         "bitmap", "csr", "relative_index"};
inline constexpr const char* dtypes[] = {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "BF16", "F32", "F64", "F8_E4M3", ""};
inline constexpr const char* graph_dtypes[] = {"f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool", "f8"};

inline std::string number(Rng& rng) {
  static constexpr const char* odd[] = {"0", "-0", "1", "-1", "0.5", "-0.5", "1e308", "-1e308", "1e999", "1e-320", "0.0", "1.0", "2.5", "1E5", "00",
                                        "0x10",
                                        "NaN",
                                        "Infinity", "-", "1e", ".5", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
                                        "-9223372036854775809", "18446744073709551615", "18446744073709551616",
                                        "340282346638528859811704183484516925440",
                                        "4294967295", "4294967296", "2147483647", "-2147483648", "1048576", "1048577", "281474976710656",
                                        "281474976710657",
                                        "17592186044416", "17592186044417", "4096", "65536", "65537", "123456789012345678901234567890"};
  const std::size_t way = rng.below(10);
  if (way < 5) return std::to_string(rng.below(20));
  if (way < 6) return "-" + std::to_string(rng.below(9) + 1);
  if (way < 8) {
    const std::uint64_t power = std::uint64_t{1} << rng.below(64);
    return std::to_string(power + rng.below(3) - 1);
  }
  return rng.pick(odd);
}

inline std::string odd_text(Rng& rng, const std::vector<std::string>& known) {
  switch (rng.below(12)) {
    case 0: return "";
    case 1: return std::string(rng.below(3000), 'a');
    case 2: return "\\u0000";
    case 3: return "\xff\xfe";
    case 4: return "\\ud800";
    case 5: return "\xc3\xa9\\n\\t\\\"";
    case 6: return "N";
    default: return known.empty() ? "x" : rng.pick(known);
  }
}

}  // namespace fuzz
