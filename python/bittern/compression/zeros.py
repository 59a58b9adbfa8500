"""Zeros that are already in a weight: the smallest sparse encoding that keeps every value bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.streams import LEAF_COST, packed_bytes
from bittern.encode import relative_index
from bittern.encodings import Bitmap, Blocks, Dense, Encoding, NOfM, Packed, Pattern, RelativeIndex, Sparse

LEAST_ELEMENTS = 256  # below, the header outweighs what is saved
SIZES = (1, 2, 4, 8, 16, 32)  # of a block's side, besides a filter and its windows
GROUPS = (4, 8, 16)
GAPS = (4, 6, 8)  # bits
Form = tuple[int, Callable[[], Encoding]]


def sparse_form(weight: NDArray[np.float32]) -> Encoding | None:
    """The smallest of a bitmap, gaps, groups with ``n`` of ``m`` entries and blocks; None where dense is not larger.

    A weight of four dimensions is looked at in the order OHWI, too: groups along its input channels stand there in a
    row. Of equally small forms the one with the most structure is taken. Streams are packed, which loads fast: next to
    float32 values an entropy code would save little. -0.0 is a value.
    """
    if weight.size < LEAST_ELEMENTS or not weight.ndim:
        return None
    kept = np.ascontiguousarray(weight).view(np.uint32) != 0
    dense = weight.nbytes + LEAF_COST
    if 4 * int(np.count_nonzero(kept)) + 2 * LEAF_COST >= dense:
        return None
    forms = [*_groups(weight, kept, ""), *_blocks(weight, kept)]
    if weight.ndim == 4:
        forms += _groups(weight.transpose(0, 2, 3, 1), kept.transpose(0, 2, 3, 1), "OHWI")
    forms += _scattered(weight, kept)
    cost, make = min(forms, key=lambda form: form[0])  # the first of equals
    return make() if cost < dense else None


def _groups(weight: NDArray[np.float32], kept: NDArray[np.bool_], order: str) -> Iterator[Form]:
    columns = math.prod(weight.shape[1:])
    counts, size = np.ascontiguousarray(kept).reshape(-1).view(np.uint8), 1
    for m in GROUPS:
        if columns % m:
            continue
        while size < m:  # neighbours two and two: much faster than sums over a short axis
            counts, size = counts[::2] + counts[1::2], 2 * size
        n = int(counts.max(initial=0))
        entries = weight.size // m * n
        if 0 < n < m:
            cost = 4 * entries + packed_bytes(entries, (m - 1).bit_length()) + LEAF_COST
            yield cost, partial(_grouped, weight, kept, n, m, order)


def _grouped(weight: NDArray[np.float32], kept: NDArray[np.bool_], n: int, m: int, order: str) -> Encoding:
    return _taken(weight, NOfM.of(np.ascontiguousarray(kept), n, m), order)


def _blocks(weight: NDArray[np.float32], kept: NDArray[np.bool_]) -> Iterator[Form]:
    rows, columns = weight.shape[0], math.prod(weight.shape[1:])
    window = math.prod(weight.shape[2:])
    matrix = kept.reshape(rows, columns)
    for height, strips in _merged(matrix, sorted({*SIZES, rows}), 0):
        for width, grid in _merged(strips, sorted({*SIZES, window, columns}), 1):
            if height * width == 1:
                continue
            entries = int(np.count_nonzero(grid)) * height * width
            cost = 4 * entries + packed_bytes(grid.size, 1) + LEAF_COST + LEAF_COST // 4
            yield cost, partial(_blocked, weight, grid, height, width)


def _merged(matrix: NDArray[np.bool_], sizes: list[int], axis: int) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Whether any of ``size`` neighbours along an axis is true, for each rising size that divides it.

    Of the largest size before that divides this one: short axes are slow to reduce, and most sizes are powers of two.
    """
    made = {1: matrix}
    for size in sizes:
        if matrix.shape[axis] % size:
            continue
        if size not in made:
            before = max(known for known in made if size % known == 0)
            parts, ratio = made[before], size // before
            if ratio == 2:
                made[size] = parts[::2] | parts[1::2] if axis == 0 else parts[:, ::2] | parts[:, 1::2]
            else:
                rows, columns = parts.shape
                shape = (rows // ratio, ratio, columns) if axis == 0 else (rows, columns // ratio, ratio)
                made[size] = np.asarray(parts.reshape(shape).any(axis=axis + 1))
        yield size, made[size]


def _blocked(weight: NDArray[np.float32], grid: NDArray[np.bool_], height: int, width: int) -> Encoding:
    return _taken(weight, Blocks.of(grid, height, width), "")


def _scattered(weight: NDArray[np.float32], kept: NDArray[np.bool_]) -> Iterator[Form]:
    positions = np.flatnonzero(kept).astype(np.int64)
    bitmap = partial(Bitmap.of, kept)
    cost = 4 * positions.size + packed_bytes(weight.size, 1) + LEAF_COST
    yield cost, lambda: _taken(weight, bitmap(), "")
    for bits in GAPS:
        gaps, _ = relative_index.encode(positions, bits)
        cost = 4 * gaps.size + packed_bytes(gaps.size, bits) + LEAF_COST
        yield cost, partial(_spaced, weight, gaps, bits)


def _spaced(weight: NDArray[np.float32], gaps: NDArray[Any], bits: int) -> Encoding:
    return _taken(weight, RelativeIndex(Packed.pack(gaps, bits)), "")


def _taken(weight: NDArray[np.float32], pattern: Pattern, order: str) -> Encoding:
    values = np.ascontiguousarray(weight).reshape(-1)[pattern.positions(weight.shape)]
    return Sparse(pattern, Dense(values), weight.shape, order=order)
