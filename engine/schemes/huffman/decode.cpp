// Canonical Huffman codes: one table look-up for short codes, a walk over the lengths for long ones.
#include "schemes/huffman/decode.h"

#include <algorithm>
#include <array>
#include <vector>

#include "schemes/load.h"

namespace bittern::engine::schemes::huffman {

namespace {

constexpr int fast_bits = 11;
constexpr std::uint32_t complete = std::uint32_t{1} << max_length;

class Code {
 public:
  struct Entry {
    std::uint32_t symbol = 0;
    std::uint32_t length = 0;  // 0: no code
  };

  Status build(std::span<const std::uint8_t> lengths) {
    std::uint64_t kraft = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      const std::uint8_t length = lengths[s];
      if (length > max_length) return Status::outside("a code length out of range", s, length, 0, max_length);
      if (length == 0) continue;
      ++count_[length];
      kraft += complete >> length;
    }
    if (kraft == 0) return Status::failure("no symbol has a code");
    const bool single = kraft == complete / 2 && count_[1] == 1;
    if (kraft != complete && !single) {
      return Status::outside("code lengths that are no complete code (Kraft sum, in units of 2^-15)", 0,
                             static_cast<std::int64_t>(kraft), complete, complete);
    }
    std::array<std::uint32_t, max_length + 2> start{};
    for (std::size_t l = 1; l <= max_length; ++l) {
      first_[l] = (first_[l - 1] + count_[l - 1]) << 1;
      start_[l] = start[l];
      start[l + 1] = start[l] + count_[l];
    }
    sorted_.resize(start[max_length + 1]);
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      if (lengths[s] != 0) sorted_[start[lengths[s]]++] = static_cast<std::uint32_t>(s);
    }
    for (std::uint32_t l = 1; l <= fast_bits; ++l) {
      const std::uint32_t run = std::uint32_t{1} << (fast_bits - l);
      for (std::uint32_t i = 0; i < count_[l]; ++i) {
        std::fill_n(fast_.begin() + (first_[l] + i) * run, run, Entry{sorted_[start_[l] + i], l});
      }
    }
    return {};
  }

  // The symbol whose code starts at the top bit of `word`; length 0 if there is none.
  Entry next(std::uint64_t word) const noexcept {
    const Entry entry = fast_[word >> (64 - fast_bits)];
    return entry.length != 0 ? entry : next_long(word);
  }

 private:
  Entry next_long(std::uint64_t word) const noexcept {
    for (std::uint32_t l = fast_bits + 1; l <= max_length; ++l) {
      const auto index = static_cast<std::uint32_t>(word >> (64 - l)) - first_[l];  // wraps if below the first code
      if (index < count_[l]) return {sorted_[start_[l] + index], l};
    }
    return {};
  }

  std::array<std::uint32_t, max_length + 1> count_{}, first_{}, start_{};  // by length
  std::vector<std::uint32_t> sorted_;                                      // symbols by (length, symbol)
  std::array<Entry, std::size_t{1} << fast_bits> fast_{};
};

// At least 57 bits from bit `position` on, at the top of the word; zeros after the end.
std::uint64_t peek(std::span<const std::byte> data, std::uint64_t position) noexcept {
  const std::size_t byte = position / 8;
  std::uint64_t word = 0;
  if (byte + 8 <= data.size()) {
    word = __builtin_bswap64(load<std::uint64_t>(data.data() + byte));
  } else {
    for (std::size_t k = byte; k < data.size(); ++k) {
      word |= static_cast<std::uint64_t>(data[k]) << (56 - 8 * (k - byte));
    }
  }
  return word << (position % 8);
}

// The bits from `position` to the end of its byte are zero.
bool aligned_with_zeros(std::span<const std::byte> data, std::uint64_t position) noexcept {
  if (position % 8 == 0) return true;
  return (std::to_integer<unsigned>(data[position / 8]) & (0xFFu >> (position % 8))) == 0;
}

// Decodes one chunk from `position`, which moves on.
template <class T>
Status decode_chunk(std::span<const std::byte> data, std::uint64_t stream_bits, const Code& code, std::span<T> out,
                    std::size_t first_index, std::uint64_t& position) noexcept {
  std::size_t i = 0;
  while (i < out.size()) {
    std::uint64_t word = peek(data, position);
    // 57 bits hold at least three codes.
    for (std::size_t end = std::min(i + 3, out.size()); i < end; ++i) {
      const Code::Entry entry = code.next(word);
      if (entry.length == 0) return Status::failure("a Huffman code that does not exist", first_index + i);
      if (entry.length > stream_bits - position) {
        return Status::failure("the Huffman stream ends too early", first_index + i);
      }
      out[i] = static_cast<T>(entry.symbol);
      word <<= entry.length;
      position += entry.length;
    }
  }
  return {};
}

}  // namespace

template <class T>
Status decode(std::span<const std::byte> data, std::uint64_t stream_bits, std::span<const std::uint8_t> lengths,
              std::span<const std::byte> offsets, std::span<T> out) {
  if (stream_bits / 8 + (stream_bits % 8 != 0 ? 1 : 0) != data.size()) {
    return Status::failure("the leaf's size does not match the stream's length");
  }
  if (out.size() > stream_bits) return Status::failure("a stream of fewer bits than symbols");
  if (lengths.size() >= (std::size_t{1} << 31)) return Status::failure("too many symbols");
  const std::size_t chunks = chunk_count(out.size());
  if (offsets.size() != (chunks > 1 ? chunks * 4 : 0)) return Status::failure("wrong number of chunk offsets");
  if (out.empty()) {
    return stream_bits == 0 ? Status{} : Status::failure("a Huffman stream longer than its symbols");
  }
  Code code;
  if (const Status status = code.build(lengths); !status.ok()) return status;

  std::uint64_t position = 0;
  for (std::size_t c = 0; c < chunks; ++c) {
    if (!aligned_with_zeros(data, position)) return Status::failure("alignment bits that are not zero", c);
    position = (position + 7) / 8 * 8;
    if (chunks > 1) {
      const std::uint64_t offset = load<std::uint32_t>(offsets.data() + 4 * c);
      if (offset != position / 8) {
        const auto expected = static_cast<std::int64_t>(position / 8);
        return Status::outside("a chunk offset that disagrees with the stream", c, static_cast<std::int64_t>(offset),
                               expected, expected);
      }
    }
    if (position > stream_bits) return Status::failure("the Huffman stream ends too early", c * chunk_symbols);
    const std::size_t begin = c * chunk_symbols;
    const std::span<T> chunk = out.subspan(begin, std::min(chunk_symbols, out.size() - begin));
    if (const Status status = decode_chunk(data, stream_bits, code, chunk, begin, position); !status.ok()) {
      return status;
    }
  }
  if (position != stream_bits) return Status::failure("a Huffman stream longer than its symbols", out.size());
  if (!aligned_with_zeros(data, position)) return Status::failure("spare bits that are not zero", data.size() - 1);
  return {};
}

template Status decode(std::span<const std::byte>, std::uint64_t, std::span<const std::uint8_t>,
                       std::span<const std::byte>, std::span<std::int32_t>);
template Status decode(std::span<const std::byte>, std::uint64_t, std::span<const std::uint8_t>,
                       std::span<const std::byte>, std::span<std::int64_t>);

}  // namespace bittern::engine::schemes::huffman
