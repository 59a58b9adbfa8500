"""No quantisation: weights that are only pruned keep float32 values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.grid import EVERY, Codes, Columns, Floats, Grid, Layout, WeightMethod
from bittern.encodings import Dense, Encoding


class FloatGrid(Grid):
    """Every float32; its bits are its code."""

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        single = np.ascontiguousarray(rows, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0
        codes: Codes = single.view(np.int32).astype(np.int64)
        return codes

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        return codes.astype(np.int32).view(np.float32).astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        return Dense(layout.tensor(self.values(codes)).astype(np.float32))


@dataclass(frozen=True)
class FloatMethod(WeightMethod):
    """Leaves the values as they are."""

    name: ClassVar[str] = "float32"
    exact: ClassVar[bool] = True

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> FloatGrid:
        return FloatGrid()
