#include "spmm/panels.h"

#include <algorithm>
#include <map>
#include <utility>

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
constexpr std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// Panels of almost equal width, as wide as registers allow.
int even_vectors(std::int64_t all, int most) {
  all = std::max<std::int64_t>(1, all);
  return static_cast<int>(ceil_div(all, ceil_div(all, most)));
}

struct Shift {
  std::int64_t y, x;          // of a tap, in the planes
  std::int64_t dy, dx;        // in their phases
};

Shift shift_of(const ConvShape& s, std::int64_t r, std::int64_t c) {
  const std::int64_t y = r * s.dilation_h - s.pad_top, x = c * s.dilation_w - s.pad_left;
  return {y, x, floor_div(y, s.stride_h), floor_div(x, s.stride_w)};
}

// Vectors that the copies of a channel have beyond a panel's own, upright, and how many copies there are.
std::pair<std::int64_t, std::int64_t> halos(const ConvShape& s) {
  // Along the lines and the columns alike, taps of one phase share a copy; that is the product of what stands along each axis.
  std::map<std::int64_t, std::pair<std::int64_t, std::int64_t>> lines;  // first and last of each phase
  for (std::int64_t r = 0; r < s.kh; ++r) {
    const Shift shift = shift_of(s, r, 0);
    const auto [place, added] = lines.try_emplace(shift.y - shift.dy * s.stride_h, shift.dy, shift.dy);
    if (!added) place->second.second = shift.dy;
  }
  std::int64_t halo = 0;
  for (const auto& [phase, ends] : lines) halo += ends.second - ends.first;
  return {halo * s.kw, static_cast<std::int64_t>(lines.size()) * s.kw};
}

}  // namespace

bool contiguous(const ConvShape& s) noexcept {
  return s.kh == 1 && s.kw == 1 && s.pad_top == 0 && s.pad_left == 0 && ceil_div(s.h, s.stride_h) == s.oh && ceil_div(s.w, s.stride_w) == s.ow;
}

bool direct(const ConvShape& s, int lanes, double entries) noexcept {
  // Planes stand on pages of their own, more than a core has translations at hand: a channel that meets more weights is copied
  // (measured: 5 % faster from 6 weights on, 30 % from 12 on).
  constexpr double few = 6;
  constexpr std::int64_t near = 64;  // pixels
  return contiguous(s) && (s.oh * s.ow <= near || entries < few * static_cast<double>(s.c)) && (s.oh * s.ow) % lanes == 0 && s.oh * s.ow * 4 * most_direct_rows < (std::int64_t{1} << 28);
}

PanelForm panel_form(const SpmmKernel& kernel, const ConvShape& s, double entries) noexcept {
  const std::int64_t taps = s.kh * s.kw;
  PanelForm row;
  row.all_vectors = ceil_div(s.oh * s.ow, kernel.lanes);
  row.vectors = even_vectors(row.all_vectors, kernel.vectors);
  row.panels = ceil_div(std::max<std::int64_t>(1, row.all_vectors), row.vectors);
  row.filled = static_cast<double>(row.all_vectors * taps);
  row.pieces = row.filled * (1 + static_cast<double>(kernel.lanes - 1) / static_cast<double>(std::max<std::int64_t>(1, s.ow)));
  if (contiguous(s) || s.kh == 1 || static_cast<double>(s.oh) * static_cast<double>(s.ow) >= 0x1p31) return row;
  PanelForm best;
  for (std::int64_t columns = kernel.lanes; columns >= std::min(4, kernel.lanes); columns /= 2) {
    PanelForm form;
    form.upright = true;
    form.columns = columns;
    form.parts = kernel.lanes / columns;
    form.lines = ceil_div(s.oh, form.parts);
    form.stacks = ceil_div(s.ow, columns);
    form.all_vectors = form.lines * form.stacks;
    if (best.upright && form.all_vectors >= best.all_vectors) continue;
    best = form;
  }
  best.vectors = even_vectors(best.lines, kernel.vectors);
  const std::int64_t panels_of_stack = ceil_div(std::max<std::int64_t>(1, best.lines), best.vectors);
  best.panels = best.stacks * panels_of_stack;
  const auto [halo, copies] = halos(s);
  // A copy with its halo must not be larger than what it stands for: wide dilations are not for this form.
  if (halo + copies * best.vectors > taps * best.vectors) return row;
  best.filled = static_cast<double>(best.all_vectors * copies + best.panels * halo);
  best.pieces = best.filled * static_cast<double>(best.parts);
  return panel_cost(kernel, s, best, entries) < panel_cost(kernel, s, row, entries) ? best : row;
}

