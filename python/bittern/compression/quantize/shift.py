"""Sums of powers of two: ShiftCNN's greedy codes (Gudovskiy and Rigazio, arXiv 1706.02393)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import EVERY, Codes, Columns, Floats, Grid, Layout, WeightMethod
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.encodings import Dense, Encoding, Pow2


def shift_codes(ratio: Floats, terms: int, bits: int) -> Codes:
    """Greedy codes of numbers in -1 .. 1, ``[..., terms]``: 0, or sign times a level from 1 to ``2**(bits-1) - 1``.

    The code ``c`` of term ``n`` (from 1) stands for ``sign(c) * 2**(2 - n - |c|)``. Each term takes the power of two
    nearest to what is left; halfway goes down. What is below the smallest level becomes zero.
    """
    levels = 2 ** (bits - 1) - 1
    left = np.array(ratio, dtype=np.float64)
    codes = np.zeros((*left.shape, terms), dtype=np.int64)
    for term in range(terms):
        mantissa, exponent = np.frexp(np.abs(left))  # |left| = mantissa * 2**exponent, mantissa in [0.5, 1)
        power = np.where(mantissa > 0.75, exponent, exponent - 1)
        level = 1 - term - power
        kept = (left != 0) & (level <= levels)
        sign = np.sign(left).astype(np.int64)
        codes[..., term] = np.where(kept, sign * level, 0)
        left -= np.where(kept, sign * np.ldexp(1.0, power), 0.0)
    return codes


def shift_values(codes: Codes) -> Floats:
    """What codes ``[..., terms]`` stand for, before the scale."""
    term = np.arange(codes.shape[-1])
    parts = np.where(codes == 0, 0.0, np.sign(codes) * np.ldexp(1.0, 1 - term - np.abs(codes)))
    total: Floats = parts.sum(axis=-1)
    return total


@dataclass(frozen=True)
class ShiftGrid(Grid):
    """Sums of ``terms`` powers of two, times ``scale`` (``[channels, 1]`` or ``[1, 1]``).

    The codes of the terms are the digits of one number, the first the lowest, each raised by the number of levels.
    """

    scale: NDArray[np.float32]
    terms: int
    bits: int

    @property
    def _digits(self) -> Codes:
        return np.asarray((2**self.bits - 1) ** np.arange(self.terms), dtype=np.int64)

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        ratio = np.clip(rows / self.scale.astype(np.float64), -1.0, 1.0)
        digits = shift_codes(ratio, self.terms, self.bits) + (2 ** (self.bits - 1) - 1)
        return np.asarray(digits @ self._digits, dtype=np.int64)

    def term_codes(self, codes: Codes) -> Codes:
        """The codes of the terms, ``[..., terms]``."""
        digits = codes[..., np.newaxis] // self._digits % (2**self.bits - 1)
        return np.asarray(digits - (2 ** (self.bits - 1) - 1), dtype=np.int64)

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        product = self.scale * shift_values(self.term_codes(codes)).astype(np.float32)
        return product.astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        levels = np.stack([layout.tensor(term) for term in np.moveaxis(self.term_codes(codes), -1, 0)], axis=-1)
        if self.scale.size == 1 and layout.channels != 1:
            return Pow2.of(levels, Dense(self.scale.reshape(())), self.bits)
        return Pow2.of(levels, Dense(self.scale.reshape(-1)), self.bits, axis=layout.axis)


@dataclass(frozen=True)
class ShiftMethod(WeightMethod):
    """``terms`` powers of two for each weight, each a code of ``bits`` bits; the scale is the greatest magnitude."""

    name: ClassVar[str] = "shift"
    terms: int = 2
    bits: int = 4
    per_channel: bool = False

    def __post_init__(self) -> None:
        whole_in("terms", self.terms, 1, 4)
        whole_in("bits", self.bits, 2, 5)
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> ShiftGrid:
        rows = rows if self.per_channel else rows.reshape(1, -1)
        scale = np.abs(rows).max(axis=1, keepdims=True, initial=0.0).astype(np.float32)
        return ShiftGrid(np.where(scale > 0, scale, np.float32(1)), self.terms, self.bits)
