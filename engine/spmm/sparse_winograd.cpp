#include "spmm/sparse_winograd.h"

#include <algorithm>
#include <cstring>

#include "base/cpu_count.h"
#include "spmm/panels.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, 64) * 64; }

constexpr std::int64_t part_rows = 256;    // output channels of a task; their numbers have 16 bits
constexpr std::int64_t task_channels = 8;  // of a task that transforms

// Vectors of a panel: both transforms stay near the second-level cache, but weights are read for several vectors at once.
std::int64_t panel_vectors(const SpmmKernel& product, std::int64_t positions, std::int64_t channels, std::int64_t tiles) {
  constexpr std::int64_t cached = 1 << 18, least = 4;  // floats; vectors
  const std::int64_t room = cached / std::max<std::int64_t>(1, positions * channels * product.lanes);
  const std::int64_t most = std::clamp<std::int64_t>(room, std::min<std::int64_t>(least, product.vectors), product.vectors);
  const std::int64_t all = std::max<std::int64_t>(1, ceil_div(tiles, product.lanes));
  return ceil_div(all, ceil_div(all, most));
}

// Between positions an odd number of cache lines: they are written side by side and must not fall into one cache set.
std::int64_t odd_lines(std::int64_t elements) { return (ceil_div(elements, 16) | 1) * 16; }

// Lanes of a vector whose first column is `column` that lie in [0, end).
std::uint16_t lanes_inside(std::int64_t column, std::int64_t end, int lanes) {
  const std::int64_t from = std::clamp<std::int64_t>(-column, 0, lanes), to = std::clamp<std::int64_t>(end - column, from, lanes);
  return static_cast<std::uint16_t>(((std::uint32_t{1} << (to - from)) - 1) << from);
}

}  // namespace

std::vector<SparseRows> position_rows(const float* weights, std::int64_t outputs, std::int64_t inputs, std::int64_t positions) {
  std::vector<SparseRows> all(static_cast<std::size_t>(positions));
  for (SparseRows& rows : all) rows.first.push_back(0);
  for (std::int64_t o = 0; o < outputs; ++o) {
    for (std::int64_t i = 0; i < inputs; ++i) {
      const float* tile = weights + (o * inputs + i) * positions;
      for (std::int64_t p = 0; p < positions; ++p) {
        if (tile[p] == 0.0f) continue;
        all[static_cast<std::size_t>(p)].position.push_back(static_cast<std::int32_t>(i));
        all[static_cast<std::size_t>(p)].value.push_back(tile[p]);
      }
    }
    for (SparseRows& rows : all) rows.first.push_back(rows.entries());
  }
  return all;
}

double SparseWinograd::cost(const WinogradTilesKernel& kernel, const SpmmKernel& product, const ConvShape& s, double entries) noexcept {
  const std::int64_t m = kernel.outputs, positions = (m + 2) * (m + 2);
  const std::int64_t cols = ceil_div(s.ow, m), lines = s.n * ceil_div(s.oh, m), tiles = lines * cols;
  const std::int64_t vectors = panel_vectors(product, positions, s.c + s.oc, tiles);
  const double panels = static_cast<double>(ceil_div(tiles, vectors * product.lanes)), all = static_cast<double>(ceil_div(tiles, product.lanes));
  const double inputs = static_cast<double>(s.c), outputs = static_cast<double>(s.oc);
  const double blocks = std::max(1.0, inputs * static_cast<double>(vectors * product.lanes * 4) / static_cast<double>(panel_bytes));
  const double products = entries * (all + panels * 1.35);
  const double sums = outputs * static_cast<double>(positions) * blocks * (all * 3.0 + panels * 8.0);
  const double pieces = static_cast<double>(lines * ceil_div(cols, kernel.lanes)) + panels;
  // Measured, for vectors of 16; the larger tiles leave the registers.
  const double transforms = pieces * static_cast<double>(positions) * (inputs + outputs) * (m == 2 ? 5.0 : 8.5);
  // Every panel reads the weights again, from memory where the caches do not hold them.
  constexpr double cached = 8e6, from_memory = 6;  // bytes; a cycle
  const double weights = entries * static_cast<double>(sizeof(SpmmEntry));
  return products + sums + transforms + (weights > cached ? panels * weights / from_memory : 0.0);
}

