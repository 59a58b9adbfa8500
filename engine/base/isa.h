// Instruction-set levels: the names used in kernel lists, options and reports.
#pragma once

#include <string_view>

namespace bittern::engine {

// In the order of preference. A processor may have a level without the one before it: avx2vnni is for those without
// 512-bit vectors.
enum class Isa : int { scalar = 0, avx2, avx2vnni, avx512, avx512vnni, avx512icl };
inline constexpr int isa_count = 6;

constexpr const char* name_of(Isa isa) noexcept {
  constexpr const char* names[isa_count] = {"scalar", "avx2", "avx2vnni", "avx512", "avx512vnni", "avx512icl"};
  return names[static_cast<int>(isa)];
}

// False if `name` is no level at all.
constexpr bool parse_isa(std::string_view name, Isa& out) noexcept {
  for (int i = 0; i < isa_count; ++i) {
    if (name == name_of(static_cast<Isa>(i))) {
      out = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

}  // namespace bittern::engine
