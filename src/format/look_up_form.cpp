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

}  // namespace

std::optional<LookUpForm> look_up_form(const Encoding& tree, const std::string& place) {
  if (is_small_codebook(tree)) return LookUpForm{decode_real(*tree.table, place), {}, -1};
  const auto integers = integer_form(tree, place);
  if (!integers || integers->alphabet.empty()) return std::nullopt;
  return LookUpForm{{integers->alphabet.begin(), integers->alphabet.end()}, integers->scale, integers->axis};
}

std::vector<std::uint8_t> look_up_codes(const Encoding& tree, const std::string& place) {
  std::vector<std::uint8_t> codes;
  codes.reserve(static_cast<std::size_t>(elements(tree)));
  if (is_small_codebook(tree)) {
    const std::int64_t entries = elements(*tree.table);
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
  const std::vector<std::int16_t> alphabet = integer_form(tree, place)->alphabet;
  for (const std::int16_t value : integer_values(tree, place)) {
    const auto letter = std::lower_bound(alphabet.begin(), alphabet.end(), value);
    codes.push_back(static_cast<std::uint8_t>(letter - alphabet.begin()));
  }
  return codes;
}

}  // namespace bittern::format
