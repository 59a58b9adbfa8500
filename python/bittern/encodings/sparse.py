"""Sparse tensors and the patterns that place their entries: bitmap, csr, relative index, blocks, n of m."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.encode import relative_index
from bittern.encodings.base import Encoding, Pattern, as_shape, need
from bittern.encodings.dense import Dense
from bittern.encodings.streams import Packed
from bittern.errors import InputError


@dataclass(frozen=True, eq=False)
class Sparse(Encoding):
    """Zero, except at the pattern's positions, which take the 1-D ``values`` in order."""

    kind: ClassVar[str] = "sparse"
    pattern: Pattern
    values: Encoding
    dims: tuple[int, ...] = field(metadata={"key": "shape"})

    def _check(self) -> None:
        as_shape(self, "dims")
        if not isinstance(self.pattern, Pattern):
            self.refuse(f"pattern is {type(self.pattern).__name__}, expected a pattern, e.g. Bitmap")
        if not isinstance(self.values, Encoding) or len(self.values.shape) != 1:
            self.refuse("values must be an encoding of one dimension")
        self._compare(self.pattern.check_shape(self.dims))
        if self.values.size % self.pattern.unit:
            self.refuse(f"{self.values.size} values are no whole number of blocks of {self.pattern.unit}")

    def _compare(self, entries: int | None) -> None:
        if entries is not None and entries != self.values.size:
            self.refuse(f"the pattern has {entries} entries, values has {self.values.size}")

    @property
    def is_real(self) -> bool:
        return self.values.is_real

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _role_of(self, role: str, key: str) -> str:
        return role  # the pattern names its leaves by its own keys, the values stand for the tensor

    def _decode(self) -> NDArray[Any]:
        positions = self.pattern.positions(self.dims)
        values = self.values.decode()
        if positions.size != values.size:
            self.damaged(f"the pattern has {positions.size} entries, values has {values.size}")
        out = np.zeros(math.prod(self.dims), dtype=values.dtype)
        out[positions] = values
        return out.reshape(self.dims)


@dataclass(frozen=True, eq=False)
class Bitmap(Pattern):
    """Entries where the mask is 1."""

    kind: ClassVar[str] = "bitmap"
    mask: Encoding

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Bitmap:
        """The bitmap of a boolean array, one bit per element."""
        return cls(Packed.pack(mask, 1))

    def _check(self) -> None:
        need(self, "mask", real=False)

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        if self.mask.size != math.prod(shape):
            self.refuse(f"mask has {self.mask.size} elements, the tensor {math.prod(shape)}")
        return None

    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        mask = self.mask.decode().reshape(-1)
        if mask.dtype.kind != "b" and mask.size and (int(mask.min()) < 0 or int(mask.max()) > 1):
            self.damaged("mask holds values other than 0 and 1")
        return np.flatnonzero(mask).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Csr(Pattern):
    """Compressed rows: ``shape[0]`` rows, ``columns`` strictly increasing inside each."""

    kind: ClassVar[str] = "csr"
    row_ptr: Encoding
    columns: Encoding

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Csr:
        """The rows of a boolean array of at least one dimension, in the smallest integer types that hold them."""
        rows, columns = np.nonzero(mask.reshape(mask.shape[0], math.prod(mask.shape[1:])))
        row_ptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=mask.shape[0]))])
        return cls(_smallest(row_ptr), _smallest(columns))

    def _check(self) -> None:
        need(self, "row_ptr", real=False)
        need(self, "columns", real=False)

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        if not shape:
            self.refuse("a tensor without dimensions has no rows")
        if self.row_ptr.size != shape[0] + 1:
            self.refuse(f"row_ptr has {self.row_ptr.size} entries, {shape[0]} rows need {shape[0] + 1}")
        return self.columns.size

    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        row_ptr = self.row_ptr.decode().reshape(-1).astype(np.int64)
        columns = self.columns.decode().reshape(-1).astype(np.int64)
        width = math.prod(shape[1:])
        counts = np.diff(row_ptr)
        if row_ptr[0] != 0 or row_ptr[-1] != columns.size or (counts < 0).any():
            self.damaged(f"row_ptr does not rise from 0 to {columns.size}")
        if columns.size and (int(columns.min()) < 0 or int(columns.max()) >= width):
            self.damaged(f"a column is outside 0..{width - 1}")
        positions = np.repeat(np.arange(shape[0], dtype=np.int64), counts) * width + columns
        if (np.diff(positions) <= 0).any():
            self.damaged("columns do not strictly increase inside a row")
        return positions


@dataclass(frozen=True, eq=False)
class RelativeIndex(Pattern):
    """``position = -1``, then for each entry ``position += gap + 1``; zero-valued fillers bridge longer runs."""

    kind: ClassVar[str] = "relative_index"
    gaps: Encoding

    def _check(self) -> None:
        need(self, "gaps", real=False)

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        if self.gaps.size > math.prod(shape):
            self.refuse(f"{self.gaps.size} entries in a tensor of {math.prod(shape)} elements")
        return self.gaps.size

    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        gaps = self.gaps.decode().reshape(-1).astype(np.int64)
        if gaps.size and (int(gaps.min()) < 0 or int(gaps.max()) >= 2**32):
            self.damaged("a gap is negative or above 32 bits")
        try:
            return relative_index.decode(gaps.astype(np.uint32), math.prod(shape))
        except ValueError as error:
            self.damaged(str(error))


