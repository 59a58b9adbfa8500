#include "spmm/sparse_conv.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/cpu_count.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t line = 64;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, line) * line; }

constexpr std::int64_t chunk_rows = 256, small_chunk_rows = 128;

// Both lists of a row in one number, those behind above: rows of the same number stand together, in its order.
constexpr int second_list = 32;
constexpr std::int64_t first_count(std::int64_t counts) { return counts & ((std::int64_t{1} << second_list) - 1); }

}  // namespace

SparseConv::SparseConv(const SpmmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual, const SparseRows& rows)
    : kernel_(&kernel), shape_(shape), out_(out), residual_(residual),
      form_(panel_form(kernel, shape, static_cast<double>(rows.entries()))), panels_(kernel, shape, form_, in), contiguous_(contiguous(shape)),
      direct_(direct(shape, kernel.lanes, static_cast<double>(rows.entries() * spmm_rows(kernel.form)))) {
  if (panels_.has_phases()) phase_bytes_ = rounded(shape.n * panels_.image() * 4);
  plan_blocks(rows);
  for (const Panels::Copy& copy : panels_.copies()) halos_.push_back(copy.halo);
  const std::int64_t vector_bytes = kernel.lanes * 4, copies = static_cast<std::int64_t>(halos_.size());
  const std::int64_t units = shape.n * static_cast<std::int64_t>(panels_.list().size() * chunks_.size());
  // A strip has its working memory and computes units in turn. Twice as many as threads even out their speeds.
  strips_ = std::clamp<std::int64_t>(units, 1, std::max(8, 2 * granted_cpus()));
  std::int64_t widest = shape.groups == 1 ? std::min(shape.oc, most_rows_together) : 0;
  for (const Chunk& chunk : chunks_) widest = std::max(widest, chunk.count * spmm_rows(kernel.form));
  pieces_at_ = direct_ ? 0 : rounded(most_vectors_ * vector_bytes);
  pieces_ = panels_.most_pieces();  // the copies' first pieces stand behind
  sums_at_ = pieces_at_ + (contiguous_ ? 0 : rounded(pieces_ * static_cast<std::int64_t>(sizeof(SpmmPiece)) + copies * 4));
  strip_bytes_ = sums_at_ + rounded(widest * form_.vectors * vector_bytes);
}

bool SparseConv::fits(const ConvShape& s, SpmmForm form) noexcept {
  if (form == SpmmForm::blocks && (s.groups != 1 || s.oc % spmm_rows(form) != 0)) return false;
  // The widest panels of all levels. A code shares 32 bits with its offset: in steps of spmm_unit bytes that is 2^28.
  constexpr std::int64_t widest = 7 * 16 * 4, most = std::int64_t{1} << 31;
  const std::int64_t taps = s.kh * s.kw;
  // A block has at least one channel, whose copies are not larger than its taps.
  constexpr std::int64_t most_vectors = 12;
  if (form == SpmmForm::lists && taps > most_list_places / most_vectors) return false;
  const double phases = std::min(static_cast<double>(taps), static_cast<double>(s.stride_h) * static_cast<double>(s.stride_w));
  return taps < (std::int64_t{1} << 28) / widest && s.c / s.groups * taps < most &&
         phases * static_cast<double>(ceil_div(s.h, s.stride_h)) * static_cast<double>(ceil_div(s.w, s.stride_w)) < 0x1p31 &&
         static_cast<double>(s.h) * static_cast<double>(s.w) < 0x1p31;
}

std::int64_t SparseConv::offset_of(std::int64_t vector, std::int64_t channel) const noexcept {
  const std::int64_t place = direct_ ? channel : vector;
  return kernel_->form == SpmmForm::lists ? place : place * unit();
}

std::int64_t SparseConv::unit() const noexcept { return (direct_ ? panels_.plane() : kernel_->lanes) * 4; }

