#include "bgemm/bit_conv.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

namespace bittern::engine {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Multiplications of bits that are worth a task.
constexpr std::int64_t task_work = 12'000'000;

// The taps of one direction that lie inside the image, from the first to the last, as a kind of output rows or columns.
void find_kinds(std::int64_t outputs, std::int64_t size, std::int64_t taps, std::int64_t stride, std::int64_t dilation, std::int64_t pad,
                std::vector<std::int32_t>& kind, std::vector<std::int64_t>& sample) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::int32_t> known;
  for (std::int64_t o = 0; o < outputs; ++o) {
    const std::int64_t at = o * stride - pad, before = size - at;  // taps lie at at, at + dilation, ...
    const std::int64_t first = at >= 0 ? 0 : std::min(taps, ceil_div(-at, dilation));
    const std::int64_t end = before <= 0 ? 0 : std::min(taps, ceil_div(before, dilation));
    const auto taps_inside = first < end ? std::pair(first, end) : std::pair<std::int64_t, std::int64_t>(0, 0);
    const auto [found, fresh] = known.emplace(taps_inside, static_cast<std::int32_t>(sample.size()));
    if (fresh) sample.push_back(o);
    kind.push_back(found->second);
  }
}

}  // namespace

std::optional<BitWeightForm> bit_weight_form(std::span<const std::int16_t> alphabet) {
  constexpr int most_planes = 8;
  if (alphabet.empty()) return std::nullopt;
  const std::int32_t least = alphabet.front(), greatest = alphabet.back();
  BitWeightForm form;
  const bool odd = std::all_of(alphabet.begin(), alphabet.end(), [](std::int16_t w) { return w % 2 != 0; });
  if (odd) {
    int planes = 1;
    while (planes < most_planes && (1 << planes) - 1 < std::max(-least, greatest)) ++planes;
    if ((1 << planes) - 1 >= std::max(-least, greatest)) {
      form.shift = (1 << planes) - 1;
      form.halved = 1;
      for (int p = 0; p < planes; ++p) form.coefficients.push_back(1 << p);
      return form;
    }
  }
  form.conjunction = true;
  if (least >= 0) {
    int planes = 1;
    while (planes < most_planes && (1 << planes) - 1 < greatest) ++planes;
    if ((1 << planes) - 1 < greatest) return std::nullopt;
    for (int p = 0; p < planes; ++p) form.coefficients.push_back(1 << p);
    return form;
  }
  int planes = 2;
  while (planes < most_planes && (-(1 << (planes - 1)) > least || (1 << (planes - 1)) - 1 < greatest)) ++planes;
  if (-(1 << (planes - 1)) > least || (1 << (planes - 1)) - 1 < greatest) return std::nullopt;
  for (int p = 0; p < planes; ++p) form.coefficients.push_back(p + 1 < planes ? 1 << p : -(1 << p));
  return form;
}

bool BitConv::groups_fit(const ConvShape& s) noexcept {
  return s.groups == 1 || (s.c / s.groups % word_bits == 0 && s.oc / s.groups % word_bits == 0);
}

BitConv::BitConv(const BitGemmKernel& kernel, const ConvShape& shape, const BitMap& in, const BitWeightForm& form, const BitValues& values,
                 bool zero_padding)
    : kernel_(&kernel), shape_(shape), in_(in), form_(form), values_(values), grouped_(shape.groups > 1 && groups_fit(shape)) {
  const ConvShape& s = shape_;
  groups_ = grouped_ ? s.groups : 1;
  group_in_ = s.c / groups_;
  group_out_ = s.oc / groups_;
  panels_per_group_ = ceil_div(group_out_, kernel.cols);
  group_words_ = ceil_div(group_in_, word_bits);
  // Where a pixel is one run of words, the taps of a kernel's row stand side by side.
  const bool whole_rows = groups_ == 1 && in.planes == 1 && s.dilation_w == 1;
  run_ = whole_rows ? s.kw * group_words_ : group_words_;
  for (std::int64_t y = 0; y < s.kh; ++y)
    for (std::int64_t x = 0; x < (whole_rows ? 1 : s.kw); ++x) segments_.push_back(y * s.dilation_h * in.row + x * s.dilation_w * in.pixel);
  for (const std::int32_t weight : form.coefficients)
    for (std::int64_t p = 0; p < values.planes; ++p) pairs_.push_back(weight * (1 << p));
  if (zero_padding && values.shift != 0) {
    find_kinds(s.oh, s.h, s.kh, s.stride_h, s.dilation_h, s.pad_top, row_kind_, row_sample_);
    find_kinds(s.ow, s.w, s.kw, s.stride_w, s.dilation_w, s.pad_left, column_kind_, column_sample_);
    row_kinds_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(row_sample_.size()));
    column_kinds_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(column_sample_.size()));
  } else {
    row_kind_.assign(static_cast<std::size_t>(s.oh), 0);
    column_kind_.assign(static_cast<std::size_t>(s.ow), 0);
  }
}

