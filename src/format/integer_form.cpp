#include "format/integer_form.h"

#include <algorithm>
#include <functional>
#include <limits>

#include <bittern/error.h>

#include "format/decode.h"

namespace bittern::format {
namespace {

using graph::Encoding;
using graph::EncodingKind;

constexpr std::size_t most_letters = 256;
constexpr std::int64_t no_value = std::numeric_limits<std::int64_t>::min();  // of a code that must not occur

// The axis in the tree's shape; trees count it in the order of storage.
int outer_axis(const Encoding& tree) {
  if (tree.axis < 0 || !tree.ohwi) return tree.axis;
  constexpr int position[] = {0, 2, 3, 1};
  return position[tree.axis];
}

struct Range {
  std::int64_t least = 0, greatest = 0;
};

// What the codes of an integer tree may be, by its nodes alone.
Range range_of(const Encoding& codes) {
  const auto signed_bits = [](int bits) { return Range{-(std::int64_t{1} << (bits - 1)), (std::int64_t{1} << (bits - 1)) - 1}; };
  switch (codes.kind) {
    case EncodingKind::packed: return codes.is_signed ? signed_bits(codes.bits) : Range{0, (std::int64_t{1} << codes.bits) - 1};
    case EncodingKind::trits: return {0, 2};
    case EncodingKind::separable_signs: return {0, 1};
    case EncodingKind::huffman: return {0, static_cast<std::int64_t>(codes.lengths.bytes) - 1};
    case EncodingKind::rans: return {0, static_cast<std::int64_t>(codes.frequencies.bytes / 2) - 1};
    case EncodingKind::sparse: {
      const Range values = range_of(*codes.values);
      return {std::min<std::int64_t>(values.least, 0), std::max<std::int64_t>(values.greatest, 0)};
    }
    case EncodingKind::dense:
      switch (codes.dtype) {
        case DType::boolean: return {0, 1};
        case DType::u8: return {0, 255};
        case DType::i8: return signed_bits(8);
        case DType::u16: return {0, 65535};
        case DType::i16: return signed_bits(16);
        case DType::i32: return signed_bits(32);
        default: break;
      }
      break;
    default: break;
  }
  return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int64_t>::max() / 4};
}

std::vector<std::int64_t> zero_points_of(const Encoding& tree, const std::string& place) {
  return tree.zero_point != nullptr ? decode_integers(*tree.zero_point, place) : std::vector<std::int64_t>{0};
}

// Small whole numbers from first to last, if they are few.
std::vector<std::int16_t> letters(std::int64_t first, std::int64_t last) {
  std::vector<std::int16_t> all;
  if (last - first >= static_cast<std::int64_t>(most_letters) || first < -32768 || last > 32767) return all;
  for (std::int64_t v = first; v <= last; ++v) all.push_back(static_cast<std::int16_t>(v));
  return all;
}

// A table of values as letters.
std::vector<std::int16_t> letters(std::vector<std::int64_t> values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  if (values.size() > most_letters || values.empty() || values.front() < -32768 || values.back() > 32767) return {};
  return {values.begin(), values.end()};
}

// pow2: the sums of all codes, in units of the smallest power there may be. Empty if they are too many or too wide.
std::vector<std::int64_t> sums_of_powers(const Encoding& tree) {
  const int levels = (1 << (tree.bits - 1)) - 1, smallest = tree.terms + levels - 2;
  if (tree.terms * tree.bits > 16 || smallest > 30) return {};
  const std::int64_t minus = std::int64_t{1} << (tree.bits - 1);
  std::vector<std::int64_t> sums(std::size_t{1} << (tree.terms * tree.bits));
  for (std::size_t code = 0; code < sums.size(); ++code) {
    for (int n = 0; n < tree.terms; ++n) {
      const std::int64_t term = static_cast<std::int64_t>(code) >> (n * tree.bits) & (2 * minus - 1), level = term & (minus - 1);
      if (term == minus) {  // a sign without a level
        sums[code] = no_value;
        break;
      }
      if (level == 0) continue;
      const std::int64_t power = std::int64_t{1} << (smallest + 1 - n - level);
      sums[code] += (term & minus) != 0 ? -power : power;
    }
  }
  return sums;
}

float unit_of_powers(const Encoding& tree) {
  const int smallest = tree.terms + (1 << (tree.bits - 1)) - 3;
  return 1.0f / static_cast<float>(std::int64_t{1} << smallest);
}

// What value each code stands for; nothing if the codes are affine.
std::vector<std::int64_t> table_of(const Encoding& tree, const std::string& place) {
  switch (tree.kind) {
    case EncodingKind::signs: return {-1, 1};
    case EncodingKind::ternary: return {0, 1, -1};
    case EncodingKind::pow2: return sums_of_powers(tree);
    case EncodingKind::codebook: return wide_integer_values(*tree.table, place);
    default: return {};
  }
}

std::int64_t entry_of(const std::vector<std::int64_t>& table, std::int64_t code, const std::string& place) {
  if (code < 0 || code >= static_cast<std::int64_t>(table.size())) {
    throw Error(ErrorCode::format, place, "a code is " + std::to_string(code) + ", allowed are 0 to " + std::to_string(table.size() - 1),
                "write the file again with bittern");
  }
  const std::int64_t value = table[static_cast<std::size_t>(code)];
  if (value == no_value) throw Error(ErrorCode::format, place, "code " + std::to_string(code) + " has a term that is minus zero", "write the file again with bittern");
  return value;
}

void to_order_of_shape(const Encoding& tree, std::vector<std::int16_t>& values) {
  if (!tree.ohwi || values.empty()) return;
  const auto inputs = static_cast<std::size_t>(tree.shape[1]), pixels = static_cast<std::size_t>(tree.shape[2] * tree.shape[3]);
  std::vector<std::int16_t> block(inputs * pixels);
  for (std::size_t start = 0; start < values.size(); start += block.size()) {
    for (std::size_t i = 0; i < inputs; ++i)
      for (std::size_t p = 0; p < pixels; ++p) block[i * pixels + p] = values[start + p * inputs + i];
    std::copy(block.begin(), block.end(), values.begin() + static_cast<std::ptrdiff_t>(start));
  }
}

// Which of the zero points an element has, in the order of storage.
class ZeroIndex {
 public:
  ZeroIndex(const Encoding& tree, std::size_t count) : group_(static_cast<std::size_t>(tree.group)), single_(tree.axis < 0 || count == 1) {
    if (single_) return;
    const Shape shape = stored_shape(tree);
    for (std::size_t d = static_cast<std::size_t>(tree.axis) + 1; d < shape.size(); ++d) inner_ *= static_cast<std::size_t>(shape[d]);
    size_ = static_cast<std::size_t>(shape[static_cast<std::size_t>(tree.axis)]);
  }
  std::size_t operator()(std::size_t element) const noexcept {
    if (single_) return 0;
    const std::size_t index = element / inner_ % size_;
    if (group_ == 0) return index;
    return (element / (inner_ * size_) * ((size_ + group_ - 1) / group_) + index / group_) * inner_ + element % inner_;
  }