void SparseConv::plan_blocks(const SparseRows& rows) {
  const ConvShape& s = shape_;
  // Rows of the kernel, of one output channel or of four.
  const std::int64_t together = spmm_rows(kernel_->form), all_rows = s.oc / together;
  const std::int64_t taps = s.kh * s.kw, inputs = s.c / s.groups, outputs = all_rows / s.groups;
  // Of a block, in vectors; of planes that are read in place, their number.
  const std::int64_t limit = direct_ ? most_direct_rows : panel_bytes / (kernel_->lanes * 4);
  const bool few = s.n * static_cast<std::int64_t>(panels_.list().size()) * ceil_div(s.oc, chunk_rows) < 4;
  const std::int64_t wanted = (few ? small_chunk_rows : chunk_rows) / together;
  // A part of a group, or whole groups.
  std::vector<std::int64_t> cuts{0};
  if (outputs >= wanted || s.groups == 1) {
    const std::int64_t parts = ceil_div(outputs, wanted);
    for (std::int64_t g = 0; g < s.groups; ++g)
      for (std::int64_t p = 1; p <= parts; ++p) cuts.push_back(g * outputs + outputs * p / parts);
  } else {
    const std::int64_t each = wanted / outputs;
    for (std::int64_t g = each; g < s.groups; g += each) cuts.push_back(g * outputs);
    cuts.push_back(all_rows);
  }
  const bool lists = kernel_->form == SpmmForm::lists;
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
    const std::int64_t first_row = same ? 0 : chunk.first, end_row = same ? all_rows : chunk.first + chunk.count;
    if (!same || i == 0) {
      for (std::int64_t o = first_row; o < end_row; ++o)
        for (auto [e, end] = ends(o); e < end; ++e) used[static_cast<std::size_t>(at(o, e))] = 1;
    } else {
      for (std::int64_t b = 0; b < chunks_[0].blocks; ++b) {
        const Block& block = blocks_[static_cast<std::size_t>(b)];
        blocks_.push_back({block.first_channel, block.channels, 0, 0, 0, 0, 0});
      }
    }
    // Blocks of channels whose rows fit; a block stands even for no weights at all: sums start and end somewhere.
    std::int64_t block_vectors = 0;
    std::vector<unsigned char> copied(panels_.copies().size());
    if (!same || i == 0) {
      blocks_.push_back({static_cast<std::int64_t>(channels_.size()), 0, 0, 0, 0, 0, 0});
      for (std::int64_t c = 0; c < channels; ++c) {
        Channel channel{first_channel + c, static_cast<std::int64_t>(copies_.size()), 0, 0};
        std::fill(copied.begin(), copied.end(), std::uint8_t{0});
        for (std::int64_t t = 0; t < taps; ++t) {
          if (used[static_cast<std::size_t>(c * taps + t)] != 0) copied[static_cast<std::size_t>(panels_.taps()[static_cast<std::size_t>(t)].copy)] = 1;
        }
        for (std::size_t copy = 0; copy < copied.size(); ++copy) {
          if (copied[copy] == 0) continue;
          copies_.push_back(static_cast<std::int32_t>(copy));
          channel.copies += 1;
          channel.vectors += direct_ ? 1 : panels_.vectors_of(static_cast<std::int64_t>(copy));
        }
        if (channel.copies == 0) continue;  // before a block is opened: blocks behind the first have a channel
        // Planes that are read in place stand as far apart as their channels, those without weights between them included.
        const bool far = direct_ && block_vectors > 0 &&
                         channel.channel - channels_[static_cast<std::size_t>(blocks_.back().first_channel)].channel >= limit;
        if (far || (block_vectors > 0 && block_vectors + channel.vectors > limit)) {
          blocks_.push_back({static_cast<std::int64_t>(channels_.size()), 0, 0, 0, 0, 0, 0});
          block_vectors = 0;
        }
        block_of[static_cast<std::size_t>(c)] = static_cast<std::int64_t>(blocks_.size()) - 1 - chunk.first_block;
        channels_.push_back(channel);
        block_vectors += channel.vectors;
        blocks_.back().channels += 1;
        most_vectors_ = std::max(most_vectors_, block_vectors);
      }
    }
    chunk.blocks = static_cast<std::int64_t>(blocks_.size()) - chunk.first_block;
    // How many entries each row has in each block: what the packed form's size follows from.
    counts.assign(static_cast<std::size_t>(chunk.blocks * chunk.count), 0);
    for (std::int64_t o = chunk.first; o < chunk.first + chunk.count; ++o) {
      for (auto [e, end] = ends(o); e < end; ++e) {
        std::int64_t& count = counts[static_cast<std::size_t>(block_of[static_cast<std::size_t>(at(o, e) / taps)] * chunk.count + o - chunk.first)];
        count += lists && rows.code[static_cast<std::size_t>(e)] != 0 ? std::int64_t{1} << second_list : 1;
      }
    }
    for (std::int64_t b = 0; b < chunk.blocks; ++b) {
      Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
      const auto begin = counts.begin() + b * chunk.count;
      for (std::int64_t r = 0; r < chunk.count; ++r) block.entry_count += first_count(begin[r]) + (begin[r] >> second_list);
      std::sort(begin, begin + chunk.count);
      block.group_count = std::unique(begin, begin + chunk.count) - begin;
      block.entries = packed_bytes_;
      block.groups = (block.entries + block.entry_count * entry_bytes(kernel_->form) + 3) / 4 * 4;
      block.order = block.groups + block.group_count * static_cast<std::int64_t>(sizeof(SpmmGroup));
      packed_bytes_ = rounded(block.order + chunk.count * 2);
    }
    chunks_.push_back(chunk);
  }
}

