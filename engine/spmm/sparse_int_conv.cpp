#include "spmm/sparse_int_conv.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/cpu_count.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t line = 64;

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t rounded(std::int64_t bytes) { return ceil_div(bytes, line) * line; }

// What a block of quads may take of the first-level cache and a little more: measured, see docs/kernels.md.
constexpr std::int64_t panel_bytes = 48 * 1024;
constexpr std::int64_t chunk_rows = 256, small_chunk_rows = 128, most_rows_together = 512;

// Estimated time of panels of so many vectors, in cycles of the level's vector unit: fitted to measurements.
double cost_of(const IntSpmmKernel& kernel, const ConvShape& s, double quads, int vectors) noexcept {
  const double panels = static_cast<double>(s.n * ceil_div(s.oh * s.ow, vectors * kernel.lanes));
  const double rows = static_cast<double>(ceil_div(s.c, spmm_block) * 4 * s.kh * s.kw), row_bytes = static_cast<double>(vectors * kernel.lanes) * 4;
  const double blocks = std::max(1.0, std::ceil(rows * row_bytes / static_cast<double>(panel_bytes))), outputs = static_cast<double>(s.oc);
  // An entry: a load for each vector, one for the weights, and some for positions. A row of a block: its sums come and go.
  const double products = quads * (vectors * 1.25 + 1.5);
  const double sums = outputs * blocks * (vectors * 2.5 + 8.0);
  const double stored = outputs * vectors * 7.0;
  const double filled = rows * static_cast<double>(ceil_div(s.oc, most_rows_together)) * vectors * 3.0;
  if (kernel.isa == Isa::avx512vnni || kernel.isa == Isa::avx2vnni) return panels * (products + sums + stored + filled);
  // Without dot products of bytes quads are taken apart, which takes longer; so do the products of dense tiles, which IntConv::cost
  // counts as one instruction each.
  constexpr double apart = 2.5, counted = 0.35;
  return panels * (products * apart + sums + stored + filled) * counted;
}

// The width of panels, of almost equal width: as wide as registers allow, or narrower where fewer blocks pay for it.
int panel_vectors(const IntSpmmKernel& kernel, const ConvShape& s, double quads) noexcept {
  const std::int64_t all = std::max<std::int64_t>(1, ceil_div(s.oh * s.ow, kernel.lanes));
  int best = 1;
  double least = 0;
  for (std::int64_t most = kernel.vectors; most > 0; --most) {
    const int vectors = static_cast<int>(ceil_div(all, ceil_div(all, most)));
    const double cost = cost_of(kernel, s, quads, vectors);
    if (most == kernel.vectors || cost < least) best = vectors, least = cost;
  }
  return best;
}

// f(o, position, four weights) for all quads that hold a weight.
template <class F>
void for_quads(const IntWeights& weights, const ConvShape& s, const F& f) {
  const std::int64_t taps = s.kh * s.kw, inputs = s.c / s.groups, outputs = s.oc / s.groups;
  for (std::int64_t o = 0; o < s.oc; ++o) {
    const std::int64_t base = o / outputs * inputs;  // the group's first channel of the map
    const std::int16_t* const row = weights.values + o * weights.out;
    for (std::int64_t block = base / spmm_block; block * spmm_block < base + inputs; ++block) {
      for (std::int64_t t = 0; t < taps; ++t) {
        for (std::int64_t q = 0; q < 4; ++q) {
          const std::int64_t first = block * spmm_block + 4 * q;
          std::uint32_t four = 0;
          for (std::int64_t c = std::max(first, base); c < std::min(first + 4, base + inputs); ++c) {
            four |= static_cast<std::uint32_t>(static_cast<std::uint8_t>(row[(c - base) * weights.in + t])) << (8 * (c - first));
          }
          if (four != 0) f(o, (block * taps + t) * 4 + q, four);
        }
      }
    }
  }
}

}  // namespace

