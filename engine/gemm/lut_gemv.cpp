#include "gemm/lut_gemv.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {

void LutGemv::pack(const std::uint8_t* codes, std::int64_t out, std::int64_t in, std::uint8_t* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes()));
  const std::int64_t cols = kernel_->cols;
  for (std::int64_t o = 0; o < n_; ++o) {
    std::uint8_t* target = packed + o / cols * panel_bytes() + o % cols * 4;
    for (std::int64_t i = 0; i < k_; ++i) {
      std::uint8_t& byte = target[i / 8 * cols * 4 + i % 8 / 2];
      byte = static_cast<std::uint8_t>(byte | codes[o * out + i * in] << (i % 2 * 4));
    }
  }
}

void LutGemv::run(const std::uint8_t* packed, const LutGemvArgs& rest, Team& team) const {
  const std::int64_t cols = kernel_->cols;
  // Some 64 KB a task.
  const std::int64_t chunk = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, panel_bytes())), tasks = (panels() + chunk - 1) / chunk;
  team.run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk;
    for (std::int64_t p = first; p < std::min(first + chunk, panels()); ++p) {
      LutGemvArgs args = rest;
      args.k = k_;
      args.w = packed + p * panel_bytes();
      if (args.scale != nullptr) args.scale += p * cols;
      if (args.bias != nullptr) args.bias += p * cols;
      args.c += p * cols;
      args.valid = std::min(cols, n_ - p * cols);
      kernel_->run(args);
    }
  });
}

}  // namespace bittern::engine