double BitConv::cost(const BitGemmKernel& kernel, const ConvShape& s, std::int64_t planes, std::int64_t weight_planes) noexcept {
  const std::int64_t groups = groups_fit(s) ? s.groups : 1;
  const std::int64_t pixels = s.oh * s.ow, tiles = ceil_div(pixels, kernel.rows), panels = groups * ceil_div(s.oc / groups, kernel.cols);
  const double words = static_cast<double>(s.kh * s.kw * ceil_div(s.c / groups, word_bits) * planes * weight_planes);
  const double vectors = static_cast<double>(kernel.cols) / kernel.lanes, rows = static_cast<double>(pixels) / static_cast<double>(std::max<std::int64_t>(1, tiles));
  const double step = std::max({rows * vectors * kernel.cycles, 6.0, rows + vectors});
  const double store = (rows * vectors * 4 + 30) * static_cast<double>(planes * weight_planes) + rows * (3 * vectors + 10);
  return static_cast<double>(s.n * panels * tiles) * (words * step + store);
}

std::int64_t BitConv::packed_words() const noexcept {
  return groups_ * panels_per_group_ * static_cast<std::int64_t>(form_.coefficients.size()) * taps() * group_words_ * kernel_->cols;
}

void BitConv::pack(const IntWeights& weights, std::uint32_t* packed) const {
  const ConvShape& s = shape_;
  const auto planes = static_cast<std::int64_t>(form_.coefficients.size());
  const std::int64_t cols = kernel_->cols, own_in = s.c / s.groups, own_out = s.oc / s.groups, plane_words = taps() * group_words_ * cols;
  std::fill(packed, packed + packed_words(), 0u);
  for (std::int64_t o = 0; o < s.oc; ++o) {
    const std::int64_t at = padded(o), first = grouped_ ? 0 : o / own_out * own_in;  // the first channel that has weights
    std::uint32_t* const panel = packed + at / cols * planes * plane_words + at % cols;
    for (std::int64_t t = 0; t < taps(); ++t) {
      for (std::int64_t c = 0; c < group_in_; ++c) {
        const bool own = c >= first && c < first + own_in;
        const std::int32_t value = own ? weights.values[o * weights.out + (c - first) * weights.in + t] : 0;
        const std::int32_t code = (value + form_.shift) >> form_.halved;
        std::uint32_t* const word = panel + (t * group_words_ + c / word_bits) * cols;
        for (std::int64_t p = 0; p < planes; ++p) word[p * plane_words] |= ((static_cast<std::uint32_t>(code) >> p) & 1u) << (c % word_bits);
      }
    }
  }
}

bool BitConv::fits(const ConvShape& s, const BitWeightForm& form, const BitValues& values) noexcept {
  double span = 0;  // of the coefficients
  for (const std::int32_t c : form.coefficients) span += c < 0 ? -c : c;
  const auto codes = static_cast<double>((std::int64_t{1} << values.planes) - 1);
  const std::int64_t in = groups_fit(s) ? s.c / s.groups : s.c;
  const double products = static_cast<double>(in) * static_cast<double>(s.kh * s.kw) * span;
  return products * (codes * values.factor + std::abs(values.shift)) * 2 < 0x3fffffff;
}