SparseQuads sparse_quads(const IntWeights& weights, const ConvShape& shape, std::size_t most) {
  SparseQuads quads;
  quads.position.reserve(most);
  quads.weights.reserve(most);
  quads.first.assign(static_cast<std::size_t>(shape.oc) + 1, 0);
  for_quads(weights, shape, [&](std::int64_t o, std::int64_t position, std::uint32_t four) {
    ++quads.first[static_cast<std::size_t>(o) + 1];
    quads.position.push_back(static_cast<std::int32_t>(position));
    quads.weights.push_back(four);
  });
  for (std::size_t o = 1; o < quads.first.size(); ++o) quads.first[o] += quads.first[o - 1];
  return quads;
}

bool SparseIntConv::fits(const ConvShape& s, const Map& in) noexcept {
  const bool blocks = in.block == spmm_block || (in.block % spmm_block == 0 && in.block >= s.c);
  return blocks && ceil_div(s.c, spmm_block) * s.kh * s.kw < (std::int64_t{1} << 28);
}

SparseIntConv::SparseIntConv(const IntSpmmKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual,
                             const SparseQuads& quads)
    : kernel_(&kernel), shape_(shape), in_(in), out_(out), residual_(residual),
      vectors_(panel_vectors(kernel, shape, static_cast<double>(quads.entries()))) {
  padded_ = ceil_div(shape.oc, spmm_block) * spmm_block;
  panel_pixels_ = vectors_ * kernel.lanes;
  panels_ = ceil_div(shape.oh * shape.ow, panel_pixels_);
  plan_blocks(quads);
  const std::int64_t units = shape.n * panels_ * static_cast<std::int64_t>(chunks_.size());
  // A strip has its working memory and computes units in turn. Twice as many as threads even out their speeds.
  strips_ = std::clamp<std::int64_t>(units, 1, std::max(8, 2 * granted_cpus()));
  std::int64_t widest = shape.groups == 1 ? std::min(padded_, most_rows_together) : 0;
  for (const Chunk& chunk : chunks_) widest = std::max(widest, chunk.count);
  pixels_at_ = rounded(most_rows_ * panel_pixels_ * 4);
  sums_at_ = pixels_at_ + rounded(4 * vectors_ * static_cast<std::int64_t>(sizeof(IntSpmmPixels)));
  strip_bytes_ = sums_at_ + rounded(widest * panel_pixels_ * 4);
}

