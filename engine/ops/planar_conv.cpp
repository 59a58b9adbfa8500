#include "ops/planar_conv.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <utility>

#include "base/transpose.h"

namespace bittern::engine {
namespace {

constexpr std::int64_t gathered_floats = 1 << 18;  // of one chunk: stays in the second-level cache
constexpr std::int64_t line_floats = 256;          // of one step of the direct loop
constexpr std::size_t most_phases = 1024;          // each keeps tables of its own
constexpr float infinity = std::numeric_limits<float>::infinity();

// The q for which q * advance + offset lies in [0, size), cut to [first, last).
std::pair<std::int64_t, std::int64_t> inside(std::int64_t offset, std::int64_t advance, std::int64_t size, std::int64_t first, std::int64_t last) {
  if (offset < 0) first = std::max(first, (-offset + advance - 1) / advance);
  last = offset >= size ? first : std::min(last, (size - 1 - offset) / advance + 1);
  return {first, std::max(first, last)};
}

bool has(std::int64_t at, std::int64_t size) { return at >= 0 && at < size; }

}  // namespace

double PlanarConvShape::macs() const noexcept {
  const Sizes& s = transposed ? in : out;
  double count = static_cast<double>(n) * static_cast<double>(c) * static_cast<double>(oc) / static_cast<double>(groups);
  for (std::size_t d = 0; d < 3; ++d) count *= static_cast<double>(s[d]) * static_cast<double>(kernel[d]);
  return count;
}

PlanarConv::PlanarConv(const PlanarConvShape& shape, std::span<const GemmKernel> kernels) : shape_(shape) {
  const PlanarConvShape& s = shape_;
  inputs_ = s.c / s.groups;
  outputs_ = s.oc / s.groups;
  taps_ = s.kernel[0] * s.kernel[1] * s.kernel[2];
  in_pixels_ = s.in[0] * s.in[1] * s.in[2];
  out_pixels_ = s.out[0] * s.out[1] * s.out[2];
  if (inputs_ == 0 || outputs_ == 0) return;  // nothing but the bias
  std::size_t phases = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    if (!s.transposed) {
      Axis axis{0, 1, s.out[d], s.stride[d], {}, {}};
      for (std::int64_t t = 0; t < s.kernel[d]; ++t) {
        axis.taps.push_back(t);
        axis.offsets.push_back(t * s.dilation[d] - s.before[d]);
      }
      axes_[d].push_back(std::move(axis));
    } else {
      // Output o = q * stride + r takes input i by tap t if o + before = i * stride + t * dilation. Phases without outputs
      // are kept: packed weights must not depend on sizes.
      std::map<std::int64_t, Axis> residues;
      std::int64_t reached = 0;
      for (std::int64_t t = s.kernel[d] - 1; t >= 0; --t) {
        const std::int64_t lead = t * s.dilation[d] - s.before[d], r = (lead % s.stride[d] + s.stride[d]) % s.stride[d];
        Axis& axis = residues[r];
        axis.first = r;
        axis.step = s.stride[d];
        axis.count = r < s.out[d] ? (s.out[d] - r - 1) / s.stride[d] + 1 : 0;
        axis.taps.push_back(t);
        axis.offsets.push_back((r - lead) / s.stride[d]);
      }
      for (auto& [r, axis] : residues) {
        reached += axis.count;
        axes_[d].push_back(std::move(axis));
      }
      covered_ = covered_ && reached == s.out[d];
    }
    phases *= std::min<std::size_t>(axes_[d].size(), 2 * most_phases);
  }
  if (outputs_ < 4 || phases > most_phases) return;