double panel_cost(const SpmmKernel& kernel, const ConvShape& s, const PanelForm& form, double entries) noexcept {
  const double panels = static_cast<double>(form.panels), all = static_cast<double>(form.all_vectors);
  const double channels = static_cast<double>(s.c), rows = static_cast<double>(s.oc), inputs = static_cast<double>(s.h) * static_cast<double>(s.w);
  const auto together = static_cast<double>(spmm_rows(kernel.form));
  const bool in_place = direct(s, kernel.lanes, entries * together), strided = s.stride_h > 1 || s.stride_w > 1;
  const double blocks = in_place ? channels / static_cast<double>(most_direct_rows)
                                 : channels * form.filled / panels * kernel.lanes * 4 / static_cast<double>(panel_bytes);
  // An entry: a load for each vector, one for the weight, and some for positions. A row of a block: its sums come and go. With four
  // rows an entry the products count, not the loads; sums go through memory once more at the end.
  const double products = entries * (all * together + panels * 1.35);
  const double sums = rows * std::max(1.0, blocks / static_cast<double>(s.groups)) * (all * (together > 1 ? 4.5 : 3.0) + panels * 8.0 / together);
  // A part of a vector is a load that leaves most of a line of the cache alone; a stored vector comes back later.
  const double fills = in_place ? 0.0 : static_cast<double>(ceil_div(s.oc, most_rows_together));
  const double filled = fills * channels * (form.filled * 1.5 + (contiguous(s) ? 0.0 : form.pieces * 3.0));
  // Outputs that stand apart; worse where they come from memory.
  constexpr double cached = 8e6;
  const double bytes = rows * static_cast<double>(s.oh) * static_cast<double>(s.ow) * 4;
  const double apart = form.upright ? rows * all * static_cast<double>(form.parts) * (bytes > cached ? 16.0 : 3.0) : 0.0;
  const double split = strided ? channels * inputs * 0.9 * 16 / kernel.lanes : 0.0;
  // What does not stay in the caches comes at some 6 bytes a cycle: maps, and weights that every panel reads again.
  constexpr double from_memory = 6, large_weights = 2e6;
  const double maps = bytes + channels * inputs * 4, weights = entries * static_cast<double>(entry_bytes(kernel.form));
  const double moved = (maps > cached ? maps : 0.0) + (weights > large_weights ? panels * weights : 0.0);
  return static_cast<double>(s.n) * (products + sums + filled + apart + split + moved / from_memory);
}

Panels::Panels(const SpmmKernel& kernel, const ConvShape& shape, const PanelForm& form, const Map& in)
    : kernel_(&kernel), shape_(shape), form_(form), in_(in), row_(in.row), plane_(in.plane), image_(in.image) {
  const ConvShape& s = shape_;
  const bool strided = s.stride_h > 1 || s.stride_w > 1;
  if (strided) {
    row_ = ceil_div(s.w, s.stride_w);
    phase_plane_ = ceil_div(s.h, s.stride_h) * row_;
  }
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> phase_of, copy_of;
  for (std::int64_t r = 0; r < s.kh; ++r) {
    for (std::int64_t c = 0; c < s.kw; ++c) {
      const Shift shift = shift_of(s, r, c);
      std::int64_t phase = 0;
      if (strided) {
        const std::int64_t y = shift.y - shift.dy * s.stride_h, x = shift.x - shift.dx * s.stride_w;
        const auto [place, added] = phase_of.try_emplace(std::pair(y, x), static_cast<std::int64_t>(phases_.size()));
        phase = place->second;
        const auto rest = [](std::int64_t size, std::int64_t from, std::int64_t stride) { return std::max<std::int64_t>(0, ceil_div(size - from, stride)); };
        if (added) phases_.push_back({y, x, rest(s.h, y, s.stride_h), rest(s.w, x, s.stride_w)});
      }
      auto copy = static_cast<std::int64_t>(copies_.size());
      if (form_.upright) copy = copy_of.try_emplace(std::pair(phase, shift.dx), copy).first->second;
      if (copy == static_cast<std::int64_t>(copies_.size())) copies_.push_back({phase, shift.dy, shift.dx, 0});
      // Lines of the kernel rise, so that the first tap of a copy is its highest.
      Copy& made = copies_[static_cast<std::size_t>(copy)];
      made.halo = static_cast<std::int32_t>(shift.dy - made.dy);
      taps_.push_back({copy, shift.dy - made.dy});
    }
  }
  if (strided) {
    plane_ = static_cast<std::int64_t>(phases_.size()) * phase_plane_;
    image_ = s.c * plane_;
  }
  const std::int64_t stacks = form_.upright ? form_.stacks : 1, all = form_.upright ? form_.lines : s.oh * s.ow;
  const std::int64_t each = form_.vectors * (form_.upright ? 1 : kernel.lanes);
  for (std::int64_t stack = 0; stack < stacks; ++stack) {
    for (std::int64_t first = 0; first < all; first += each) {
      const std::int64_t count = std::min(each, all - first);
      panels_.push_back({first, count, stack, static_cast<int>(form_.upright ? count : ceil_div(count, kernel.lanes))});
    }
  }
}

