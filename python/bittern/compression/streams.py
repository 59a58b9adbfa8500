"""Integer streams in their smallest form: packed, Huffman codes or rANS."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encode import huffman, rans
from bittern.encodings import Affine, Dense, Encoding, Huffman, Packed, Rans
from bittern.encodings.streams import rans_bits

LEAF_COST = 112  # bytes that a leaf and its node take in the header, about
FRACTION = 1 << 16  # parts of a bit in which entropies are summed, in integers: the choice is the same on every machine


def smallest(codes: NDArray[Any], bits: int | None = None) -> Encoding:
    """``codes`` (not negative) in the smallest form; of equally small ones the simplest.

    Forms: packed into ``bits`` bits (default: as few as fit), Huffman codes, rANS.
    """
    width = bits or max(int(codes.max(initial=0)).bit_length(), 1)
    costs = (packed_bytes(codes.size, width), *coded_bytes(codes))
    best = costs.index(min(costs))
    return Rans.code(codes) if best == 2 else Huffman.code(codes) if best == 1 else Packed.pack(codes, width)


def stream_bytes(codes: NDArray[Any], bits: int | None = None) -> int:
    """About how many bytes ``smallest`` takes, header included."""
    width = bits or max(int(codes.max(initial=0)).bit_length(), 1)
    return min(packed_bytes(codes.size, width), *coded_bytes(codes))


def counted_bytes(counts: NDArray[np.int64]) -> int:
    """``stream_bytes`` of codes that occur so often: ``counts[code]`` times."""
    width = max(int(np.flatnonzero(counts).max(initial=0)).bit_length(), 1)
    return min(packed_bytes(int(counts.sum()), width), *coded_bytes_of(counts))


def smallest_affine(
    codes: NDArray[Any], scale: NDArray[Any], bits: int, zero_point: NDArray[Any] | None = None, axis: int | None = None
) -> Affine:
    """``scale * (codes - zero_point)`` with ``codes`` of ``bits`` bits, of either sign, in their smallest form.

    ``scale`` and ``zero_point`` (default: 0) are of shape ``[]``, or ``[C]`` with ``axis``. Symbols of an entropy code
    count from zero: signed codes are shifted to begin there, and the zero point by as much.
    Raises InputError if the codes do not fit, or a shape is wrong.
    """
    least = int(codes.min(initial=0))
    plain = None if zero_point is None or not np.any(zero_point) else _smallest_type(np.asarray(zero_point))
    packed = Affine(Packed.pack(codes, bits, signed=least < 0), Dense(scale), plain, axis)
    if least >= 0:
        coded = Affine(smallest(codes, bits), Dense(scale), plain, axis)
    else:
        shift = np.zeros(np.shape(scale), dtype=np.int64) if zero_point is None else np.asarray(zero_point, np.int64)
        coded = Affine(smallest(codes - least, bits), Dense(scale), _smallest_type(shift - least), axis)
    more = LEAF_COST if plain is None and coded.zero_point is not None else 0
    return coded if coded.nbytes + more < packed.nbytes else packed


def packed_bytes(n: int, bits: int) -> int:
    """Bytes of a packed stream, header included."""
    return LEAF_COST + (n * bits + 7) // 8


def coded_bytes(codes: NDArray[Any]) -> tuple[int, int]:
    """About the bytes as Huffman codes and as rANS, tables and header included; counted, not coded."""
    if not codes.size or int(codes.max()) >= 2**huffman.MAX_LENGTH:
        return 2**62, 2**62
    return coded_bytes_of(np.bincount(codes.reshape(-1)))


def coded_bytes_of(counts: NDArray[np.int64]) -> tuple[int, int]:
    """``coded_bytes`` of codes that occur so often: ``counts[code]`` times."""
    if not counts.any() or counts.size > 2**huffman.MAX_LENGTH:
        return 2**62, 2**62
    chunks = -(-int(counts.sum()) // huffman.CHUNK)
    shared = 2 * LEAF_COST + (4 * chunks + LEAF_COST // 2 if chunks > 1 else 0)
    lengths = huffman.code_lengths(counts)
    by_huffman = (int(counts @ lengths) + 7) // 8 + lengths.size + chunks - 1
    bits = rans_bits(counts)
    frequencies = rans.frequencies(counts, bits)
    used = counts > 0
    parts = int(counts[used] @ (bits * FRACTION - _logarithms()[frequencies[used]]))
    by_rans = -(-parts // (8 * FRACTION)) + 2 * frequencies.size + 2 * rans.STATE_WORDS * chunks
    return shared + by_huffman, shared + by_rans


@cache
def _logarithms() -> NDArray[np.int64]:
    """The logarithm to base 2 of each number that a frequency can be, in parts of a bit; of 0: 0."""
    numbers = np.maximum(np.arange((1 << rans.MAX_BITS) + 1), 1)
    logarithms: NDArray[np.int64] = np.rint(np.log2(numbers) * FRACTION).astype(np.int64)
    return logarithms


def _smallest_type(values: NDArray[Any]) -> Dense:
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    fits = [
        dtype
        for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.int32)
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max
    ]
    return Dense(values.astype(fits[0] if fits else np.int64))
