#include "spmm/sparse_conv.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <unordered_map>
#include <utility>

#include "base/cpu_count.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t line = 64;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, line) * line; }

// What a block of inputs may take of the first-level cache and a little more: measured, see docs/kernels.md.
constexpr std::int64_t panel_bytes = 48 * 1024;
constexpr std::int64_t most_direct_rows = 128;
constexpr std::int64_t chunk_rows = 256, small_chunk_rows = 128, most_rows_together = 512;

constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// The taps need no shifting: every pixel of the (phase's) plane makes one of the output.
bool contiguous(const ConvShape& s) {
  return s.kh == 1 && s.kw == 1 && s.pad_top == 0 && s.pad_left == 0 && ceil_div(s.h, s.stride_h) == s.oh && ceil_div(s.w, s.stride_w) == s.ow;
}

// Planes of whole vectors are read in place.
bool direct(const ConvShape& s, int lanes) {
  return contiguous(s) && (s.oh * s.ow) % lanes == 0 && s.oh * s.ow * 4 * most_direct_rows < (std::int64_t{1} << 28);
}

// Panels of almost equal width, as wide as registers allow.
int panel_vectors(const SpmmKernel& kernel, std::int64_t pixels) {
  const std::int64_t all = std::max<std::int64_t>(1, ceil_div(pixels, kernel.lanes));
  return static_cast<int>(ceil_div(all, ceil_div(all, kernel.vectors)));
}

}  // namespace

std::int64_t count_nonzero(std::span<const float> weights) noexcept {
  return static_cast<std::int64_t>(weights.size()) - std::count(weights.begin(), weights.end(), 0.0f);
}

SparseRows sparse_rows(const float* weights, std::int64_t rows, std::int64_t columns) {
  SparseRows sparse;
  sparse.first.push_back(0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      const float w = weights[r * columns + c];
      if (w == 0.0f) continue;
      sparse.position.push_back(static_cast<std::int32_t>(c));
      sparse.value.push_back(w);
    }
    sparse.first.push_back(sparse.entries());
  }
  return sparse;
}

bool to_codes(SparseRows& rows, std::vector<float>& table) {
  std::unordered_map<std::uint32_t, std::uint8_t> codes;
  table.clear();
  rows.code.clear();
  rows.code.reserve(rows.value.size());
  for (const float value : rows.value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto found = codes.find(bits);
    if (found != codes.end()) {
      rows.code.push_back(found->second);
      continue;
    }
    if (table.size() == 256) return false;
    const auto code = static_cast<std::uint8_t>(table.size());
    codes.emplace(bits, code);
    table.push_back(value);
    rows.code.push_back(code);
  }
  return true;
}

SparseConv::SparseConv(const SpmmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, const SparseRows& rows)
    : kernel_(&kernel), shape_(shape), in_(in), out_(out), residual_(residual), vectors_(panel_vectors(kernel, shape.oh * shape.ow)) {
  plan_source();
  plan_panels();
  plan_blocks(rows);
  const std::int64_t row = vectors_ * kernel.lanes, taps = shape.kh * shape.kw;
  const std::int64_t units = shape.n * static_cast<std::int64_t>(panels_.size() * chunks_.size());
  // A strip has its working memory and computes units in turn. Twice as many as threads even out their speeds.
  strips_ = std::clamp<std::int64_t>(units, 1, std::max(8, 2 * granted_cpus()));
  std::int64_t widest = shape.groups == 1 ? std::min(shape.oc, most_rows_together) : 0;
  for (const Chunk& chunk : chunks_) widest = std::max(widest, chunk.count);
  pieces_at_ = direct_ ? 0 : rounded(most_rows_ * row * 4);
  // A vector has a piece for each line it touches, the taps' first pieces stand behind.
  const std::int64_t lines_of_vector = (kernel.lanes - 1 + shape.ow - 1) / shape.ow + 1;
  pieces_ = taps * vectors_ * lines_of_vector;
  sums_at_ = pieces_at_ + (contiguous_ ? 0 : rounded(pieces_ * static_cast<std::int64_t>(sizeof(SpmmPiece)) + taps * 4));
  strip_bytes_ = sums_at_ + rounded(widest * row * 4);
}

