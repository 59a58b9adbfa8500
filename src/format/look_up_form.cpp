#include "format/look_up_form.h"

#include <algorithm>
#include <cmath>

#include <bittern/error.h>

#include "format/decode.h"
#include "format/integer_form.h"

namespace bittern::format {

using graph::Encoding;
using graph::EncodingKind;

namespace {

constexpr std::int64_t own_entries = 4;  // of tables per index

// Entries of a codebook's tables if it is small; 0 for other trees.
std::int64_t entries_of(const Encoding& tree) {
  if (tree.kind != EncodingKind::codebook || tree.ohwi || is_wide(*tree.codes)) return 0;
  const std::int64_t entries = tree.table->shape.back(), most = tree.axis < 0 ? static_cast<std::int64_t>(most_entries) : own_entries;
  return entries <= most ? entries : 0;
}

std::optional<LookUpForm> tables_of(const Encoding& tree, std::int64_t entries, const std::string& place) {
  std::vector<float> values = decode_real(*tree.table, place);
  if (tree.axis < 0) return LookUpForm{std::move(values), {}, -1};
  // Kernels fill inputs up with zeros, which must stay zeros.
  if (!std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return std::nullopt;
  LookUpForm form{{}, {}, tree.axis, true};
  for (std::size_t i = 0; i < values.size(); ++i) {
    form.table.push_back(values[i]);
    if ((i + 1) % static_cast<std::size_t>(entries) == 0) form.table.resize((form.table.size() + 3) / 4 * 4);
  }
  return form;
}

// Signs of different numbers: no multiples of one scale. Nothing for other trees.
std::optional<LookUpForm> two_sided(const Encoding& tree, const std::string& place) {
  if (tree.kind != EncodingKind::ternary || tree.ohwi || is_wide(*tree.codes)) return std::nullopt;
  const std::vector<float> positive = decode_real(*tree.positive, place), negative = decode_real(*tree.negative, place);
  if (positive == negative) return std::nullopt;
  if (tree.axis < 0) return LookUpForm{{0.0f, positive[0], -negative[0]}, {}, -1};
  LookUpForm form{{}, {}, tree.axis, true};
  for (std::size_t i = 0; i < positive.size(); ++i) form.table.insert(form.table.end(), {0.0f, positive[i], -negative[i], 0.0f});
  return form;
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
  if (const std::int64_t entries = entries_of(tree); entries > 0) return tables_of(tree, entries, place);
  if (auto form = two_sided(tree, place)) return form;
  const auto integers = integer_form(tree, place);
  if (!integers) return std::nullopt;
  if (!integers->alphabet.empty()) return LookUpForm{{integers->alphabet.begin(), integers->alphabet.end()}, integers->scale, integers->axis};
  if (integers->least < -128 || integers->greatest > 127) return std::nullopt;
  return LookUpForm{{}, integers->scale, integers->axis};
}

std::vector<std::uint8_t> look_up_codes(const Encoding& tree, const std::string& place) {
  if (const std::int64_t entries = entries_of(tree); entries > 0) return plain_codes(tree, entries, place);
  if (two_sided(tree, place)) return plain_codes(tree, 3, place);
  const std::vector<std::int16_t> alphabet = integer_form(tree, place)->alphabet, values = integer_values(tree, place);
  std::vector<std::uint8_t> codes(values.size());
  std::transform(values.begin(), values.end(), codes.begin(), [&](std::int16_t value) {
    if (alphabet.empty()) return static_cast<std::uint8_t>(value);
    return static_cast<std::uint8_t>(std::lower_bound(alphabet.begin(), alphabet.end(), value) - alphabet.begin());
  });
  return codes;
}

}  // namespace bittern::format
