"""Codebooks whose codes are meant for an entropy coder (Choi et al., Towards the Limit of Network Quantization,
arXiv 1612.01543): uniform cells, and clusters that weigh the error against the length of the code."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import (
    EVERY,
    Codes,
    Columns,
    Floats,
    Layout,
    LevelGrid,
    WeightMethod,
    spread_importance,
)
from bittern.compression.layerwise.options import number_in, one_of, whole_in

CHUNK = 2**16  # values compared with all centres at a time


def entropy(shares: Floats) -> float:
    """``-sum p log2 p`` of shares that are above zero."""
    return float(-(shares * np.log2(shares)).sum())


def _assigned(values: Floats, weights: Floats, centres: Floats, lengths: Floats) -> tuple[NDArray[np.int64], float]:
    """The cluster of least ``h (w - c)^2 + length`` of each value, and the sum of these costs."""
    codes = np.empty(values.size, dtype=np.int64)
    total = 0.0
    for begin in range(0, values.size, CHUNK):
        part = slice(begin, begin + CHUNK)
        cost = weights[part, np.newaxis] * np.square(values[part, np.newaxis] - centres) + lengths
        codes[part] = cost.argmin(axis=1)
        total += float(cost.min(axis=1).sum())
    return codes, total


def constrained_levels(
    values: Floats, k: int, multiplier: float, weights: Floats | None = None, most: int = 100
) -> tuple[Floats, Floats, list[float]]:
    """Centres, their shares, and the falling cost ``D + multiplier * H`` of each round.

    ``D`` is the mean of ``h (w - c)^2``, ``H`` the entropy of the codes in bits. Starts from ``k`` centres spread
    evenly; clusters that lose all their values vanish.
    """
    flat = values.reshape(-1)
    masses = spread_importance(weights, values.shape).reshape(-1)
    centres = np.linspace(flat.min(), flat.max(), k)
    shares = np.full(k, 1.0 / k)
    history: list[float] = []
    for _ in range(most):
        codes, _ = _assigned(flat, masses, centres, -multiplier * np.log2(shares))
        counts = np.bincount(codes, minlength=centres.size)
        mass = np.bincount(codes, masses, centres.size)
        first = np.bincount(codes, masses * flat, centres.size)
        kept = counts > 0
        centres = np.divide(first, mass, out=centres.copy(), where=mass > 0)[kept]
        shares = counts[kept] / flat.size
        distortion = float(np.sum(masses * np.square(flat - centres[(np.cumsum(kept) - 1)[codes]]))) / flat.size
        history.append(distortion + multiplier * entropy(shares))
        if len(history) > 1 and history[-2] - history[-1] <= 1e-9 * abs(history[-2]):
            break
    order = np.argsort(centres, kind="stable")
    return centres[order], shares[order], history


class ConstrainedGrid(LevelGrid):
    """Levels, of which a value takes that of least error and code length together."""

    def __init__(self, levels: Floats, shares: Floats, multiplier: float, weights: Floats) -> None:
        super().__init__(levels)
        self._lengths = -multiplier * np.log2(shares)
        self._weights = weights

    def weighing(self, weights: Floats) -> ConstrainedGrid:
        """The same levels, in the same memory, for a weight whose errors count as ``weights`` say."""
        other = copy(self)
        other._weights = weights
        return other

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        weights = np.broadcast_to(self._weights[:, columns], rows.shape).reshape(-1)
        wide = self.table.astype(np.float64)
        return _assigned(rows.reshape(-1), weights, wide, self._lengths)[0].reshape(rows.shape)


@dataclass(frozen=True)
class EntropyMethod(WeightMethod):
    """Entropy-constrained codebook, at most ``2**bits`` values; Huffman codes where those are smaller.

    ``multiplier`` is the price of a bit, as a share of the mean of ``h w^2``: more means fewer bits and more error.
    ``shared``: one codebook for all layers, which is in the file once.
    """

    name: ClassVar[str] = "entropy"
    bits: int = 5
    multiplier: float = 0.01
    shared: bool = False

    def __post_init__(self) -> None:
        one_of("shared", self.shared, (True, False))
        whole_in("bits", self.bits, 1, 8)
        number_in("multiplier", self.multiplier, 0, 10)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> ConstrainedGrid:
        weights = spread_importance(importance, rows.shape)
        price = self.multiplier * float(np.mean(weights * np.square(rows)))
        centres, shares, _ = constrained_levels(rows, 2**self.bits, price, weights)
        single = centres.astype(np.float32)
        distinct, index = np.unique(single, return_inverse=True)
        merged: Floats = np.bincount(index.reshape(-1), shares, distinct.size).astype(np.float64)
        return ConstrainedGrid(distinct.astype(np.float64), merged, price, weights)


@dataclass(frozen=True)
class CellsMethod(WeightMethod):
    """Cells of equal width around zero, ``2**bits - 1`` across the range; each stands for the mean of what it holds.

    The paper's recommended form with Huffman codes: nearly as good as the constrained clusters, without a search.
    """

    name: ClassVar[str] = "cells"
    bits: int = 5

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 2, 8)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> CellGrid:
        weights = spread_importance(importance, rows.shape)
        half = 2 ** (self.bits - 1) - 1
        width = float(np.abs(rows).max(initial=0.0)) / (half + 0.5) or 1.0
        cells = np.clip(np.rint(rows / width), -half, half).astype(np.int64).reshape(-1) + half
        mass = np.bincount(cells, weights.reshape(-1), 2 * half + 1)
        first = np.bincount(cells, (weights * rows).reshape(-1), 2 * half + 1)
        middle = width * np.arange(-half, half + 1)
        used = np.bincount(cells, minlength=2 * half + 1) > 0
        means = np.divide(first, mass, out=middle.copy(), where=mass > 0)
        return CellGrid(means[used], np.flatnonzero(used) - half, width)


class CellGrid(LevelGrid):
    """A level for each cell that is used; numbers in others go to the nearest of them."""

    def __init__(self, levels: Floats, cells: NDArray[np.int64], width: float) -> None:
        super().__init__(levels)
        self._limits, self._cells, self._width = (cells[1:] + cells[:-1]) / 2, cells, width

    def nearest(self, rows: Floats, columns: Columns = EVERY) -> Codes:
        cell = np.clip(np.rint(rows / self._width), self._cells[0], self._cells[-1])
        return np.searchsorted(self._limits, cell, side="left").astype(np.int64)