void SparseConv::pack(const SparseRows& rows, std::byte* packed) const {
  const ConvShape& s = shape_;
  const std::int64_t taps = s.kh * s.kw, inputs = s.c / s.groups, outputs = s.oc / s.groups / spmm_rows(kernel_->form);
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  const std::size_t copies = panels_.copies().size();
  std::vector<std::int64_t> slot(static_cast<std::size_t>(s.c) * copies);  // first vector of each copy in its block
  struct Stretch {
    std::int64_t row = 0, first = 0, last = 0;  // entries
    std::int64_t counts = 0;                    // of both lists
  };
  const bool lists = kernel_->form == SpmmForm::lists;
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
        for (std::int64_t c = 0; c < channel.copies; ++c) {
          const std::int32_t copy = copies_[static_cast<std::size_t>(channel.first_copy + c)];
          slot[static_cast<std::size_t>(channel.channel) * copies + static_cast<std::size_t>(copy)] = at;
          at += panels_.vectors_of(copy);
        }
      }
      order.clear();
      for (std::int64_t r = 0; r < chunk.count; ++r) {
        const std::int64_t o = chunk.first + r, base = o / outputs * inputs;
        const std::int64_t first = next[static_cast<std::size_t>(r)], end = rows.first[static_cast<std::size_t>(o) + 1];
        std::int64_t last = first, counts = 0;
        for (; last < end && base + rows.position[static_cast<std::size_t>(last)] / taps < end_channel; ++last) {
          counts += lists && rows.code[static_cast<std::size_t>(last)] != 0 ? std::int64_t{1} << second_list : 1;
        }
        next[static_cast<std::size_t>(r)] = last;
        order.push_back({r, first, last, counts});
      }
      std::stable_sort(order.begin(), order.end(), [](const Stretch& p, const Stretch& q) { return p.counts < q.counts; });
      std::byte* entry = packed + block.entries;
      auto* group = reinterpret_cast<SpmmGroup*>(packed + block.groups) - 1;
      auto* number = reinterpret_cast<std::uint16_t*>(packed + block.order);
      std::int64_t previous = -1;
      for (const Stretch& stretch : order) {
        if (stretch.counts != previous) {
          previous = stretch.counts;
          *++group = {static_cast<std::uint32_t>(first_count(previous)), 0, static_cast<std::uint32_t>(previous >> second_list)};
        }
        ++group->rows;
        *number++ = static_cast<std::uint16_t>(stretch.row);
        const std::int64_t base = (chunk.first + stretch.row) / outputs * inputs * taps;
        std::byte* behind = entry + (stretch.counts >> second_list) * 2;  // the first list
        for (std::int64_t e = stretch.first; e < stretch.last; ++e) {
          const auto i = static_cast<std::size_t>(e);
          const std::int64_t position = base + rows.position[i];
          const Panels::Tap& tap = panels_.taps()[static_cast<std::size_t>(position % taps)];
          const std::int64_t copy_at = slot[static_cast<std::size_t>(position / taps) * copies + static_cast<std::size_t>(tap.copy)];
          const std::int64_t offset = offset_of(copy_at + tap.line, position / taps - first_of(block));
          if (lists) {
            std::byte*& list = rows.code[i] != 0 ? entry : behind;
            const auto place = static_cast<std::uint16_t>(offset);
            std::memcpy(list, &place, sizeof place);
            list += sizeof place;
          } else if (kernel_->form == SpmmForm::blocks) {
            SpmmBlock four;
            four.offset = static_cast<std::uint32_t>(offset);
            std::copy_n(rows.value.begin() + static_cast<std::ptrdiff_t>(4 * i), 4, four.weight);
            std::memcpy(entry, &four, sizeof four);
            entry += sizeof four;
          } else if (kernel_->form == SpmmForm::codes) {
            const std::uint32_t word = spmm_code(offset, rows.code[i]);
            std::memcpy(entry, &word, sizeof word);
            entry += sizeof word;
          } else {
            const SpmmEntry pair{static_cast<std::uint32_t>(offset), rows.value[i]};
            std::memcpy(entry, &pair, sizeof pair);
            entry += sizeof pair;
          }
        }
        if (lists) entry = behind;
      }
    }
  }
}