bool SparseConv::fits(const ConvShape& s) noexcept {
  // The widest panels of all levels. A code shares 32 bits with its offset: in steps of spmm_unit bytes that is 2^28.
  constexpr std::int64_t widest = 7 * 16 * 4, most = std::int64_t{1} << 31;
  const std::int64_t taps = s.kh * s.kw;
  const double phases = std::min(static_cast<double>(taps), static_cast<double>(s.stride_h) * static_cast<double>(s.stride_w));
  return taps < (std::int64_t{1} << 28) / widest && s.c / s.groups * taps < most &&
         phases * static_cast<double>(ceil_div(s.h, s.stride_h)) * static_cast<double>(ceil_div(s.w, s.stride_w)) < 0x1p31 &&
         static_cast<double>(s.h) * static_cast<double>(s.w) < 0x1p31;
}

void SparseConv::plan_source() {
  const ConvShape& s = shape_;
  contiguous_ = contiguous(s);
  const bool strided = s.stride_h > 1 || s.stride_w > 1;
  row_ = in_.row, plane_ = in_.plane, image_ = in_.image;
  if (strided) {
    row_ = ceil_div(s.w, s.stride_w);
    phase_plane_ = ceil_div(s.h, s.stride_h) * row_;
  }
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> phase_of;
  for (std::int64_t r = 0; r < s.kh; ++r) {
    for (std::int64_t x = 0; x < s.kw; ++x) {
      const std::int64_t y_at = r * s.dilation_h - s.pad_top, x_at = x * s.dilation_w - s.pad_left;
      Tap tap{0, floor_div(y_at, s.stride_h), floor_div(x_at, s.stride_w)};
      if (strided) {
        const std::int64_t y = y_at - tap.dy * s.stride_h, first = x_at - tap.dx * s.stride_w;
        const auto [place, added] = phase_of.try_emplace(std::pair(y, first), static_cast<std::int64_t>(phases_.size()));
        tap.phase = place->second;
        const auto rest = [](std::int64_t size, std::int64_t from, std::int64_t stride) { return std::max<std::int64_t>(0, ceil_div(size - from, stride)); };
        if (added) phases_.push_back({y, first, rest(s.h, y, s.stride_h), rest(s.w, first, s.stride_w)});
      }
      taps_of_.push_back(tap);
    }
  }
  if (strided) {
    plane_ = static_cast<std::int64_t>(phases_.size()) * phase_plane_;
    image_ = s.c * plane_;
    phase_bytes_ = rounded(s.n * image_ * 4);
  }
  direct_ = direct(s, kernel_->lanes);
}

void SparseConv::plan_panels() {
  const std::int64_t pixels = shape_.oh * shape_.ow, width = vectors_ * kernel_->lanes;
  for (std::int64_t first = 0; first < pixels; first += width) panels_.push_back({first, std::min(width, pixels - first)});
}

std::int64_t SparseConv::offset_of(std::int64_t slot, std::int64_t channel) const noexcept {
  return (direct_ ? channel * plane_ : slot * vectors_ * kernel_->lanes) * 4;
}