void BitConv::offsets(const IntWeights& weights, std::span<const std::int8_t> direction, std::int32_t* offset, std::int32_t* factor) const {
  const ConvShape& s = shape_;
  const std::int64_t own_in = s.c / s.groups, all = padded_channels(), largest_code = (std::int64_t{1} << values_.planes) - 1;
  std::fill(offset, offset + patterns() * all, 0);
  std::fill(factor, factor + all, 0);
  std::vector<std::int64_t> tap_sum(static_cast<std::size_t>(taps()));
  for (std::int64_t o = 0; o < s.oc; ++o) {
    std::int64_t ones = 0;  // coefficients of the bits that are set, where words are compared
    for (std::int64_t t = 0; t < taps(); ++t) {
      std::int64_t sum = 0;
      for (std::int64_t c = 0; c < own_in; ++c) {
        const std::int32_t value = weights.values[o * weights.out + c * weights.in + t];
        sum += value;
        if (!form_.conjunction) ones += (value + form_.shift) >> form_.halved;  // coefficients are powers of two there
      }
      tap_sum[static_cast<std::size_t>(t)] = sum;
    }
    const std::int64_t at = padded(o), sign = direction.empty() ? 1 : direction[static_cast<std::size_t>(o)];
    factor[at] = static_cast<std::int32_t>(sign * (form_.conjunction ? values_.factor : -values_.factor));
    for (std::int64_t pattern = 0; pattern < patterns(); ++pattern) {
      std::int64_t inside = 0;
      for (std::int64_t y = 0; y < s.kh; ++y) {
        for (std::int64_t x = 0; x < s.kw; ++x) {
          if (!row_sample_.empty() && !column_sample_.empty()) {
            const std::int64_t row = row_sample_[static_cast<std::size_t>(pattern / column_kinds_)] * s.stride_h - s.pad_top + y * s.dilation_h;
            const std::int64_t column = column_sample_[static_cast<std::size_t>(pattern % column_kinds_)] * s.stride_w - s.pad_left + x * s.dilation_w;
            if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
          }
          inside += tap_sum[static_cast<std::size_t>(y * s.kw + x)];
        }
      }
      const std::int64_t value = values_.factor * largest_code * ones - values_.shift * inside;
      offset[pattern * all + at] = static_cast<std::int32_t>(sign * value);
    }
  }
}

void BitConv::count_thresholds(const std::int32_t* offset, const std::int32_t* factor, std::span<const std::int32_t> thresholds, std::int32_t* counts,
                               std::uint32_t* flips) const {
  const std::int64_t all = padded_channels(), steps = static_cast<std::int64_t>(thresholds.size()) / all;
  const auto floor_div = [](std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); };
  const auto clamped = [](std::int64_t a) { return static_cast<std::int32_t>(std::clamp<std::int64_t>(a, INT32_MIN, INT32_MAX)); };
  std::fill(flips, flips + all / word_bits, 0u);
  for (std::int64_t c = 0; c < all; ++c) {
    if (factor[c] < 0) flips[c / word_bits] |= 1u << (c % word_bits);
    for (std::int64_t pattern = 0; pattern < patterns(); ++pattern) {
      for (std::int64_t j = 0; j < steps; ++j) {
        const std::int64_t wanted = std::int64_t{thresholds[static_cast<std::size_t>(j * all + c)]} - offset[pattern * all + c];  // of factor * count
        std::int32_t& least = counts[(pattern * steps + j) * all + c];
        if (factor[c] == 0) {
          least = wanted <= 0 ? INT32_MIN : INT32_MAX;  // no count is so large
        } else if (factor[c] > 0) {
          least = clamped(-floor_div(-wanted, factor[c]));
        } else {
          least = clamped(floor_div(-wanted, -factor[c]) + 1);  // reached where the sum is too small: flipped
        }
      }
    }
  }
}

void BitConv::run(const std::uint32_t* in, const std::uint32_t* packed, const BitStore& store, const BitMap& out, std::uint32_t* bits,
                  Team& team) const {
  Target target;
  target.pixel = out.pixel;
  target.row = out.row;
  target.image = out.image;
  target.bits = bits;
  BitSummand all{this, packed, store};
  all.store.planes = out.planes;
  all.store.plane_step = out.words;
  run(std::span(&all, 1), in, target, team);
}

void BitConv::run_sum(std::span<const BitSummand> summands, const std::uint32_t* in, const BitPartners& partners, const Map& out, float* floats, Team& team) {
  Target target;
  target.out = BitOut::floats;
  target.pixel = out.block;
  target.row = out.row;
  target.image = out.image;
  if (partners.residual != nullptr) {
    target.residual_pixel = partners.residual_map->block;
    target.residual_row = partners.residual_map->row;
    target.residual_image = partners.residual_map->image;
  }
  target.floats = floats;
  target.map = &out;
  target.partners = partners;
  run(summands, in, target, team);
}

