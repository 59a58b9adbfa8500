// The meaning of encoding trees: scratch buffers around the decoders of the schemes.
#include "format/decode.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>
#include <utility>

#include <bittern/error.h>

#include "base/checked.h"
#include "schemes/affine/decode.h"
#include "schemes/codebook/decode.h"
#include "schemes/dense/decode.h"
#include "schemes/huffman/decode.h"
#include "schemes/packed/decode.h"
#include "schemes/pow2/decode.h"
#include "schemes/rans/decode.h"
#include "schemes/seeded/decode.h"
#include "schemes/separable_signs/decode.h"
#include "schemes/signs/decode.h"
#include "schemes/sparse/decode.h"
#include "schemes/status.h"
#include "schemes/sum/decode.h"
#include "schemes/ternary/decode.h"
#include "schemes/trits/decode.h"

namespace bittern::format {

bool is_wide(const graph::Encoding& tree) noexcept {
  switch (tree.kind) {
    case graph::EncodingKind::dense: return tree.dtype == DType::u32 || tree.dtype == DType::i64;
    case graph::EncodingKind::packed: return tree.bits == 32 && !tree.is_signed;
    case graph::EncodingKind::sparse: return is_wide(*tree.values);
    default: return false;
  }
}

namespace {

namespace schemes = engine::schemes;
using graph::Encoding;
using graph::EncodingKind;
using schemes::Status;

std::span<const std::byte> bytes_of(const graph::Leaf& leaf) { return {leaf.data, leaf.bytes}; }

std::size_t size_of_tree(const Encoding& tree) { return static_cast<std::size_t>(elements(tree)); }

schemes::dense::Integer integer_type(DType type) {
  using schemes::dense::Integer;
  switch (type) {
    case DType::boolean: return Integer::boolean;
    case DType::u8: return Integer::u8;
    case DType::i8: return Integer::i8;
    case DType::u16: return Integer::u16;
    case DType::i16: return Integer::i16;
    case DType::u32: return Integer::u32;
    case DType::i32: return Integer::i32;
    default: return Integer::i64;  // the reader lets no other type through
  }
}

schemes::dense::Real real_type(DType type) {
  using schemes::dense::Real;
  return type == DType::f16 ? Real::f16 : type == DType::bf16 ? Real::bf16 : Real::f32;
}

// The tensor as [outer, channels, inner] around the axis, in the order of storage.
schemes::Channels channels_of(const Encoding& tree) {
  const Shape& shape = tree.codes->shape;
  if (tree.axis < 0) return {1, 1, size_of_tree(*tree.codes)};
  const auto axis = static_cast<std::size_t>(tree.axis);
  const std::span<const std::int64_t> sizes(shape);
  const auto product = [](std::span<const std::int64_t> part) {
    return static_cast<std::size_t>(engine::checked_product(part).value_or(0));
  };
  return {product(sizes.first(axis)), static_cast<std::size_t>(shape[axis]), product(sizes.subspan(axis + 1))};
}

class Decoder {
 public:
  explicit Decoder(const std::string& place) : place_(place) {}

  // `path` names the node: the kind of the root, then keys.
  void real(const Encoding& tree, const std::string& path, std::span<float> out) const {
    switch (tree.kind) {
      case EncodingKind::dense:
        return require(schemes::dense::decode(bytes_of(tree.leaf), real_type(tree.dtype), out), path);
      case EncodingKind::affine: {
        const std::vector<float> scales = real(*tree.scale, path + ".scale");
        std::vector<std::int64_t> zero_points;
        if (tree.zero_point != nullptr) zero_points = integer<std::int64_t>(*tree.zero_point, path + ".zero_point");
        return with_integers(*tree.codes, path + ".codes", [&](auto codes) {
          require(schemes::affine::decode(codes, std::span(scales), std::span<const std::int64_t>(zero_points),
                                          channels_of(tree), static_cast<std::size_t>(tree.group), out),
                  path);
        });
      }
      case EncodingKind::codebook: {
        const std::vector<float> table = real(*tree.table, path + ".table");
        const auto entries = static_cast<std::size_t>(tree.table->shape.back());
        return with_integers(*tree.codes, path + ".codes", [&](auto codes) {
          require(schemes::codebook::decode(codes, std::span(table), entries, channels_of(tree), out),
                  path + ".codes");
        });
      }
      case EncodingKind::ternary: {
        const std::vector<float> positive = real(*tree.positive, path + ".positive");
        const std::vector<float> negative = real(*tree.negative, path + ".negative");
        return with_integers(*tree.codes, path + ".codes", [&](auto codes) {
          require(schemes::ternary::decode(codes, std::span(positive), std::span(negative), channels_of(tree), out),
                  path + ".codes");
        });
      }
      case EncodingKind::signs: {
        const std::vector<float> scale = real(*tree.scale, path + ".scale");
        return with_integers(*tree.codes, path + ".codes", [&](auto codes) {
          require(schemes::signs::decode(codes, std::span(scale), channels_of(tree), out), path + ".codes");
        });
      }
      case EncodingKind::pow2: {
        const std::vector<float> scale = real(*tree.scale, path + ".scale");
        return with_integers(*tree.codes, path + ".codes", [&](auto codes) {
          require(schemes::pow2::decode(codes, tree.terms, tree.bits, std::span(scale), channels_of(tree), out), path + ".codes");
        });
      }
      case EncodingKind::sum: {
        real(*tree.parts[0], path + ".parts[0]", out);
        for (std::size_t i = 1; i < tree.parts.size(); ++i) {
          const std::string here = path + ".parts[" + std::to_string(i) + ']';
          const std::vector<float> part = real(*tree.parts[i], here);
          require(schemes::sum::add(std::span(part), out), here);
        }
        return;
      }
      case EncodingKind::seeded: return schemes::seeded::decode(tree.seed, tree.threshold, out);
      case EncodingKind::sparse: {
        const std::vector<float> values = real(*tree.values, path + ".values");
        return scatter(tree, path, std::span<const float>(values), out);
      }
      default: unexpected(path);
    }
  }