void SparseConv::fill(const Panels::Panel& panel, const Block& block, const float* image, const SpmmPiece* pieces, const std::int32_t* first,
                      float* target) const {
  const std::int64_t row = form_.vectors * kernel_->lanes, plane = panels_.plane();
  const Channel* channels = channels_.data() + block.first_channel;
  if (contiguous_) {
    for (std::int64_t i = 0; i < block.channels;) {
      std::int64_t count = 1;  // neighbours go together
      while (i + count < block.channels && channels[i + count].channel == channels[i].channel + count) ++count;
      kernel_->copy(image + channels[i].channel * plane + panel.first, plane, count, panel.count, target + i * row, row);
      i += count;
    }
    return;
  }
  SpmmExpand expand;
  expand.pieces = pieces;
  expand.first = first;
  expand.halo = halos_.data();
  expand.vectors = panel.vectors;
  expand.panel_vectors = form_.vectors;
  expand.columns = form_.upright ? form_.columns : kernel_->lanes;
  expand.plane = plane;
  const auto all = static_cast<std::int64_t>(halos_.size());
  for (std::int64_t i = 0; i < block.channels; i += expand.channels) {
    const Channel& channel = channels[i];
    expand.channel = image + channel.channel * plane;
    expand.copies = copies_.data() + channel.first_copy;
    expand.copy_count = channel.copies;
    expand.panel = target;
    expand.panel_channel = channel.vectors * kernel_->lanes;
    expand.channels = 1;
    const auto joins = [&](std::int64_t other) { return channels[other].copies == all && channels[other].channel == channel.channel + other - i; };
    if (channel.copies == all) {
      while (i + expand.channels < block.channels && joins(i + expand.channels)) ++expand.channels;
    }
    kernel_->expand(expand);
    target += expand.channels * expand.panel_channel;
  }
}

