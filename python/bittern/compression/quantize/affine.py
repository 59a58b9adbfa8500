"""Uniform levels: codes of b bits times a scale, with or without a zero point; per tensor, channel or group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import (
    EVERY,
    Codes,
    Columns,
    Floats,
    Grid,
    Layout,
    WeightMethod,
    spread_importance,
)
from bittern.compression.layerwise.options import number_in, one_of, whole_in
from bittern.compression.streams import smallest_affine
from bittern.encodings import Affine, Dense, Encoding, Packed

SCALES = ("minmax", "percentile", "mse")
FRACTIONS = np.linspace(0.3, 1.0, 71)  # of the full range, for the search of the least square error
CHUNK = 2**16  # elements
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class AffineGrid(Grid):
    """``scale * (code - zero)``; both ``[channels, groups]``, or ``[1, 1]`` for the whole tensor."""

    scale: NDArray[np.float32]
    zero: NDArray[np.int64] | None
    low: int
    high: int
    bits: int
    column_group: NDArray[np.int64] | None = None
    small: Layout | None = None
    group: int | None = None
    away: bool = False  # halves away from zero, else to the even neighbour
    coded: bool = False

    def _at(self, parameter: NDArray[np.float64], columns: Columns) -> Floats:
        return parameter if self.column_group is None else parameter[:, self.column_group[columns]]

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        ratio = rows / self._at(self.scale.astype(np.float64), columns)
        steps = np.copysign(np.floor(np.abs(ratio) + 0.5), ratio) if self.away else np.rint(ratio)
        if self.zero is not None:
            steps = steps + self._at(self.zero.astype(np.float64), columns)
        return np.clip(steps, self.low, self.high).astype(np.int64)

    def neighbours(self, rows: Floats) -> tuple[Codes, Codes] | None:
        nearest = self.nearest(rows)
        below = np.maximum(np.where(self.values(nearest) > rows, nearest - 1, nearest), self.low)
        between = (self.values(below) < rows) & (below < self.high)
        return below, below + between

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        steps = codes.astype(np.float64)
        if self.zero is not None:
            steps = steps - self._at(self.zero.astype(np.float64), columns)
        scale = self._at(self.scale.astype(np.float64), columns)
        return (scale * steps).astype(np.float32).astype(np.float64)  # one rounding, as a float32 product has

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        signed = self.low < 0
        axis: int | None
        if self.small is not None:
            axis, scale = layout.inner, self.small.tensor(self.scale)
            zero = None if self.zero is None else self.small.tensor(self.zero)
        elif self.scale.size == 1 and layout.channels != 1:
            axis, scale = None, self.scale.reshape(())
            zero = None if self.zero is None else self.zero.reshape(())
        else:
            axis, scale = layout.axis, self.scale.reshape(-1)
            zero = None if self.zero is None else self.zero.reshape(-1)
        if self.coded and self.small is None:
            return smallest_affine(layout.tensor(codes), scale, self.bits, zero, axis)
        packed = Packed.pack(layout.tensor(codes), self.bits, signed=signed)
        codes_of_zero = None if zero is None else Dense(zero.astype(np.int8 if signed else np.uint8))
        return Affine(packed, Dense(scale), codes_of_zero, axis, self.group)


@dataclass(frozen=True)
class AffineMethod(WeightMethod):
    """Uniform quantisation; the scale from the range, a percentile of the magnitudes, or the least square error.

    ``coded``: codes are entropy-coded in the file where that is smaller, as it is for pruned weights.
    """

    name: ClassVar[str] = "affine"
    bits: int = 8
    symmetric: bool = True
    per_channel: bool = True
    group: int | None = None
    scale: str = "mse"
    percentile: float = 99.9
    coded: bool = False

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 2, 8)
        one_of("scale", self.scale, SCALES)
        number_in("percentile", self.percentile, 50, 100)
        for key in ("symmetric", "per_channel", "coded"):
            one_of(key, getattr(self, key), (True, False))
        if self.group is not None:
            whole_in("group", self.group, 1, 2**31)

    @property
    def code_range(self) -> tuple[int, int]:
        """The least and greatest code. Eight signed bits leave out -128, so that negation stays inside."""
        if not self.symmetric:
            return 0, 2**self.bits - 1
        return (-127 if self.bits == 8 else -(2 ** (self.bits - 1))), 2 ** (self.bits - 1) - 1

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> AffineGrid:
        weights = spread_importance(importance, rows.shape)
        low, high = self.code_range
        if self.group is not None:
            column_group, small = layout.groups(self.group)
            parts = [np.flatnonzero(column_group == index) for index in range(int(column_group.max(initial=0)) + 1)]
            fitted = [self._fit(rows[:, part], weights[:, part]) for part in parts]
            scale, zero = (np.concatenate([pair[i] for pair in fitted], axis=1) for i in range(2))
            return self._grid(scale, zero, low, high, column_group, small, self.group)
        if self.per_channel:
            scale, zero = self._fit(rows, weights)
            empty = ~rows.any(axis=1)
            if empty.any() and not empty.all():  # a bias is stored in steps of the scale: take that of the others
                scale[empty] = scale[~empty].mean()
            return self._grid(scale, zero, low, high)
        return self._grid(*self._fit(rows.reshape(1, -1), weights.reshape(1, -1)), low, high)

    def _grid(
        self,
        scale: Floats,
        zero: Floats,
        low: int,
        high: int,
        column_group: NDArray[np.int64] | None = None,
        small: Layout | None = None,
        group: int | None = None,
    ) -> AffineGrid:
        zeros = None if self.symmetric else zero.astype(np.int64)
        single = scale.astype(np.float32)
        return AffineGrid(single, zeros, low, high, self.bits, column_group, small, group, coded=self.coded)

    def _fit(self, rows: Floats, weights: Floats) -> tuple[Floats, Floats]:
        """Scale and zero point of each row, ``[rows, 1]``."""
        low, high = self.code_range
        if self.scale == "percentile":
            bottom = np.minimum(np.percentile(rows, 100 - self.percentile, axis=1, keepdims=True), 0.0)
            top = np.maximum(np.percentile(rows, self.percentile, axis=1, keepdims=True), 0.0)
        else:
            bottom = np.minimum(rows.min(axis=1, keepdims=True, initial=0.0), 0.0)
            top = np.maximum(rows.max(axis=1, keepdims=True, initial=0.0), 0.0)
        if self.scale != "mse":
            return self._step(bottom, top)
        if rows.size > CHUNK and rows.shape[0] > 1:  # a part that fits the cache at a time
            parts = np.array_split(np.arange(rows.shape[0]), -(-rows.size // CHUNK))
            pairs = [self._fit(rows[part], weights[part]) for part in parts if part.size]
            return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
        best, chosen = np.full((rows.shape[0], 1), np.inf), self._step(bottom, top)
        for fraction in FRACTIONS:
            scale, zero = self._step(bottom * fraction, top * fraction)
            rounded = scale * (np.clip(np.rint(rows / scale) + zero, low, high) - zero)
            error = np.sum(weights * np.square(rows - rounded), axis=1, keepdims=True)
            better = error <= best
            best = np.where(better, error, best)
            chosen = (np.where(better, scale, chosen[0]), np.where(better, zero, chosen[1]))
        return chosen

    def _step(self, bottom: Floats, top: Floats) -> tuple[Floats, Floats]:
        """Scale (a float32 above zero) and zero point that just hold these ranges, zero included."""
        low, high = self.code_range
        scale = np.maximum(top / high, bottom / low) if self.symmetric else (top - bottom) / (high - low)
        empty = scale < TINY
        scale = np.where(empty, 2.0**-10, scale).astype(np.float32).astype(np.float64)
        zero = np.zeros_like(scale) if self.symmetric else np.clip(np.rint(-bottom / scale), low, high)
        return scale, zero
