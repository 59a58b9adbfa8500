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

std::size_t own_entries(const Encoding& tree) {
  if (tree.codes == nullptr || is_wide(*tree.codes)) return 0;
  if (tree.kind == EncodingKind::ternary) return 3;
  if (tree.kind != EncodingKind::codebook) return 0;
  const std::int64_t entries = tree.table->shape.back();
  return entries >= 1 && entries <= static_cast<std::int64_t>(most_entries) ? static_cast<std::size_t>(entries) : 0;
}

OwnTables own_tables(const Encoding& tree, const std::string& place) {
  OwnTables own;
  own.entries = own_entries(tree);
  if (own.entries == 0) return own;
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
  if (tree.axis < 0 || !tree.ohwi) return tree.axis;
  constexpr int position[] = {0, 2, 3, 1};
  return position[tree.axis];
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
  const auto entries = static_cast<std::int64_t>(own_entries(tree));
  decode_in_pieces(*tree.codes, place, [&](std::span<const std::int32_t> piece) {
    for (const std::int32_t code : piece) {
      if (code < 0 || code >= entries) {
        throw Error(ErrorCode::format, place, "a code is " + std::to_string(code) + ", allowed are 0 to " + std::to_string(entries - 1),
                    "write the file again with bittern");
      }
      codes.push_back(static_cast<std::uint8_t>(code));
    }
  });
  to_order_of_shape(tree, codes);
  return codes;
}

}  // namespace bittern::format
