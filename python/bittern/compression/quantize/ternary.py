"""Three values, ``-n``, 0 and ``+p``: trained ternary quantisation's projection (Zhu et al., arXiv 1612.01064)."""

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
from bittern.compression.layerwise.options import number_in, one_of
from bittern.compression.streams import smallest
from bittern.encodings import Dense, Encoding, Packed, Ternary, Trits


@dataclass(frozen=True)
class TernaryGrid(Grid):
    """Codes 0, 1, 2 for 0, ``positive``, ``-negative``; all ``[channels, 1]`` or ``[1, 1]``.

    A number above ``above`` becomes positive, one below ``-below`` negative; on the limit it becomes zero.
    """

    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    above: Floats
    below: Floats

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        return np.where(rows > self.above, 1, np.where(rows < -self.below, 2, 0)).astype(np.int64)

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        chosen = np.where(codes == 1, self.positive, np.where(codes == 2, -self.negative, np.float32(0)))
        return chosen.astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        symbols = layout.tensor(codes).astype(np.uint32)
        forms = Packed.pack(symbols, 2), Trits.pack(symbols), smallest(symbols, 2)
        packed = min(forms, key=lambda form: form.nbytes)
        whole = self.positive.size == 1 and layout.channels != 1
        shape: tuple[int, ...] = () if whole else (-1,)
        axis = None if whole else layout.axis
        return Ternary(packed, Dense(self.positive.reshape(shape)), Dense(self.negative.reshape(shape)), axis)


@dataclass(frozen=True)
class TernaryMethod(WeightMethod):
    """``rule``: "optimal" splits each sign where the square error is least; "symmetric" does so for one value of both
    signs (Carreira-Perpinan and Idelbayev, arXiv 1707.04319); "threshold" splits at ``threshold * max|w|``.
    """

    name: ClassVar[str] = "ternary"
    rule: str = "optimal"
    threshold: float = 0.05
    per_channel: bool = False

    def __post_init__(self) -> None:
        one_of("rule", self.rule, ("optimal", "symmetric", "threshold"))
        number_in("threshold", self.threshold, 0, 1)
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> TernaryGrid:
        weights = spread_importance(importance, rows.shape)
        if not self.per_channel:
            rows, weights = rows.reshape(1, -1), weights.reshape(1, -1)
        if self.rule == "threshold":
            limit = self.threshold * np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
            return TernaryGrid(_mean_above(rows, limit), _mean_above(-rows, limit), limit, limit)
        if self.rule == "symmetric":
            value, limit = best_split(np.abs(rows), weights)
            return TernaryGrid(value.astype(np.float32), value.astype(np.float32), limit, limit)
        positive, above = best_split(rows, weights)
        negative, below = best_split(-rows, weights)
        return TernaryGrid(positive.astype(np.float32), negative.astype(np.float32), above, below)


def _mean_above(rows: Floats, limit: Floats) -> NDArray[np.float32]:
    chosen = rows > limit
    count = np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    mean: Floats = np.where(chosen, rows, 0.0).sum(axis=1, keepdims=True) / count
    return mean.astype(np.float32)


def best_split(rows: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """For the positive elements of each row, the value ``p`` for the ``j`` largest (zero for the others) that leaves
    the least square error: ``p = S_j / j`` with the ``j`` of greatest ``S_j^2 / j``, sums weighted if asked.

    Returns ``p`` and the limit ``p / 2``, both ``[rows, 1]``; 0 and 0 for a row without positive elements.
    """
    weights = np.ones(rows.shape) if weights is None else weights
    clipped = np.maximum(rows, 0.0)
    order = np.argsort(-clipped, axis=1, kind="stable")
    value = np.take_along_axis(clipped, order, axis=1)
    weight = np.take_along_axis(weights, order, axis=1)
    total, mass = np.cumsum(weight * value, axis=1), np.cumsum(weight, axis=1)
    gain = np.divide(np.square(total), mass, out=np.zeros_like(total), where=mass > 0)
    best = np.argmax(gain, axis=1)[:, np.newaxis]
    above, below = np.take_along_axis(total, best, axis=1), np.take_along_axis(mass, best, axis=1)
    mean: Floats = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return mean, mean / 2