void SparseIntConv::plan_blocks(const SparseQuads& quads) {
  const ConvShape& s = shape_;
  const std::int64_t taps = s.kh * s.kw, limit = std::max<std::int64_t>(4, panel_bytes / (panel_pixels_ * 4));
  const std::int64_t wanted = s.n * panels_ * ceil_div(padded_, chunk_rows) < 4 ? small_chunk_rows : chunk_rows;
  const std::int64_t parts = std::max<std::int64_t>(1, ceil_div(padded_, wanted));
  const auto ends = [&](std::int64_t o) {
    if (o >= s.oc) return std::pair(quads.entries(), quads.entries());
    return std::pair(quads.first[static_cast<std::size_t>(o)], quads.first[static_cast<std::size_t>(o) + 1]);
  };
  const auto position = [&](std::int64_t e) { return quads.position[static_cast<std::size_t>(e)]; };
  std::vector<std::uint8_t> used;
  for (std::int64_t part = 0; part < parts; ++part) {
    Chunk chunk;
    chunk.first = padded_ / spmm_block * part / parts * spmm_block;
    chunk.count = padded_ / spmm_block * (part + 1) / parts * spmm_block - chunk.first;
    chunk.first_block = static_cast<std::int64_t>(blocks_.size());
    if (s.groups == 1 && part > 0) {
      // Without groups all chunks read the same blocks, so that a panel may be filled once for several of them.
      for (std::int64_t b = 0; b < chunks_[0].blocks; ++b) blocks_.push_back(blocks_[static_cast<std::size_t>(b)]);
    } else {
      const std::int64_t end_row = s.groups == 1 ? s.oc : chunk.first + chunk.count;
      // Blocks of channels that the chunk's groups read.
      const std::int64_t inputs = s.c / s.groups, outputs = s.oc / s.groups, last_row = std::min(end_row, s.oc) - 1;
      const std::int64_t first_use = chunk.first / outputs * inputs / spmm_block * taps;
      const std::int64_t end_use = ceil_div((last_row / outputs + 1) * inputs, spmm_block) * taps;
      used.assign(static_cast<std::size_t>(end_use - first_use), 0);
      for (std::int64_t o = chunk.first; o < end_row; ++o) {
        for (auto [e, end] = ends(o); e < end; ++e) {
          used[static_cast<std::size_t>(position(e) / 4 - first_use)] |= static_cast<std::uint8_t>(1 << position(e) % 4);
        }
      }
      // A block stands even for no weights at all: sums start and end somewhere.
      Block block;
      block.first_source = static_cast<std::int64_t>(sources_.size());
      block.first_position = static_cast<std::int32_t>(4 * first_use);
      for (std::int64_t u = first_use; u < end_use; ++u) {
        const std::uint8_t quads_used = used[static_cast<std::size_t>(u - first_use)];
        if (quads_used == 0) continue;
        const int rows = std::popcount(quads_used);
        if (block.rows + rows > limit) {
          block.end_position = static_cast<std::int32_t>(4 * u);
          blocks_.push_back(block);
          block = {};
          block.first_source = static_cast<std::int64_t>(sources_.size());
          block.first_position = static_cast<std::int32_t>(4 * u);
        }
        const std::int64_t channels = u / taps, tap = u % taps;
        const std::int64_t plane = in_.block == spmm_block ? channels * in_.plane : channels * spmm_block;
        const std::int64_t y = tap / s.kw * s.dilation_h - s.pad_top, x = tap % s.kw * s.dilation_w - s.pad_left;
        sources_.push_back({plane + y * in_.row + x * in_.block, quads_used});
        positions_.push_back(static_cast<std::int32_t>(4 * u));
        ++block.sources;
        block.rows += rows;
        most_rows_ = std::max(most_rows_, block.rows);
      }
      block.end_position = static_cast<std::int32_t>(4 * end_use);
      blocks_.push_back(block);
    }
    chunk.blocks = static_cast<std::int64_t>(blocks_.size()) - chunk.first_block;
    // How many entries each row has in each block: what the packed form's size follows from.
    std::vector<std::int64_t> counts(static_cast<std::size_t>(chunk.count)), next(counts.size());
    for (std::int64_t r = 0; r < chunk.count; ++r) next[static_cast<std::size_t>(r)] = ends(chunk.first + r).first;
    for (std::int64_t b = 0; b < chunk.blocks; ++b) {
      Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
      std::int64_t entries = 0;
      for (std::int64_t r = 0; r < chunk.count; ++r) {
        std::int64_t& e = next[static_cast<std::size_t>(r)];
        const std::int64_t first = e, end = ends(chunk.first + r).second;
        while (e < end && position(e) < block.end_position) ++e;
        entries += counts[static_cast<std::size_t>(r)] = e - first;
      }
      std::sort(counts.begin(), counts.end());
      block.group_count = std::unique(counts.begin(), counts.end()) - counts.begin();
      block.entries = packed_bytes_;
      block.groups = block.entries + entries * static_cast<std::int64_t>(sizeof(IntSpmmEntry));
      block.order = block.groups + block.group_count * static_cast<std::int64_t>(sizeof(SpmmGroup));
      packed_bytes_ = rounded(block.order + chunk.count * 2);
    }
    chunks_.push_back(chunk);
  }
}

