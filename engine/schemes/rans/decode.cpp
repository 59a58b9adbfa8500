// rANS: one table look-up, one multiplication, at most one word of the stream for each symbol.
#include "schemes/rans/decode.h"

#include <algorithm>
#include <vector>

#include "schemes/load.h"

namespace bittern::engine::schemes::rans {

namespace {

constexpr std::uint32_t least = std::uint32_t{1} << 16;  // states are at least this; an encoder begins with it

class Table {
 public:
  struct Slot {
    std::uint16_t symbol = 0;
    std::uint16_t frequency = 0;
    std::uint16_t place = 0;  // among the slots of its symbol
  };

  Status build(std::span<const std::byte> frequencies, unsigned bits) {
    const std::size_t total = std::size_t{1} << bits, symbols = frequencies.size() / 2;
    if (symbols > max_symbols) return Status::failure("too many symbols");
    bits_ = bits;
    slots_.resize(total);
    std::size_t next = 0;
    for (std::size_t s = 0; s < symbols; ++s) {
      const auto frequency = load<std::uint16_t>(frequencies.data() + 2 * s);
      if (frequency > total - next) return Status::failure("frequencies that sum to more than 2^bits", s);
      for (std::size_t place = 0; place < frequency; ++place) {
        slots_[next++] = {static_cast<std::uint16_t>(s), frequency, static_cast<std::uint16_t>(place)};
      }
    }
    if (next == total) return {};
    const auto found = static_cast<std::int64_t>(next), needed = static_cast<std::int64_t>(total);
    return Status::outside("frequencies that do not sum to 2^bits", 0, found, needed, needed);
  }

  // Takes a symbol out of a state; what is left may be below `least`.
  std::uint32_t take(std::uint32_t& state) const noexcept {
    const Slot slot = slots_[state & (slots_.size() - 1)];
    state = slot.frequency * (state >> bits_) + slot.place;
    return slot.symbol;
  }

 private:
  unsigned bits_ = 0;
  std::vector<Slot> slots_;
};

// Decodes one chunk from `word`, which moves on. Even symbols come from the first state, odd ones from the second.
template <class T>
Status decode_chunk(std::span<const std::byte> words, const Table& table, std::span<T> out, std::size_t first_index, std::size_t& word) noexcept {
  const std::size_t count = words.size() / 2;
  const auto early = [&](std::size_t i) { return Status::failure("the rANS stream ends too early", first_index + i); };
  const auto read = [&]() noexcept { return std::uint32_t{load<std::uint16_t>(words.data() + 2 * word++)}; };
  if (count - word < state_words) return early(0);
  std::uint32_t even = 0, odd = 0;
  for (std::uint32_t* const state : {&even, &odd}) {
    *state = read();
    *state |= read() << 16;
    if (*state < least) return Status::failure("a rANS state out of range", first_index);
  }
  const auto next = [&](std::uint32_t& state, std::size_t i) noexcept {
    out[i] = static_cast<T>(table.take(state));
    if (state >= least) return true;
    if (word == count) return false;
    state = state << 16 | read();
    return true;
  };
  std::size_t i = 0;
  for (; i + 1 < out.size(); i += 2) {
    if (!next(even, i)) return early(i);
    if (!next(odd, i + 1)) return early(i + 1);
  }
  if (i < out.size() && !next(even, i)) return early(i);
  if (even == least && odd == least) return {};
  return Status::failure("a rANS chunk that does not end in the first state of its encoder", first_index);
}

}  // namespace

template <class T>
Status decode(std::span<const std::byte> words, int bits, std::span<const std::byte> frequencies, std::span<const std::byte> offsets,
              std::span<T> out) {
  if (bits < 1 || bits > max_bits) return Status::outside("bits of the frequencies out of range", 0, bits, 1, max_bits);
  if (words.size() % 2 != 0 || frequencies.size() % 2 != 0) return Status::failure("half a word");
  const std::size_t chunks = chunk_count(out.size());
  if (offsets.size() != (chunks > 1 ? chunks * 4 : 0)) return Status::failure("wrong number of chunk offsets");
  if (words.size() / 2 / state_words < chunks) return Status::failure("a stream that is too short for its chunks");
  Table table;
  if (!out.empty()) {
    if (const Status status = table.build(frequencies, static_cast<unsigned>(bits)); !status.ok()) return status;
  }

  std::size_t word = 0;
  for (std::size_t c = 0; c < chunks; ++c) {
    if (chunks > 1) {
      const std::uint32_t offset = load<std::uint32_t>(offsets.data() + 4 * c);
      if (offset != word) {
        const auto expected = static_cast<std::int64_t>(word);
        return Status::outside("a chunk offset that disagrees with the stream", c, offset, expected, expected);
      }
    }
    const std::size_t begin = c * chunk_symbols;
    const std::span<T> chunk = out.subspan(begin, std::min(chunk_symbols, out.size() - begin));
    if (const Status status = decode_chunk(words, table, chunk, begin, word); !status.ok()) return status;
  }
  if (word != words.size() / 2) return Status::failure("a rANS stream longer than its symbols", out.size());
  return {};
}

template Status decode(std::span<const std::byte>, int, std::span<const std::byte>, std::span<const std::byte>, std::span<std::int32_t>);
template Status decode(std::span<const std::byte>, int, std::span<const std::byte>, std::span<const std::byte>, std::span<std::int64_t>);

}  // namespace bittern::engine::schemes::rans