void SparseConv::plan_blocks(const SparseRows& rows) {
  const ConvShape& s = shape_;
  const std::int64_t taps = s.kh * s.kw, inputs = s.c / s.groups, outputs = s.oc / s.groups;
  const std::int64_t row_bytes = vectors_ * kernel_->lanes * 4;
  const std::int64_t limit = direct_ ? most_direct_rows : std::max<std::int64_t>(1, panel_bytes / row_bytes);
  const std::int64_t wanted = s.n * static_cast<std::int64_t>(panels_.size()) * ceil_div(s.oc, chunk_rows) < 4 ? small_chunk_rows : chunk_rows;
  // A part of a group, or whole groups.
  std::vector<std::int64_t> cuts{0};
  if (outputs >= wanted || s.groups == 1) {
    const std::int64_t parts = ceil_div(outputs, wanted);
    for (std::int64_t g = 0; g < s.groups; ++g)
      for (std::int64_t p = 1; p <= parts; ++p) cuts.push_back(g * outputs + outputs * p / parts);
  } else {
    const std::int64_t each = wanted / outputs;
    for (std::int64_t g = each; g < s.groups; g += each) cuts.push_back(g * outputs);
    cuts.push_back(s.oc);
  }
  const std::int64_t entry_bytes = kernel_->codes ? 4 : 8;
  std::vector<unsigned char> used;
  std::vector<std::int64_t> block_of(static_cast<std::size_t>(s.c)), counts;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) {
    Chunk chunk;
    chunk.first = cuts[i], chunk.count = cuts[i + 1] - cuts[i];
    chunk.first_block = static_cast<std::int64_t>(blocks_.size());
    const std::int64_t first_channel = chunk.first / outputs * inputs;
    const std::int64_t channels = (chunk.first + chunk.count - 1) / outputs * inputs + inputs - first_channel;
    used.assign(static_cast<std::size_t>(channels * taps), 0);
    const auto at = [&](std::int64_t o, std::int64_t e) {
      return (o / outputs * inputs - first_channel) * taps + rows.position[static_cast<std::size_t>(e)];
    };
    const auto ends = [&](std::int64_t o) { return std::pair(rows.first[static_cast<std::size_t>(o)], rows.first[static_cast<std::size_t>(o) + 1]); };
    // Without groups all chunks read the same blocks, so that a panel may be filled once for several of them.
    const bool same = s.groups == 1;
    const std::int64_t first_row = same ? 0 : chunk.first, end_row = same ? s.oc : chunk.first + chunk.count;
    if (!same || i == 0) {
      for (std::int64_t o = first_row; o < end_row; ++o)
        for (auto [e, end] = ends(o); e < end; ++e) used[static_cast<std::size_t>(at(o, e))] = 1;
    } else {
      for (std::int64_t b = 0; b < chunks_[0].blocks; ++b) {
        const Block& block = blocks_[static_cast<std::size_t>(b)];
        blocks_.push_back({block.first_channel, block.channels, block.rows, 0, 0, 0, 0, 0});
      }
    }
    // Blocks of channels whose rows fit; a block stands even for no weights at all: sums start and end somewhere.
    std::int64_t block_rows = 0;
    if (!same || i == 0) {
      blocks_.push_back({static_cast<std::int64_t>(channels_.size()), 0, 0, 0, 0, 0, 0, 0});
      for (std::int64_t c = 0; c < channels; ++c) {
        Channel channel{first_channel + c, static_cast<std::int64_t>(taps_.size()), 0};
        for (std::int64_t t = 0; t < taps; ++t) channel.taps += used[static_cast<std::size_t>(c * taps + t)];
        if (channel.taps == 0) continue;  // before a block is opened: blocks behind the first have a channel
        // Planes that are read in place stand as far apart as their channels, those without weights between them included.
        const bool far = direct_ && block_rows > 0 &&
                         channel.channel - channels_[static_cast<std::size_t>(blocks_.back().first_channel)].channel >= limit;
        if (far || (block_rows > 0 && block_rows + channel.taps > limit)) {
          blocks_.push_back({static_cast<std::int64_t>(channels_.size()), 0, 0, 0, 0, 0, 0, 0});
          block_rows = 0;
        }
        block_of[static_cast<std::size_t>(c)] = static_cast<std::int64_t>(blocks_.size()) - 1 - chunk.first_block;
        for (std::int64_t t = 0; t < taps; ++t) {
          if (used[static_cast<std::size_t>(c * taps + t)] != 0) taps_.push_back(static_cast<std::int32_t>(t));
        }
        channels_.push_back(channel);
        block_rows += channel.taps;
        blocks_.back().channels += 1;
        blocks_.back().rows = block_rows;
        most_rows_ = std::max(most_rows_, block_rows);
      }
    }
    chunk.blocks = static_cast<std::int64_t>(blocks_.size()) - chunk.first_block;
    // How many entries each row has in each block: what the packed form's size follows from.
    counts.assign(static_cast<std::size_t>(chunk.blocks * chunk.count), 0);
    for (std::int64_t o = chunk.first; o < chunk.first + chunk.count; ++o) {
      for (auto [e, end] = ends(o); e < end; ++e) {
        ++counts[static_cast<std::size_t>(block_of[static_cast<std::size_t>(at(o, e) / taps)] * chunk.count + o - chunk.first)];
      }
    }
    for (std::int64_t b = 0; b < chunk.blocks; ++b) {
      Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
      const auto begin = counts.begin() + b * chunk.count;
      for (std::int64_t r = 0; r < chunk.count; ++r) block.entry_count += begin[r];
      std::sort(begin, begin + chunk.count);
      block.group_count = std::unique(begin, begin + chunk.count) - begin;
      block.entries = packed_bytes_;
      block.groups = block.entries + block.entry_count * entry_bytes;
      block.order = block.groups + block.group_count * static_cast<std::int64_t>(sizeof(SpmmGroup));
      packed_bytes_ = rounded(block.order + chunk.count * 2);
    }
    chunks_.push_back(chunk);
  }
}

