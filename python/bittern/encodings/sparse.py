"""Sparse tensors and the patterns that place their entries: bitmap, csr, relative index."""

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
            self.refuse(f"pattern is {type(self.pattern).__name__}, expected a bitmap, csr or relative_index")
        if not isinstance(self.values, Encoding) or len(self.values.shape) != 1:
            self.refuse("values must be an encoding of one dimension")
        self._compare(self.pattern.check_shape(self.dims))

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


def _smallest(values: NDArray[Any]) -> Encoding:
    greatest = int(values.max()) if values.size else 0
    return Dense(values.astype(np.uint8 if greatest < 2**8 else np.uint16 if greatest < 2**16 else np.uint32))
