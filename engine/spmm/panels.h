// How a convolution's pixels are cut into the panels of the spmm loop, and where the inputs of a panel stand.
//
// In a row: the pixels of a panel follow each other, line behind line. Every tap of the kernel needs a copy of its own, shifted.
// Upright: the vectors of a panel stand below each other, so that a tap one line further down reads the same copy one vector
// further on, and a kernel of 3x3 needs three copies with two vectors more, not nine. A vector has some columns of several lines
// far apart (`parts`), so that its lanes fill whatever the width of the map:
//
//   width 28, 16 lanes: 4 columns of the lines v, v + 7, v + 14, v + 21; vectors v, v + 1 ... below each other; a halo of two
//
// With strides, the planes are cut into their phases beforehand, whose neighbours stand together.
#pragma once

#include <cstdint>
#include <vector>

#include "base/map.h"
#include "base/thread_pool.h"
#include "gemm/conv.h"
#include "spmm/panel.h"

namespace bittern::engine {

// What a block of inputs may take of the first-level cache and a little more: measured, see docs/kernels.md.
inline constexpr std::int64_t panel_bytes = 48 * 1024;
inline constexpr std::int64_t most_direct_rows = 128;    // of a block that is read in place
inline constexpr std::int64_t most_rows_together = 512;  // that a panel is filled for once

struct PanelForm {
  bool upright = false;
  int vectors = 1;                            // of the widest panel
  std::int64_t columns = 0, parts = 0;        // of a vector, upright
  std::int64_t lines = 0, stacks = 0;         // of vectors, upright: the map is so many stacks of so many lines
  std::int64_t panels = 0, all_vectors = 0;   // of an image
  double filled = 0;                          // vectors that a channel fills for all panels of an image
  double pieces = 0;                          // of them
};

// The pixels make the vectors without shifting: every pixel of the (phase's) plane makes one of the output.
bool contiguous(const ConvShape& shape) noexcept;

// Planes of whole vectors are read in place, if few enough weights meet them.
bool direct(const ConvShape& shape, int lanes, double entries) noexcept;

// The cheaper form for so many weights that are not zero.
PanelForm panel_form(const SpmmKernel& kernel, const ConvShape& shape, double entries) noexcept;

// Estimated time in cycles of the level's vector unit. Fitted to convolutions of 3x3 on maps of 7x7 to 224x224 (Zen 4).
double panel_cost(const SpmmKernel& kernel, const ConvShape& shape, const PanelForm& form, double entries) noexcept;

class Panels {
 public:
  struct Panel {
    std::int64_t first = 0, count = 0;  // pixels, or vectors of a stack
    std::int64_t stack = 0;
    int vectors = 0;
  };
  // Of a channel's plane, shifted: rows of a panel and, upright, the lines of its halo.
  struct Copy {
    std::int64_t phase = 0, dy = 0, dx = 0;
    std::int32_t halo = 0;
  };
  // A tap of the kernel reads a copy, so many lines further on.
  struct Tap {
    std::int64_t copy = 0, line = 0;
  };

  Panels(const SpmmKernel& kernel, const ConvShape& shape, const PanelForm& form, const Map& in);

  const std::vector<Panel>& list() const noexcept { return panels_; }
  const std::vector<Copy>& copies() const noexcept { return copies_; }
  const std::vector<Tap>& taps() const noexcept { return taps_; }
  // Vectors of a copy in the widest panel.
  std::int64_t vectors_of(std::int64_t copy) const noexcept { return form_.vectors + copies_[static_cast<std::size_t>(copy)].halo; }
  // Elements between channels and images of what panels are filled from: the input, or its phases.
  std::int64_t plane() const noexcept { return plane_; }
  std::int64_t image() const noexcept { return image_; }
  bool has_phases() const noexcept { return !phases_.empty(); }
  // Every phase of every plane, line by line.
  void split(const float* in, float* phases, Team& team) const;

  // Pieces that cut() may make.
  std::int64_t most_pieces() const noexcept;
  // Where the vectors of a panel stand: those of each copy begin at first[copy], those of the output behind them at the returned
  // place (only upright).
  const SpmmPiece* cut(const Panel& panel, SpmmPiece* pieces, std::int32_t* first) const;

 private:
  // A phase of the planes: every stride-th line and column from these on.
  struct Phase {
    std::int64_t y = 0, x = 0, height = 0, width = 0;
  };

  std::int64_t height_of(const Copy& copy) const noexcept;
  std::int64_t width_of(const Copy& copy) const noexcept;
  SpmmPiece* cut_row(const Panel& panel, const Copy& copy, SpmmPiece* piece) const;
  SpmmPiece* cut_stack(const Panel& panel, const Copy& copy, bool input, SpmmPiece* piece) const;  // or of the output

  const SpmmKernel* kernel_;
  ConvShape shape_;
  PanelForm form_;
  Map in_;
  std::vector<Panel> panels_;
  std::vector<Copy> copies_;
  std::vector<Tap> taps_;
  std::vector<Phase> phases_;  // none without strides
  std::int64_t row_ = 0, phase_plane_ = 0, plane_ = 0, image_ = 0;  // elements between lines, phases, channels, images
};

}  // namespace bittern::engine
