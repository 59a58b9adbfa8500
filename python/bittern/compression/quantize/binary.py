"""Two values: the sign times the mean magnitude (XNOR-Net's binary weights, Rastegari et al., arXiv 1603.05279)."""

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
from bittern.compression.layerwise.options import one_of
from bittern.encodings import Dense, Encoding, Packed, Signs


@dataclass(frozen=True)
class SignGrid(Grid):
    """Code 1 for ``+scale``, code 0 for ``-scale``; zero counts as positive. One scale, or one per channel."""

    scale: NDArray[np.float32]

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        return (rows >= 0).astype(np.int64)

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        return np.where(codes == 1, self.scale, -self.scale).astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        packed = Packed.pack(layout.tensor(codes), 1)
        if self.scale.size == 1 and layout.channels != 1:
            return Signs(packed, Dense(self.scale.reshape(())))
        return Signs(packed, Dense(self.scale.reshape(-1)), layout.axis)


@dataclass(frozen=True)
class BinaryMethod(WeightMethod):
    """The scale ``mean |w|`` is the best one in the least-squares sense; weighted where an importance is given."""

    name: ClassVar[str] = "binary"
    has_zero: ClassVar[bool] = False
    per_channel: bool = True

    def __post_init__(self) -> None:
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> SignGrid:
        weights = spread_importance(importance, rows.shape)
        if not self.per_channel:
            rows, weights = rows.reshape(1, -1), weights.reshape(1, -1)
        mass = weights.sum(axis=1, keepdims=True)
        total = np.sum(weights * np.abs(rows), axis=1, keepdims=True)
        plain = np.abs(rows).mean(axis=1, keepdims=True)
        return SignGrid(np.divide(total, mass, out=plain, where=mass > 0).astype(np.float32))