void SparseConv::pack(const SparseRows& rows, std::byte* packed) const {
  const ConvShape& s = shape_;
  const std::int64_t taps = s.kh * s.kw, inputs = s.c / s.groups, outputs = s.oc / s.groups;
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  std::vector<std::int64_t> slot(static_cast<std::size_t>(s.c * taps));  // of each row of the panel in its block
  struct Stretch {
    std::int64_t row = 0, first = 0, last = 0;  // entries
  };
  std::vector<Stretch> order;
  for (const Chunk& chunk : chunks_) {
    std::vector<std::int64_t> next(rows.first.begin() + chunk.first, rows.first.begin() + chunk.first + chunk.count);
    for (std::int64_t b = 0; b < chunk.blocks; ++b) {
      const Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
      std::int64_t end_channel = s.c, at = 0;  // the block's channels end where the next block's begin
      const auto first_of = [&](const Block& other) { return channels_[static_cast<std::size_t>(other.first_channel)].channel; };
      if (b + 1 < chunk.blocks) end_channel = first_of(blocks_[static_cast<std::size_t>(chunk.first_block + b + 1)]);
      for (std::int64_t i = 0; i < block.channels; ++i) {
        const Channel& channel = channels_[static_cast<std::size_t>(block.first_channel + i)];
        for (std::int64_t t = 0; t < channel.taps; ++t) {
          slot[static_cast<std::size_t>(channel.channel * taps + taps_[static_cast<std::size_t>(channel.first_tap + t)])] = at++;
        }
      }
      order.clear();
      for (std::int64_t r = 0; r < chunk.count; ++r) {
        const std::int64_t o = chunk.first + r, base = o / outputs * inputs;
        const std::int64_t first = next[static_cast<std::size_t>(r)], end = rows.first[static_cast<std::size_t>(o) + 1];
        std::int64_t last = first;
        while (last < end && base + rows.position[static_cast<std::size_t>(last)] / taps < end_channel) ++last;
        next[static_cast<std::size_t>(r)] = last;
        order.push_back({r, first, last});
      }
      std::stable_sort(order.begin(), order.end(), [](const Stretch& p, const Stretch& q) { return p.last - p.first < q.last - q.first; });
      std::byte* entry = packed + block.entries;
      auto* group = reinterpret_cast<SpmmGroup*>(packed + block.groups) - 1;
      auto* number = reinterpret_cast<std::uint16_t*>(packed + block.order);
      std::int64_t previous = -1;
      for (const Stretch& stretch : order) {
        const std::int64_t count = stretch.last - stretch.first;
        if (count != previous) *++group = {static_cast<std::uint32_t>(previous = count), 0};
        ++group->rows;
        *number++ = static_cast<std::uint16_t>(stretch.row);
        const std::int64_t base = (chunk.first + stretch.row) / outputs * inputs * taps;
        for (std::int64_t e = stretch.first; e < stretch.last; ++e) {
          const auto i = static_cast<std::size_t>(e);
          const std::int64_t position = base + rows.position[i];
          const std::int64_t offset = offset_of(slot[static_cast<std::size_t>(position)], position / taps - first_of(block));
          if (kernel_->codes) {
            const std::uint32_t word = spmm_code(offset, rows.code[i]);
            std::memcpy(entry, &word, sizeof word);
            entry += sizeof word;
          } else {
            const SpmmEntry pair{static_cast<std::uint32_t>(offset), rows.value[i]};
            std::memcpy(entry, &pair, sizeof pair);
            entry += sizeof pair;
          }
        }
      }
    }
  }
}

// Every phase of every plane, line by line.
void SparseConv::split(const float* in, float* phases, Team& team) const {
  const ConvShape& s = shape_;
  // Some 64 KB a task.
  const std::int64_t each = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, s.h * s.w)), planes = s.n * s.c;
  team.run(static_cast<std::size_t>(ceil_div(planes, each)), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * each;
    for (std::int64_t p = first; p < std::min(first + each, planes); ++p) {
      const float* from = in + p / s.c * in_.image + p % s.c * in_.plane;
      float* to = phases + p * plane_;
      for (const Phase& phase : phases_) {
        for (std::int64_t y = 0; y < phase.height; ++y) {
          kernel_->pick(from + (phase.y + y * s.stride_h) * in_.row + phase.x, s.stride_w, phase.width, to + y * row_);
        }
        to += phase_plane_;
      }
    }
  });
}

