# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Canonical Huffman codes of at most 15 bits, in chunks of 65,536 symbols (docs/format.md)."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

import numpy as np

MAX_LENGTH = 15
CHUNK = 65536


def code_lengths(counts):
    """Optimal code lengths of at most 15 bits for symbols that occur ``counts[s]`` times (0: absent), by package-merge.

    Larmore and Hirschberg, "A fast algorithm for optimal length-limited Huffman codes", 1990. Ties are broken by symbol,
    so the result is a function of the counts. Returns uint8 lengths; a single symbol has length 1.
    Raises ValueError if more than 32,768 symbols occur.
    """
    lengths = np.zeros(len(counts), dtype=np.uint8)
    coins = sorted((int(count), symbol) for symbol, count in enumerate(counts) if count > 0)
    if len(coins) > 2**MAX_LENGTH:
        raise ValueError(f"{len(coins)} symbols cannot have codes of {MAX_LENGTH} bits")
    if len(coins) < 2:
        for _, symbol in coins:
            lengths[symbol] = 1
        return lengths
    # Items of a level are coins (index below len(coins)) or packages of two items of the level above.
    levels = []
    packages = []
    for _ in range(MAX_LENGTH):
        items = [(count, 0, index) for index, (count, _) in enumerate(coins)]
        items += [(weight, 1, index) for index, weight in enumerate(packages)]
        items.sort()
        levels.append(items)
        packages = [items[i][0] + items[i + 1][0] for i in range(0, len(items) - 1, 2)]
    taken = 2 * len(coins) - 2
    for items in reversed(levels):
        chosen = items[:taken]
        taken = 0
        for _, is_package, index in chosen:
            if is_package:
                taken += 2
            else:
                lengths[coins[index][1]] += 1
    return lengths


def canonical_codes(lengths):
    """The code of each symbol (uint16), counted up in the order of (length, symbol). Raises ValueError if no full code."""
    cdef int length
    array = np.ascontiguousarray(lengths, dtype=np.uint8)
    if array.size and int(array.max()) > MAX_LENGTH:
        raise ValueError(f"a code of {int(array.max())} bits, at most {MAX_LENGTH} are allowed")
    used = np.bincount(array, minlength=MAX_LENGTH + 1)
    kraft = sum(int(used[length]) << (MAX_LENGTH - length) for length in range(1, MAX_LENGTH + 1))
    single = int(used[1:].sum()) == 1 and int(used[1]) == 1
    if kraft != 1 << MAX_LENGTH and not single:
        raise ValueError("code lengths do not form a complete prefix code")
    codes = np.zeros(array.size, dtype=np.uint16)
    first = 0
    for length in range(1, MAX_LENGTH + 1):
        symbols = np.flatnonzero(array == length)
        codes[symbols] = (first + np.arange(symbols.size)).astype(np.uint16)
        first = (first + symbols.size) << 1
    return codes