void SparseIntConv::pack(const SparseQuads& quads, std::byte* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_bytes_));
  const ConvShape& s = shape_;
  struct Stretch {
    std::int64_t row = 0, first = 0, last = 0;  // entries
  };
  std::vector<std::int64_t> slot;  // of each position of a block: the panel's row
  for (const Chunk& chunk : chunks_) {
    std::vector<std::int64_t> next(static_cast<std::size_t>(chunk.count));
    for (std::int64_t r = 0; r < chunk.count; ++r) {
      next[static_cast<std::size_t>(r)] = quads.first[static_cast<std::size_t>(std::min(chunk.first + r, s.oc))];
    }
    std::vector<Stretch> order;
    for (std::int64_t b = 0; b < chunk.blocks; ++b) {
      const Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
      order.clear();
      for (std::int64_t r = 0; r < chunk.count; ++r) {
        const std::int64_t first = next[static_cast<std::size_t>(r)];
        const std::int64_t end = chunk.first + r < s.oc ? quads.first[static_cast<std::size_t>(chunk.first + r) + 1] : first;
        std::int64_t last = first;
        while (last < end && quads.position[static_cast<std::size_t>(last)] < block.end_position) ++last;
        next[static_cast<std::size_t>(r)] = last;
        order.push_back({r, first, last});
      }
      std::stable_sort(order.begin(), order.end(), [](const Stretch& p, const Stretch& q) { return p.last - p.first < q.last - q.first; });
      slot.assign(static_cast<std::size_t>(block.end_position - block.first_position), 0);
      std::int64_t rows = 0;
      for (auto i = static_cast<std::size_t>(block.first_source); i < static_cast<std::size_t>(block.first_source + block.sources); ++i) {
        for (std::int32_t q = 0; q < 4; ++q) {
          if ((sources_[i].quads >> q & 1) != 0) slot[static_cast<std::size_t>(positions_[i] + q - block.first_position)] = rows++;
        }
      }
      std::byte* entry = packed + block.entries;
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
          const std::int64_t row = slot[static_cast<std::size_t>(quads.position[i] - block.first_position)];
          const IntSpmmEntry pair{static_cast<std::uint32_t>(row * panel_pixels_ * 4), quads.weights[i]};
          std::memcpy(entry, &pair, sizeof pair);
          entry += sizeof pair;
        }
      }
    }
  }
}

// Where the pixels of a panel stand.
void SparseIntConv::cut(std::int64_t first_pixel, std::int64_t count, IntSpmmPixels* pixels) const {
  const ConvShape& s = shape_;
  const int together = kernel_->lanes / 4;
  const auto side_by_side = [&](const std::int64_t* at) {
    for (int i = 1; i < together; ++i) {
      if (at[i] != at[0] + i * spmm_block) return false;
    }
    return true;
  };
  std::int64_t y = first_pixel / s.ow, x = first_pixel % s.ow;
  for (std::int64_t done = 0; done < panel_pixels_; done += together, ++pixels) {
    pixels->count = static_cast<std::int32_t>(std::clamp<std::int64_t>(count - done, 0, together));
    for (int i = 0; i < together; ++i) {
      pixels->in[i] = y * s.stride_h * in_.row + x * s.stride_w * in_.block;
      pixels->out[i] = y * out_.row + x * out_.block;
      pixels->residual[i] = y * residual_.row + x * residual_.block;
      if (done + i + 1 < count && ++x == s.ow) x = 0, ++y;  // behind the last pixel stands the last one
    }
    pixels->in_together = side_by_side(pixels->in);
    pixels->out_together = pixels->count == together && side_by_side(pixels->out);
    pixels->residual_together = side_by_side(pixels->residual);
  }
}

