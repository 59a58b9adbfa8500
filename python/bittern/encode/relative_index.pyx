# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Relative indices: the gaps between the entries of a sparse tensor, with fillers (Deep Compression, arXiv 1510.00149)."""

from libc.stdint cimport int64_t, uint32_t

import numpy as np


def encode(const int64_t[::1] positions, int bits):
    """Turn strictly increasing positions into gaps below ``2**bits``.

    Returns ``(gaps, sources)``: per entry the zeros skipped before it (uint32), and the index of the position that it
    stands for, or -1 for a filler (int64).
    """
    if bits < 1 or bits > 31:
        raise ValueError(f"bits is {bits}, allowed are 1 to 31")
    cdef int64_t run = (<int64_t>1) << bits, previous = -1, gap
    cdef Py_ssize_t n = positions.shape[0], i, total = n, out = 0
    with nogil:
        for i in range(n):
            gap = positions[i] - previous - 1
            if gap < 0:
                break
            total += <Py_ssize_t>(gap // run)
            previous = positions[i]
        else:
            gap = 0
    if gap < 0:
        raise ValueError("positions must be non-negative and strictly increase")
    gap_array = np.empty(total, dtype=np.uint32)
    source_array = np.empty(total, dtype=np.int64)
    cdef uint32_t[::1] gaps = gap_array
    cdef int64_t[::1] sources = source_array
    previous = -1
    with nogil:
        for i in range(n):
            gap = positions[i] - previous - 1
            while gap >= run:
                gaps[out] = <uint32_t>(run - 1)
                sources[out] = -1
                out += 1
                gap -= run
            gaps[out] = <uint32_t>gap
            sources[out] = i
            out += 1
            previous = positions[i]
    return gap_array, source_array


def decode(const uint32_t[::1] gaps, int64_t size):
    """The positions of the entries. Raises ValueError if one is not below ``size``."""
    cdef Py_ssize_t n = gaps.shape[0], i = 0
    cdef int64_t position = -1
    cdef bint overrun = False
    array = np.empty(n, dtype=np.int64)
    cdef int64_t[::1] positions = array
    with nogil:
        for i in range(n):
            position += <int64_t>gaps[i] + 1
            if position >= size:
                overrun = True
                break
            positions[i] = position
    if overrun:
        raise ValueError(f"entry {i} lies at position {position} of a tensor of {size} elements")
    return array
