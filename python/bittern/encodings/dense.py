"""Nodes that hold numbers or scale them: dense, affine, codebook, ternary, signs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bittern.encodings.base import (
    INTEGER_TYPES,
    REAL_TYPES,
    Encoding,
    RegisterLeaf,
    along,
    as_leaf,
    check_axis,
    check_parameter,
    need,
)
from bittern.encodings.streams import Packed
from bittern.errors import InputError


@dataclass(frozen=True, eq=False)
class Dense(Encoding):
    """The leaf itself: F32, F16, BF16 (``bf16=True``, uint16 bits), or BOOL, U8, I8, U16, I16, U32, I32, I64."""

    kind: ClassVar[str] = "dense"
    leaf: NDArray[Any]
    bf16: bool = field(default=False, metadata={"json": False})  # the file says it by the type of the leaf

    def _check(self) -> None:
        as_leaf(self, "leaf", ("U16",) if self.bf16 else REAL_TYPES + INTEGER_TYPES)

    @property
    def is_real(self) -> bool:
        return self.bf16 or self.leaf.dtype.kind == "f"

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.leaf.shape

    def describe(self) -> str:
        kind, bits = self.leaf.dtype.kind, 8 * self.leaf.dtype.itemsize
        name = "bf16" if self.bf16 else "bool" if kind == "b" else f"{kind}{bits}"
        return self.kind if name == "f32" else f"{self.kind}({name})"

    def to_json(self, register_leaf: RegisterLeaf, role: str = "") -> dict[str, Any] | str:
        return (
            super().to_json(register_leaf, role)
            if self.order
            else register_leaf(role, self.leaf, self._leaf_type(self.leaf))
        )

    def _leaf_type(self, leaf: NDArray[Any]) -> str:
        return "BF16" if self.bf16 else super()._leaf_type(leaf)

    def _decode(self) -> NDArray[Any]:
        if self.bf16:
            return (self.leaf.astype(np.uint32) << 16).view(np.float32)
        if self.leaf.dtype.kind == "b" and self.leaf.size and self.leaf.view(np.uint8).max() > 1:
            self.damaged("a BOOL leaf holds a byte above 1")
        return self.leaf.astype(np.float32) if self.is_real else self.leaf.copy()


@dataclass(frozen=True, eq=False)
class Affine(Encoding):
    """``scale * (code - zero_point)`` in float32; per tensor, per ``axis``, or per ``group`` of entries along it."""

    kind: ClassVar[str] = "affine"
    codes: Encoding
    scale: Encoding
    zero_point: Encoding | None = None
    axis: int | None = None
    group: int | None = None

    def _check(self) -> None:
        codes = need(self, "codes", real=False)
        need(self, "scale", real=True)
        check_axis(self, self.axis, codes.shape)
        keys = ["scale"]
        if self.zero_point is not None:
            need(self, "zero_point", real=False)
            keys.append("zero_point")
        if self.group is None:
            for key in keys:
                check_parameter(self, key, self.axis, codes.shape)
            return
        if type(self.group) is not int or self.group < 1:
            self.refuse(f"group is {self.group!r}, expected a positive integer")
        if self.axis is None:
            self.refuse("group needs an axis")
        expected = tuple(-(-n // self.group) if i == self.axis else n for i, n in enumerate(codes.shape))
        for key in keys:
            if getattr(self, key).shape != expected:
                self.refuse(f"{key} has shape {list(getattr(self, key).shape)}, expected {list(expected)}")

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def _spread(self, parameter: NDArray[Any]) -> NDArray[Any]:
        if self.group is None or self.axis is None:
            return along(parameter, self.axis, len(self.stored_shape))
        entry = np.arange(self.stored_shape[self.axis]) // self.group
        return np.take(parameter, entry, axis=self.axis)

    def _decode(self) -> NDArray[Any]:
        difference = self.codes.decode().astype(np.int64)
        if self.zero_point is not None:
            difference = difference - self._spread(self.zero_point.decode().astype(np.int64))
        scaled: NDArray[Any] = self._spread(self.scale.decode()) * difference.astype(np.float32)
        return np.asarray(scaled, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Codebook(Encoding):
    """``table[code]``; the table is ``[K]``, or ``[C, K]`` with ``axis``."""

    kind: ClassVar[str] = "codebook"
    codes: Encoding
    table: Encoding
    axis: int | None = None

    def _check(self) -> None:
        codes = need(self, "codes", real=False)
        table = need(self, "table", real=True)
        check_axis(self, self.axis, codes.shape)
        if len(table.shape) != (1 if self.axis is None else 2):
            self.refuse(f"table has shape {list(table.shape)}, expected [K], or [C, K] with an axis")
        if self.axis is not None and table.shape[0] != codes.shape[self.axis]:
            self.refuse(f"table has {table.shape[0]} rows, axis {self.axis} has size {codes.shape[self.axis]}")

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def _decode(self) -> NDArray[Any]:
        table = self.table.decode()
        codes = _codes_below(self, table.shape[-1])
        if self.axis is None:
            return np.take(table, codes)
        return np.asarray(table[along(np.arange(table.shape[0]), self.axis, codes.ndim), codes])


@dataclass(frozen=True, eq=False)
class Ternary(Encoding):
    """Codes 0, 1, 2 stand for ``0``, ``+positive``, ``-negative``; per tensor or per ``axis``."""

    kind: ClassVar[str] = "ternary"
    codes: Encoding
    positive: Encoding
    negative: Encoding
    axis: int | None = None

    def _check(self) -> None:
        codes = need(self, "codes", real=False)
        check_axis(self, self.axis, codes.shape)
        for key in ("positive", "negative"):
            need(self, key, real=True)
            check_parameter(self, key, self.axis, codes.shape)

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def _decode(self) -> NDArray[Any]:
        codes = _codes_below(self, 3)
        positive = along(self.positive.decode(), self.axis, codes.ndim)
        negative = along(self.negative.decode(), self.axis, codes.ndim)
        chosen: NDArray[Any] = np.where(codes == 1, positive, np.where(codes == 2, -negative, np.float32(0)))
        return chosen


@dataclass(frozen=True, eq=False)
class Signs(Encoding):
    """Code 1 stands for ``+scale``, code 0 for ``-scale``; per tensor or per ``axis``."""

    kind: ClassVar[str] = "signs"
    codes: Encoding
    scale: Encoding
    axis: int | None = None

    @classmethod
    def of(cls, signs: ArrayLike, scale: ArrayLike = 1.0, *, axis: int | None = None) -> Signs:
        """From an array of -1 and +1 of any type, one bit each; ``scale`` is a number, or ``[C]`` with ``axis``.

        Raises InputError for other elements and for a scale of another shape.
        """
        given = np.asarray(signs)
        if given.dtype.kind not in "iuf" or not bool(np.isin(given, (-1, 1)).all()):
            raise InputError("signs encoding", "the elements are not all -1 or +1", "round them first")
        factors = Dense(np.asarray(scale, dtype=np.float32))
        return cls(Packed.pack((given > 0).astype(np.uint8), 1), factors, axis)

    def _check(self) -> None:
        codes = need(self, "codes", real=False)
        need(self, "scale", real=True)
        check_axis(self, self.axis, codes.shape)
        check_parameter(self, "scale", self.axis, codes.shape)

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def _decode(self) -> NDArray[Any]:
        codes = _codes_below(self, 2)
        scale = along(self.scale.decode(), self.axis, codes.ndim)
        signs: NDArray[Any] = np.where(codes == 1, scale, -scale)
        return signs


def _codes_below(owner: Codebook | Ternary | Signs, limit: int) -> NDArray[Any]:
    """The decoded codes, all in ``0 .. limit - 1``."""
    codes = owner.codes.decode()
    codes = codes.astype(np.uint8) if codes.dtype.kind == "b" else codes
    if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= limit):
        worst = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        owner.damaged(f"code {worst} is outside 0..{limit - 1}")
    return codes


def as_encoding(value: ArrayLike | Encoding) -> Encoding:
    """An encoding as it is; anything else as a dense tensor that holds a copy."""
    return value if isinstance(value, Encoding) else Dense(np.array(value, order="C"))
