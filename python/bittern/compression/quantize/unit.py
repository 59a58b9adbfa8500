"""Codes of b bits whose levels lie evenly around zero, without a level at zero: DoReFa-Net and the balanced codes of
Effective Quantization Methods for Recurrent Neural Networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.grid import EVERY, Codes, Columns, Floats, Grid, Layout, LevelGrid, WeightMethod
from bittern.compression.layerwise.options import number_in, one_of, whole_in
from bittern.compression.quantize.binary import SignGrid, mean_scale


class TanhGrid(LevelGrid):
    """Levels ``scale * (2 q / n - 1)`` for ``q = rint((clip(tanh(w) / limit, -1, 1) + 1) / 2 * n)``.

    ``scale`` is a number, or ``[channels, 1]``.
    """

    def __init__(self, bits: int, limit: float, scale: float | Floats) -> None:
        self._most = 2**bits - 1
        self._limit = limit
        super().__init__(scale * (2 * np.arange(2**bits) / self._most - 1))

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        unit = np.clip(np.tanh(rows) / self._limit, -1.0, 1.0)
        codes: Codes = np.rint((unit + 1) / 2 * self._most).astype(np.int64)
        return codes


@dataclass(frozen=True)
class DorefaMethod(WeightMethod):
    """DoReFa-Net (Zhou et al., arXiv 1606.06160): ``2 Q(tanh(w) / (2 max |tanh|) + 1/2) - 1``, levels in -1 .. 1.

    A network not trained for it keeps its size with ``scale`` "match": the levels are multiplied by what brings them
    nearest to the weights, those of each output channel by a factor of its own with ``per_channel``. "unit" is the
    paper's. One bit is the sign times ``mean |w|`` of the whole tensor (or channel), whatever ``scale`` is.
    """

    name: ClassVar[str] = "dorefa"
    has_zero: ClassVar[bool] = False
    bits: int = 4
    scale: str = "match"
    per_channel: bool = False

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 1, 8)
        one_of("scale", self.scale, ("match", "unit"))
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> Grid:
        if self.bits == 1:
            return SignGrid(mean_scale(np.abs(rows), None, self.per_channel))
        limit = float(np.abs(np.tanh(rows)).max(initial=0.0)) or 1.0
        grid = TanhGrid(self.bits, limit, 1.0)
        if self.scale == "unit":
            return grid
        rounded = grid.round(rows)
        if not self.per_channel:
            return TanhGrid(self.bits, limit, _match(rows, rounded))
        factors = [[_match(row, near)] for row, near in zip(rows, rounded, strict=True)]
        return TanhGrid(self.bits, limit, np.array(factors).reshape(-1, 1))


@dataclass(frozen=True)
class BalancedMethod(WeightMethod):
    """Balanced codes (He et al., arXiv 1611.10176): the range is 2.5 times the mean of ``|tanh w|``, or 3 times the
    median, so that the levels of two bits are used about equally often. For networks trained with it; ``scale`` as in
    "dorefa" brings others to size.
    """

    name: ClassVar[str] = "balanced"
    has_zero: ClassVar[bool] = False
    bits: int = 2
    spread: str = "mean"
    factor: float = 2.5
    scale: str = "match"

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 1, 8)
        one_of("spread", self.spread, ("mean", "median"))
        number_in("factor", self.factor, 0.1, 100)
        one_of("scale", self.scale, ("match", "unit"))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> TanhGrid:
        magnitude = np.abs(np.tanh(rows))
        middle = float(np.median(magnitude) if self.spread == "median" else magnitude.mean())
        limit = (3.0 if self.spread == "median" else self.factor) * middle / 2 or 1.0
        grid = TanhGrid(self.bits, limit, limit)
        return grid if self.scale == "unit" else TanhGrid(self.bits, limit, limit * _match(rows, grid.round(rows)))


def _match(rows: Floats, rounded: Floats) -> float:
    """The factor that brings ``rounded`` nearest to ``rows``."""
    power = float(np.sum(np.square(rounded)))
    return float(np.sum(rows * rounded)) / power if power else 1.0
