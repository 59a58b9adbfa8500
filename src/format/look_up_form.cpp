#include "format/look_up_form.h"

#include <algorithm>

#include <bittern/error.h>

#include "format/decode.h"
#include "format/integer_form.h"

namespace bittern::format {

using graph::Encoding;
using graph::EncodingKind;

namespace {

// Trees whose own codes are the codes of the form: their tables, one after the other, each of `entries`. Else none.
struct OwnTables {
  std::vector<float> table;
  std::size_t entries = 0;
};

constexpr std::size_t most_levels = 4;  // of signs that are added up: a table of 16

// Sums of signs whose scales are those of the whole tensor or of one axis, the same for all.
bool is_levels(const Encoding& tree) {
  if (tree.kind != EncodingKind::sum || tree.parts.size() > most_levels) return false;
  int axis = -1;
  for (const Encoding::Child& part : tree.parts) {
    if (part->kind != EncodingKind::signs || is_wide(*part->codes) || (axis >= 0 && part->axis >= 0 && part->axis != axis)) return false;
    axis = std::max(axis, part->axis);
  }
  return true;
}

int axis_of_levels(const Encoding& tree) {
  int axis = -1;
  for (const Encoding::Child& part : tree.parts) axis = std::max(axis, part->axis);
  return axis;
}

std::size_t own_entries(const Encoding& tree) {
  if (is_levels(tree)) return std::size_t{1} << tree.parts.size();
  if (tree.codes == nullptr || is_wide(*tree.codes)) return 0;
  if (tree.kind == EncodingKind::ternary) return 3;
  if (tree.kind != EncodingKind::codebook) return 0;
  const std::int64_t entries = tree.table->shape.back();
  return entries >= 1 && entries <= static_cast<std::int64_t>(most_entries) ? static_cast<std::size_t>(entries) : 0;
}

// Bit l of a code is the sign of part l.
std::vector<float> tables_of_levels(const Encoding& tree, std::size_t entries, const std::string& place) {
  std::vector<std::vector<float>> scales;
  std::size_t channels = 1;
  for (const Encoding::Child& part : tree.parts) {
    scales.push_back(decode_real(*part->scale, place));
    if (part->axis >= 0) channels = scales.back().size();
  }
  std::vector<float> table;
  table.reserve(channels * entries);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t code = 0; code < entries; ++code) {
      float sum = 0.0f;
      for (std::size_t l = 0; l < scales.size(); ++l) {
        const float scale = scales[l][scales[l].size() == 1 ? 0 : c], part = (code >> l & 1) != 0 ? scale : -scale;
        sum = l == 0 ? part : sum + part;  // as decoding adds them
      }
      table.push_back(sum);
    }
  }
  return table;
}

OwnTables own_tables(const Encoding& tree, const std::string& place) {
  OwnTables own;
  own.entries = own_entries(tree);
  if (own.entries == 0) return own;
  if (tree.kind == EncodingKind::sum) {
    own.table = tables_of_levels(tree, own.entries, place);
    return own;
  }
  if (tree.kind == EncodingKind::codebook) {
    own.table = decode_real(*tree.table, place);
    return own;
  }
  const std::vector<float> positive = decode_real(*tree.positive, place), negative = decode_real(*tree.negative, place);
  for (std::size_t c = 0; c < positive.size(); ++c) own.table.insert(own.table.end(), {0.0f, positive[c], -negative[c]});
  return own;
}

// The axis in the tree's shape; trees count it in the order of storage.
int outer_axis(const Encoding& tree) {
  const int axis = tree.kind == EncodingKind::sum ? axis_of_levels(tree) : tree.axis;
  if (axis < 0 || !tree.ohwi) return axis;
  constexpr int position[] = {0, 2, 3, 1};
  return position[axis];
}

void to_order_of_shape(const Encoding& tree, std::vector<std::uint8_t>& codes) {
  if (!tree.ohwi || codes.empty()) return;
  const auto inputs = static_cast<std::size_t>(tree.shape[1]), pixels = static_cast<std::size_t>(tree.shape[2] * tree.shape[3]);
  std::vector<std::uint8_t> block(inputs * pixels);
  for (std::size_t start = 0; start < codes.size(); start += block.size()) {
    for (std::size_t i = 0; i < inputs; ++i)
      for (std::size_t p = 0; p < pixels; ++p) block[i * pixels + p] = codes[start + p * inputs + i];
    std::copy(block.begin(), block.end(), codes.begin() + static_cast<std::ptrdiff_t>(start));
  }
}

// Ternary trees of one magnitude per channel are whole numbers times scales, which take one table for all channels.
std::optional<IntegerForm> letters_of(const Encoding& tree, const std::string& place) {
  if (tree.kind == EncodingKind::codebook && own_entries(tree) != 0) return std::nullopt;
  auto integers = tree.group != 0 ? grouped_integer_form(tree, place) : integer_form(tree, place);
  if (!integers || integers->alphabet.empty()) return std::nullopt;
  return integers;
}

}  // namespace

std::optional<LookUpForm> look_up_form(const Encoding& tree, const std::string& place) {
  if (const auto integers = letters_of(tree, place)) {
    return LookUpForm{{integers->alphabet.begin(), integers->alphabet.end()}, integers->alphabet.size(), integers->scale, integers->axis, tree.group};
  }
  OwnTables own = own_tables(tree, place);
  if (own.table.empty()) return std::nullopt;
  return LookUpForm{std::move(own.table), own.entries, {}, outer_axis(tree), 0};
}

std::vector<std::uint8_t> look_up_codes(const Encoding& tree, const std::string& place) {
  std::vector<std::uint8_t> codes;
  codes.reserve(static_cast<std::size_t>(elements(tree)));
  if (const auto integers = letters_of(tree, place)) {
    const std::vector<std::int16_t>& alphabet = integers->alphabet;
    for (const std::int16_t value : integer_values(tree, place)) {
      const auto letter = std::lower_bound(alphabet.begin(), alphabet.end(), value);
      codes.push_back(static_cast<std::uint8_t>(letter - alphabet.begin()));
    }
    return codes;
  }
  // The codes of one node, each below `entries`, shifted and added to those that are there.
  const auto add = [&](const Encoding& node, std::int64_t entries, unsigned shift) {
    std::size_t at = 0;
    decode_in_pieces(node, place, [&](std::span<const std::int32_t> piece) {
      for (const std::int32_t code : piece) {
        if (code < 0 || code >= entries) {
          throw Error(ErrorCode::format, place, "a code is " + std::to_string(code) + ", allowed are 0 to " + std::to_string(entries - 1),
                      "write the file again with bittern");
        }
        codes[at] = static_cast<std::uint8_t>(codes[at] | static_cast<unsigned>(code) << shift);
        ++at;
      }
    });
  };
  codes.resize(static_cast<std::size_t>(elements(tree)));
  if (tree.kind == EncodingKind::sum) {
    for (std::size_t l = 0; l < tree.parts.size(); ++l) add(*tree.parts[l]->codes, 2, static_cast<unsigned>(l));
  } else {
    add(*tree.codes, static_cast<std::int64_t>(own_entries(tree)), 0);
  }
  to_order_of_shape(tree, codes);
  return codes;
}

}  // namespace bittern::format
