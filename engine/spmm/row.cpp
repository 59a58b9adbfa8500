#include "spmm/row.h"

#include <algorithm>
#include <cstring>

#include "spmm/windows.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t line = 64;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, line) * line; }

constexpr Windows windows{spmv_window, spmv_step, spmv_slots};

}  // namespace

SparseRow::SparseRow(const SpmvKernel& kernel, std::int64_t inputs, const SparseRows& rows)
    : kernel_(&kernel), inputs_(inputs), padded_(std::max(spmv_window, ceil_div(inputs, spmv_step) * spmv_step)),
      outputs_(static_cast<std::int64_t>(rows.first.size()) - 1) {
  for (std::int64_t first = 0; first < outputs_; first += kernel.lanes) {
    Group group;
    group.at = packed_bytes_;
    const std::int64_t last = std::min<std::int64_t>(first + kernel.lanes, outputs_);
    group.slots = each_slot(windows, rows, first, last, padded_, [](std::int64_t, std::int64_t, const std::vector<std::int64_t>&) {});
    packed_bytes_ = values_at(group) + (kernel.codes ? 0 : rounded(group.slots * kernel.lanes * 4));
    slots_ += group.slots;
    groups_.push_back(group);
  }
}

std::int64_t SparseRow::codes_at(const Group& group) const noexcept { return group.at + rounded(group.slots); }
std::int64_t SparseRow::values_at(const Group& group) const noexcept { return codes_at(group) + rounded(group.slots * kernel_->lanes); }

double SparseRow::cost() const noexcept {
  // Two look-ups and what is around them, or bytes from memory at 8 a cycle.
  return std::max(static_cast<double>(slots_) * (kernel_->isa == Isa::avx512 ? 3.0 : 6.0), static_cast<double>(packed_bytes_) / 8);
}

void SparseRow::pack(const SparseRows& rows, std::uint8_t zero, std::byte* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  const std::int64_t lanes = kernel_->lanes;
  for (std::size_t g = 0; g < groups_.size(); ++g) {
    const Group& group = groups_[g];
    auto* step_of = reinterpret_cast<std::uint8_t*>(packed + group.at);
    auto* codes = reinterpret_cast<std::uint8_t*>(packed + codes_at(group));
    auto* values = reinterpret_cast<float*>(packed + values_at(group));
    if (kernel_->codes) std::memset(codes, zero << 4, static_cast<std::size_t>(group.slots * lanes));
    const std::int64_t first = static_cast<std::int64_t>(g) * lanes;
    std::int64_t slot = 0;
    each_slot(windows, rows, first, std::min(first + lanes, outputs_), padded_, [&](std::int64_t step, std::int64_t at, const std::vector<std::int64_t>& taken) {
      step_of[slot] = static_cast<std::uint8_t>(step);
      for (std::size_t lane = 0; lane < taken.size(); ++lane) {
        if (taken[lane] < 0) continue;
        const auto entry = static_cast<std::size_t>(taken[lane]), place = static_cast<std::size_t>(slot / spmv_slots * lanes) + lane;
        std::uint8_t& code = codes[place * spmv_slots + static_cast<std::size_t>(slot % spmv_slots)];
        code = static_cast<std::uint8_t>(rows.position[entry] - at);
        if (kernel_->codes) {
          code = static_cast<std::uint8_t>(code | rows.code[entry] << 4);
        } else {
          values[static_cast<std::size_t>(slot * lanes) + lane] = rows.value[entry];
        }
      }
      ++slot;
    });
  }
}

void SparseRow::run(const float* x, const std::byte* packed, const SpmvArgs& rest, float* scratch, Team& team) const {
  if (scratch_elements() != 0) {
    std::copy(x, x + inputs_, scratch);
    std::fill(scratch + inputs_, scratch + scratch_elements(), 0.0f);
    x = scratch;
  }
  // Some 64 KB a task.
  const auto count = static_cast<std::int64_t>(groups_.size());
  const std::int64_t chunk = std::max<std::int64_t>(1, 65536 * count / std::max<std::int64_t>(1, packed_bytes_)), tasks = ceil_div(count, chunk);
  team.run(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk;
    for (std::int64_t g = first; g < std::min(first + chunk, count); ++g) {
      const Group& group = groups_[static_cast<std::size_t>(g)];
      const std::int64_t at = g * kernel_->lanes;
      SpmvArgs args = rest;
      args.x = x;
      args.steps = reinterpret_cast<const std::uint8_t*>(packed + group.at);
      args.codes = reinterpret_cast<const std::uint8_t*>(packed + codes_at(group));
      args.values = reinterpret_cast<const float*>(packed + values_at(group));
      args.slots = group.slots;
      if (args.bias != nullptr) args.bias += at;
      args.y += at;
      args.valid = static_cast<int>(std::min<std::int64_t>(kernel_->lanes, outputs_ - at));
      kernel_->run(args);
    }
  });
}

}  // namespace bittern::engine
