"""Deep Compression: pruning, shared values, relative indices, entropy codes (Han, Mao, Dally, arXiv 1510.00149)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.kmeans import codebook
from bittern.compression.magnitude import prune
from bittern.compression.method import Compressed, Method
from bittern.compression.streams import LEAF_COST, counted_bytes, packed_bytes, smallest, stream_bytes
from bittern.encode import relative_index
from bittern.encodings import Bitmap, Codebook, Dense, Encoding, RelativeIndex, Sparse
from bittern.errors import InputError

LEAST_ELEMENTS = 256  # below, tables and header outweigh what is saved
NEAR = 1000  # forms within one part in so many of the smallest are alike: that with the fewest symbols loads fastest


class DeepCompression(Method):
    """Prune to ``density`` (None: not at all), cluster to ``2**bits - 1`` values and zero, code what is left."""

    def __init__(
        self, density: float | Mapping[str, float] | None = None, bits: int = 8, index_bits: int | None = None
    ) -> None:
        """Raises InputError for an option out of range."""
        self.density = density
        for place, value in _densities(density):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
                raise InputError(place, f"is {value!r}", "give the share of weights to keep, above 0 and at most 1")
        self.bits = _in_range("bits", bits)
        self.index_bits = None if index_bits is None else _in_range("index_bits", index_bits)

    def check_names(self, weights: Mapping[str, list[str]]) -> None:
        known = set(weights).union(*weights.values())
        for place, _ in _densities(self.density):
            if isinstance(self.density, Mapping) and (name := place.removeprefix("density of ")) not in known:
                raise InputError(place, f"no weight or node is named {name!r}", f"use one of {', '.join(weights)}")

    def compress(self, weight: NDArray[Any], name: str, nodes: list[str]) -> Compressed:
        if weight.size < LEAST_ELEMENTS:
            return Compressed(None, f"kept: fewer than {LEAST_ELEMENTS} elements")
        density = self._density_of(name, nodes)
        pruned = weight if density is None else prune(weight, density)
        exact_bits = np.ascontiguousarray(pruned).reshape(-1).view(np.uint32)
        positions = np.flatnonzero(exact_bits).astype(np.int64)  # -0.0 is a value, so that it survives
        values = exact_bits[positions].view(np.float32)
        limit = 2**self.bits - 1
        if np.unique(exact_bits[positions]).size > limit:  # lossy anyway
            positions = np.flatnonzero(pruned).astype(np.int64)
            values = pruned.reshape(-1)[positions]
        table, codes, exact = codebook(values, limit)
        encoding = encode(weight.shape, positions, codes + np.uint32(1), table, self.index_bits)
        if exact and pruned is weight:
            return Compressed(encoding)
        done = [] if pruned is weight else [f"pruned to {100 * positions.size / weight.size:.3g} %"]
        return Compressed(encoding, ", ".join([*done, *([] if exact else [f"{table.size} shared values"])]))

    def _density_of(self, name: str, nodes: list[str]) -> float | None:
        if not isinstance(self.density, Mapping):
            return self.density
        return next((self.density[key] for key in (name, *nodes) if key in self.density), None)


def encode(
    shape: tuple[int, ...],
    positions: NDArray[np.int64],
    codes: NDArray[np.uint32],
    table: NDArray[np.float32],
    index_bits: int | None = None,
) -> Encoding:
    """The smallest codebook encoding of a tensor that is zero except at ``positions``.

    ``codes`` (from 1) index ``table`` (from entry 1; code 0 is 0.0). Forms: relative index with gaps of ``index_bits``
    bits (None: the best of 2 to 8), bitmap, or a code for every element; each stream packed, Huffman or rANS coded,
    which is smallest. Of forms that differ by less than a thousandth the one of the fewest symbols is taken.
    """
    size = math.prod(shape)
    forms: list[tuple[int, int, Callable[[], Encoding]]] = []
    for bits in range(2, 9) if index_bits is None else (index_bits,):
        gaps, sources = relative_index.encode(positions, bits)
        entries = np.where(sources < 0, np.uint32(0), codes[sources] if codes.size else np.uint32(0))
        cost = stream_bytes(gaps, bits) + stream_bytes(entries) + LEAF_COST
        forms.append((cost, 2 * gaps.size, partial(_indexed, shape, gaps, entries, bits)))
    counts = np.bincount(codes, minlength=1)
    masked = packed_bytes(size, 1) + counted_bytes(counts[1:]) + LEAF_COST
    forms.append((masked, size // 8 + codes.size, partial(_masked, shape, positions, codes)))
    counts[0] = size - codes.size
    forms.append((counted_bytes(counts), size, partial(_every, shape, positions, codes)))
    least = min(cost for cost, _, _ in forms)
    near = [form for form in forms if form[0] <= least + least // NEAR]
    tree = min(near, key=lambda form: form[1])[2]()
    zero_first = np.concatenate([np.zeros(1, np.float32), table])
    if positions.size == size and not isinstance(tree, Sparse):  # nothing is zero: its entry goes
        return Codebook(smallest((codes - np.uint32(1)).reshape(shape)), Dense(table))
    return Codebook(tree, Dense(zero_first))


def _indexed(shape: tuple[int, ...], gaps: NDArray[Any], entries: NDArray[Any], bits: int) -> Encoding:
    return Sparse(RelativeIndex(smallest(gaps, bits)), smallest(entries), shape)


def _every(shape: tuple[int, ...], positions: NDArray[Any], codes: NDArray[Any]) -> Encoding:
    every = np.zeros(math.prod(shape), dtype=np.uint32)
    every[positions] = codes
    return smallest(every.reshape(shape))


def _masked(shape: tuple[int, ...], positions: NDArray[Any], codes: NDArray[Any]) -> Encoding:
    mask = np.zeros(math.prod(shape), dtype=np.bool_)
    mask[positions] = True
    return Sparse(Bitmap.of(mask), smallest(codes), shape)


def _densities(density: Any) -> list[tuple[str, Any]]:
    """The given densities, each with its place for messages."""
    if density is None:
        return []
    if isinstance(density, Mapping):
        return [(f"density of {name}", value) for name, value in density.items()]
    return [("density", density)]


def _in_range(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 2 <= value <= 8:
        raise InputError(name, f"is {value!r}", "give an integer from 2 to 8")
    return int(value)
