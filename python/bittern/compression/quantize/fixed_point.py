"""An odd number of even levels with the step of least square error (Shin, Hwang, Sung: Fixed-Point Performance Analysis
of Recurrent Neural Networks, arXiv 1512.01322)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.grid import Floats, Layout, WeightMethod, spread_importance
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.compression.quantize.affine import AffineGrid

STARTS = 32


def steps(x: Floats, step: Floats, most: int) -> Floats:
    """``sign(x) * min(floor(|x| / step + 1/2), most)``: halves go away from zero."""
    rounded: Floats = np.copysign(np.minimum(np.floor(np.abs(x) / step + 0.5), most), x)
    return rounded


def best_step(rows: Floats, bits: int, weights: Floats | None = None) -> Floats:
    """The step of each row ``[rows, n]`` for codes ``-m .. m``, ``m = 2**(bits-1) - 1``: ``[rows, 1]``.

    Codes and step are improved in turn, from 32 starts up to ``max |x| / m``; the step of least error is kept.
    """
    most = 2 ** (bits - 1) - 1
    weights = np.ones(rows.shape) if weights is None else weights
    widest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0) / most
    widest = np.where(widest > 0, widest, 1.0)
    best: Floats = widest.copy()
    least = np.full(widest.shape, np.inf)
    for start in range(1, STARTS + 1):
        step = widest * start / STARTS
        for _ in range(100):
            codes = steps(rows, step, most)
            power = np.sum(weights * np.square(codes), axis=1, keepdims=True)
            moved = np.divide(
                np.sum(weights * rows * codes, axis=1, keepdims=True), power, out=step.copy(), where=power > 0
            )
            still = np.abs(moved - step) <= 1e-9 * step
            step = moved
            if still.all():
                break
        error = np.sum(weights * np.square(rows - step * steps(rows, step, most)), axis=1, keepdims=True)
        better = error < least
        best, least = np.where(better, step, best), np.where(better, error, least)
    return best


@dataclass(frozen=True)
class FixedPointMethod(WeightMethod):
    """Even levels around zero, as many on either side; a step for the tensor or for each channel."""

    name: ClassVar[str] = "fixed-point"
    bits: int = 3
    per_channel: bool = False

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 2, 8)
        one_of("per_channel", self.per_channel, (True, False))

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> AffineGrid:
        weights = spread_importance(importance, rows.shape)
        if not self.per_channel:
            rows, weights = rows.reshape(1, -1), weights.reshape(1, -1)
        most = 2 ** (self.bits - 1) - 1
        step = best_step(rows, self.bits, weights).astype(np.float32)
        step = np.maximum(step, np.finfo(np.float32).tiny)
        return AffineGrid(step, None, -most, most, self.bits, away=True)