SparseWinograd::SparseWinograd(const WinogradTilesKernel& kernel, const SpmmKernel& product, const ConvShape& shape, bool relu,
                               const std::vector<SparseRows>& rows)
    : kernel_(&kernel), product_(&product), shape_(shape), relu_(relu), positions_((kernel.outputs + 2) * (kernel.outputs + 2)),
      tile_rows_(ceil_div(shape.oh, kernel.outputs)), tile_cols_(ceil_div(shape.ow, kernel.outputs)), tiles_(shape.n * tile_rows_ * tile_cols_),
      vectors_(panel_vectors(product, positions_, shape.c + shape.oc, tiles_)), row_(vectors_ * product.lanes), panels_(ceil_div(tiles_, row_)) {
  blocks_ = std::max<std::int64_t>(1, ceil_div(shape.c * row_ * 4, panel_bytes));
  block_channels_ = ceil_div(shape.c, blocks_);
  blocks_ = ceil_div(shape.c, block_channels_);
  v_position_ = odd_lines(shape.c * row_);
  m_position_ = odd_lines(shape.oc * row_);
  // Transforms read whole vectors of the last row, whatever is behind it.
  panel_elements_ = positions_ * (v_position_ + m_position_) + 16;
  constexpr std::int64_t most_elements = std::int64_t{1} << 24;
  together_ = std::min({std::int64_t{granted_cpus()}, panels_, most_elements / panel_elements_});
  together_ = std::max<std::int64_t>(1, together_);
  for (std::int64_t p = 0; p < positions_; ++p) {
    const SparseRows& own = rows[static_cast<std::size_t>(p)];
    const std::int64_t cuts = ceil_div(shape.oc, part_rows);
    for (std::int64_t cut = 0; cut < cuts; ++cut) {
      Part part{p, shape.oc * cut / cuts, 0, static_cast<std::int64_t>(all_blocks_.size())};
      part.count = shape.oc * (cut + 1) / cuts - part.first;
      // Entries of every row in each block.
      std::vector<std::int64_t> counts(static_cast<std::size_t>(blocks_ * part.count), 0);
      for (std::int64_t r = 0; r < part.count; ++r) {
        for (auto e = own.first[static_cast<std::size_t>(part.first + r)]; e < own.first[static_cast<std::size_t>(part.first + r + 1)]; ++e) {
          ++counts[static_cast<std::size_t>(own.position[static_cast<std::size_t>(e)] / block_channels_ * part.count + r)];
        }
      }
      for (std::int64_t b = 0; b < blocks_; ++b) {
        const auto begin = counts.begin() + b * part.count, end = begin + part.count;
        std::int64_t entries = 0;
        for (auto count = begin; count != end; ++count) entries += *count;
        std::sort(begin, end);
        Block block{b * block_channels_, packed_bytes_, 0, std::unique(begin, end) - begin, 0};
        block.groups = block.entries + entries * static_cast<std::int64_t>(sizeof(SpmmEntry));
        block.order = block.groups + block.group_count * static_cast<std::int64_t>(sizeof(SpmmGroup));
        packed_bytes_ = rounded(block.order + part.count * 2);
        all_blocks_.push_back(block);
      }
      parts_.push_back(part);
    }
  }
}

