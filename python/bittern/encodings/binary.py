"""Nodes of binary networks: separable kernels of signs, sums of several levels, fixed random filters."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.encodings.base import Encoding, as_leaf, as_shape
from bittern.errors import InputError

MAX_PARTS = 8
EVERY = 2**32
"""The threshold of ``seeded`` that leaves no zeros."""


@dataclass(frozen=True, eq=False)
class SeparableSigns(Encoding):
    """Codes 0 and 1 whose kernels, the last two dimensions, are products of a column and a row of signs.

    ``height + width - 1`` bits for each kernel: 5 for 3x3 (Lin et al., arXiv 1707.04693).
    """

    kind: ClassVar[str] = "separable_signs"
    leaf: NDArray[np.uint8]
    dims: tuple[int, ...] = field(metadata={"key": "shape"})

    @classmethod
    def pack(cls, codes: NDArray[Any]) -> SeparableSigns:
        """Pack an integer array ``[..., height, width]`` of 0 and 1 (minus and plus).

        Raises InputError if a kernel is no product of a column and a row.
        """
        codes = np.asarray(codes)
        if codes.ndim < 2 or 0 in codes.shape[-2:]:
            raise InputError("separable_signs encoding", f"shape {list(codes.shape)} does not end in a kernel's size")
        if codes.size and (int(codes.min()) < 0 or int(codes.max()) > 1):
            raise InputError(
                "separable_signs encoding", f"codes {int(codes.min())}..{int(codes.max())} do not fit 0..1"
            )
        height, width = codes.shape[-2:]
        kernels = codes.astype(np.uint8).reshape(-1, height, width)
        row = kernels[:, 0, :]
        column = (kernels[:, :, 0] == row[:, :1]).astype(np.uint8)
        if not np.array_equal(_kernels(column, row), kernels):
            raise InputError(
                "separable_signs encoding",
                "a kernel is no product of a column and a row of signs",
                "take the nearest one first: method 'separable' of bittern.compress",
            )
        bits = np.concatenate([column[:, 1:], row], axis=1)
        return cls(np.packbits(bits.reshape(-1), bitorder="little"), codes.shape)

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U8",))
        as_shape(self, "dims")
        if len(self.dims) < 2 or 0 in self.dims[-2:]:
            self.refuse(f"shape {list(self.dims)} does not end in a kernel's height and width")
        needed = -(-self._bits // 8)
        if self.leaf.size != needed:
            self.refuse(f"leaf has {self.leaf.size} bytes, kernels of shape {list(self.dims)} take {needed}")

    @property
    def _bits(self) -> int:
        return math.prod(self.dims[:-2]) * (self.dims[-2] + self.dims[-1] - 1)

    @property
    def is_real(self) -> bool:
        return False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _decode(self) -> NDArray[Any]:
        height, width = self.dims[-2:]
        stream = np.unpackbits(self.leaf.reshape(-1), bitorder="little")
        if stream[self._bits :].any():
            self.damaged("spare bits after the last kernel are not zero")
        bits = stream[: self._bits].reshape(-1, height + width - 1)
        first = np.ones((bits.shape[0], 1), dtype=np.uint8)
        column = np.concatenate([first, bits[:, : height - 1]], axis=1)
        return _kernels(column, bits[:, height - 1 :]).reshape(self.dims)


def _kernels(column: NDArray[np.uint8], row: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where the signs ``column`` ``[n, height]`` and ``row`` ``[n, width]`` agree."""
    agree: NDArray[np.bool_] = column[:, :, np.newaxis] == row[:, np.newaxis, :]
    return agree.astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Sum(Encoding):
    """The sum of real tensors of one shape, added in float32 one after the other; at most 8.

    Sums of ``signs`` are residual binarisation (Ghasemzadeh et al., ResBinNet, arXiv 1711.01243).
    """

    kind: ClassVar[str] = "sum"
    parts: tuple[Encoding, ...]

    def _check(self) -> None:
        if not isinstance(self.parts, (tuple, list)) or not 1 <= len(self.parts) <= MAX_PARTS:
            self.refuse(f"parts must be a list of 1 to {MAX_PARTS} encodings")
        self._set("parts", tuple(self.parts))
        for index, part in enumerate(self.parts):
            if not isinstance(part, Encoding) or not part.is_real:
                self.refuse(f"part {index} is not real")
            if part.shape != self.parts[0].shape:
                self.refuse(f"part {index} has shape {list(part.shape)}, the first has {list(self.parts[0].shape)}")

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.parts[0].stored_shape

    def _decode(self) -> NDArray[Any]:
        total = self.parts[0].decode()
        with np.errstate(over="ignore", invalid="ignore"):
            for part in self.parts[1:]:
                total = total + part.decode()
        return total


@dataclass(frozen=True, eq=False)
class Seeded(Encoding):
    """Random -1, 0 and +1 made from a seed by splitmix64 (docs/format.md): no bytes but seed, threshold and shape.

    An element is not zero with probability ``threshold / 2**32``. The fixed filters of local binary convolution
    (Juefei-Xu et al., arXiv 1608.06049).
    """

    kind: ClassVar[str] = "seeded"
    seed: int
    threshold: int
    dims: tuple[int, ...] = field(metadata={"key": "shape"})

    @classmethod
    def of(cls, shape: tuple[int, ...], density: float, seed: int, *, order: str = "") -> Seeded:
        """With this share of non-zeros, 0 to 1, rounded down to a multiple of 2^-32. Raises InputError."""
        if isinstance(density, bool) or not isinstance(density, (int, float)) or not 0 <= density <= 1:
            raise InputError("seeded encoding", f"density is {density!r}", "give a number from 0 to 1")
        return cls(seed, math.floor(density * EVERY), shape, order=order)

    def _check(self) -> None:
        as_shape(self, "dims")
        if type(self.seed) is not int or not 0 <= self.seed < 2**63:
            self.refuse(f"seed is {self.seed!r}, allowed are 0 to 2**63 - 1")
        if type(self.threshold) is not int or not 0 <= self.threshold <= EVERY:
            self.refuse(f"threshold is {self.threshold!r}, allowed are 0 to 2**32")

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.dims

    def _decode(self) -> NDArray[Any]:
        numbers = splitmix64(self.seed, math.prod(self.dims))
        signs = np.where(numbers & np.uint64(1), np.float32(-1), np.float32(1))
        chosen = numbers >> np.uint64(32) < np.uint64(self.threshold)
        values: NDArray[Any] = np.where(chosen, signs, np.float32(0))
        return values.reshape(self.dims)


def splitmix64(seed: int, count: int) -> NDArray[np.uint64]:
    """The first numbers of the generator splitmix64 (Steele, Lea and Flood, OOPSLA 2014) with this seed."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