def encode(const uint32_t[::1] symbols, const uint8_t[::1] lengths):
    """Write symbols as one stream. Returns ``(stream uint8, bits, offsets uint32)``; offsets has one entry per chunk.

    Raises ValueError if a symbol has no code, or the stream would need offsets beyond 32 bits.
    """
    cdef const uint16_t[::1] codes = canonical_codes(np.asarray(lengths))
    cdef Py_ssize_t n = symbols.shape[0], k = lengths.shape[0], i, out = 0
    cdef int64_t total = 0
    cdef Py_ssize_t bad = -1
    cdef int held = 0
    cdef uint64_t buffer = 0
    with nogil:
        for i in range(n):
            if symbols[i] >= <uint64_t>k or lengths[symbols[i]] == 0:
                bad = i
                break
            if i and i % 65536 == 0:
                total = (total + 7) & ~(<int64_t>7)
            total += lengths[symbols[i]]
    if bad >= 0:
        raise ValueError(f"symbol {symbols[bad]} has no code")
    if total >= <int64_t>8 << 32:
        raise ValueError("the stream is longer than 4 GiB")
    array = np.zeros((total + 7) // 8, dtype=np.uint8)
    offset_array = np.zeros((n + 65535) // 65536, dtype=np.uint32)
    cdef uint8_t[::1] stream = array
    cdef uint32_t[::1] offsets = offset_array
    with nogil:
        for i in range(n):
            if i % 65536 == 0:
                if held:
                    stream[out] = <uint8_t>((buffer << (8 - held)) & 0xFF)
                    out += 1
                    held = 0
                buffer = 0
                offsets[i // 65536] = <uint32_t>out
            buffer = (buffer << lengths[symbols[i]]) | codes[symbols[i]]
            held += lengths[symbols[i]]
            while held >= 8:
                held -= 8
                stream[out] = <uint8_t>((buffer >> held) & 0xFF)
                out += 1
        if held:
            stream[out] = <uint8_t>((buffer << (8 - held)) & 0xFF)
    return array, int(total), offset_array


def decode(const uint8_t[::1] stream, int64_t bits, const uint8_t[::1] lengths, Py_ssize_t n, offsets=None):
    """The ``n`` symbols of a stream, as uint32. Raises ValueError if any rule of the stream is broken."""
    if n == 0 and bits == 0 and stream.shape[0] == 0 and offsets is None:
        return np.empty(0, dtype=np.uint32)
    cdef const uint16_t[::1] codes = canonical_codes(np.asarray(lengths))
    if bits < 0 or stream.shape[0] != (bits + 7) // 8:
        raise ValueError(f"{bits} bits do not fill a stream of {stream.shape[0]} bytes")
    if n < 0 or n > bits:
        raise ValueError(f"{n} symbols cannot stand in {bits} bits")
    chunks = (n + CHUNK - 1) // CHUNK
    if (offsets is not None) != (chunks > 1):
        raise ValueError("offsets must be present if and only if there is more than one chunk")
    starts_array = np.zeros(max(chunks, 1), dtype=np.uint32) if offsets is None else offsets
    if starts_array.shape[0] != max(chunks, 1):
        raise ValueError(f"{starts_array.shape[0]} offsets for {chunks} chunks")
    cdef const uint32_t[::1] starts = starts_array
    # Index: the next 15 bits. Entry: symbol * 16 + length; 0 where no code begins so.
    table_array = np.zeros(1 << MAX_LENGTH, dtype=np.uint32)
    cdef uint32_t[::1] table = table_array
    cdef Py_ssize_t symbol, i = 0, first, j
    cdef int length
    for symbol in range(lengths.shape[0]):
        length = lengths[symbol]
        if length:
            first = <Py_ssize_t>codes[symbol] << (15 - length)
            for j in range(first, first + ((<Py_ssize_t>1) << (15 - length))):
                table[j] = <uint32_t>(symbol << 4 | length)
    array = np.empty(n, dtype=np.uint32)
    cdef uint32_t[::1] symbols = array
    cdef Py_ssize_t size = stream.shape[0], byte
    cdef int64_t cursor = 0
    cdef uint32_t window, entry
    cdef int problem = 0
    with nogil:
        for i in range(n):
            if i % 65536 == 0:
                if not _spare_is_zero(stream, cursor):
                    problem = 1
                    break
                cursor = (cursor + 7) & ~(<int64_t>7)
                if <int64_t>starts[i // 65536] * 8 != cursor:
                    problem = 2
                    break
            byte = <Py_ssize_t>(cursor >> 3)
            window = 0
            if byte < size:
                window = <uint32_t>stream[byte] << 16
            if byte + 1 < size:
                window |= <uint32_t>stream[byte + 1] << 8
            if byte + 2 < size:
                window |= stream[byte + 2]
            entry = table[(window >> (9 - <int>(cursor & 7))) & 0x7FFF]
            if entry & 15 == 0:
                problem = 3
                break
            cursor += entry & 15
            if cursor > bits:
                problem = 4
                break
            symbols[i] = entry >> 4
        if problem == 0 and not _spare_is_zero(stream, cursor):
            problem = 1
    if problem == 1:
        raise ValueError(f"spare bits after bit {cursor} are not zero")
    if problem == 2:
        raise ValueError(f"chunk {i // CHUNK} does not start at its offset {starts[i // CHUNK]}")
    if problem == 3:
        raise ValueError(f"bit {cursor} starts no code")
    if problem == 4 or cursor != bits:
        raise ValueError(f"{n} symbols do not end at bit {bits}")
    return array


cdef inline bint _spare_is_zero(const uint8_t[::1] stream, int64_t cursor) noexcept nogil:
    """Whether the bits from the cursor to the next byte boundary are zero."""
    if cursor & 7 == 0:
        return True
    return stream[<Py_ssize_t>(cursor >> 3)] & ((1 << (8 - <int>(cursor & 7))) - 1) == 0