 private:
  std::size_t group_, inner_ = 1, size_ = 1;
  bool single_;
};

IntegerForm affine_form(const Encoding& tree, const std::vector<std::int64_t>& zeros, const std::string& place) {
  IntegerForm form;
  form.axis = outer_axis(tree);
  form.scale = decode_real(*tree.scale, place);
  const Range codes = range_of(*tree.codes);
  const auto [low, high] = std::minmax_element(zeros.begin(), zeros.end());
  form.least = codes.least - *high;
  form.greatest = codes.greatest - *low;
  form.alphabet = letters(form.least, form.greatest);
  return form;
}

// Of a tree without codes, in the order of its shape.
template <class T>
std::vector<T> seeded_values(const Encoding& tree, const std::string& place) {
  const std::vector<float> reals = decode_real(tree, place);
  std::vector<T> values(reals.size());
  std::transform(reals.begin(), reals.end(), values.begin(), [](float v) { return static_cast<T>(v); });
  return values;
}

// Zero points that integers may be subtracted from without a thought; none otherwise.
std::vector<std::int64_t> near_zero_points(const Encoding& tree, const std::string& place) {
  const auto zeros = zero_points_of(tree, place);
  constexpr std::int64_t far = std::int64_t{1} << 40;
  if (std::any_of(zeros.begin(), zeros.end(), [](std::int64_t zero) { return zero < -far || zero > far; })) return {};
  return zeros;
}

}  // namespace

std::optional<IntegerForm> integer_form(const Encoding& tree, const std::string& place) {
  IntegerForm form;
  form.axis = outer_axis(tree);
  if (tree.kind == EncodingKind::seeded) return IntegerForm{.scale = {1.0f}, .axis = -1, .least = -1, .greatest = 1, .alphabet = {-1, 0, 1}};
  if (tree.codes == nullptr || is_wide(*tree.codes)) return std::nullopt;
  if (tree.kind == EncodingKind::pow2 && sums_of_powers(tree).empty()) return std::nullopt;
  switch (tree.kind) {
    case EncodingKind::affine: {
      if (tree.group != 0) return std::nullopt;
      const auto zeros = near_zero_points(tree, place);
      if (zeros.empty()) return std::nullopt;
      return affine_form(tree, zeros, place);
    }
    case EncodingKind::signs: form.scale = decode_real(*tree.scale, place); break;
    case EncodingKind::ternary:
      form.scale = decode_real(*tree.positive, place);
      if (decode_real(*tree.negative, place) != form.scale) return std::nullopt;
      break;
    case EncodingKind::pow2:
      form.scale = decode_real(*tree.scale, place);
      for (float& scale : form.scale) scale *= unit_of_powers(tree);
      break;
    case EncodingKind::codebook: {
      if (tree.axis >= 0 || tree.table->axis >= 0) return std::nullopt;
      const auto table = integer_form(*tree.table, place);
      if (!table || table->axis >= 0) return std::nullopt;
      form.scale = table->scale;
      break;
    }
    default: return std::nullopt;
  }
  std::vector<std::int64_t> table = table_of(tree, place);
  std::erase(table, no_value);
  if (table.empty()) return std::nullopt;
  form.least = *std::min_element(table.begin(), table.end());
  form.greatest = *std::max_element(table.begin(), table.end());
  form.alphabet = letters(table);
  return form;
}

