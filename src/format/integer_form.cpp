#include "format/integer_form.h"

#include <algorithm>
#include <limits>

#include "format/decode.h"

namespace bittern::format {
namespace {

using graph::Encoding;
using graph::EncodingKind;

// The axis in the tree's shape; trees count it in the order of storage.
int outer_axis(const Encoding& tree) {
  if (tree.axis < 0 || !tree.ohwi) return tree.axis;
  constexpr int position[] = {0, 2, 3, 1};
  return position[tree.axis];
}

// Elements from one index of the axis to the next, in the order of storage; 0: no axis.
std::size_t inner_size(const Encoding& tree) {
  if (tree.axis < 0) return 0;
  const Shape shape = stored_shape(tree);
  std::size_t inner = 1;
  for (std::size_t d = static_cast<std::size_t>(tree.axis) + 1; d < shape.size(); ++d) inner *= static_cast<std::size_t>(shape[d]);
  return inner;
}

template <class T>
std::vector<T> to_order_of_shape(const Encoding& tree, std::vector<T> stored) {
  if (!tree.ohwi || stored.empty()) return stored;
  const auto inputs = static_cast<std::size_t>(tree.shape[1]), pixels = static_cast<std::size_t>(tree.shape[2] * tree.shape[3]);
  std::vector<T> out(stored.size());
  for (std::size_t start = 0; start < out.size(); start += inputs * pixels) {
    for (std::size_t i = 0; i < inputs; ++i)
      for (std::size_t p = 0; p < pixels; ++p) out[start + i * pixels + p] = stored[start + p * inputs + i];
  }
  return out;
}

bool fits(std::int64_t value) {
  return value >= std::numeric_limits<std::int32_t>::min() && value <= std::numeric_limits<std::int32_t>::max();
}

std::optional<IntegerForm> affine(const Encoding& tree, const std::string& place) {
  if (tree.group != 0) return std::nullopt;
  const std::vector<std::int64_t> codes = decode_integers(*tree.codes, place);
  std::vector<std::int64_t> zero_points;
  if (tree.zero_point != nullptr) zero_points = decode_integers(*tree.zero_point, place);
  IntegerForm form;
  form.scale = decode_real(*tree.scale, place);
  form.axis = outer_axis(tree);
  form.values.resize(codes.size());
  const std::size_t inner = inner_size(tree), channels = form.scale.size();
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::size_t entry = inner == 0 ? 0 : i / inner % channels;
    const std::int64_t zero = zero_points.empty() ? 0 : zero_points[zero_points.size() == 1 ? 0 : entry];
    if (!fits(codes[i]) || !fits(zero) || !fits(codes[i] - zero)) return std::nullopt;
    form.values[i] = static_cast<std::int32_t>(codes[i] - zero);
  }
  return form;
}

}  // namespace

bool may_have_integer_form(const Encoding& tree) noexcept {
  switch (tree.kind) {
    case EncodingKind::affine: return tree.group == 0;
    case EncodingKind::signs:
    case EncodingKind::ternary: return true;
    case EncodingKind::codebook: return tree.axis < 0 && tree.table->kind == EncodingKind::affine && tree.table->axis < 0;
    default: return false;
  }
}

std::optional<IntegerForm> integer_form(const Encoding& tree, const std::string& place) {
  if (!may_have_integer_form(tree)) return std::nullopt;
  std::optional<IntegerForm> form;
  if (tree.kind == EncodingKind::affine) {
    form = affine(tree, place);
  } else {
    form.emplace();
    const std::vector<std::int64_t> codes = decode_integers(*tree.codes, place);
    form->values.resize(codes.size());
    form->axis = outer_axis(tree);
    // Checks what the codes and tables hold, before they are used as indices.
    check(tree, place);
    if (tree.kind == EncodingKind::signs) {
      form->scale = decode_real(*tree.scale, place);
      std::transform(codes.begin(), codes.end(), form->values.begin(), [](std::int64_t code) { return code != 0 ? 1 : -1; });
    } else if (tree.kind == EncodingKind::ternary) {
      form->scale = decode_real(*tree.positive, place);
      if (decode_real(*tree.negative, place) != form->scale) return std::nullopt;
      constexpr std::int32_t meaning[] = {0, 1, -1};
      std::transform(codes.begin(), codes.end(), form->values.begin(), [&](std::int64_t code) { return meaning[code]; });
    } else {
      const auto table = affine(*tree.table, place);
      if (!table) return std::nullopt;
      form->scale = table->scale;
      std::transform(codes.begin(), codes.end(), form->values.begin(),
                     [&](std::int64_t code) { return table->values[static_cast<std::size_t>(code)]; });
    }
  }
  if (form) form->values = to_order_of_shape(tree, std::move(form->values));
  return form;
}

}  // namespace bittern::format