void Panels::split(const float* in, float* phases, Team& team) const {
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

std::int64_t Panels::most_pieces() const noexcept {
  // A vector has a piece for each line it touches, and one if it touches none.
  const std::int64_t lines = form_.upright ? form_.parts : (kernel_->lanes - 1 + shape_.ow - 1) / shape_.ow + 1;
  std::int64_t vectors = form_.upright ? form_.vectors : 0;
  for (const Copy& copy : copies_) vectors += form_.vectors + copy.halo;
  return vectors * lines;
}

std::int64_t Panels::height_of(const Copy& copy) const noexcept {
  return phases_.empty() ? shape_.h : phases_[static_cast<std::size_t>(copy.phase)].height;
}
std::int64_t Panels::width_of(const Copy& copy) const noexcept {
  return phases_.empty() ? shape_.w : phases_[static_cast<std::size_t>(copy.phase)].width;
}

const SpmmPiece* Panels::cut(const Panel& panel, SpmmPiece* pieces, std::int32_t* first) const {
  SpmmPiece* piece = pieces;
  for (std::size_t c = 0; c < copies_.size(); ++c) {
    const Copy& copy = copies_[c];
    first[c] = static_cast<std::int32_t>(piece - pieces);
    piece = form_.upright ? cut_stack(panel, copy, true, piece) : cut_row(panel, copy, piece);
  }
  if (form_.upright) cut_stack(panel, {}, false, piece);
  return piece;
}

SpmmPiece* Panels::cut_row(const Panel& panel, const Copy& copy, SpmmPiece* piece) const {
  const std::int64_t ow = shape_.ow, height = height_of(copy), width = width_of(copy);
  std::int64_t y = panel.first / ow, x = panel.first % ow;
  for (std::int64_t done = 0; done < panel.count; done += kernel_->lanes) {
    SpmmPiece* const of_vector = piece;
    const std::int64_t pixels = std::min<std::int64_t>(kernel_->lanes, panel.count - done);
    for (std::int64_t lane = 0; lane < pixels;) {
      const std::int64_t run = std::min(pixels - lane, ow - x), line_at = y + copy.dy;
      // Those of the run whose columns exist.
      const std::int64_t from = std::clamp<std::int64_t>(-(x + copy.dx), 0, run), to = std::clamp<std::int64_t>(width - (x + copy.dx), from, run);
      if (line_at >= 0 && line_at < height && to > from) {
        const auto lanes = static_cast<std::uint16_t>(((std::uint32_t{1} << (to - from)) - 1) << (lane + from));
        const bool whole = to - from == kernel_->lanes;
        *piece++ = {static_cast<std::int32_t>(copy.phase * phase_plane_ + line_at * row_ + x + copy.dx - lane), lanes, 1, whole};
      }
      lane += run;
      x += run;
      if (x == ow) x = 0, ++y;
    }
    if (piece == of_vector) *piece++ = {};
    (piece - 1)->more = 0;
  }
  return piece;
}

SpmmPiece* Panels::cut_stack(const Panel& panel, const Copy& copy, bool input, SpmmPiece* piece) const {
  const std::int64_t height = input ? height_of(copy) : shape_.oh, width = input ? width_of(copy) : shape_.ow, row = input ? row_ : shape_.ow;
  const std::int64_t x = panel.stack * form_.columns + copy.dx;
  const std::int64_t from = std::clamp<std::int64_t>(-x, 0, form_.columns), to = std::clamp<std::int64_t>(width - x, from, form_.columns);
  for (std::int64_t v = 0; v < panel.count + copy.halo; ++v) {
    SpmmPiece* const of_vector = piece;
    for (std::int64_t part = 0; part < form_.parts && to > from; ++part) {
      const std::int64_t line_at = panel.first + v + part * form_.lines + copy.dy, lane = part * form_.columns;
      if (line_at < 0 || line_at >= height) continue;
      const auto lanes = static_cast<std::uint16_t>(((std::uint32_t{1} << (to - from)) - 1) << (lane + from));
      const bool whole = input && to - from == form_.columns;
      const std::int64_t first = whole ? x : x - lane;
      *piece++ = {static_cast<std::int32_t>(copy.phase * phase_plane_ + line_at * row + first), lanes, 1, whole};
    }
    if (piece == of_vector) *piece++ = {};
    (piece - 1)->more = 0;
  }
  return piece;
}

}  // namespace bittern::engine