// Where the pixels of a panel stand, for every tap.
void SparseConv::cut(const Panel& panel, SpmmPiece* pieces, std::int32_t* first) const {
  const ConvShape& s = shape_;
  SpmmPiece* piece = pieces;
  for (std::size_t t = 0; t < taps_of_.size(); ++t) {
    const Tap& tap = taps_of_[t];
    const std::int64_t height = phases_.empty() ? s.h : phases_[static_cast<std::size_t>(tap.phase)].height;
    const std::int64_t width = phases_.empty() ? s.w : phases_[static_cast<std::size_t>(tap.phase)].width;
    first[t] = static_cast<std::int32_t>(piece - pieces);
    std::int64_t y = panel.first / s.ow, x = panel.first % s.ow;
    for (std::int64_t done = 0; done < panel.count; done += kernel_->lanes) {
      SpmmPiece* const of_vector = piece;
      const std::int64_t pixels = std::min<std::int64_t>(kernel_->lanes, panel.count - done);
      for (std::int64_t lane = 0; lane < pixels;) {
        const std::int64_t run = std::min(pixels - lane, s.ow - x), line_at = y + tap.dy;
        // Those of the run whose columns exist.
        const std::int64_t from = std::clamp<std::int64_t>(-(x + tap.dx), 0, run), to = std::clamp<std::int64_t>(width - (x + tap.dx), from, run);
        if (line_at >= 0 && line_at < height && to > from) {
          const auto lanes = static_cast<std::uint16_t>(((std::uint32_t{1} << (to - from)) - 1) << (lane + from));
          *piece++ = {static_cast<std::int32_t>(tap.phase * phase_plane_ + line_at * row_ + x + tap.dx - lane), lanes, 1};
        }
        lane += run;
        x += run;
        if (x == s.ow) x = 0, ++y;
      }
      if (piece == of_vector) *piece++ = {0, 0, 0};
      (piece - 1)->more = 0;
    }
  }
}

void SparseConv::fill(const Panel& panel, const Block& block, const float* image, const SpmmPiece* pieces, const std::int32_t* first,
                      float* target) const {
  const std::int64_t row = vectors_ * kernel_->lanes;
  const Channel* channels = channels_.data() + block.first_channel;
  if (contiguous_) {
    for (std::int64_t i = 0; i < block.channels;) {
      std::int64_t count = 1;  // neighbours go together
      while (i + count < block.channels && channels[i + count].channel == channels[i].channel + count) ++count;
      kernel_->copy(image + channels[i].channel * plane_ + panel.first, plane_, count, panel.count, target + i * row, row);
      i += count;
    }
    return;
  }
  SpmmExpand expand;
  expand.pieces = pieces;
  expand.first = first;
  expand.vectors = ceil_div(panel.count, kernel_->lanes);
  expand.panel_row = row;
  expand.plane = plane_;
  const auto all = static_cast<std::int64_t>(taps_of_.size());
  for (std::int64_t i = 0; i < block.channels; i += expand.channels) {
    const Channel& channel = channels[i];
    expand.channel = image + channel.channel * plane_;
    expand.taps = taps_.data() + channel.first_tap;
    expand.tap_count = channel.taps;
    expand.panel = target;
    expand.channels = 1;
    const auto joins = [&](std::int64_t other) { return channels[other].taps == all && channels[other].channel == channel.channel + other - i; };
    if (channel.taps == all) {
      while (i + expand.channels < block.channels && joins(i + expand.channels)) ++expand.channels;
    }
    kernel_->expand(expand);
    target += expand.channels * channel.taps * row;
  }
}

