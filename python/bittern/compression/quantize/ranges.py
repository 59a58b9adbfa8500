"""Ranges of activations: seen over the calibration data, narrowed, and turned into scale and zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("minmax", "percentile", "mse")
BINS = 2048
FRACTIONS = np.linspace(0.2, 1.0, 81)


@dataclass(frozen=True)
class Quantiser:
    """``clip(rint(x / scale) + zero, 0, 2**bits - 1)``, all in float32 as the operator QuantizeLinear has it."""

    scale: np.float32
    zero: int
    bits: int = 8

    @property
    def most(self) -> int:
        return int(2**self.bits - 1)

    def codes(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        """The codes of float32 numbers; NaN gives the lowest."""
        steps = np.rint(np.asarray(x, np.float32) / self.scale) + np.float32(self.zero)
        steps = np.where(np.isnan(steps), np.float32(0), steps)
        codes: NDArray[np.uint8] = np.clip(steps, 0, self.most).astype(np.uint8)
        return codes

    def values(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the codes stand for."""
        values: NDArray[np.float32] = (codes.astype(np.float32) - np.float32(self.zero)) * self.scale
        return values

    def round(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """The values after quantising and back."""
        return self.values(self.codes(x))

    @classmethod
    def of(cls, low: float, high: float, bits: int = 8) -> Quantiser:
        """The quantiser that just holds ``low`` to ``high``, zero included and exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = np.float32((high - low) / (2**bits - 1))
        if not np.isfinite(scale) or scale < np.finfo(np.float32).tiny:
            scale = np.float32(1.0)
        return cls(scale, int(np.clip(np.rint(-low / float(scale)), 0, 2**bits - 1)), bits)


class Observer:
    """Least and greatest element of a value, and in a second pass its histogram between them."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.counts = np.zeros(BINS, dtype=np.int64)

    def see_range(self, x: NDArray[Any]) -> None:
        finite = x[np.isfinite(x)] if not np.isfinite(x).all() else x
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def see_counts(self, x: NDArray[Any]) -> None:
        if self.high > self.low:
            self.counts += np.histogram(x[np.isfinite(x)], BINS, (self.low, self.high))[0]

    def range(self, method: str, percentile: float, bits: int) -> tuple[float, float]:
        """The range to quantise: all that was seen, the central ``percentile`` of it, or that of least square error."""
        if not self.high > self.low:
            return (0.0, 0.0) if self.low == np.inf else (min(self.low, 0.0), max(self.high, 0.0))
        if method == "minmax" or not self.counts.any():
            return self.low, self.high
        edges = np.linspace(self.low, self.high, BINS + 1)
        if method == "percentile":
            share = np.cumsum(self.counts) / self.counts.sum()
            tail = (1 - percentile / 100) / (2 if self.low < 0 < self.high else 1)
            high = edges[1 + int(np.searchsorted(share, 1 - tail))] if self.high > 0 else 0.0
            low = edges[int(np.searchsorted(share, tail, side="right"))] if self.low < 0 else 0.0
            return float(min(low, 0.0)), float(max(high, 0.0))
        centres = (edges[1:] + edges[:-1]) / 2
        return self._least_error(centres, bits)

    def _least_error(self, centres: NDArray[np.float64], bits: int) -> tuple[float, float]:
        """Both ends are narrowed alike, then each while the other stays; the histogram stands for the data."""
        lows, highs = min(self.low, 0.0) * FRACTIONS, max(self.high, 0.0) * FRACTIONS
        errors = [self._error(centres, low, high, bits) for low, high in zip(lows, highs, strict=True)]
        low, high = lows[int(np.argmin(errors))], highs[int(np.argmin(errors))]
        if low < 0 < high:
            for _ in range(2):
                high = highs[int(np.argmin([self._error(centres, low, end, bits) for end in highs]))]
                low = lows[int(np.argmin([self._error(centres, end, high, bits) for end in lows]))]
        return float(low), float(high)

    def _error(self, centres: NDArray[np.float64], low: float, high: float, bits: int) -> float:
        quantiser = Quantiser.of(low, high, bits)
        scale = float(quantiser.scale)
        steps = np.clip(np.rint(centres / scale) + quantiser.zero, 0, quantiser.most)
        error = centres - (steps - quantiser.zero) * scale
        # Inside a bin the rounding error is spread evenly, which the centre alone does not show.
        inside = (centres >= low) & (centres <= high)
        square = np.where(inside, np.maximum(np.square(error), scale * scale / 12), np.square(error))
        return float(self.counts @ square)
