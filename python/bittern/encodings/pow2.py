"""Sums of powers of two: ShiftCNN's weights, and with one term logarithmic ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.encodings.base import Encoding, along, check_axis, check_parameter, need
from bittern.encodings.streams import Packed
from bittern.errors import InputError

MAX_TERMS = 4
BITS = (2, 8)


@dataclass(frozen=True, eq=False)
class Pow2(Encoding):
    """``scale * sum of sign_n * 2**(2 - n - level_n)`` for n = 1 .. ``terms``, summed in float32 in this order.

    A code holds term n in its bits ``(n - 1) * bits`` on: the level (1 .. ``2**(bits-1) - 1``; 0: no term) below the
    sign. ``scale`` is per tensor or per ``axis``.
    """

    kind: ClassVar[str] = "pow2"
    codes: Encoding
    scale: Encoding
    terms: int
    bits: int
    axis: int | None = None

    @classmethod
    def of(cls, levels: NDArray[Any], scale: Encoding, bits: int, *, axis: int | None = None) -> Pow2:
        """From signed levels, integers of the tensor's shape and one more dimension for the terms; packed codes.

        ``levels[..., n]`` is ``sign * level`` of the term n + 1, or 0. Raises InputError if a level needs more bits.
        """
        levels = np.asarray(levels)
        terms = levels.shape[-1] if levels.ndim else 0
        if not 1 <= terms <= MAX_TERMS or not BITS[0] <= bits <= BITS[1]:
            raise InputError(
                "pow2 encoding",
                f"{terms} terms of {bits} bits",
                f"use 1 to {MAX_TERMS} terms of {BITS[0]} to {BITS[1]} bits",
            )
        minus = 1 << (bits - 1)
        magnitude = np.abs(levels.astype(np.int64))
        if levels.size and int(magnitude.max()) >= minus:
            raise InputError(
                "pow2 encoding",
                f"levels {int(levels.min())}..{int(levels.max())} do not fit terms of {bits} bits",
                f"use levels from {1 - minus} to {minus - 1}",
            )
        signed = np.where(levels < 0, magnitude | minus, magnitude)
        codes = (signed << np.arange(terms) * bits).sum(axis=-1, dtype=np.int64)
        return cls(Packed.pack(codes, terms * bits), scale, terms, bits, axis)

    def _check(self) -> None:
        codes = need(self, "codes", real=False)
        need(self, "scale", real=True)
        if type(self.terms) is not int or not 1 <= self.terms <= MAX_TERMS:
            self.refuse(f"terms is {self.terms!r}, allowed are 1 to {MAX_TERMS}")
        if type(self.bits) is not int or not BITS[0] <= self.bits <= BITS[1]:
            self.refuse(f"bits is {self.bits!r}, allowed are {BITS[0]} to {BITS[1]}")
        check_axis(self, self.axis, codes.shape)
        check_parameter(self, "scale", self.axis, codes.shape)

    @property
    def is_real(self) -> bool:
        return True

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def levels(self) -> NDArray[np.int16]:
        """The signed levels in the order of storage, with one more dimension for the terms, as ``of`` takes them.

        Raises FormatError for codes that have no meaning.
        """
        codes = self.codes.decode().astype(np.int64)
        limit = 1 << self.terms * self.bits
        if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= limit):
            worst = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
            self.damaged(f"code {worst} is outside 0..{limit - 1}")
        minus = 1 << (self.bits - 1)
        terms = codes[..., np.newaxis] >> np.arange(self.terms) * self.bits & (2 * minus - 1)
        if (terms == minus).any():
            self.damaged("a term is minus zero")
        return np.where(terms > minus, minus - terms, terms).astype(np.int16)

    def _decode(self) -> NDArray[Any]:
        levels = self.levels()
        total = np.zeros(self.stored_shape, dtype=np.float32)
        for n in range(self.terms):
            level = levels[..., n].astype(np.int32)
            power = np.ldexp(np.sign(level).astype(np.float32), 1 - n - np.abs(level))
            total = total + power
        scaled: NDArray[Any] = along(self.scale.decode(), self.axis, total.ndim) * total
        return np.asarray(scaled, dtype=np.float32)