  std::vector<float> real(const Encoding& tree, const std::string& path) const {
    std::vector<float> out(size_of_tree(tree));
    real(tree, path, out);
    return out;
  }

  template <class T>
  std::vector<T> integer(const Encoding& tree, const std::string& path) const {
    std::vector<T> out(size_of_tree(tree));
    const std::span<T> span(out);
    switch (tree.kind) {
      case EncodingKind::dense:
        require(schemes::dense::decode(bytes_of(tree.leaf), integer_type(tree.dtype), span), path);
        break;
      case EncodingKind::packed:
        require(schemes::packed::decode(bytes_of(tree.leaf), tree.bits, tree.is_signed, span), path);
        break;
      case EncodingKind::trits:
        require(schemes::trits::decode(bytes_of(tree.leaf), span), path);
        break;
      case EncodingKind::separable_signs: {
        const auto height = static_cast<std::size_t>(tree.shape[tree.shape.size() - 2]), width = static_cast<std::size_t>(tree.shape.back());
        require(schemes::separable_signs::decode(bytes_of(tree.leaf), height, width, span), path);
        break;
      }
      case EncodingKind::rans:
        require(schemes::rans::decode(bytes_of(tree.leaf), tree.bits, bytes_of(tree.frequencies), bytes_of(tree.offsets), span), path);
        break;
      case EncodingKind::huffman: {
        const std::span lengths(reinterpret_cast<const std::uint8_t*>(tree.lengths.data), tree.lengths.bytes);
        require(schemes::huffman::decode(bytes_of(tree.leaf), tree.stream_bits, lengths, bytes_of(tree.offsets), span),
                path);
        break;
      }
      case EncodingKind::sparse: {
        const std::vector<T> values = integer<T>(*tree.values, path + ".values");
        scatter(tree, path, std::span<const T>(values), span);
        break;
      }
      default: unexpected(path);
    }
    return out;
  }

 private:
  // Calls body(span of int32_t or int64_t), whichever holds every value of the tree.
  template <class Body>
  void with_integers(const Encoding& tree, const std::string& path, const Body& body) const {
    if (is_wide(tree)) {
      const std::vector<std::int64_t> values = integer<std::int64_t>(tree, path);
      body(std::span<const std::int64_t>(values));
    } else {
      const std::vector<std::int32_t> values = integer<std::int32_t>(tree, path);
      body(std::span<const std::int32_t>(values));
    }
  }

  // `tree`: what has the pattern, a sparse node or blocks.
  template <class V>
  void scatter(const Encoding& tree, const std::string& path, std::span<const V> values, std::span<V> out) const {
    const Encoding& pattern = *tree.pattern;
    const std::string here = path + ".pattern";
    switch (pattern.kind) {
      case EncodingKind::bitmap:
        return with_integers(*pattern.mask, here + ".mask", [&](auto mask) {
          require(schemes::sparse::from_bitmap(mask, values, out), here + ".mask");
        });
      case EncodingKind::csr: {
        const bool wide = is_wide(*pattern.row_ptr) || is_wide(*pattern.columns);
        return wide ? csr<std::int64_t>(pattern, here, values, out) : csr<std::int32_t>(pattern, here, values, out);
      }
      case EncodingKind::relative_index:
        return with_integers(*pattern.gaps, here + ".gaps", [&](auto gaps) {
          require(schemes::sparse::from_relative_index(gaps, values, out), here + ".gaps");
        });
      case EncodingKind::n_of_m:
        return with_integers(*pattern.places, here + ".places", [&](auto places) {
          const auto n = static_cast<std::size_t>(pattern.n), m = static_cast<std::size_t>(pattern.m);
          require(schemes::sparse::from_n_of_m(places, n, m, values, out), here + ".places");
        });
      case EncodingKind::blocks: return blocks(pattern, here, values, out);
      default: unexpected(here);
    }
  }

