# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""rANS with two states of 32 bits and words of 16, in chunks of 65,536 symbols (docs/format.md)."""

import heapq

from libc.stdint cimport uint16_t, uint32_t, uint64_t

import numpy as np

MAX_BITS = 15
CHUNK = 65536
STATE_WORDS = 4


def frequencies(counts, int bits):
    """Frequencies (uint16) that sum to ``2**bits`` for symbols that occur ``counts[s]`` times (0: absent).

    Every symbol that occurs has at least 1; what is left over or missing after rounding down goes where it matters
    most, by integers and correctly rounded divisions alone, so the result is a function of the counts.
    Raises ValueError if no symbol occurs, or more than ``2**bits`` do, or bits is not 1 to 15.
    """
    _check_bits(bits)
    array = np.asarray(counts, dtype=np.int64)
    used = np.flatnonzero(array)
    if used.size == 0 or used.size > 1 << bits:
        raise ValueError(f"{used.size} symbols cannot share {1 << bits} slots")
    share = np.maximum(array[used] * (1 << bits) // int(array.sum()), 1)
    left = (1 << bits) - int(share.sum())
    of = array[used].tolist()
    given = share.tolist()
    # The cost of a symbol is count * -log2(frequency): one slot more saves, one less costs, about this over ln 2.
    if left > 0:
        heap = [(-(of[i] / (given[i] + 0.5)), i) for i in range(len(of))]
        heapq.heapify(heap)
        for _ in range(left):
            i = heap[0][1]
            given[i] += 1
            heapq.heapreplace(heap, (-(of[i] / (given[i] + 0.5)), i))
    elif left < 0:
        heap = [(of[i] / (given[i] - 0.5), i) for i in range(len(of)) if given[i] > 1]
        heapq.heapify(heap)
        for _ in range(-left):
            i = heapq.heappop(heap)[1]
            given[i] -= 1
            if given[i] > 1:
                heapq.heappush(heap, (of[i] / (given[i] - 0.5), i))
    result = np.zeros(array.size, dtype=np.uint16)
    result[used] = given
    return result


def encode(const uint32_t[::1] symbols, const uint16_t[::1] frequencies, int bits):
    """Write symbols as one stream. Returns ``(stream uint16, offsets uint32)``; offsets has one entry per chunk.

    Raises ValueError if the frequencies do not sum to ``2**bits``, a symbol has none, or the stream would need offsets
    beyond 32 bits.
    """
    cdef const uint32_t[::1] starts = _starts(frequencies, bits)
    cdef Py_ssize_t n = symbols.shape[0], k = frequencies.shape[0], first, end, i, at, bad = -1
    cdef uint32_t state[2]
    cdef uint32_t x, frequency
    cdef int which
    room = np.empty(min(n, CHUNK) + STATE_WORDS, dtype=np.uint16)
    cdef uint16_t[::1] words = room
    chunks = []
    offsets = []
    total = 0
    for first in range(0, n, CHUNK):
        end = min(first + CHUNK, n)
        at = room.size
        state[0] = state[1] = 1 << 16
        with nogil:
            for i in range(end - 1, first - 1, -1):
                if symbols[i] >= <uint64_t>k or frequencies[symbols[i]] == 0:
                    bad = i
                    break
                frequency = frequencies[symbols[i]]
                which = (i - first) & 1
                x = state[which]
                if x >= <uint64_t>frequency << (32 - bits):
                    at -= 1
                    words[at] = <uint16_t>(x & 0xFFFF)
                    x >>= 16
                state[which] = ((x // frequency) << bits) + starts[symbols[i]] + x % frequency
        if bad >= 0:
            raise ValueError(f"symbol {symbols[bad]} has no frequency")
        for which in range(1, -1, -1):
            words[at - 1] = <uint16_t>(state[which] >> 16)
            words[at - 2] = <uint16_t>(state[which] & 0xFFFF)
            at -= 2
        offsets.append(total)
        chunks.append(room[at:].copy())
        total += room.size - at
        if total >= 1 << 32:
            raise ValueError("the stream is longer than 8 GiB")
    stream = np.concatenate(chunks) if chunks else np.empty(0, dtype=np.uint16)
    return stream, np.array(offsets, dtype=np.uint32)


def decode(const uint16_t[::1] stream, const uint16_t[::1] frequencies, int bits, Py_ssize_t n, offsets=None):
    """The ``n`` symbols of a stream, as uint32. Raises ValueError if any rule of the stream is broken."""
    chunks = (n + CHUNK - 1) // CHUNK
    if (offsets is not None) != (chunks > 1):
        raise ValueError("offsets must be present if and only if there is more than one chunk")
    if offsets is not None and offsets.shape[0] != chunks:
        raise ValueError(f"{offsets.shape[0]} offsets for {chunks} chunks")
    cdef Py_ssize_t size = stream.shape[0], at = 0, first, end, i, slot
    if n < 0 or size < STATE_WORDS * chunks or (n == 0 and size):
        raise ValueError(f"{n} symbols cannot stand in {size} words")
    if n == 0:
        _check_bits(bits)
        return np.empty(0, dtype=np.uint32)
    cdef const uint32_t[::1] starts = _starts(frequencies, bits)
    cdef const uint32_t[::1] symbol_of = np.repeat(
        np.arange(frequencies.shape[0], dtype=np.uint32), np.asarray(frequencies)
    )
    array = np.empty(n, dtype=np.uint32)
    cdef uint32_t[::1] symbols = array
    cdef uint32_t state[2]
    cdef uint32_t x, symbol, mask = (<uint32_t>1 << bits) - 1
    cdef int which
    cdef bint ended
    for first in range(0, n, CHUNK):
        end = min(first + CHUNK, n)
        if offsets is not None and int(offsets[first // CHUNK]) != at:
            raise ValueError(f"chunk {first // CHUNK} does not start at its offset {offsets[first // CHUNK]}")
        if size - at < STATE_WORDS:
            raise ValueError(f"the stream ends before chunk {first // CHUNK}")
        for which in range(2):
            state[which] = stream[at] | <uint32_t>stream[at + 1] << 16
            at += 2
            if state[which] < 1 << 16:
                raise ValueError(f"state {which} of chunk {first // CHUNK} is below 65536")
        ended = False
        with nogil:
            for i in range(first, end):
                which = (i - first) & 1
                x = state[which]
                slot = x & mask
                symbol = symbol_of[slot]
                x = frequencies[symbol] * (x >> bits) + <uint32_t>slot - starts[symbol]
                if x < 1 << 16:
                    if at == size:
                        ended = True
                        break
                    x = x << 16 | stream[at]
                    at += 1
                state[which] = x
                symbols[i] = symbol
        if ended:
            raise ValueError(f"the stream ends inside chunk {first // CHUNK}")
        if state[0] != 1 << 16 or state[1] != 1 << 16:
            raise ValueError(f"chunk {first // CHUNK} does not end in the first state of an encoder")
    if at != size:
        raise ValueError(f"{size - at} words are left over")
    return array


def _check_bits(int bits):
    if bits < 1 or bits > MAX_BITS:
        raise ValueError(f"bits is {bits}, allowed are 1 to {MAX_BITS}")


def _starts(frequencies, int bits):
    """The first slot of each symbol (uint32)."""
    _check_bits(bits)
    array = np.asarray(frequencies).astype(np.int64)
    total = int(array.sum())
    if array.size > 1 << MAX_BITS or total != 1 << bits:
        raise ValueError(f"{array.size} frequencies sum to {total}, not {1 << bits}")
    return (np.cumsum(array) - array).astype(np.uint32)
