// Canonical Huffman codes of at most 15 bits, in chunks of 65,536 symbols.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "schemes/status.h"

namespace bittern::engine::schemes::huffman {

inline constexpr std::size_t chunk_symbols = 65536;
inline constexpr int max_length = 15;

constexpr std::size_t chunk_count(std::size_t symbols) noexcept {
  return symbols / chunk_symbols + (symbols % chunk_symbols != 0 ? 1 : 0);
}

// data: ceil(stream_bits / 8) bytes. lengths: the code length of each symbol, 0 if absent (fewer than 2^31 symbols).
// offsets: little-endian u32, one per chunk, at any address; empty unless there is more than one chunk.
// T: int32_t or int64_t. Throws std::bad_alloc (tables of a few hundred KiB at most), nothing else.
// Fails on lengths that are no complete code, on a code that does not exist, on a stream that is too short or too long,
// on offsets that disagree and on spare bits that are not zero.
template <class T>
Status decode(std::span<const std::byte> data, std::uint64_t stream_bits, std::span<const std::uint8_t> lengths,
              std::span<const std::byte> offsets, std::span<T> out);

}  // namespace bittern::engine::schemes::huffman
