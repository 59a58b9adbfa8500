"""What a quantisation method is: it fits a grid to a weight; the grid rounds numbers to codes and writes them down."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.sparse import smallest_form
from bittern.compression.streams import smallest
from bittern.encodings import Codebook, Dense, Encoding
from bittern.errors import InputError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Columns = slice | NDArray[np.int64]
EVERY = slice(None)


@dataclass(frozen=True)
class Layout:
    """A weight as rows, one per output channel: ``axis`` counts the channels, ``inner`` the inputs that groups span."""

    shape: tuple[int, ...]
    axis: int
    inner: int

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    def rows(self, tensor: NDArray[Any]) -> NDArray[Any]:
        """``[channels, everything else]`` of a tensor of this shape."""
        return np.ascontiguousarray(np.moveaxis(tensor, self.axis, 0).reshape(self.channels, -1))

    def tensor(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The inverse of ``rows``."""
        moved = [self.channels, *(size for axis, size in enumerate(self.shape) if axis != self.axis)]
        return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, self.axis))

    def groups(self, group: int) -> tuple[NDArray[np.int64], Layout]:
        """The group of each column, for runs of ``group`` inputs; and the layout of one number per group and row."""
        few = tuple(-(-size // group) if axis == self.inner else size for axis, size in enumerate(self.shape))
        small = Layout(few, self.axis, self.inner)
        count = math.prod(few) // self.channels
        numbers = small.tensor(np.tile(np.arange(count), (self.channels, 1)))
        spread = np.take(numbers, np.arange(self.shape[self.inner]) // group, axis=self.inner)
        return self.rows(spread)[0].astype(np.int64), small


class Grid(ABC):
    """The values that the elements of a weight may take."""

    def zero_codes(self, shape: tuple[int, int]) -> Codes:
        """The codes of 0.0 for rows of this shape. A grid that lacks it may take it in, in place of a value close to
        it. Raises InputError if it cannot.
        """
        codes = self.nearest(np.zeros(shape))
        if self.values(codes).any():
            raise InputError("method", "has no zero among its values", "a pruned weight needs one: use another")
        return codes

    @property
    def block(self) -> int:
        """How many columns that follow each other have their codes chosen together; they divide the columns."""
        return 1

    def settle(self, values: Floats, columns: NDArray[np.int64], importance: Floats) -> None:  # noqa: B027 - blocks are rare
        """Choose the codes of a block, of what its ``values`` ``[channels, block]`` are by now; errors count by
        ``importance``, of the same shape. ``nearest`` then gives those, whatever the numbers. ``columns`` may be in any
        order.
        """

    @abstractmethod
    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        """The codes of numbers ``[channels, n]`` that stand in these columns."""

    @abstractmethod
    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        """What codes ``[channels, n]`` in these columns decode to, each exactly a float32."""

    @abstractmethod
    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        """The tree that decodes to ``values(codes)``, in the weight's own shape."""

    def neighbours(self, rows: Floats) -> tuple[Codes, Codes] | None:
        """The codes of the values next below and next above all elements, the same where there is but one; None where
        codes do not stand for rising values.
        """
        return None

    def round(self, rows: Floats) -> Floats:
        """The values nearest to all elements."""
        return self.values(self.nearest(rows))


class WeightMethod(ABC):
    """Fits a grid to a weight. A dataclass whose fields are its options; raises InputError for values out of range."""

    name: ClassVar[str]
    exact: ClassVar[bool] = False  # whether its grids hold every number, so that nothing is rounded
    has_zero: ClassVar[bool] = True  # whether its grids hold 0.0, or a value that may become 0.0

    def named(self, name: str) -> WeightMethod:
        """The method for the weight of this name: itself, unless it knows more about some weights."""
        return self

    @abstractmethod
    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> Grid:
        """The grid for ``rows``, float64 ``[channels, n]``.

        ``importance`` has the same shape, is not negative, and says how much a squared error counts (None: all alike);
        methods that cannot use it ignore it.
        """


class Kept(Grid):
    """Another grid, but what is not in ``mask`` ``[channels, n]`` has the code of zero."""

    def __init__(self, grid: Grid, mask: NDArray[np.bool_]) -> None:
        self._grid, self._mask = grid, mask
        self._zeros = grid.zero_codes((mask.shape[0], mask.shape[1]))

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        return np.where(self._mask[:, columns], self._grid.nearest(rows, columns), self._zeros[:, columns])

    def neighbours(self, rows: Floats) -> tuple[Codes, Codes] | None:
        found = self._grid.neighbours(rows)
        if found is None:
            return None
        below, above = (np.where(self._mask, codes, self._zeros) for codes in found)
        return below, above

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        return self._grid.values(codes, columns)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        return smallest_form(self._grid.encoding(codes, layout))


class LevelGrid(Grid):
    """Any rising levels: ``[L]`` for the whole tensor, or ``[channels, L]``. Halfway goes down."""

    def __init__(self, levels: NDArray[Any]) -> None:
        self.table = np.ascontiguousarray(levels, dtype=np.float32)
        wide = self.table.astype(np.float64)
        self.limits = (wide[..., 1:] + wide[..., :-1]) * 0.5

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        if self.limits.ndim == 1:
            return np.searchsorted(self.limits, rows, side="left").astype(np.int64)
        if rows.shape[1] == 1 or self.limits.shape[1] <= 16:
            codes = np.zeros(rows.shape, dtype=np.int64)
            for level in range(self.limits.shape[1]):
                codes += rows > self.limits[:, level, np.newaxis]
            return codes
        found = [np.searchsorted(limits, row, side="left") for limits, row in zip(self.limits, rows, strict=True)]
        return np.asarray(found, dtype=np.int64)

    def neighbours(self, rows: Floats) -> tuple[Codes, Codes] | None:
        wide = self.table.astype(np.float64)
        if wide.ndim == 1:
            passed = np.searchsorted(wide, rows, side="right").astype(np.int64)
        else:
            passed = np.zeros(rows.shape, dtype=np.int64)
            for level in range(wide.shape[1]):
                passed += rows >= wide[:, level, np.newaxis]
        below = np.maximum(passed - 1, 0)
        between = (self.values(below) < rows) & (passed < wide.shape[-1])
        return below, below + between

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        wide = self.table.astype(np.float64)
        return wide[codes] if wide.ndim == 1 else np.take_along_axis(wide, codes, axis=1)

    def zero_codes(self, shape: tuple[int, int]) -> Codes:
        least = np.abs(self.table).argmin(axis=-1, keepdims=True)
        np.put_along_axis(self.table, least, np.float32(0), axis=-1)
        return np.broadcast_to(least, shape).astype(np.int64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        symbols = layout.tensor(codes).astype(np.uint32)
        axis = None if self.table.ndim == 1 else layout.axis
        return Codebook(smallest(symbols, self._bits()), Dense(self.table), axis)

    def _bits(self) -> int:
        return max(int(self.table.shape[-1] - 1).bit_length(), 1)


def spread_importance(importance: Floats | None, shape: tuple[int, ...]) -> Floats:
    """The importance of every element; all ones if none is given. All zeros count as all alike."""
    if importance is None or not importance.any():
        return np.ones(shape)
    return np.broadcast_to(importance, shape)