  template <class I, class V>
  void csr(const Encoding& pattern, const std::string& path, std::span<const V> values, std::span<V> out) const {
    const auto rows = static_cast<std::size_t>(pattern.shape[0]);
    const std::vector<I> row_ptr = integer<I>(*pattern.row_ptr, path + ".row_ptr");
    const std::vector<I> columns = integer<I>(*pattern.columns, path + ".columns");
    require(schemes::sparse::from_csr(std::span<const I>(row_ptr), std::span<const I>(columns), values, rows, out),
            path);
  }

  // The pattern of the grid puts a 1 where a block is.
  template <class V>
  void blocks(const Encoding& pattern, const std::string& path, std::span<const V> values, std::span<V> out) const {
    const auto height = static_cast<std::size_t>(pattern.height), width = static_cast<std::size_t>(pattern.width);
    const std::vector<std::int32_t> ones(values.size() / (height * width), 1);
    std::vector<std::int32_t> grid(size_of_tree(*pattern.pattern));
    scatter(pattern, path, std::span<const std::int32_t>(ones), std::span<std::int32_t>(grid));
    const auto rows = static_cast<std::size_t>(pattern.shape[0]);
    require(schemes::sparse::from_blocks(std::span<const std::int32_t>(grid), rows, height, width, values, out), path);
  }

  void require(const Status& status, const std::string& path) const {
    if (status.ok()) return;
    std::string text = status.problem;
    text += " (element " + std::to_string(status.index);
    if (status.has_range) {
      text += ": found " + std::to_string(status.found);
      if (status.low == status.high) {
        text += ", needed " + std::to_string(status.low);
      } else if (status.low < status.high) {
        text += ", allowed " + std::to_string(status.low) + " to " + std::to_string(status.high);
      }
    }
    throw Error(ErrorCode::format, place_ + ": " + path, text + ")", "write the file again with bittern");
  }

  [[noreturn]] void unexpected(const std::string& path) const {
    throw Error(ErrorCode::format, place_ + ": " + path, "is no node of the kind needed here",
                "write the file again with bittern");
  }

  const std::string& place_;
};

// Moves stored [O, H, W, I] to [O, I, H, W]; `shape` is the latter.
template <class T>
void from_ohwi(std::span<const T> stored, const Shape& shape, std::span<T> out) {
  const auto inputs = static_cast<std::size_t>(shape[1]);
  const auto pixels = static_cast<std::size_t>(shape[2]) * static_cast<std::size_t>(shape[3]);
  const std::size_t block = inputs * pixels;
  for (std::size_t start = 0; start < out.size(); start += block) {
    for (std::size_t i = 0; i < inputs; ++i) {
      for (std::size_t p = 0; p < pixels; ++p) out[start + i * pixels + p] = stored[start + p * inputs + i];
    }
  }
}

// Memory that cannot be had is a limit of the machine, not damage.
template <class Body>
auto guarded(const std::string& place, const Body& body) {
  constexpr const char* problem = "not enough memory to decode it";
  constexpr const char* remedy = "free memory, or use a smaller network";
  try {
    return body();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::resource, place, problem, remedy);
  } catch (const std::length_error&) {
    throw Error(ErrorCode::resource, place, problem, remedy);
  }
}

// Bytes for the result of `tree` and everything below it, all held at once. `wide`: integers of 8 bytes.
std::uint64_t cost(const Encoding& tree, bool wide) noexcept {
  using engine::saturating_add;
  using engine::saturating_mul;
  const auto reals = [](const Encoding::Child& child) { return child == nullptr ? 0 : cost(*child, false); };
  const auto integers = [](const Encoding::Child& child) {
    return child == nullptr ? 0 : cost(*child, is_wide(*child));
  };
  const bool is_pattern = tree.kind == EncodingKind::bitmap || tree.kind == EncodingKind::csr ||
                          tree.kind == EncodingKind::relative_index || tree.kind == EncodingKind::blocks ||
                          tree.kind == EncodingKind::n_of_m;
  std::uint64_t bytes = 0;
  if (!is_pattern) {
    bytes = saturating_mul(static_cast<std::uint64_t>(elements(tree)), !tree.real && wide ? 8 : 4);
    if (tree.ohwi) bytes = saturating_mul(bytes, 2);
  }
  for (const auto* child : {&tree.scale, &tree.table, &tree.positive, &tree.negative}) {
    bytes = saturating_add(bytes, reals(*child));
  }
  for (const auto* child : {&tree.codes, &tree.mask, &tree.gaps, &tree.places}) bytes = saturating_add(bytes, integers(*child));
  for (const auto& part : tree.parts) bytes = saturating_add(bytes, reals(part));  // one after the other: this bounds the time, too
  if (tree.zero_point != nullptr) bytes = saturating_add(bytes, cost(*tree.zero_point, true));
  if (tree.values != nullptr) bytes = saturating_add(bytes, cost(*tree.values, wide));
  if (tree.pattern != nullptr) bytes = saturating_add(bytes, cost(*tree.pattern, false));
  if (tree.kind == EncodingKind::blocks) {  // the grid, and a one for each block
    bytes = saturating_add(bytes, saturating_mul(static_cast<std::uint64_t>(elements(*tree.pattern)), 8));
  }
  if (tree.row_ptr != nullptr) {
    const bool both = is_wide(*tree.row_ptr) || is_wide(*tree.columns);
    bytes = saturating_add(bytes, saturating_add(cost(*tree.row_ptr, both), cost(*tree.columns, both)));
  }
  if (tree.kind == EncodingKind::huffman) {  // the list of symbols: 4 bytes for each of at most 2^15 codes
    bytes = saturating_add(bytes, 4 * std::uint64_t{tree.lengths.bytes < 32768 ? tree.lengths.bytes : 32768});
  }
  if (tree.kind == EncodingKind::rans) bytes = saturating_add(bytes, std::uint64_t{8} << tree.bits);  // the table of slots
  return bytes;
}

}  // namespace