void SparseIntConv::run(const std::uint8_t* in, const std::byte* packed, const IntEpilogue& epilogue, IntOut type, void* out, std::byte* scratch,
                        Team& team) const {
  const auto chunks = static_cast<std::int64_t>(chunks_.size());
  const std::int64_t pixels_of_image = shape_.oh * shape_.ow, units = shape_.n * panels_ * chunks;
  // Alone, a thread need not cut its work: fewer panels are filled twice.
  const std::int64_t strips = team.size() == 1 ? 1 : strips_;
  team.run(static_cast<std::size_t>(strips), [&](std::size_t task) {
    const auto strip = static_cast<std::int64_t>(task);
    std::byte* const memory = scratch + strip * strip_bytes_;
    auto* const panel = reinterpret_cast<std::uint8_t*>(memory);
    auto* const pixels = reinterpret_cast<IntSpmmPixels*>(memory + pixels_at_);
    auto* const sums = reinterpret_cast<std::int32_t*>(memory + sums_at_);
    std::int64_t cut_for = -1;
    const std::int64_t end = units * (strip + 1) / strips;
    for (std::int64_t unit = units * strip / strips, together = 1; unit < end; unit += together) {
      const std::int64_t first_chunk = unit % chunks, image = unit / chunks / panels_, index = unit / chunks % panels_;
      // Chunks that the panel is filled for once.
      std::int64_t rows = chunks_[static_cast<std::size_t>(first_chunk)].count;
      for (together = 1; shape_.groups == 1 && unit + together < end && first_chunk + together < chunks; ++together) {
        const std::int64_t more = chunks_[static_cast<std::size_t>(first_chunk + together)].count;
        if (rows + more > most_rows_together) break;
        rows += more;
      }
      const std::int64_t first_pixel = index * panel_pixels_, count = std::min(panel_pixels_, pixels_of_image - first_pixel);
      if (cut_for != index) cut(first_pixel, count, pixels);
      cut_for = index;
      const std::int64_t vectors = ceil_div(count, kernel_->lanes), blocks = chunks_[static_cast<std::size_t>(first_chunk)].blocks;
      for (std::int64_t b = 0; b < blocks; ++b) {
        std::int32_t* chunk_sums = sums;
        for (std::int64_t c = first_chunk; c < first_chunk + together; ++c) {
          const Chunk& chunk = chunks_[static_cast<std::size_t>(c)];
          const Block& block = blocks_[static_cast<std::size_t>(chunk.first_block + b)];
          if (c == first_chunk) {
            kernel_->fill({in + image * in_.image, pixels, vectors, sources_.data() + block.first_source, block.sources, panel, panel_pixels_ * 4});
          }
          IntSpmmArgs args;
          args.x = panel;
          args.entries = reinterpret_cast<const IntSpmmEntry*>(packed + block.entries);
          args.groups = reinterpret_cast<const SpmmGroup*>(packed + block.groups);
          args.group_count = block.group_count;
          args.rows = reinterpret_cast<const std::uint16_t*>(packed + block.order);
          if (b == 0) args.offset = epilogue.offset + chunk.first;
          args.sums = chunk_sums;
          kernel_->panels[vectors - 1](args);
          if (b + 1 == blocks) store(chunk, image, vectors, pixels, chunk_sums, epilogue, type, out);
          chunk_sums += chunk.count * vectors * kernel_->lanes;
        }
      }
    }
  });
}

void SparseIntConv::store(const Chunk& chunk, std::int64_t image, std::int64_t vectors, const IntSpmmPixels* pixels, const std::int32_t* sums,
                          const IntEpilogue& epilogue, IntOut type, void* out) const {
  const auto block_of = [](const Map& map, std::int64_t channel) { return map.block == spmm_block ? channel / spmm_block * map.plane : channel; };
  const std::int64_t element = type == IntOut::bytes ? 1 : 4;
  IntSpmmOut args;
  args.sums = sums;
  args.sums_row = vectors * kernel_->lanes;
  args.vectors = vectors;
  args.pixels = pixels;
  args.whole = out_.block % spmm_block == 0;
  if (type == IntOut::bytes) args.least = static_cast<int>(std::nearbyint(epilogue.store.lo)) + epilogue.store.zero;
  for (std::int64_t channel = chunk.first; channel < chunk.first + chunk.count; channel += spmm_block, args.sums += spmm_block * args.sums_row) {
    args.store = epilogue.store;
    if (args.store.scale != nullptr) args.store.scale += channel;
    if (args.store.bias != nullptr) args.store.bias += channel;
    if (args.store.residual != nullptr) args.store.residual += image * residual_.image + block_of(residual_, channel);
    const bool more = channel + spmm_block < chunk.first + chunk.count;
    args.next_y = more ? block_of(out_, channel + spmm_block) - block_of(out_, channel) : 0;
    args.next_residual = more ? block_of(residual_, channel + spmm_block) - block_of(residual_, channel) : 0;
    args.y = static_cast<std::byte*>(out) + (image * out_.image + block_of(out_, channel)) * element;
    args.valid = args.whole ? spmm_block : std::min(spmm_block, shape_.oc - channel);
    kernel_->store[static_cast<int>(type)](args);
  }
}

double SparseIntConv::cost(const IntSpmmKernel& kernel, const ConvShape& s, double quads) noexcept {
  return cost_of(kernel, s, quads, panel_vectors(kernel, s, quads));
}

}  // namespace bittern::engine
