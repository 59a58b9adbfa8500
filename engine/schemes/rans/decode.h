// rANS: symbols coded by their frequencies, in chunks of 65,536 symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::rans {

inline constexpr std::size_t chunk_symbols = 65536;
inline constexpr int max_bits = 15;
inline constexpr std::size_t max_symbols = std::size_t{1} << max_bits;
inline constexpr std::size_t state_words = 4;  // at the start of each chunk: two states of two words each

constexpr std::size_t chunk_count(std::size_t symbols) noexcept {
  return symbols / chunk_symbols + (symbols % chunk_symbols != 0 ? 1 : 0);
}

// All spans of bytes hold little-endian numbers at any address. words: u16, the stream. bits: 1..15. frequencies: u16, one per symbol, which sum
// to 2^bits (at most max_symbols). offsets: u32, the first word of each chunk; empty unless there is more than one chunk.
// T: int32_t or int64_t. Throws std::bad_alloc (a table of 8 * 2^bits bytes), nothing else.
// Fails on frequencies that do not sum, on states out of range, on a stream that is too short or too long or does not end where encoders
// begin, and on offsets that disagree.
template <class T>
Status decode(std::span<const std::byte> words, int bits, std::span<const std::byte> frequencies, std::span<const std::byte> offsets,
              std::span<T> out);

}  // namespace bittern::engine::schemes::rans
