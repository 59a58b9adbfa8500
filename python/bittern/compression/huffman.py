"""Integer streams in their smallest form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encode.huffman import MAX_LENGTH, code_lengths
from bittern.encodings import Encoding, Huffman, Packed

LEAF_COST = 112  # bytes that a leaf and its node take in the header, about


def smallest(codes: NDArray[Any], bits: int | None = None) -> Encoding:
    """``codes`` as Huffman codes if that is smaller than packing them into ``bits`` bits (default: as few as fit)."""
    width = bits or max(int(codes.max(initial=0)).bit_length(), 1)
    return Huffman.code(codes) if huffman_bytes(codes) < packed_bytes(codes.size, width) else Packed.pack(codes, width)


def stream_bytes(codes: NDArray[Any], bits: int | None = None) -> int:
    """About how many bytes ``smallest`` takes, header included."""
    width = bits or max(int(codes.max(initial=0)).bit_length(), 1)
    return min(huffman_bytes(codes), packed_bytes(codes.size, width))


def packed_bytes(n: int, bits: int) -> int:
    """Bytes of a packed stream, header included."""
    return LEAF_COST + (n * bits + 7) // 8


def huffman_bytes(codes: NDArray[Any]) -> int:
    """Bytes of a Huffman stream with its table, header included; counted, not coded."""
    if not codes.size or int(codes.max()) >= 2**MAX_LENGTH:
        return 2**62
    counts = np.bincount(codes.reshape(-1))
    lengths = code_lengths(counts)
    chunks = -(-codes.size // 65536)
    offsets = 4 * chunks + LEAF_COST // 2 if chunks > 1 else 0
    return 2 * LEAF_COST + (int(counts @ lengths) + 7) // 8 + lengths.size + chunks - 1 + offsets