@dataclass(frozen=True, eq=False)
class Blocks(Pattern):
    """Blocks of ``height`` rows by ``width`` elements of a row; their grid has a pattern.

    A row is all dimensions but the first. All elements of a block are entries; like everywhere, their values stand in
    the order of the tensor.
    """

    kind: ClassVar[str] = "blocks"
    height: int
    width: int
    pattern: Pattern

    @classmethod
    def of(cls, grid: NDArray[np.bool_], height: int, width: int) -> Blocks:
        """The blocks of a matrix of booleans, one bit for each."""
        return cls(height, width, Bitmap.of(grid))

    def _check(self) -> None:
        for key in ("height", "width"):
            size = getattr(self, key)
            if type(size) is not int or size < 1:
                self.refuse(f"{key} is {size!r}, expected a positive integer")
        if not isinstance(self.pattern, Pattern):
            self.refuse(f"pattern is {type(self.pattern).__name__}, expected a pattern")

    def describe(self) -> str:
        return f"{self.kind}({self.height}x{self.width}, {self.pattern.describe()})"

    def _role_of(self, role: str, key: str) -> str:
        return role

    @property
    def unit(self) -> int:
        return self.height * self.width * self.pattern.unit

    def _grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        if not shape:
            self.refuse("a tensor without dimensions has no rows")
        rows, columns = shape[0], math.prod(shape[1:])
        if rows % self.height or columns % self.width or self.height > max(rows, 1) or self.width > max(columns, 1):
            self.refuse(f"blocks of {self.height} x {self.width} do not divide {rows} rows of {columns} elements")
        return rows // self.height, columns // self.width

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        blocks = self.pattern.check_shape(self._grid(shape))
        return None if blocks is None else blocks * self.height * self.width

    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        down, across = self._grid(shape)
        row, column = np.divmod(self.pattern.positions((down, across)), max(across, 1))
        if not row.size:
            return row
        first = row * self.height * across * self.width + column * self.width
        inside = np.arange(self.height)[:, None] * (across * self.width) + np.arange(self.width)
        positions: NDArray[np.int64] = (first[:, None] + inside.reshape(-1)).reshape(-1).astype(np.int64)
        positions.sort()
        return positions


@dataclass(frozen=True, eq=False)
class NOfM(Pattern):
    """``n`` entries in every group of ``m`` elements that follow each other in a row; ``places`` says which ones."""

    kind: ClassVar[str] = "n_of_m"
    n: int
    m: int
    places: Encoding

    @classmethod
    def of(cls, mask: NDArray[np.bool_], n: int, m: int) -> NOfM:
        """The entries of a boolean array; a group of fewer than ``n`` gets the first free places, too.

        Raises InputError if a group has more, or the groups do not divide the rows.
        """
        flat = mask.reshape(-1)
        if not mask.ndim or not 1 <= n <= m or math.prod(mask.shape[1:]) % m:
            raise InputError("n_of_m encoding", f"groups of {m} do not divide the rows of shape {list(mask.shape)}")
        groups = flat.reshape(-1, m)
        if groups.size and int(groups.sum(axis=1).max()) > n:
            raise InputError("n_of_m encoding", f"a group of {m} has more than {n} entries")
        chosen = np.sort(np.argsort(~groups, axis=1, kind="stable")[:, :n], axis=1)
        return cls(n, m, Packed.pack(chosen.reshape(-1), (m - 1).bit_length()))

    def _check(self) -> None:
        need(self, "places", real=False)
        if type(self.m) is not int or not 2 <= self.m <= MAX_GROUP:
            self.refuse(f"m is {self.m!r}, allowed are 2 to {MAX_GROUP}")
        if type(self.n) is not int or not 1 <= self.n <= self.m:
            self.refuse(f"n is {self.n!r}, allowed are 1 to {self.m}")

    def describe(self) -> str:
        return f"{self.kind}({self.n}:{self.m}, {self.places.describe()})"

    def check_shape(self, shape: tuple[int, ...]) -> int | None:
        if not shape or math.prod(shape[1:]) % self.m:
            self.refuse(f"groups of {self.m} do not divide the rows of shape {list(shape)}")
        entries = math.prod(shape) // self.m * self.n
        if self.places.size != entries:
            self.refuse(f"{self.places.size} places, {entries} are needed")
        return entries

    def positions(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        places = self.places.decode().reshape(-1, self.n).astype(np.int64)
        if places.size and (int(places.min()) < 0 or int(places.max()) >= self.m):
            self.damaged(f"a place is outside 0..{self.m - 1}")
        if (np.diff(places, axis=1) <= 0).any():
            self.damaged("places do not strictly increase inside a group")
        first = np.arange(places.shape[0], dtype=np.int64)[:, None] * self.m
        positions: NDArray[np.int64] = (first + places).reshape(-1)
        return positions


MAX_GROUP = 256


def _smallest(values: NDArray[Any]) -> Encoding:
    greatest = int(values.max()) if values.size else 0
    return Dense(values.astype(np.uint8 if greatest < 2**8 else np.uint16 if greatest < 2**16 else np.uint32))