void SparseWinograd::pack(const std::vector<SparseRows>& rows, std::byte* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  struct Stretch {
    std::int64_t row = 0, first = 0, last = 0;  // entries
  };
  std::vector<Stretch> order;
  for (const Part& part : parts_) {
    const SparseRows& own = rows[static_cast<std::size_t>(part.position)];
    std::vector<std::int64_t> next(own.first.begin() + part.first, own.first.begin() + part.first + part.count);
    for (std::int64_t b = 0; b < blocks_; ++b) {
      const Block& block = all_blocks_[static_cast<std::size_t>(part.first_block + b)];
      order.clear();
      for (std::int64_t r = 0; r < part.count; ++r) {
        std::int64_t& at = next[static_cast<std::size_t>(r)];
        const std::int64_t first = at, end = own.first[static_cast<std::size_t>(part.first + r + 1)];
        while (at < end && own.position[static_cast<std::size_t>(at)] < block.first_channel + block_channels_) ++at;
        order.push_back({r, first, at});
      }
      std::stable_sort(order.begin(), order.end(), [](const Stretch& p, const Stretch& q) { return p.last - p.first < q.last - q.first; });
      auto* entry = reinterpret_cast<SpmmEntry*>(packed + block.entries);
      auto* group = reinterpret_cast<SpmmGroup*>(packed + block.groups) - 1;
      auto* number = reinterpret_cast<std::uint16_t*>(packed + block.order);
      std::int64_t previous = -1;
      for (const Stretch& stretch : order) {
        const std::int64_t count = stretch.last - stretch.first;
        if (count != previous) *++group = {static_cast<std::uint32_t>(previous = count), 0};
        ++group->rows;
        *number++ = static_cast<std::uint16_t>(stretch.row);
        for (std::int64_t e = stretch.first; e < stretch.last; ++e) {
          const auto i = static_cast<std::size_t>(e);
          *entry++ = {static_cast<std::uint32_t>((own.position[i] - block.first_channel) * row_ * 4), own.value[i]};
        }
      }
    }
  }
}

std::int64_t SparseWinograd::vectors_of(std::int64_t panel) const noexcept {
  return ceil_div(std::min(row_, tiles_ - panel * row_), product_->lanes);
}

template <class Body>
void SparseWinograd::each_piece(std::int64_t panel, const Body& body) const {
  const std::int64_t m = kernel_->outputs, end = std::min(tiles_, (panel + 1) * row_);
  for (std::int64_t t = panel * row_; t < end;) {
    const std::int64_t line = t / tile_cols_, col = t % tile_cols_;
    Piece piece{line / tile_rows_, line % tile_rows_ * m, col * m, t - panel * row_, 0};
    piece.tiles = static_cast<int>(std::min({std::int64_t{kernel_->lanes}, tile_cols_ - col, end - t}));
    body(piece);
    t += piece.tiles;
  }
}

void SparseWinograd::transform_inputs(std::int64_t panel, std::int64_t first, std::int64_t count, const float* in, float* v) const {
  const ConvShape& s = shape_;
  const int m = kernel_->outputs;
  each_piece(panel, [&](const Piece& piece) {
    WinogradTilesIn tiles;
    const std::int64_t y = piece.y - s.pad_top, x = piece.x - s.pad_left;
    tiles.corner = y * s.w + x;
    tiles.row = s.w;
    tiles.first_row = static_cast<int>(std::clamp<std::int64_t>(-y, 0, m + 2));
    tiles.last_row = static_cast<int>(std::clamp<std::int64_t>(s.h - y, 0, m + 2));
    for (int i = 0; i < m; ++i) {
      tiles.lanes[i] = lanes_inside(x + i * kernel_->lanes, s.w, kernel_->lanes);
      tiles.lanes[m + i] = lanes_inside(x + m + i * kernel_->lanes, s.w, kernel_->lanes);
    }
    tiles.relu = relu_;
    tiles.position = v_position_;
    tiles.tiles = piece.tiles;
    for (std::int64_t c = first; c < first + count; ++c) {
      tiles.plane = in + (piece.image * s.c + c) * s.h * s.w;
      tiles.v = v + c * row_ + piece.at;
      kernel_->input(tiles);
    }
  });
}