  ConvShape whole;
  whole.c = inputs_ * taps_;
  whole.w = whole.ow = std::max<std::int64_t>(1, s.transposed ? in_pixels_ : out_pixels_);
  whole.oc = outputs_;
  double best = 0;
  for (const GemmKernel& kernel : kernels) {
    const double cost = GemmConv::cost(kernel, whole, whole.c, true);
    if (kernel_ == nullptr || cost < best) {
      kernel_ = &kernel;
      best = cost;
    }
  }
  if (kernel_ == nullptr) return;
  std::int64_t rows = 0, results = 0, padded = 0;
  each_phase([&](const std::array<const Axis*, 3>& axes) {
    Phase phase;
    phase.axes = axes;
    phase.pixels = axes[0]->count * axes[1]->count * axes[2]->count;
    phase.depth = inputs_ * axes[0]->taps_count() * axes[1]->taps_count() * axes[2]->taps_count();
    const std::int64_t fitting = std::max<std::int64_t>(16, gathered_floats / std::max(phase.depth, outputs_));
    phase.chunk = std::clamp<std::int64_t>(phase.pixels, 1, fitting);
    ConvShape product;
    product.c = phase.depth;
    product.oc = outputs_;
    product.w = product.ow = phase.chunk;
    const Map from = make_map(1, phase.depth, 1, phase.chunk, phase.depth), to = make_map(1, outputs_, 1, phase.chunk, outputs_);
    phase.product.emplace_back(*kernel_, product, from, to, Map{});
    phase.weights = packed_;
    phase.group_weights = phase.product[0].packed_elements();
    packed_ += s.groups * phase.group_weights;
    longest_ = std::max(longest_, phase.depth);
    rows = std::max(rows, phase.chunk * phase.depth);
    results = std::max(results, phase.chunk * outputs_);
    padded = std::max(padded, phase.product[0].padded_channels());
    phases_.push_back(std::move(phase));
  });
  const auto line = [](std::int64_t floats) { return (floats + 15) / 16 * 16; };
  rows_at_ = line(in_pixels_ * s.c);
  results_at_ = rows_at_ + line(rows);
  bias_at_ = results_at_ + line(results);
  scratch_ = bias_at_ + line(padded);
}

template <class Body>
void PlanarConv::each_phase(const Body& body) const {
  for (const Axis& a : axes_[0])
    for (const Axis& b : axes_[1])
      for (const Axis& c : axes_[2]) body(std::array<const Axis*, 3>{&a, &b, &c});
}

std::int64_t PlanarConv::weight_at(std::int64_t group, std::int64_t output, std::int64_t input, std::int64_t tap) const noexcept {
  if (shape_.transposed) return ((group * inputs_ + input) * outputs_ + output) * taps_ + tap;
  return ((group * outputs_ + output) * inputs_ + input) * taps_ + tap;
}

void PlanarConv::pack(const float* weights, float* packed, float* scratch) const {
  for (const Phase& phase : phases_) {
    for (std::int64_t g = 0; g < shape_.groups; ++g) {
      // Rows of outputs, each in the order in which gather() lines up the inputs.
      float* to = scratch;
      for (std::int64_t o = 0; o < outputs_; ++o)
        for (const std::int64_t a : phase.axes[0]->taps)
          for (const std::int64_t b : phase.axes[1]->taps)
            for (const std::int64_t c : phase.axes[2]->taps) {
              const std::int64_t tap = (a * shape_.kernel[1] + b) * shape_.kernel[2] + c;
              for (std::int64_t i = 0; i < inputs_; ++i) *to++ = weights[weight_at(g, o, i, tap)];
            }
      phase.product[0].pack(scratch, packed + phase.weights + g * phase.group_weights, [](const float*, std::int64_t) {});
    }
  }
}

void PlanarConv::fill_bias(const float* bias, float* y, Team& team) const {
  team.run(static_cast<std::size_t>(shape_.n * shape_.oc), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    std::fill_n(y + t * out_pixels_, out_pixels_, bias != nullptr ? bias[t % shape_.oc] : 0.0f);
  });
}

