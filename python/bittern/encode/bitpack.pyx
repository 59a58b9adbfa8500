# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Codes of 1 to 32 bits in one bit stream, least significant bit first."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

import numpy as np


def pack(const uint32_t[::1] codes, int bits):
    """Pack ``codes`` (their low ``bits`` bits) into ``ceil(n * bits / 8)`` bytes; spare bits are zero."""
    if bits < 1 or bits > 32:
        raise ValueError(f"bits is {bits}, allowed are 1 to 32")
    cdef Py_ssize_t n = codes.shape[0], i, out = 0
    array = np.zeros((n * bits + 7) // 8, dtype=np.uint8)
    cdef uint8_t[::1] stream = array
    cdef uint64_t buffer = 0, mask = ((<uint64_t>1) << bits) - 1
    cdef int held = 0
    with nogil:
        for i in range(n):
            buffer |= (codes[i] & mask) << held
            held += bits
            while held >= 8:
                stream[out] = <uint8_t>(buffer & 0xFF)
                out += 1
                buffer >>= 8
                held -= 8
        if held > 0:
            stream[out] = <uint8_t>(buffer & 0xFF)
    return array


def unpack(const uint8_t[::1] stream, Py_ssize_t n, int bits):
    """The ``n`` codes of a stream, as uint32. Raises ValueError if the stream is not exactly that long."""
    if bits < 1 or bits > 32:
        raise ValueError(f"bits is {bits}, allowed are 1 to 32")
    if n < 0 or stream.shape[0] != (n * bits + 7) // 8:
        raise ValueError(f"{stream.shape[0]} bytes cannot hold exactly {n} codes of {bits} bits")
    array = np.empty(n, dtype=np.uint32)
    cdef uint32_t[::1] codes = array
    cdef uint64_t buffer = 0, mask = ((<uint64_t>1) << bits) - 1
    cdef Py_ssize_t i, position = 0
    cdef int held = 0
    with nogil:
        for i in range(n):
            while held < bits:
                buffer |= (<uint64_t>stream[position]) << held
                position += 1
                held += 8
            codes[i] = <uint32_t>(buffer & mask)
            buffer >>= bits
            held -= bits
    return array