void SparseWinograd::multiply(std::int64_t panel, const Part& part, const std::byte* packed, const float* v, float* m) const {
  const std::int64_t vectors = vectors_of(panel), row = vectors * product_->lanes;
  SpmmArgs args;
  // Sums wait where the result will stand.
  args.y = args.sums = m + part.position * m_position_ + part.first * row;
  args.y_row = row;
  args.last_lanes = product_->lanes;
  args.lo = -__builtin_inff();
  args.hi = __builtin_inff();
  for (std::int64_t b = 0; b < blocks_; ++b) {
    const Block& block = all_blocks_[static_cast<std::size_t>(part.first_block + b)];
    args.x = v + part.position * v_position_ + block.first_channel * row_;
    args.entries = packed + block.entries;
    args.groups = reinterpret_cast<const SpmmGroup*>(packed + block.groups);
    args.group_count = block.group_count;
    args.rows = reinterpret_cast<const std::uint16_t*>(packed + block.order);
    args.first = b == 0;
    args.last = b + 1 == blocks_;
    product_->panels[vectors - 1](args);
  }
}

void SparseWinograd::transform_outputs(std::int64_t panel, std::int64_t first, std::int64_t count, const float* m, const Epilogue& epilogue,
                                       float* out) const {
  const ConvShape& s = shape_;
  const int outputs = kernel_->outputs;
  const std::int64_t row = vectors_of(panel) * product_->lanes;
  each_piece(panel, [&](const Piece& piece) {
    WinogradTilesOut tiles;
    tiles.position = m_position_;
    tiles.corner = piece.y * s.ow + piece.x;
    tiles.row = s.ow;
    tiles.rows = static_cast<int>(std::min<std::int64_t>(outputs, s.oh - piece.y));
    const std::int64_t columns = std::min<std::int64_t>(s.ow - piece.x, std::int64_t{outputs} * piece.tiles);
    for (int i = 0; i < outputs; ++i) tiles.lanes[i] = lanes_inside(std::int64_t{i} * kernel_->lanes, columns, kernel_->lanes);
    tiles.lo = epilogue.lo;
    tiles.hi = epilogue.hi;
    for (std::int64_t k = first; k < first + count; ++k) {
      const std::int64_t plane = (piece.image * s.oc + k) * s.oh * s.ow;
      tiles.m = m + k * row + piece.at;
      tiles.plane = out + plane;
      tiles.residual = epilogue.residual != nullptr ? epilogue.residual + plane : nullptr;
      tiles.bias = epilogue.bias != nullptr ? epilogue.bias[k] : 0.0f;
      kernel_->output(tiles);
    }
  });
}

void SparseWinograd::run(const float* in, const std::byte* packed, const Epilogue& epilogue, float* out, float* scratch, Team& team) const {
  // Alone, a thread takes panel after panel through its cache.
  const std::int64_t together = std::min<std::int64_t>(together_, team.size());
  const std::int64_t in_tasks = ceil_div(shape_.c, task_channels), out_tasks = ceil_div(shape_.oc, task_channels);
  const auto parts = static_cast<std::int64_t>(parts_.size());
  const auto v_of = [&](std::int64_t index) { return scratch + index * panel_elements_; };
  const auto m_of = [&](std::int64_t index) { return v_of(index) + positions_ * v_position_; };
  for (std::int64_t panel = 0; panel < panels_; panel += together) {
    const std::int64_t count = std::min(together, panels_ - panel);
    team.run(static_cast<std::size_t>(count * in_tasks), [&](std::size_t task) {
      const std::int64_t index = static_cast<std::int64_t>(task) / in_tasks, first = static_cast<std::int64_t>(task) % in_tasks * task_channels;
      transform_inputs(panel + index, first, std::min(task_channels, shape_.c - first), in, v_of(index));
    });
    team.run(static_cast<std::size_t>(count * parts), [&](std::size_t task) {
      const std::int64_t index = static_cast<std::int64_t>(task) / parts;
      multiply(panel + index, parts_[task % static_cast<std::size_t>(parts)], packed, v_of(index), m_of(index));
    });
    team.run(static_cast<std::size_t>(count * out_tasks), [&](std::size_t task) {
      const std::int64_t index = static_cast<std::int64_t>(task) / out_tasks, first = static_cast<std::int64_t>(task) % out_tasks * task_channels;
      transform_outputs(panel + index, first, std::min(task_channels, shape_.oc - first), m_of(index), epilogue, out);
    });
  }
}

}  // namespace bittern::engine