namespace {

// A part of a sum as a tree of its own: only roots say in which order elements are stored.
Encoding as_root(const Encoding& part, const Encoding& sum) {
  Encoding tree = part;
  tree.ohwi = sum.ohwi;
  tree.shape = sum.shape;
  return tree;
}

}  // namespace

std::vector<IntegerForm> integer_parts(const Encoding& tree, const std::string& place) {
  if (auto form = integer_form(tree, place)) return {std::move(*form)};
  if (tree.kind == EncodingKind::ternary && !is_wide(*tree.codes)) {
    IntegerForm plus{.scale = decode_real(*tree.positive, place), .axis = outer_axis(tree), .least = 0, .greatest = 1, .alphabet = {0, 1}};
    IntegerForm minus = plus;
    minus.scale = decode_real(*tree.negative, place);
    for (float& scale : minus.scale) scale = -scale;
    return {std::move(plus), std::move(minus)};
  }
  std::vector<IntegerForm> all;
  for (const auto& part : tree.parts) {
    const auto own = integer_parts(as_root(*part, tree), place);
    if (own.empty() || all.size() + own.size() > graph::max_parts) return {};  // before memory is taken for all parts of nested sums
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

std::vector<std::int16_t> part_values(const Encoding& tree, std::size_t part, const std::string& place) {
  for (const auto& child : tree.parts) {
    const Encoding root = as_root(*child, tree);
    const std::size_t own = integer_parts(root, place).size();
    if (part < own) return part_values(root, part, place);
    part -= own;
  }
  std::vector<std::int16_t> values = integer_values(tree, place);
  if (tree.kind != EncodingKind::ternary || integer_form(tree, place)) return values;
  for (std::int16_t& value : values) value = value == (part == 0 ? 1 : -1) ? 1 : 0;
  return values;
}

std::optional<IntegerForm> grouped_integer_form(const Encoding& tree, const std::string& place) {
  if (tree.kind != EncodingKind::affine || tree.group == 0 || tree.ohwi || is_wide(*tree.codes)) return std::nullopt;
  const auto zeros = near_zero_points(tree, place);
  if (zeros.empty()) return std::nullopt;
  return affine_form(tree, zeros, place);
}

std::vector<std::int64_t> wide_integer_values(const Encoding& tree, const std::string& place) {
  if (tree.kind == EncodingKind::seeded) return seeded_values<std::int64_t>(tree, place);
  std::vector<std::int64_t> values = decode_integers(*tree.codes, place);
  if (const std::vector<std::int64_t> table = table_of(tree, place); !table.empty()) {
    for (std::int64_t& value : values) value = entry_of(table, value, place);
    return values;
  }
  const auto zeros = zero_points_of(tree, place);
  const ZeroIndex zero_of(tree, zeros.size());
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= zeros[zero_of(i)];
  return values;
}

std::vector<std::int16_t> integer_values(const Encoding& tree, const std::string& place) {
  if (tree.kind == EncodingKind::seeded) return seeded_values<std::int16_t>(tree, place);
  const std::vector<std::int64_t> table = table_of(tree, place);
  const auto zeros = table.empty() ? zero_points_of(tree, place) : std::vector<std::int64_t>{};
  const ZeroIndex zero_of(tree, zeros.size());
  std::vector<std::int16_t> values(static_cast<std::size_t>(elements(tree)));
  std::size_t at = 0;
  decode_in_pieces(*tree.codes, place, [&](std::span<const std::int32_t> codes) {
    for (const std::int32_t code : codes) {
      std::int64_t value = code;
      if (!table.empty()) {
        value = entry_of(table, code, place);
      } else {
        value -= zeros[zero_of(at)];
      }
      values[at++] = static_cast<std::int16_t>(value);
    }
  });
  to_order_of_shape(tree, values);
  return values;
}

}  // namespace bittern::format
