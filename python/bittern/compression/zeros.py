"""Zeros that are already in a weight: the smallest sparse encoding that keeps every value bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.streams import LEAF_COST, packed_bytes
from bittern.encode import relative_index
from bittern.encodings import Affine, Bitmap, Blocks, Dense, Encoding, NOfM, Packed, Pattern, RelativeIndex, Sparse
from bittern.encodings.base import along

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
    kept = np.ascontiguousarray(weight).view(np.uint32) != 0
    return _smallest(_Weight(weight, kept, 32, Dense), weight.nbytes, any_order=True)


def sparse_codes(tree: Affine) -> Affine | None:
    """The same of the codes of 4 to 8 bits in an affine tree: those that stand for zero go. None where it stays.

    The codes become such that 0 stands for zero and the zero points go, where as many bits hold them.
    """
    codes, signed = _codes_of_zero(tree)
    if codes is None:
        return None
    bits = tree.codes.bits if isinstance(tree.codes, Packed) else 8

    def held(values: NDArray[Any]) -> Encoding:
        return Packed.pack(values, bits, signed=signed) if isinstance(tree.codes, Packed) else Dense(values)

    smaller = _smallest(_Weight(codes, codes != 0, bits, held), tree.codes.nbytes, any_order=False)
    return None if smaller is None else replace(tree, codes=smaller, zero_point=None)


def _codes_of_zero(tree: Affine) -> tuple[NDArray[Any] | None, bool]:
    """Codes of which 0 stands for zero, and whether they are signed; None if they do not fit their bits."""
    codes = tree.codes
    if tree.order or not (
        (isinstance(codes, Packed) and 4 <= codes.bits <= 8)
        or (isinstance(codes, Dense) and codes.leaf.dtype in (np.int8, np.uint8))
    ):
        return None, False
    values = codes.decode()
    signed = codes.signed if isinstance(codes, Packed) else values.dtype == np.int8
    if tree.zero_point is None:
        return values, signed
    if tree.group is not None:
        return None, False
    bits = codes.bits if isinstance(codes, Packed) else 8
    moved = values.astype(np.int64) - along(tree.zero_point.decode().astype(np.int64), tree.axis, values.ndim)
    if int(moved.min(initial=0)) < -(1 << bits - 1) or int(moved.max(initial=0)) >= 1 << bits - 1:
        return None, False
    return moved.astype(np.int8), True


@dataclass(frozen=True)
class _Weight:
    """Numbers of so many bits, where they are kept, and the node that holds the kept ones."""

    values: NDArray[Any]
    kept: NDArray[np.bool_]
    bits: int
    held: Callable[[NDArray[Any]], Encoding]

    def cost(self, entries: int) -> int:
        return packed_bytes(entries, self.bits)


def _smallest(weight: _Weight, nbytes: int, any_order: bool) -> Encoding | None:
    values, dense = weight.values, nbytes + LEAF_COST
    if values.size < LEAST_ELEMENTS or not values.ndim:
        return None
    if weight.cost(int(np.count_nonzero(weight.kept))) + LEAF_COST >= dense:
        return None
    forms = [*_groups(weight, ""), *_blocks(weight)]
    if values.ndim == 4 and any_order:
        turned = replace(weight, values=values.transpose(0, 2, 3, 1), kept=weight.kept.transpose(0, 2, 3, 1))
        forms += _groups(turned, "OHWI")
    forms += _scattered(weight)
    cost, make = min(forms, key=lambda form: form[0])  # the first of equals
    return make() if cost < dense else None


def _groups(weight: _Weight, order: str) -> Iterator[Form]:
    columns = math.prod(weight.values.shape[1:])
    counts, size = np.ascontiguousarray(weight.kept).reshape(-1).view(np.uint8), 1
    for m in GROUPS:
        if columns % m:
            continue
        while size < m:  # neighbours two and two: much faster than sums over a short axis
            counts, size = counts[::2] + counts[1::2], 2 * size
        n = int(counts.max(initial=0))
        entries = weight.values.size // m * n
        if 0 < n < m:
            cost = weight.cost(entries) + packed_bytes(entries, (m - 1).bit_length())
            yield cost, partial(_grouped, weight, n, m, order)


def _grouped(weight: _Weight, n: int, m: int, order: str) -> Encoding:
    return _taken(weight, NOfM.of(np.ascontiguousarray(weight.kept), n, m), order)


def _blocks(weight: _Weight) -> Iterator[Form]:
    shape = weight.values.shape
    rows, columns, window = shape[0], math.prod(shape[1:]), math.prod(shape[2:])
    matrix = weight.kept.reshape(rows, columns)
    for height, strips in _merged(matrix, sorted({*SIZES, rows}), 0):
        for width, grid in _merged(strips, sorted({*SIZES, window, columns}), 1):
            if height * width == 1:
                continue
            entries = int(np.count_nonzero(grid)) * height * width
            cost = weight.cost(entries) + packed_bytes(grid.size, 1) + LEAF_COST // 4
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


def _blocked(weight: _Weight, grid: NDArray[np.bool_], height: int, width: int) -> Encoding:
    return _taken(weight, Blocks.of(grid, height, width), "")


def _scattered(weight: _Weight) -> Iterator[Form]:
    positions = np.flatnonzero(weight.kept).astype(np.int64)
    bitmap = partial(Bitmap.of, weight.kept)
    cost = weight.cost(positions.size) + packed_bytes(weight.values.size, 1)
    yield cost, lambda: _taken(weight, bitmap(), "")
    for bits in GAPS:
        gaps, _ = relative_index.encode(positions, bits)
        yield weight.cost(gaps.size) + packed_bytes(gaps.size, bits), partial(_spaced, weight, gaps, bits)


def _spaced(weight: _Weight, gaps: NDArray[Any], bits: int) -> Encoding:
    return _taken(weight, RelativeIndex(Packed.pack(gaps, bits)), "")


def _taken(weight: _Weight, pattern: Pattern, order: str) -> Encoding:
    values = np.ascontiguousarray(weight.values).reshape(-1)[pattern.positions(weight.values.shape)]
    return Sparse(pattern, weight.held(values), weight.values.shape, order=order)
