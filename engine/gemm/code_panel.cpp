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
  const bool wide = kernel.isa == Isa::avx512;
  double cost = 2;
  if (table.stride != 0) {
    cost = kernel.lanes * 1.0;
  } else if (kernel.bits == 8 && !table.consecutive) {
    cost = wide ? static_cast<double>(table_room(8, table.count)) / 32 * 1.5 : kernel.lanes * 1.0;
  }
  return cost + (table.scale != nullptr ? 0.5 : 0.0) + (table.fold != nullptr ? 0.5 : 0.0);
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