void SparseConv::run(const float* in, const std::byte* packed, const float* table, const float* scale, const Epilogue& epilogue, float* out,
                     std::byte* scratch, Team& team) const {
  const auto panels = static_cast<std::int64_t>(panels_.size()), chunks = static_cast<std::int64_t>(chunks_.size());
  const std::int64_t units = shape_.n * panels * chunks;
  const float* source = in;
  if (!phases_.empty()) {
    split(in, reinterpret_cast<float*>(scratch), team);
    source = reinterpret_cast<const float*>(scratch);
  }
  // Alone, a thread need not cut its work: fewer panels are filled twice. Sums are the same either way.
  const std::int64_t strips = team.size() == 1 ? 1 : strips_;
  team.run(static_cast<std::size_t>(strips), [&](std::size_t task) {
    const auto strip = static_cast<std::int64_t>(task);
    std::byte* memory = scratch + phase_bytes_ + strip * strip_bytes_;
    auto* target = reinterpret_cast<float*>(memory);
    auto* pieces = reinterpret_cast<SpmmPiece*>(memory + pieces_at_);
    auto* first = reinterpret_cast<std::int32_t*>(pieces + pieces_);
    auto* sums = reinterpret_cast<float*>(memory + sums_at_);
    const Panel* cut_for = nullptr;
    SpmmArgs args;
    args.table = table;
    args.y_row = out_.plane;
    args.residual_row = residual_.plane;
    args.lo = epilogue.lo, args.hi = epilogue.hi;
    const std::int64_t end = units * (strip + 1) / strips;
    for (std::int64_t unit = units * strip / strips, together = 1; unit < end; unit += together) {
      const std::int64_t first_chunk = unit % chunks, image = unit / chunks / panels;
      const Panel& panel = panels_[static_cast<std::size_t>(unit / chunks % panels)];
      // Chunks that the panel is filled for once.
      std::int64_t rows = chunks_[static_cast<std::size_t>(first_chunk)].count;
      for (together = 1; shape_.groups == 1 && unit + together < end && first_chunk + together < chunks; ++together) {
        rows += chunks_[static_cast<std::size_t>(first_chunk + together)].count;
        if (rows > most_rows_together) break;
      }
      const int vectors = static_cast<int>(ceil_div(panel.count, kernel_->lanes));
      args.last_lanes = static_cast<int>(panel.count - (vectors - 1) * kernel_->lanes);
      if (!contiguous_ && cut_for != &panel) cut(*(cut_for = &panel), pieces, first);
      const std::int64_t blocks = chunks_[static_cast<std::size_t>(first_chunk)].blocks;
      for (std::int64_t b = 0; b < blocks; ++b) {
        float* chunk_sums = sums;
        for (std::int64_t c = first_chunk; c < first_chunk + together; ++c) {
          const Chunk& chunk = chunks_[static_cast<std::size_t>(c)];
          const Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
          if (direct_) {
            const std::int64_t channel = block.channels == 0 ? 0 : channels_[static_cast<std::size_t>(block.first_channel)].channel;
            args.x = source + image * image_ + channel * plane_ + panel.first;
          } else if (c == first_chunk) {
            fill(panel, block, source + image * image_, pieces, first, target);
            args.x = target;
          }
          args.y = out + image * out_.image + chunk.first * out_.plane + panel.first;
          args.residual = epilogue.residual;
          if (args.residual != nullptr) args.residual += image * residual_.image + chunk.first * residual_.plane + panel.first;
          args.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + chunk.first;
          args.scale = scale == nullptr ? nullptr : scale + chunk.first;
          args.entries = packed + block.entries;
          args.groups = reinterpret_cast<const SpmmGroup*>(packed + block.groups);
          args.group_count = block.group_count;
          args.rows = reinterpret_cast<const std::uint16_t*>(packed + block.order);
          args.sums = chunk_sums;
          args.first = b == 0;
          args.last = b + 1 == blocks;
          kernel_->panels[vectors - 1](args);
          chunk_sums += chunk.count * vectors_ * kernel_->lanes;
        }
      }
    }
  });
}

double SparseConv::cost(const SpmmKernel& kernel, const ConvShape& s, double entries) noexcept {
  const int vectors = panel_vectors(kernel, s.oh * s.ow);
  const double panels = static_cast<double>(s.n * ceil_div(s.oh * s.ow, vectors * kernel.lanes));
  const double columns = static_cast<double>(s.c * s.kh * s.kw), row_bytes = static_cast<double>(vectors * kernel.lanes) * 4;
  const bool in_place = direct(s, kernel.lanes);
  const double rows = in_place ? static_cast<double>(most_direct_rows) : static_cast<double>(panel_bytes) / row_bytes;
  const double blocks = std::max(1.0, columns / rows);
  // An entry: a load for each vector, one for the weight, and some for positions. A row of a block: its sums come and go.
  const double products = entries * (vectors * 1.25 + 1.5);
  const double sums = static_cast<double>(s.oc) * blocks * (vectors * 3.0 + 8.0);
  const double segments = contiguous(s) ? 1.0 : std::max(1.0, row_bytes / 4 / static_cast<double>(s.ow));
  const double filled = in_place ? 0.0 : columns * static_cast<double>(ceil_div(s.oc, chunk_rows)) * (vectors * 2.5 + segments * 3.0);
  return panels * (products + sums + filled);
}

}  // namespace bittern::engine
