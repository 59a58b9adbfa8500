#include "gemm/few_bits.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {
namespace {

constexpr std::int64_t quad = 4;

// Each code's bits, plane by plane.
void pack_codes(const GemvKernel& kernel, const std::uint8_t* code_of, const std::int8_t* weights, std::int64_t bytes, std::uint8_t* packed) {
  const std::int64_t vector = kernel.vector_bytes, group = kernel.group();
  const int low = kernel.bits == 3 ? 2 : std::min(kernel.bits, 4);
  for (std::int64_t i = 0; i < bytes; ++i) {
    const std::int64_t v = i / vector, j = v % group;
    std::uint8_t* plane = packed + v / group * kernel.packed() * vector + i % vector;
    int code = code_of[static_cast<std::uint8_t>(weights[i])];
    for (int width = low, left = kernel.bits; left > 0; left -= width, width = left) {
      const std::int64_t share = 8 / width;  // vectors of a byte
      std::uint8_t& byte = plane[j / share * vector];
      byte = static_cast<std::uint8_t>(byte | (code & ((1 << width) - 1)) << (j % share * width));
      code >>= width;
      plane += group / share * vector;
    }
  }
}

// The number that codes of an alphabet of more than 16 are added to. Zero, which fills panels up, has a code too.
std::int16_t least_of(std::span<const std::int16_t> alphabet) { return std::min<std::int16_t>(alphabet.front(), 0); }

// Zero is code 0 or the first behind an alphabet of at most 16; where there is no room, its products do not count.
void codes_of(std::span<const std::int16_t> alphabet, std::uint8_t* code_of) {
  std::memset(code_of, 0, 256);
  if (alphabet.size() > 16) {
    for (std::int16_t value = least_of(alphabet); value <= alphabet.back(); ++value) {
      code_of[static_cast<std::uint8_t>(value)] = static_cast<std::uint8_t>(value - least_of(alphabet));
    }
    code_of[0] = static_cast<std::uint8_t>(-least_of(alphabet));
    return;
  }
  code_of[0] = static_cast<std::uint8_t>(alphabet.size() < 16 ? alphabet.size() : 0);
  for (std::size_t i = 0; i < alphabet.size(); ++i) code_of[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::uint8_t>(i);
}

}  // namespace

int code_bits(std::span<const std::int16_t> values) noexcept {
  if (values.empty() || values.front() < -128 || values.back() > 127) return 8;
  // Padding is zero: it needs a code too.
  const std::size_t letters = values.size() + (std::find(values.begin(), values.end(), 0) == values.end() ? 1 : 0);
  if (letters <= 16) return letters <= 4 ? 2 : letters <= 8 ? 3 : 4;
  const int range = std::max<int>(values.back(), 0) - least_of(values) + 1;
  return values.size() <= 16 || range > 64 ? 8 : range <= 32 ? 5 : 6;
}

void code_table(std::span<const std::int16_t> alphabet, std::int8_t* table) noexcept {
  if (alphabet.size() > 16) {
    std::memset(table, least_of(alphabet), 16);
    return;
  }
  std::memset(table, 0, 16);
  for (std::size_t i = 0; i < alphabet.size(); ++i) table[i] = static_cast<std::int8_t>(alphabet[i]);
}

void FewBits::pack(std::span<const std::int16_t> alphabet, const std::int8_t* weights, std::uint8_t* packed) const {
  std::uint8_t code_of[256];
  codes_of(alphabet, code_of);
  std::memset(packed, 0, static_cast<std::size_t>(bytes()));
  pack_codes(*kernel_, code_of, weights, source_bytes_, packed);
}

void FewBits::expand(const std::uint8_t* packed, const std::int8_t* table, std::int8_t* weights, Team& team) const {
  const std::int64_t chunk = std::max<std::int64_t>(1, 32768 / kernel_->vector_bytes), all = groups();
  team.run(static_cast<std::size_t>((all + chunk - 1) / chunk), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk, count = std::min(chunk, all - first);
    const std::int64_t at = first * kernel_->vector_bytes;
    kernel_->expand({packed + at * kernel_->packed(), table, count, weights + at * kernel_->group()});
  });
}

void IntGemv::pack(const IntWeights& weights, std::span<const std::int16_t> alphabet, std::uint8_t* packed) const {
  const std::int64_t cols = kernel_->cols, bytes = quads() * cols * quad;
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes()));
  std::uint8_t code_of[256];
  codes_of(alphabet, code_of);
  std::vector<std::int8_t> panel(static_cast<std::size_t>(bytes));
  for (std::int64_t p = 0; p < panels(); ++p) {
    std::fill(panel.begin(), panel.end(), std::int8_t{});
    const std::int64_t count = std::min(cols, n_ - p * cols);
    const auto put = [&](std::int64_t o, std::int64_t i) {
      panel[static_cast<std::size_t>((i / quad * cols + o) * quad + i % quad)] =
          static_cast<std::int8_t>(weights.values[(p * cols + o) * weights.out + i * weights.in]);
    };
    for (std::int64_t i = 0; i < k_; ++i)
      for (std::int64_t o = 0; o < count; ++o) put(o, i);
    std::uint8_t* target = packed + p * panel_bytes();
    if (kernel_->bits == 8) {
      std::memcpy(target, panel.data(), static_cast<std::size_t>(bytes));
    } else {
      pack_codes(*kernel_, code_of, panel.data(), bytes, target);
    }
  }
}

void IntGemv::run(const std::uint8_t* x, const std::uint8_t* packed, const std::int8_t* table, const IntEpilogue& epilogue, IntOut type, void* out,
                  Team& team) const {
  const std::int64_t cols = kernel_->cols, element = type == IntOut::bytes ? 1 : 4;
  // Some 64 KB a task.
  const std::int64_t chunk = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, panel_bytes())), tasks = (panels() + chunk - 1) / chunk;
  team.run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk;
    for (std::int64_t p = first; p < std::min(first + chunk, panels()); ++p) {
      GemvArgs args{x, quads(), packed + p * panel_bytes(), table, epilogue.offset + p * cols, epilogue.store, nullptr, std::min(cols, n_ - p * cols)};
      args.store.scale += p * cols;
      if (args.store.bias != nullptr) args.store.bias += p * cols;
      args.c = static_cast<std::byte*>(out) + p * cols * element;
      (type == IntOut::bytes ? kernel_->bytes : kernel_->floats)(args);
    }
  });
}

}  // namespace bittern::engine
