"""QNN's two quantisers of weights (Hubara et al., arXiv 1609.07061): even steps, and powers of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.batch_norm import nearest_power
from bittern.compression.layerwise.grid import EVERY, Codes, Columns, Floats, Layout, LevelGrid, WeightMethod
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.compression.quantize.affine import AffineGrid
from bittern.encodings import Dense, Encoding, Pow2


def linear_quantised(x: Floats, step: float, least: float, most: float) -> Floats:
    """``clip(rint(x / step) * step, least, most)``."""
    return np.clip(np.rint(x / step) * step, least, most)


@dataclass(frozen=True)
class LinearMethod(WeightMethod):
    """LinearQuant: one step for the tensor, the greatest magnitude over the greatest code; ``power`` rounds the step up
    to a power of two, so that it is a fixed-point format. ``narrow`` leaves the most negative code out.
    """

    name: ClassVar[str] = "linear"
    bits: int = 8
    power: bool = True
    narrow: bool = True

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 2, 8)
        one_of("power", self.power, (True, False))
        one_of("narrow", self.narrow, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> AffineGrid:
        high = 2 ** (self.bits - 1) - 1
        step = float(np.abs(rows).max(initial=0.0)) / high or 1.0
        step = float(np.exp2(np.ceil(np.log2(step)))) if self.power else step
        scale: NDArray[np.float32] = np.full((1, 1), step, np.float32)
        return AffineGrid(scale, None, -high if self.narrow else -high - 1, high, self.bits)


class LogGrid(LevelGrid):
    """0 and plus or minus powers of two; decided on the logarithmic scale, zero below half the least."""

    def __init__(self, least: int, most: int) -> None:
        powers = np.exp2(np.arange(least, most + 1, dtype=np.float64))
        super().__init__(np.concatenate([-powers[::-1], [0.0], powers]))
        self._range = (float(powers[0]), float(powers[-1]))
        self._width = (most - least + 1).bit_length() + 1

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        low, high = self._range
        power = np.clip(np.abs(nearest_power(rows)), low, high)
        value = np.where(np.abs(rows) < low / 2, 0.0, np.sign(rows) * power)
        return np.searchsorted(self.table.astype(np.float64), value).astype(np.int64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        """One term of a power of two: levels from 1, the greatest, down."""
        count = self.table.size // 2
        place = layout.tensor(codes) - count
        levels = np.where(place == 0, 0, np.sign(place) * (count + 1 - np.abs(place)))
        return Pow2.of(levels[..., np.newaxis], Dense(np.array(self._range[1], np.float32)), self._width)


@dataclass(frozen=True)
class LogMethod(WeightMethod):
    """LogQuant: a sign and an exponent; ``2**(bits-1) - 1`` powers of two from the greatest down, and zero."""

    name: ClassVar[str] = "log"
    bits: int = 4

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 2, 6)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> LogGrid:
        greatest = float(np.abs(rows).max(initial=0.0))
        most = int(np.rint(np.log2(greatest))) if greatest else 0
        most = max(most, -100)  # float32 holds the powers below
        return LogGrid(most - (2 ** (self.bits - 1) - 2), most)
