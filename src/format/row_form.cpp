#include "format/row_form.h"

#include <algorithm>
#include <cmath>

#include "format/integer_form.h"
#include "format/look_up_form.h"

namespace bittern::format {
namespace {

constexpr std::size_t most_of_one = 16, most_of_many = 4;  // entries of a table

// The tree's tables, if registers hold them.
std::optional<LookUpForm> small_tables(const graph::Encoding& tree, const std::string& place) {
  auto form = look_up_form(tree, place);
  if (!form || form->group != 0 || form->entries > (form->many_tables() ? most_of_many : most_of_one)) return std::nullopt;
  // Kernels fill inputs up with zeros, which must stay zeros.
  if (form->many_tables() && !std::all_of(form->table.begin(), form->table.end(), [](float v) { return std::isfinite(v); })) return std::nullopt;
  return form;
}

}  // namespace

std::optional<RowForm> row_form(const graph::Encoding& tree, const std::string& place) {
  if (auto found = small_tables(tree, place)) {
    if (!found->many_tables()) return RowForm{std::move(found->table), std::move(found->scale), found->axis, false};
    RowForm form{{}, {}, found->axis, true};
    for (std::size_t i = 0; i < found->table.size(); ++i) {
      form.table.push_back(found->table[i]);
      if ((i + 1) % found->entries == 0) form.table.resize((form.table.size() + most_of_many - 1) / most_of_many * most_of_many);
    }
    return form;
  }
  if (tree.group != 0) return std::nullopt;
  auto integers = integer_form(tree, place);
  if (!integers || integers->least < -128 || integers->greatest > 127) return std::nullopt;
  return RowForm{{}, std::move(integers->scale), integers->axis, false};
}

std::vector<std::uint8_t> row_codes(const graph::Encoding& tree, const std::string& place) {
  if (small_tables(tree, place)) return look_up_codes(tree, place);
  const std::vector<std::int16_t> values = integer_values(tree, place);
  return {values.begin(), values.end()};
}

}  // namespace bittern::format