void BitConv::run(std::span<const BitSummand> summands, const std::uint32_t* in, const Target& target, Team& team) {
  const BitConv& like = *summands[0].conv;  // what tasks are is the same for all
  const ConvShape& s = like.shape_;
  const BitGemmKernel& kernel = *like.kernel_;
  const std::int64_t panels = like.groups_ * like.panels_per_group_, pixels = s.oh * s.ow;
  if (pixels == 0 || s.n == 0) return;
  std::int64_t pairs = 0;
  for (const BitSummand& summand : summands) pairs += static_cast<std::int64_t>(summand.conv->pairs_.size());
  const std::int64_t work = std::max<std::int64_t>(1, like.taps() * like.group_words_ * kernel.cols * word_bits * pairs);
  const std::int64_t wanted = std::max<std::int64_t>(kernel.rows, task_work / work / kernel.rows * kernel.rows);
  const std::int64_t chunks = std::max<std::int64_t>(1, pixels / wanted), chunk = ceil_div(ceil_div(pixels, chunks), kernel.rows) * kernel.rows;
  const std::int64_t per_image = ceil_div(pixels, chunk);
  team.run(static_cast<std::size_t>(s.n * per_image * panels), [&](std::size_t number) {
    const auto index = static_cast<std::int64_t>(number);
    Task task;
    task.panel = index % panels;
    task.image = index / panels / per_image;
    task.first = index / panels % per_image * chunk;
    task.last = std::min(pixels, task.first + chunk);
    for (const BitSummand& summand : summands) {
      task.ends = &summand == &summands.back();
      summand.conv->run_task(task, summand, in, target);
      task.adds = true;
    }
  });
}

void BitConv::run_task(const Task& task, const BitSummand& summand, const std::uint32_t* in, const Target& target) const {
  const ConvShape& s = shape_;
  const std::int64_t cols = kernel_->cols, panel = task.panel, group = panel / panels_per_group_;
  const std::int64_t plane_words = taps() * group_words_ * cols, weight_planes = static_cast<std::int64_t>(form_.coefficients.size());
  const std::int64_t channel = group * group_out_ + panel % panels_per_group_ * cols;  // the panel's first
  const std::int64_t valid = std::min(cols, group_out_ - panel % panels_per_group_ * cols);
  BitTileArgs args;
  args.a = in + task.image * in_.image - s.pad_top * in_.row - s.pad_left * in_.pixel + values_.first * in_.words + group * group_in_ / word_bits;
  args.segments = segments_.data();
  args.taps = static_cast<std::int64_t>(segments_.size());
  args.run = run_;
  args.planes = values_.planes;
  args.weight_planes = weight_planes;
  args.plane_step = in_.words;
  args.coefficients = pairs_.data();
  args.b = summand.packed + panel * weight_planes * plane_words;
  args.store = summand.store;
  args.store.offset += panel * cols;
  args.store.factor += panel * cols;
  if (target.out == BitOut::bits) {
    args.store.thresholds += panel * cols;
    args.store.flips += panel * cols / word_bits;
    args.bits = target.bits + task.image * target.image + channel / word_bits;
    args.words = ceil_div(valid, word_bits);
  } else {
    args.store.scale += panel * cols;
    args.store.bias += panel * cols;
    const auto start = [&](const Map& map) { return task.image * map.image + (map.block == 16 ? channel / 16 * map.plane : channel); };
    args.c = target.floats + start(*target.map);
    args.c_block = target.map->block == 16 ? target.map->plane : 16;
    args.channels = valid;
    args.valid = target.map->block == 16 ? ceil_div(valid, 16) * 16 : valid;
    if (task.adds) {
      args.residual = args.c;
      args.residual_block = args.c_block;
    } else if (const BitPartners& with = target.partners; with.residual != nullptr) {
      args.residual = with.residual + start(*with.residual_map);
      args.residual_block = with.residual_map->block == 16 ? with.residual_map->plane : 16;
    }
    if (task.ends && target.partners.factors != nullptr) args.factors = target.partners.factors + task.image * s.oh * s.ow;
  }
  BitPixel tile_pixels[most_bit_rows];
  args.pixels = tile_pixels;
  const BitTileFunction* const tiles = kernel_->tiles + static_cast<int>(target.out) * kernel_->rows;
  const std::int64_t tiles_left = ceil_div(task.last - task.first, kernel_->rows);
  std::int64_t pixel = task.first, y = task.first / s.ow, x = task.first % s.ow;
  for (std::int64_t i = 0; i < tiles_left; ++i) {
    const std::int64_t rows = ceil_div(task.last - pixel, tiles_left - i);  // tiles of almost equal size
    for (std::int64_t r = 0; r < rows; ++r) {
      BitPixel& p = tile_pixels[r];
      p.a = y * s.stride_h * in_.row + x * s.stride_w * in_.pixel;
      const std::int64_t at = y * target.row + x * target.pixel;
      (target.out == BitOut::bits ? p.bits : p.floats) = at;
      p.residual = task.adds ? at : y * target.residual_row + x * target.residual_pixel;
      p.factor = y * s.ow + x;
      p.pattern = row_kind_[static_cast<std::size_t>(y)] * column_kinds_ + column_kind_[static_cast<std::size_t>(x)];
      if (++x == s.ow) ++y, x = 0;
    }
    tiles[rows - 1](args);
    pixel += rows;
  }
}

}  // namespace bittern::engine