void PlanarConv::run(const float* x, const float* weights, const float* bias, float* y, float* scratch, Team& team) const {
  const PlanarConvShape& s = shape_;
  if (s.n == 0 || s.oc == 0 || out_pixels_ == 0) return;
  const bool empty = inputs_ == 0 || outputs_ == 0 || in_pixels_ == 0;
  if (empty || !covered_) fill_bias(bias, y, team);
  if (empty) return;
  if (kernel_ == nullptr) return run_directly(x, weights, bias, y, team);

  float *rows = scratch + rows_at_, *results = scratch + results_at_, *padded = scratch + bias_at_;
  constexpr std::int64_t pixel_block = 64, row_block = 16, channel_block = 32;
  const auto blocks = [](std::int64_t count, std::int64_t block) { return static_cast<std::size_t>((count + block - 1) / block); };
  for (std::int64_t n = 0; n < s.n; ++n) {
    // Channels last, so that the inputs of a tap are contiguous.
    team.run(blocks(in_pixels_, pixel_block), [&](std::size_t task) {
      const std::int64_t first = static_cast<std::int64_t>(task) * pixel_block, count = std::min(pixel_block, in_pixels_ - first);
      transpose(x + n * s.c * in_pixels_ + first, in_pixels_, s.c, count, scratch + first * s.c, s.c);
    });
    for (std::int64_t g = 0; g < s.groups; ++g) {
      float* target = y + (n * s.oc + g * outputs_) * out_pixels_;
      for (const Phase& phase : phases_) {
        if (bias != nullptr) phase.product[0].pad_bias(bias + g * outputs_, padded);
        const Epilogue epilogue{bias != nullptr ? padded : nullptr, nullptr, -infinity, infinity};
        for (std::int64_t first = 0; first < phase.pixels; first += phase.chunk) {
          const std::int64_t count = std::min(phase.chunk, phase.pixels - first);
          team.run(blocks(phase.chunk, row_block), [&](std::size_t task) {
            const std::int64_t at = static_cast<std::int64_t>(task) * row_block, end = std::min(phase.chunk, at + row_block);
            const std::int64_t valid = std::clamp(count, at, end);
            gather(phase, scratch, g, first + at, valid - at, rows + at * phase.depth);
            std::fill(rows + valid * phase.depth, rows + end * phase.depth, 0.0f);
          });
          phase.product[0].run(rows, weights + phase.weights + g * phase.group_weights, epilogue, results, team);
          team.run(blocks(outputs_, channel_block), [&](std::size_t task) {
            const std::int64_t channel = static_cast<std::int64_t>(task) * channel_block;
            scatter(phase, results, first, count, channel, std::min(channel_block, outputs_ - channel), target);
          });
        }
      }
    }
  }
}

void PlanarConv::gather(const Phase& phase, const float* pixels, std::int64_t group, std::int64_t first, std::int64_t count, float* rows) const {
  const PlanarConvShape& s = shape_;
  const auto& [depth, height, width] = phase.axes;
  const std::int64_t taps = width->taps_count(), run = inputs_;
  // The taps of a line follow each other in memory.
  const bool joined = s.groups == 1 && width->offsets.back() - width->offsets.front() == taps - 1;
  for (std::int64_t p = first; p < first + count; ++p) {
    const std::int64_t w = p % width->count * width->advance, h = p / width->count % height->count * height->advance;
    const std::int64_t d = p / width->count / height->count * depth->advance;
    const bool within = joined && w + width->offsets.front() >= 0 && w + width->offsets.back() < s.in[2];
    for (const std::int64_t depth_offset : depth->offsets) {
      for (const std::int64_t row_offset : height->offsets) {
        const std::int64_t z = d + depth_offset, v = h + row_offset;
        if (!has(z, s.in[0]) || !has(v, s.in[1])) {
          std::fill_n(rows, taps * run, 0.0f);
          rows += taps * run;
          continue;
        }
        const float* line = pixels + (z * s.in[1] + v) * s.in[2] * s.c + group * inputs_;
        if (within) {
          std::memcpy(rows, line + (w + width->offsets.front()) * s.c, static_cast<std::size_t>(taps * run) * sizeof(float));
          rows += taps * run;
          continue;
        }
        for (const std::int64_t offset : width->offsets) {
          if (has(w + offset, s.in[2])) {
            std::memcpy(rows, line + (w + offset) * s.c, static_cast<std::size_t>(run) * sizeof(float));
          } else {
            std::fill_n(rows, run, 0.0f);
          }
          rows += run;
        }
      }
    }
  }
}

