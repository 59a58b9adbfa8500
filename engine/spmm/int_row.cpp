#include "spmm/int_row.h"

#include <algorithm>
#include <cstring>

#include "spmm/windows.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t line = 64;
constexpr double from_memory = 8;          // bytes a cycle
constexpr double cached_weights = 1 << 20;  // a layer's: more do not wait in the second-level cache for the next run
constexpr Windows windows{int_spmv_window, 1, int_spmv_slots};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, line) * line; }

}  // namespace

SparseIntRow::SparseIntRow(const IntSpmvKernel& kernel, std::int64_t k, const SparseQuads& quads)
    : kernel_(&kernel), quads_(ceil_div(k, 4)), outputs_(static_cast<std::int64_t>(quads.first.size()) - 1),
      cached_(static_cast<double>(k) * static_cast<double>(outputs_) <= cached_weights) {
  for (std::int64_t first = 0; first < outputs_; first += kernel.lanes) {
    Group group;
    group.at = packed_bytes_;
    const std::int64_t last = std::min<std::int64_t>(first + kernel.lanes, outputs_);
    group.slots = each_slot(windows, quads, first, last, padded(), [](std::int64_t, std::int64_t, const std::vector<std::int64_t>&) {});
    packed_bytes_ = weights_at(group) + rounded(group.slots * kernel.lanes * 4);
    slots_ += group.slots;
    groups_.push_back(group);
  }
}

std::int64_t SparseIntRow::places_at(const Group& group) const noexcept { return group.at + rounded(group.slots); }
std::int64_t SparseIntRow::weights_at(const Group& group) const noexcept {
  return places_at(group) + rounded(group.slots / int_spmv_slots * kernel_->lanes * 4);
}

double SparseIntRow::cost() const noexcept {
  // Measured from the caches; portable code beside dense products of its own, which are far from 24 weights a cycle.
  const double looked_up = static_cast<double>(slots_) * (kernel_->lanes == 16 ? 5.0 : kernel_->lanes == 8 ? 4.0 : 1.0);
  return cached_ ? looked_up : std::max(looked_up, static_cast<double>(packed_bytes_) / from_memory);
}

double SparseIntRow::dense_cost(double weights, int bits) noexcept {
  const double multiplied = weights / 24;  // measured
  return weights <= cached_weights ? multiplied : std::max(multiplied, weights * bits / 8 / from_memory);
}

void SparseIntRow::pack(const SparseQuads& quads, std::byte* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  const std::int64_t lanes = kernel_->lanes;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    auto* const step_of = reinterpret_cast<std::uint8_t*>(packed + group.at);
    std::byte* const places = packed + places_at(group);
    std::byte* const weights = packed + weights_at(group);
    const std::int64_t first = static_cast<std::int64_t>(g) * lanes;
    std::int64_t slot = 0;
    each_slot(windows, quads, first, std::min(first + lanes, outputs_), padded(),
              [&](std::int64_t step, std::int64_t at, const std::vector<std::int64_t>& taken) {
      step_of[slot] = static_cast<std::uint8_t>(step);
      for (std::size_t lane = 0; lane < taken.size(); ++lane) {
        if (taken[lane] < 0) continue;
        const auto entry = static_cast<std::size_t>(taken[lane]);
        std::byte* const place = places + (slot / int_spmv_slots * lanes + static_cast<std::int64_t>(lane)) * 4;
        std::uint32_t word = 0;
        std::memcpy(&word, place, sizeof word);
        word |= static_cast<std::uint32_t>(quads.position[entry] - at) << (4 * (slot % int_spmv_slots));
        std::memcpy(place, &word, sizeof word);
        std::memcpy(weights + (slot * lanes + static_cast<std::int64_t>(lane)) * 4, &quads.weights[entry], sizeof quads.weights[entry]);
      }
      ++slot;
    });
  }
}

void SparseIntRow::run(const std::uint8_t* x, const std::byte* packed, const IntEpilogue& epilogue, IntOut type, void* out, std::byte* scratch,
                       Team& team) const {
  if (scratch_bytes() != 0) {
    std::memset(scratch, 0, static_cast<std::size_t>(scratch_bytes()));
    std::memcpy(scratch, x, static_cast<std::size_t>(quads_ * 4));
    x = reinterpret_cast<const std::uint8_t*>(scratch);
  }
  // Some 64 KB a task.
  const auto count = static_cast<std::int64_t>(groups_.size());
  const std::int64_t chunk = std::max<std::int64_t>(1, 65536 * count / std::max<std::int64_t>(1, packed_bytes_)), tasks = ceil_div(count, chunk);
  const std::int64_t element = type == IntOut::bytes ? 1 : 4;
  team.run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk;
    for (std::int64_t g = first; g < std::min(first + chunk, count); ++g) {
      const Group& group = groups_[static_cast<std::size_t>(g)];
      const std::int64_t at = g * kernel_->lanes;
      IntSpmvArgs args;
      args.x = x;
      args.steps = reinterpret_cast<const std::uint8_t*>(packed + group.at);
      args.places = reinterpret_cast<const std::uint8_t*>(packed + places_at(group));
      args.weights = reinterpret_cast<const std::int8_t*>(packed + weights_at(group));
      args.slots = group.slots;
      args.offset = epilogue.offset + at;
      args.store = epilogue.store;
      args.store.scale += at;
      if (args.store.bias != nullptr) args.store.bias += at;
      args.c = static_cast<std::byte*>(out) + at * element;
      args.valid = outputs_ - at;
      (type == IntOut::bytes ? kernel_->bytes : kernel_->floats)(args);
    }
  });
}

}  // namespace bittern::engine
