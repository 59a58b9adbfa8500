#include "gemm/lut_gemv.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {

void LutGemv::pack(const CodedNumbers& numbers, const std::uint8_t* codes, std::int64_t out, std::int64_t in, float* packed) const {
  std::fill(packed, packed + packed_floats(), 0.0f);
  // `each` numbers of every output, from one entry or from as many as there are outputs.
  const auto spread = [&](std::span<const float> from, std::int64_t each, float* to) {
    const std::int64_t step = static_cast<std::int64_t>(from.size()) == each ? 0 : each;
    for (std::int64_t o = 0; o < n_; ++o)
      for (std::int64_t i = 0; i < each; ++i) to[o * each + i] = from.empty() ? 1.0f : from[static_cast<std::size_t>(o * step + i)];
  };
  if (lanes() == 4) {
    spread(numbers.table, 4, packed);
  } else {
    std::copy(numbers.table.begin(), numbers.table.end(), packed);
    spread(numbers.scale, 1, packed + entries);
  }
  auto* bytes = reinterpret_cast<std::uint8_t*>(packed + codes_at());
  const std::int64_t cols = kernel_->cols, bits = kernel_->bits, per_byte = 8 / bits;
  for (std::int64_t o = 0; o < n_; ++o) {
    std::uint8_t* panel = bytes + o / cols * panel_bytes();
    for (std::int64_t i = 0; i < k_; ++i) {
      const std::int64_t step = i / per_step(), lane = i % lanes(), j = i % per_step() / lanes();
      std::uint8_t& byte = bits == 8 ? panel[i * cols + o % cols] : panel[((step * cols + o % cols) * lanes() + lane) * 4 + j / per_byte];
      byte = static_cast<std::uint8_t>(byte | codes[o * out + i * in] << (j % per_byte * bits));
    }
  }
}

void LutGemv::run(const float* packed, const CodedRows& rows, Team& team) const {
  const std::int64_t cols = kernel_->cols;
  const auto* codes = reinterpret_cast<const std::uint8_t*>(packed + codes_at());
  // Some 64 KB a task: so many panels, and so many rows of a small matrix, at least the four that a decoded weight serves.
  constexpr std::int64_t most = 65536;
  const auto count_of = [](std::int64_t bytes) { return std::max<std::int64_t>(1, most / std::max<std::int64_t>(1, bytes)); };
  const std::int64_t chunk = std::min(count_of(panel_bytes()), panels()), chunks = (panels() + chunk - 1) / chunk;
  const std::int64_t height = (count_of(chunk * panel_bytes()) + 3) / 4 * 4, bands = (rows.rows + height - 1) / height;
  team.run(static_cast<std::size_t>(chunks * bands), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) / bands * chunk, top = static_cast<std::int64_t>(task) % bands * height;
    for (std::int64_t p = first; p < std::min(first + chunk, panels()); ++p) {
      LutGemvArgs args;
      args.k = k_;
      args.w = codes + p * panel_bytes();
      args.table = lanes() == 4 ? packed + p * cols * 4 : packed;
      args.scale = packed + entries + p * cols;
      args.lo = rows.lo;
      args.hi = rows.hi;
      args.valid = std::min(cols, n_ - p * cols);
      args.rows = std::min(height, rows.rows - top);
      args.x = rows.x + top * k_;
      args.bias = rows.bias != nullptr ? rows.bias + top * rows.bias_step + p * cols : nullptr;
      args.c = rows.y + top * n_ + p * cols;
      args.x_step = k_;
      args.bias_step = rows.bias_step;
      args.c_step = n_;
      kernel_->run(args);
    }
  });
}

}  // namespace bittern::engine
