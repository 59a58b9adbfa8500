#include "gemm/lut_gemv.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {

void LutGemv::pack(const CodedNumbers& numbers, const std::uint8_t* codes, std::int64_t out, std::int64_t in, float* packed) const {
  std::fill(packed, packed + packed_floats(), 0.0f);
  std::copy(numbers.table.begin(), numbers.table.end(), packed);
  const auto spread = [&](std::span<const float> from, float* to) {
    for (std::int64_t o = 0; o < n_; ++o) to[o] = from.empty() ? 1.0f : from[from.size() == 1 ? 0 : static_cast<std::size_t>(o)];
  };
  spread(numbers.scale, packed + entries);
  if (kernel_->codes == RowCodes::ternary) spread(numbers.negative, packed + entries + padded_channels());
  auto* bytes = reinterpret_cast<std::uint8_t*>(packed + codes_at());
  const std::int64_t cols = kernel_->cols, bits = kernel_->bits, per_byte = 8 / bits;
  for (std::int64_t o = 0; o < n_; ++o) {
    std::uint8_t* panel = bytes + o / cols * panel_bytes();
    for (std::int64_t i = 0; i < k_; ++i) {
      std::uint8_t& byte = bits == 8 ? panel[i * cols + o % cols] : panel[(i / per_step() * cols + o % cols) * 4 + i % per_step() / per_byte];
      byte = static_cast<std::uint8_t>(byte | codes[o * out + i * in] << (i % per_byte * bits));
    }
  }
}

void LutGemv::run(const float* packed, const CodedRows& rows, Team& team) const {
  const std::int64_t cols = kernel_->cols;
  const auto* codes = reinterpret_cast<const std::uint8_t*>(packed + codes_at());
  // Some 64 KB a task: so many panels, which each row reads again, or so many rows of a small matrix.
  constexpr std::int64_t most = 65536;
  const auto count_of = [](std::int64_t bytes) { return std::max<std::int64_t>(1, most / std::max<std::int64_t>(1, bytes)); };
  const std::int64_t chunk = std::min(count_of(panel_bytes()), panels()), chunks = (panels() + chunk - 1) / chunk;
  const std::int64_t height = count_of(chunk * panel_bytes()), bands = (rows.rows + height - 1) / height;
  team.run(static_cast<std::size_t>(chunks * bands), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) / bands * chunk, top = static_cast<std::int64_t>(task) % bands * height;
    for (std::int64_t p = first; p < std::min(first + chunk, panels()); ++p) {
      LutGemvArgs args;
      args.k = k_;
      args.w = codes + p * panel_bytes();
      args.table = packed;
      args.scale = packed + entries + p * cols;
      args.negative = args.scale + padded_channels();
      args.lo = rows.lo;
      args.hi = rows.hi;
      args.valid = std::min(cols, n_ - p * cols);
      for (std::int64_t row = top; row < std::min(top + height, rows.rows); ++row) {
        args.x = rows.x + row * k_;
        args.bias = rows.bias != nullptr ? rows.bias + row * rows.bias_step + p * cols : nullptr;
        args.c = rows.y + row * n_ + p * cols;
        kernel_->run(args);
      }
    }
  });
}

}  // namespace bittern::engine
