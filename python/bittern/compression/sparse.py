"""Weights with zeros in the smaller of their dense and their sparse encoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.deep_compression import encode
from bittern.compression.streams import LEAF_COST, packed_bytes, smallest, stream_bytes
from bittern.compression.zeros import sparse_form
from bittern.encode import relative_index
from bittern.encodings import Affine, Bitmap, Codebook, Csr, Dense, Encoding, Packed, RelativeIndex, Sparse, Ternary

LEAST_ELEMENTS = 256  # below, tables and header outweigh what is saved


def smallest_form(tree: Encoding) -> Encoding:
    """The same values in the smaller of this tree and one with ``sparse(pattern, ...)`` in it: bitmap, csr or relative
    indices, for the numbers of a dense tree, the codes of an affine, codebook or ternary one. Other trees stay.
    """
    if tree.size < LEAST_ELEMENTS:
        return tree
    found: list[Encoding] = [tree]
    if isinstance(tree, Dense) and tree.leaf.dtype == np.float32 and not np.signbit(tree.leaf[tree.leaf == 0]).any():
        found += _forms(tree.leaf, Dense)
        patterned = sparse_form(tree.leaf)
        found += [] if patterned is None else [patterned]
    elif isinstance(tree, Affine) and tree.zero_point is None and not isinstance(tree.codes, Sparse):
        codes = tree.codes.decode()
        found += [replace(tree, codes=codes_tree) for codes_tree in _forms(codes, _integers)]
    elif isinstance(tree, Ternary) and not isinstance(tree.codes, Sparse):
        found += [replace(tree, codes=codes_tree) for codes_tree in _forms(tree.codes.decode(), _integers)]
    elif isinstance(tree, Codebook) and tree.axis is None and not isinstance(tree.codes, Sparse):
        found += _of_codebook(tree)
    return min(found, key=_cost)


def _cost(tree: Encoding) -> int:
    return tree.nbytes + LEAF_COST * sum(1 for _ in tree.leaves())


def _of_codebook(tree: Codebook) -> Iterator[Encoding]:
    table, codes = tree.table.decode(), tree.codes.decode().reshape(-1)
    zero = np.flatnonzero(table == 0)
    if zero.size != 1 or not isinstance(tree.table, Dense):
        return
    positions = np.flatnonzero(codes != zero[0]).astype(np.int64)
    others = np.delete(table, zero).astype(np.float32)
    numbers = codes[positions].astype(np.int64)
    moved: NDArray[np.uint32] = np.where(numbers < zero[0], numbers + 1, numbers).astype(np.uint32)
    yield encode(tree.shape, positions, moved, others, None)


def _forms(elements: NDArray[Any], values_of: Callable[[NDArray[Any]], Encoding]) -> Iterator[Encoding]:
    """The elements as sparse trees; only those that can be the smallest are built."""
    flat = np.ascontiguousarray(elements).reshape(-1)
    positions = np.flatnonzero(flat).astype(np.int64)
    if 4 * positions.size > 3 * flat.size:
        return
    entries = values_of(flat[positions])
    yield Sparse(Bitmap.of(flat != 0), entries, elements.shape)
    if elements.ndim and 8 * positions.size < flat.size:
        yield Sparse(Csr.of(elements != 0), entries, elements.shape)
    costs = {}
    width = entries.nbytes / max(positions.size, 1)
    for bits in range(2, 9):
        gaps, sources = relative_index.encode(positions, bits)
        costs[bits] = stream_bytes(gaps, bits) + width * sources.size
    bits = min(costs, key=lambda key: costs[key])
    if costs[bits] < packed_bytes(flat.size, 1) + entries.nbytes:
        gaps, sources = relative_index.encode(positions, bits)
        filled = np.where(sources < 0, np.zeros((), flat.dtype), flat[positions][sources] if positions.size else 0)
        yield Sparse(RelativeIndex(smallest(gaps, bits)), values_of(filled.astype(flat.dtype)), elements.shape)


def _integers(codes: NDArray[Any]) -> Encoding:
    """Codes of either sign in as few bits as hold them."""
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if low >= 0:
        return smallest(codes)
    bits = max((-low - 1).bit_length(), high.bit_length()) + 1
    return Packed.pack(codes, bits, signed=True)
