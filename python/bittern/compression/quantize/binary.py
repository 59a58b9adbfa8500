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

SCALES = ("mean", "unit")


@dataclass(frozen=True)
class SignGrid(Grid):
    """Code 1 for ``+scale``, code 0 for ``-scale``; zero counts as positive. One scale, or one per channel.

    ``middle`` ``[channels, n]``, if given, is what counts as zero.
    """

    scale: NDArray[np.float32]
    middle: Floats | None = None

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        return (rows >= (0.0 if self.middle is None else self.middle[:, columns])).astype(np.int64)

    def values(self, codes: Codes, columns: Columns = EVERY) -> Floats:
        return np.where(codes == 1, self.scale, -self.scale).astype(np.float64)

    def encoding(self, codes: Codes, layout: Layout) -> Encoding:
        packed = self._stream(layout.tensor(codes))
        if self.scale.size == 1 and layout.channels != 1:
            return Signs(packed, Dense(self.scale.reshape(())))
        return Signs(packed, Dense(self.scale.reshape(-1)), layout.axis)

    def _stream(self, codes: Codes) -> Encoding:
        return Packed.pack(codes, 1)


@dataclass(frozen=True)
class BinaryMethod(WeightMethod):
    """The scale ``mean |w|`` is the best one in the least-squares sense; weighted where an importance is given.

    ``centre``: the mean over the input channels, of each output channel and place of a kernel, is taken away first, as
    XNOR-Net's training does; it is lost. ``scale`` "unit": -1 and +1, for networks that were trained so (Hubara et al.,
    Binarized neural networks, arXiv 1602.02830).
    """

    name: ClassVar[str] = "binary"
    has_zero: ClassVar[bool] = False
    per_channel: bool = True
    centre: bool = False
    scale: str = "mean"

    def __post_init__(self) -> None:
        for key in ("per_channel", "centre"):
            one_of(key, getattr(self, key), (True, False))
        one_of("scale", self.scale, SCALES)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> SignGrid:
        middle = channel_means(rows, layout) if self.centre else None
        if self.scale == "unit":
            return SignGrid(np.ones((1, 1), np.float32), middle)
        magnitude = np.abs(rows if middle is None else rows - middle)
        return SignGrid(mean_scale(magnitude, importance, self.per_channel), middle)


def mean_scale(values: Floats, importance: Floats | None, per_channel: bool) -> NDArray[np.float32]:
    """The weighted mean of ``values`` ``[channels, n]``, for each channel ``[channels, 1]`` or of all ``[1, 1]``."""
    weights = spread_importance(importance, values.shape)
    if not per_channel:
        values, weights = values.reshape(1, -1), weights.reshape(1, -1)
    mass = weights.sum(axis=1, keepdims=True)
    total = np.sum(weights * values, axis=1, keepdims=True)
    plain = values.mean(axis=1, keepdims=True) if values.size else np.zeros(mass.shape)
    mean: Floats = np.divide(total, mass, out=plain, where=mass > 0)
    return mean.astype(np.float32)


def channel_means(rows: Floats, layout: Layout) -> Floats:
    """Of every row ``[channels, n]``, the means over the input channels, repeated for each of them."""
    others = [axis for axis in range(len(layout.shape)) if axis != layout.axis]
    parts = rows.reshape([layout.channels, *(layout.shape[axis] for axis in others)])
    mean = parts.mean(axis=1 + others.index(layout.inner), keepdims=True)
    return np.broadcast_to(mean, parts.shape).reshape(rows.shape)
