"""Sums of signs: each level binarises what those before it left (Ghasemzadeh et al., ResBinNet, arXiv 1711.01243)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import EVERY, Codes, Columns, Floats, Grid, Layout, WeightMethod
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.compression.quantize.binary import mean_scale
from bittern.encodings import Dense, Encoding, Packed, Signs, Sum


@dataclass(frozen=True)
class ResidualGrid(Grid):
    """Bit ``l`` of a code is the sign of level ``l``; ``scales`` are by level, each ``[channels, 1]`` or ``[1, 1]``."""

    scales: tuple[NDArray[np.float32], ...]

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        codes = np.zeros(rows.shape, dtype=np.int64)
        left = rows
        for level, scale in enumerate(self.scales):
            codes |= (left >= 0).astype(np.int64) << level
            left = left - np.where(left >= 0, scale, -scale)
        return codes

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        parts = [np.where(codes >> level & 1, scale, -scale) for level, scale in enumerate(self.scales)]
        total = parts[0]
        for part in parts[1:]:  # in float32, as the encoding adds them
            total = total + part
        return total.astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        parts = []
        for level, scale in enumerate(self.scales):
            packed = Packed.pack(layout.tensor(codes >> level & 1), 1)
            if scale.size == 1 and layout.channels != 1:
                parts.append(Signs(packed, Dense(scale.reshape(()))))
            else:
                parts.append(Signs(packed, Dense(scale.reshape(-1)), layout.axis))
        return parts[0] if len(parts) == 1 else Sum(tuple(parts))


@dataclass(frozen=True)
class ResidualMethod(WeightMethod):
    """``levels`` times: the signs of what is left and, as their scale, its mean magnitude; one level is "binary".

    The square error falls with each level. Weighted where an importance is given.
    """

    name: ClassVar[str] = "residual"
    has_zero: ClassVar[bool] = False
    levels: int = 2
    per_channel: bool = True

    def __post_init__(self) -> None:
        whole_in("levels", self.levels, 1, 8)
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> ResidualGrid:
        scales: list[NDArray[np.float32]] = []
        left = rows
        for _ in range(self.levels):
            scale = mean_scale(np.abs(left), importance, self.per_channel)
            scales.append(scale)
            left = left - np.where(left >= 0, scale, -scale)
        return ResidualGrid(tuple(scales))