void decode_real(const Encoding& tree, std::span<float> out, const std::string& place) {
  if (!tree.real) throw Error(ErrorCode::input, place, "holds integers, real numbers were asked for");
  if (out.size() != size_of_tree(tree)) {
    throw Error(ErrorCode::input, place,
                "has " + std::to_string(size_of_tree(tree)) + " elements, room was given for " +
                    std::to_string(out.size()));
  }
  guarded(place, [&] {
    const Decoder decoder(place);
    if (!tree.ohwi) return decoder.real(tree, graph::name_of(tree.kind), out);
    from_ohwi(std::span<const float>(decoder.real(tree, graph::name_of(tree.kind))), tree.shape, out);
  });
}

std::vector<float> decode_real(const Encoding& tree, const std::string& place) {
  return guarded(place, [&] {
    std::vector<float> out(size_of_tree(tree));
    decode_real(tree, out, place);
    return out;
  });
}

std::vector<std::int64_t> decode_integers(const Encoding& tree, const std::string& place) {
  if (tree.real) throw Error(ErrorCode::input, place, "holds real numbers, integers were asked for");
  return guarded(place, [&] {
    std::vector<std::int64_t> stored = Decoder(place).integer<std::int64_t>(tree, graph::name_of(tree.kind));
    if (!tree.ohwi) return stored;
    std::vector<std::int64_t> out(stored.size());
    from_ohwi(std::span<const std::int64_t>(stored), tree.shape, std::span(out));
    return out;
  });
}

void decode_in_pieces(const Encoding& tree, const std::string& place, const std::function<void(std::span<const std::int32_t>)>& use) {
  if (tree.real) throw Error(ErrorCode::input, place, "holds real numbers, integers were asked for");
  const bool packed = tree.kind == EncodingKind::packed, plain = tree.kind == EncodingKind::dense;
  guarded(place, [&] {
    const Decoder decoder(place);
    if (!packed && !plain) {
      use(decoder.integer<std::int32_t>(tree, graph::name_of(tree.kind)));
      return;
    }
    constexpr std::size_t piece = 1 << 16;  // whole bytes at any number of bits
    const std::size_t count = size_of_tree(tree), bits = packed ? static_cast<std::size_t>(tree.bits) : 8 * size_of(tree.dtype);
    Encoding part = tree;
    for (std::size_t first = 0; first < count; first += piece) {
      const std::size_t size = std::min(piece, count - first);
      part.shape = {static_cast<std::int64_t>(size)};
      part.leaf.data = tree.leaf.data + first * bits / 8;
      part.leaf.bytes = (size * bits + 7) / 8;
      use(decoder.integer<std::int32_t>(part, graph::name_of(tree.kind)));
    }
  });
}

void check(const Encoding& tree, const std::string& place) {
  if (tree.real) {
    static_cast<void>(decode_real(tree, place));
  } else {
    static_cast<void>(decode_integers(tree, place));
  }
}

std::uint64_t decode_cost(const Encoding& tree) noexcept { return cost(tree, true); }

std::int64_t elements(const Encoding& tree) noexcept { return engine::checked_product(tree.shape).value_or(0); }

Shape stored_shape(const Encoding& tree) {
  if (!tree.ohwi) return tree.shape;
  return {tree.shape[0], tree.shape[2], tree.shape[3], tree.shape[1]};
}

}  // namespace bittern::format
