#include "gemm/code_panel.h"

#include <cstring>

namespace bittern::engine {

std::int64_t table_room(int bits, std::int64_t count) noexcept {
  std::int64_t room = bits == 8 ? 32 : 16;
  while (room < count) room *= 2;
  return room;
}

void fill_table(int bits, std::span<const float> table, float* filled) noexcept {
  const auto size = static_cast<std::int64_t>(table.size()), room = table_room(bits, size), period = bits == 2 ? std::int64_t{4} : room;
  for (std::int64_t i = 0; i < room; ++i) filled[i] = i % period < size ? table[static_cast<std::size_t>(i % period)] : 0.0f;
}

double expansion_cost(const CodeGemmKernel& kernel, const CodeTable& table) noexcept {
  // Multiply-adds of a full tile in the same time, on an AMD EPYC (Zen 4).
  struct Times {
    double registers, scale;                 // tables in registers; each factor per channel
    double bytes32, bytes64, bytes128, bytes256, channels;  // 8-bit codes by the size of their table; tables of each channel
  };
  constexpr Times scalar{10.5, 0.5, 6.5, 6.5, 6.5, 6.5, 10.5}, avx2{3.2, 1.4, 7.7, 20, 20, 20, 27}, avx512{3, 1.4, 2.6, 3.3, 6.2, 12, 27};
  const Times& times = kernel.isa >= Isa::avx512 ? avx512 : kernel.isa >= Isa::avx2 ? avx2 : scalar;
  double cost = times.registers;
  if (table.stride != 0) {
    cost = times.channels;
  } else if (kernel.bits == 8 && !table.consecutive) {
    cost = table.count <= 32 ? times.bytes32 : table.count <= 64 ? times.bytes64 : table.count <= 128 ? times.bytes128 : times.bytes256;
  }
  return cost + (table.scale != nullptr ? times.scale : 0.0) + (table.fold != nullptr ? times.scale : 0.0);
}

void pack_panel(const CodeGemmKernel& kernel, const std::uint8_t* codes, std::int64_t floats, std::uint8_t* packed) noexcept {
  const std::int64_t bytes = kernel.groups(floats) * kernel.group_bytes(), lanes = kernel.lanes, group = kernel.group_vectors();
  std::memset(packed, 0, static_cast<std::size_t>(bytes));
  if (kernel.bits == 8) {
    std::memcpy(packed, codes, static_cast<std::size_t>(floats));
    return;
  }
  for (std::int64_t first = 0; first < floats; first += lanes) {
    const std::int64_t vector = first / lanes, bit = vector % group * kernel.bits;
    std::uint8_t* const target = packed + vector / group * kernel.group_bytes() + bit / 8;
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      target[lane * 4] = static_cast<std::uint8_t>(target[lane * 4] | codes[first + lane] << (bit % 8));
    }
  }
}

}  // namespace bittern::engine
