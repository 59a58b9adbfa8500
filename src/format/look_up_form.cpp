#include "format/look_up_form.h"

#include <algorithm>

#include <bittern/error.h>

#include "format/decode.h"
#include "format/integer_form.h"

namespace bittern::format {

using graph::Encoding;
using graph::EncodingKind;

namespace {

bool is_small_codebook(const Encoding& tree) {
  return tree.kind == EncodingKind::codebook && tree.axis < 0 && !tree.ohwi && !is_wide(*tree.codes) && elements(*tree.table) > 0 &&
         elements(*tree.table) <= static_cast<std::int64_t>(most_entries);
}

bool is_ternary(const Encoding& tree) { return tree.kind == EncodingKind::ternary && !tree.ohwi && !is_wide(*tree.codes); }

// Signs of different numbers: no multiples of one scale.
std::optional<LookUpForm> two_sided(const Encoding& tree, const std::string& place) {
  const std::vector<float> positive = decode_real(*tree.positive, place), negative = decode_real(*tree.negative, place);
  if (positive == negative) return std::nullopt;
  if (tree.axis < 0) return LookUpForm{{0.0f, positive[0], -negative[0]}, {}, {}, -1};
  return LookUpForm{{}, positive, negative, tree.axis};
}

// The codes as they stand in the file.
std::vector<std::uint8_t> plain_codes(const Encoding& tree, std::int64_t entries, const std::string& place) {
  std::vector<std::uint8_t> codes;
  codes.reserve(static_cast<std::size_t>(elements(tree)));
  decode_in_pieces(*tree.codes, place, [&](std::span<const std::int32_t> piece) {
    for (const std::int32_t code : piece) {
      if (code < 0 || code >= entries) {
        throw Error(ErrorCode::format, place, "a code is " + std::to_string(code) + ", allowed are 0 to " + std::to_string(entries - 1),
                    "write the file again with bittern");
      }
      codes.push_back(static_cast<std::uint8_t>(code));
    }
  });
  return codes;
}

}  // namespace

std::optional<LookUpForm> look_up_form(const Encoding& tree, const std::string& place) {
  if (is_small_codebook(tree)) return LookUpForm{decode_real(*tree.table, place), {}, {}, -1};
  if (is_ternary(tree)) {
    if (auto form = two_sided(tree, place)) return form;
  }
  const auto integers = integer_form(tree, place);
  if (!integers) return std::nullopt;
  if (!integers->alphabet.empty()) return LookUpForm{{integers->alphabet.begin(), integers->alphabet.end()}, integers->scale, {}, integers->axis};
  if (integers->least < -128 || integers->greatest > 127) return std::nullopt;
  return LookUpForm{{}, integers->scale, {}, integers->axis};
}

std::vector<std::uint8_t> look_up_codes(const Encoding& tree, const std::string& place) {
  if (is_small_codebook(tree)) return plain_codes(tree, elements(*tree.table), place);
  if (is_ternary(tree) && two_sided(tree, place)) return plain_codes(tree, 3, place);
  const std::vector<std::int16_t> alphabet = integer_form(tree, place)->alphabet, values = integer_values(tree, place);
  std::vector<std::uint8_t> codes(values.size());
  std::transform(values.begin(), values.end(), codes.begin(), [&](std::int16_t value) {
    if (alphabet.empty()) return static_cast<std::uint8_t>(value);
    return static_cast<std::uint8_t>(std::lower_bound(alphabet.begin(), alphabet.end(), value) - alphabet.begin());
  });
  return codes;
}

}  // namespace bittern::format
