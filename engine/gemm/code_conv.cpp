#include "gemm/code_conv.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

namespace bittern::engine {
namespace {

constexpr std::int64_t most_slots = 256;

// Memory for one expanded panel, which a thread holds while it computes with it. The panel stays for the next one.
struct Slot {
  std::atomic<bool> busy{false};
  std::atomic<std::int64_t> panel{-1};
};

class Held {
 public:
  explicit Held(Slot& slot) : slot_(&slot) {}
  Held(Held&& other) noexcept : slot_(other.slot_) { other.slot_ = nullptr; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    if (slot_ != nullptr) slot_->busy.store(false, std::memory_order_release);
  }

 private:
  Slot* slot_;
};

// A free slot, best one that has the panel already.
std::size_t take(std::array<Slot, most_slots>& slots, std::size_t count, std::int64_t panel) {
  while (true) {
    for (const bool same : {true, false}) {
      for (std::size_t i = 0; i < count; ++i) {
        if (same && slots[i].panel.load(std::memory_order_relaxed) != panel) continue;
        if (!slots[i].busy.exchange(true, std::memory_order_acquire)) return i;
      }
    }
    std::this_thread::yield();
  }
}

}  // namespace

CodeConv::CodeConv(const CodeGemmKernel& kernel, const GemmKernel& tile, const ConvShape& shape, const Map& in, const Map& out, const Map& residual,
                   int threads)
    : kernel_(&kernel), tile_(&tile), loop_({tile.rows, tile.cols, tile.gathers}, shape, in, out, residual, 1) {
  for (const ConvLoop::Panel& panel : loop_.panels()) {
    const std::int64_t groups = kernel.groups(panel.k * tile.cols);
    offsets_.push_back(bytes_);
    bytes_ += groups * kernel.group_bytes();
    slot_elements_ = std::max(slot_elements_, groups * kernel.group_vectors() * kernel.lanes);
  }
  slots_ = std::clamp<std::int64_t>(std::min<std::int64_t>(threads, loop_.tasks()), 1, most_slots);
}

double CodeConv::cost(const CodeTable& table, std::int64_t in_block, bool flat) const noexcept {
  const GemmConv::Estimate dense = GemmConv::estimate(*tile_, loop_.shape(), in_block, flat);
  // An expanded panel comes back from the second-level cache, with 32 bytes a cycle; one that takes much of this cache also
  // goes there with as many. Codes are read from memory before they are expanded: the tiles cannot hide it.
  constexpr std::int64_t cache = 256 << 10;
  const double floats = static_cast<double>(loop_.packed()), passes = static_cast<double>(loop_.passes()), stream = floats * 4 / 32;
  const double expansion = floats / kernel_->lanes * expansion_cost(*kernel_, table) + (slot_elements_ * 4 > cache ? stream : 0.0);
  const double reading = dense.weights * static_cast<double>(bytes_) / std::max(1.0, floats * 4);
  return std::max(dense.compute, passes * stream) + passes * expansion + reading;
}

bool CodeConv::foreign() const noexcept {
  const ConvShape& s = loop_.shape();
  if (s.groups == 1) return false;
  return std::any_of(loop_.panels().begin(), loop_.panels().end(), [&](const ConvLoop::Panel& p) { return p.k != s.c / s.groups * s.kh * s.kw; }) ||
         s.oc / s.groups % tile_->cols != 0;
}

std::vector<std::int32_t> CodeConv::scale_rows(std::int64_t group) const {
  const ConvShape& s = loop_.shape();
  const std::int64_t taps = s.kh * s.kw, block = loop_.in_block();
  std::vector<std::int32_t> rows;
  for (std::int64_t start = 0; start < s.c; start += block) {
    for (std::int64_t t = 0; t < taps; ++t) {
      for (std::int64_t channel = start; channel < std::min(start + block, s.c); ++channel) {
        rows.push_back(static_cast<std::int32_t>(channel / group * taps + t));
      }
    }
  }
  // Whole groups of vectors are expanded, and the row after the last is looked at.
  rows.insert(rows.end(), static_cast<std::size_t>(kernel_->group_vectors() + 1), 0);
  return rows;
}

void CodeConv::pack(const CodeWeights& weights, std::uint8_t pad, std::uint8_t* packed) const {
  const ConvShape& s = loop_.shape();
  const std::int64_t in = s.c / s.groups, out = s.oc / s.groups, taps = s.kh * s.kw, cols = tile_->cols, block = loop_.in_block();
  std::vector<std::uint8_t> flat;
  for (std::size_t index = 0; index < loop_.panels().size(); ++index) {
    const ConvLoop::Panel& p = loop_.panels()[index];
    const std::int64_t first = static_cast<std::int64_t>(index) * cols, count = std::min(cols, s.oc - first);
    flat.assign(static_cast<std::size_t>(p.k * cols), pad);
    std::uint8_t* target = flat.data();
    for (std::int64_t b = 0; b < p.blocks; ++b) {
      const std::int64_t start = (p.first_block + b) * block, end = std::min(start + block, s.c);
      for (std::int64_t t = 0; t < taps; ++t) {
        for (std::int64_t channel = start; channel < end; ++channel, target += cols) {
          for (std::int64_t o = 0; o < count; ++o) {
            const std::int64_t i = channel - (first + o) / out * in;  // inside the output's group, or foreign
            if (i >= 0 && i < in) target[o] = weights.codes[(first + o) * weights.out + i * weights.in + t];
          }
        }
      }
    }
    pack_panel(*kernel_, flat.data(), p.k * cols, packed + offsets_[index]);
  }
}

void CodeConv::run(const float* in, const std::uint8_t* packed, const CodeTable& table, const Epilogue& epilogue, float* out, float* scratch,
                   Team& team) const {
  std::array<Slot, most_slots> slots;
  loop_.run_all(team, [&](const ConvLoop::Stretch& stretch) {
    const std::int64_t first = stretch.panel * tile_->cols;
    const std::size_t at = take(slots, static_cast<std::size_t>(slots_), stretch.panel);
    Held held(slots[at]);
    float* const panel = scratch + static_cast<std::int64_t>(at) * slot_elements_;
    if (slots[at].panel.load(std::memory_order_relaxed) != stretch.panel) {
      const auto index = static_cast<std::size_t>(stretch.panel);
      ExpandPanelArgs expansion{packed + offsets_[index], kernel_->groups(loop_.panels()[index].k * tile_->cols), tile_->cols, table, panel};
      if (table.stride != 0) expansion.table.entries += first * table.stride;
      if (table.scale != nullptr) expansion.table.scale += first;
      if (table.fold != nullptr) expansion.table.fold += first;
      kernel_->expand(expansion);
      slots[at].panel.store(stretch.panel, std::memory_order_relaxed);
    }
    TileArgs args = stretch_args(loop_, *tile_, stretch, epilogue);
    args.b = panel;
    return [this, args, held = std::move(held), a = in + stretch.a, c = out + stretch.c,
            residual = epilogue.residual != nullptr ? epilogue.residual + stretch.residual : nullptr](const ConvLoop::Tile& tile) mutable {
      args.a = a + tile.a;
      args.c = c + tile.c;
      args.residual = residual != nullptr ? residual + tile.residual : nullptr;
      args.pixels = tile.pixels;
      tile_->tiles[tile.rows - 1](args);
    };
  });
}

}  // namespace bittern::engine