void PlanarConv::scatter(const Phase& phase, const float* results, std::int64_t first, std::int64_t count, std::int64_t channel,
                         std::int64_t channels, float* y) const {
  const auto& [depth, height, width] = phase.axes;
  const float* from = results + channel;
  float* to = y + channel * out_pixels_;
  if (!shape_.transposed) return transpose(from, outputs_, count, channels, to + first, out_pixels_);
  for (std::int64_t p = first; p < first + count; ++p, from += outputs_) {
    const std::int64_t w = width->first + p % width->count * width->step;
    const std::int64_t h = height->first + p / width->count % height->count * height->step;
    const std::int64_t d = depth->first + p / width->count / height->count * depth->step;
    float* at = to + (d * shape_.out[1] + h) * shape_.out[2] + w;
    for (std::int64_t c = 0; c < channels; ++c) at[c * out_pixels_] = from[c];
  }
}

void PlanarConv::run_directly(const float* x, const float* weights, const float* bias, float* y, Team& team) const {
  const PlanarConvShape& s = shape_;
  team.run(static_cast<std::size_t>(s.n * s.oc), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t channel = t % s.oc, group = channel / outputs_;
    const float* source = x + (t / s.oc * s.c + group * inputs_) * in_pixels_;
    const float start = bias != nullptr ? bias[channel] : 0.0f;
    each_phase([&](const std::array<const Axis*, 3>& axes) {
      for (std::int64_t d = 0; d < axes[0]->count; ++d)
        for (std::int64_t h = 0; h < axes[1]->count; ++h) {
          direct_row(axes, source, weights, group, channel % outputs_, start, d, h, y + t * out_pixels_);
        }
    });
  });
}

void PlanarConv::direct_row(const std::array<const Axis*, 3>& axes, const float* x, const float* weights, std::int64_t group, std::int64_t output,
                            float start, std::int64_t depth_at, std::int64_t row_at, float* y) const {
  const PlanarConvShape& s = shape_;
  const auto& [depth, height, width] = axes;
  float* row = y + ((depth->first + depth_at * depth->step) * s.out[1] + height->first + row_at * height->step) * s.out[2] + width->first;
  for (std::int64_t first = 0; first < width->count; first += line_floats) {
    const std::int64_t count = std::min(line_floats, width->count - first);
    float sums[line_floats];
    std::fill_n(sums, count, start);
    for (std::int64_t input = 0; input < inputs_; ++input) {
      for (std::size_t a = 0; a < depth->taps.size(); ++a) {
        const std::int64_t z = depth_at * depth->advance + depth->offsets[a];
        if (!has(z, s.in[0])) continue;
        for (std::size_t b = 0; b < height->taps.size(); ++b) {
          const std::int64_t v = row_at * height->advance + height->offsets[b];
          if (!has(v, s.in[1])) continue;
          const float* line = x + ((input * s.in[0] + z) * s.in[1] + v) * s.in[2];
          const std::int64_t taps = (depth->taps[a] * s.kernel[1] + height->taps[b]) * s.kernel[2];
          for (std::size_t c = 0; c < width->taps.size(); ++c) {
            const float weight = weights[weight_at(group, output, input, taps + width->taps[c])];
            const std::int64_t offset = width->offsets[c], advance = width->advance;
            const auto [begin, end] = inside(offset, advance, s.in[2], first, first + count);
            if (advance == 1) {
              for (std::int64_t q = begin; q < end; ++q) sums[q - first] += weight * line[q + offset];
            } else {
              for (std::int64_t q = begin; q < end; ++q) sums[q - first] += weight * line[q * advance + offset];
            }
          }
        }
      }
    }
    for (std::int64_t q = 0; q < count; ++q) row[(first + q) * width->step] = sums[q];
  }
}

}  // namespace bittern::engine