void SparseConv::run(const float* in, const std::byte* packed, const SpmmFactors& factors, const Epilogue& epilogue, float* out, std::byte* scratch,
                     Team& team) const {
  const auto panels = static_cast<std::int64_t>(panels_.list().size()), chunks = static_cast<std::int64_t>(chunks_.size());
  const std::int64_t outputs = spmm_rows(kernel_->form);  // of a row
  const std::int64_t units = shape_.n * panels * chunks;
  const float* source = in;
  if (panels_.has_phases()) {
    panels_.split(in, reinterpret_cast<float*>(scratch), team);
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
    const Panels::Panel* cut_for = nullptr;
    SpmmArgs args;
    args.table = factors.table;
    args.unit = unit();
    args.y_row = out_.plane;
    args.residual_row = residual_.plane;
    args.lo = epilogue.lo, args.hi = epilogue.hi;
    const std::int64_t end = units * (strip + 1) / strips;
    for (std::int64_t unit = units * strip / strips, together = 1; unit < end; unit += together) {
      const std::int64_t first_chunk = unit % chunks, image = unit / chunks / panels;
      const Panels::Panel& panel = panels_.list()[static_cast<std::size_t>(unit / chunks % panels)];
      // Chunks that the panel is filled for once.
      std::int64_t rows = chunks_[static_cast<std::size_t>(first_chunk)].count * outputs;
      for (together = 1; shape_.groups == 1 && unit + together < end && first_chunk + together < chunks; ++together) {
        rows += chunks_[static_cast<std::size_t>(first_chunk + together)].count * outputs;
        if (rows > most_rows_together) break;
      }
      args.last_lanes = static_cast<int>(panel.count - (panel.vectors - 1) * kernel_->lanes);  // in a row
      if (!contiguous_ && cut_for != &panel) {
        const SpmmPiece* of_output = panels_.cut(*(cut_for = &panel), pieces, first);
        if (form_.upright) args.pieces = of_output;
      }
      const std::int64_t at = form_.upright ? 0 : panel.first;
      const std::int64_t blocks = chunks_[static_cast<std::size_t>(first_chunk)].blocks;
      for (std::int64_t b = 0; b < blocks; ++b) {
        float* chunk_sums = sums;
        for (std::int64_t c = first_chunk; c < first_chunk + together; ++c) {
          const Chunk& chunk = chunks_[static_cast<std::size_t>(c)];
          const Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
          if (direct_) {
            const std::int64_t channel = block.channels == 0 ? 0 : channels_[static_cast<std::size_t>(block.first_channel)].channel;
            args.x = source + image * panels_.image() + channel * panels_.plane() + panel.first;
          } else if (c == first_chunk) {
            fill(panel, block, source + image * panels_.image(), pieces, first, target);
            args.x = target;
          }
          const std::int64_t channel_of_chunk = chunk.first * outputs;
          args.y = out + image * out_.image + channel_of_chunk * out_.plane + at;
          args.residual = epilogue.residual;
          if (args.residual != nullptr) args.residual += image * residual_.image + channel_of_chunk * residual_.plane + at;
          args.bias = epilogue.bias == nullptr ? nullptr : epilogue.bias + channel_of_chunk;
          args.scale = factors.scale == nullptr ? nullptr : factors.scale + channel_of_chunk;
          args.ratio = factors.ratio == nullptr ? nullptr : factors.ratio + channel_of_chunk;
          args.entries = packed + block.entries;
          args.groups = reinterpret_cast<const SpmmGroup*>(packed + block.groups);
          args.group_count = block.group_count;
          args.rows = reinterpret_cast<const std::uint16_t*>(packed + block.order);
          args.sums = chunk_sums;
          args.first = b == 0;
          args.last = b + 1 == blocks;
          kernel_->panels[panel.vectors - 1](args);
          chunk_sums += chunk.count * outputs * form_.vectors * kernel_->lanes;
        }
      }
    }
  });
}

double SparseConv::cost(const SpmmKernel& kernel, const ConvShape& s, double entries) noexcept {
  return panel_cost(kernel, s, panel_form(kernel, s, entries), entries);
}

}  // namespace bittern::engine
