"""Codebooks with the least error that k levels allow: one-dimensional clustering solved exactly.

Dynamic programming over sorted points (optimal levels of ZipML, Zhang et al., arXiv 1611.05402, section 3; weighted by
curvature as in Choi et al., arXiv 1612.01543): a row of the table from the one before by divide and conquer, since the
best split moves right with the end; all intervals of one depth are done at once. O(k m log m) for m points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import Floats, Layout, LevelGrid, WeightMethod, spread_importance
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.errors import InputError

OBJECTIVES = ("mse", "stochastic_var")
Indices = NDArray[np.int64]


class _Sums:
    """Prefix sums of weight, weight * x, weight * x^2 over sorted points."""

    def __init__(self, points: Floats, weights: Floats) -> None:
        self.x = points
        self.mass, self.first, self.second = (
            np.concatenate([[0.0], np.cumsum(weights * power)]) for power in (1.0, points, np.square(points))
        )

    def cluster(self, begin: Indices, end: Indices) -> Floats:
        """Square error of points ``begin .. end - 1`` around their mean."""
        mass, first = self.mass[end] - self.mass[begin], self.first[end] - self.first[begin]
        square = np.divide(np.square(first), mass, out=np.zeros_like(first), where=mass > 0)
        cost: Floats = np.maximum(self.second[end] - self.second[begin] - square, 0.0)
        return cost

    def interval(self, begin: Indices, end: Indices) -> Floats:
        """Variance of rounding points ``begin .. end`` at random to the first or the last of them."""
        mass, first = self.mass[end + 1] - self.mass[begin], self.first[end + 1] - self.first[begin]
        low, high = self.x[begin], self.x[end]
        second = self.second[end + 1] - self.second[begin]
        cost: Floats = np.maximum((low + high) * first - low * high * mass - second, 0.0)
        return cost


def exact_levels(points: Floats, k: int, weights: Floats | None = None, objective: str = "mse") -> Floats:
    """At most ``k`` rising levels for points in any order, with the least weighted cost.

    ``"mse"``: points go to the nearest level; levels are means. ``"stochastic_var"``: points go at random to one of the
    two levels around them, so that the mean is kept; levels are points, the extremes among them.
    """
    order = np.argsort(points, kind="stable")
    x, masses = _merged(points[order].astype(np.float64), spread_importance(weights, points.shape)[order])
    if x.size <= k:
        return x
    # Around the middle, sums of squares keep their digits.
    centre = float(np.average(x, weights=masses)) if masses.any() else 0.0
    sums = _Sums(x - centre, masses)
    if objective == "mse":
        bounds = _splits(sums, x.size, k)
        mass, first = np.diff(sums.mass[bounds]), np.diff(sums.first[bounds])
        plain = np.array([x[a:b].mean() - centre for a, b in pairwise(bounds)])
        means: Floats = np.divide(first, mass, out=plain, where=mass > 0) + centre
        return means
    return x[_endpoints(sums, x.size, max(k, 2))]


def _merged(x: Floats, weights: Floats) -> tuple[Floats, Floats]:
    distinct, start = np.unique(x, return_index=True)
    return distinct, np.add.reduceat(weights, start) if x.size else weights


def _splits(sums: _Sums, n: int, k: int) -> Indices:
    """``k + 1`` bounds of the clusters."""
    ends = np.arange(n + 1)
    cost = sums.cluster(np.zeros(n + 1, dtype=np.int64), ends)
    choices = []
    for _ in range(1, k):
        cost, choice = _row(cost, sums.cluster, n + 1)
        choices.append(choice)
    bounds = [n]
    for choice in reversed(choices):
        bounds.append(int(choice[bounds[-1]]))
    return np.unique([0, *bounds])


def _endpoints(sums: _Sums, n: int, k: int) -> Indices:
    """``k`` indices of points, the first and last among them."""
    cost = sums.interval(np.zeros(n, dtype=np.int64), np.arange(n))
    choices = []
    for _ in range(2, k):
        cost, choice = _row(cost, sums.interval, n)
        choices.append(choice)
    found = [n - 1]
    for choice in reversed(choices):
        found.append(int(choice[found[-1]]))
    return np.unique([0, *found])


def _row(before: Floats, price: Callable[[Indices, Indices], Floats], n: int) -> tuple[Floats, Indices]:
    """``min over j <= m of before[j] + price(j, m)`` for every ``m``, and the least ``j`` that gives it."""
    best, choice = np.empty(n), np.zeros(n, dtype=np.int64)
    # Intervals of ends, and the range in which their best splits must lie.
    low, high = np.array([0]), np.array([n - 1])
    first, last = np.array([0]), np.array([n - 1])
    while low.size:
        middle = (low + high) // 2
        until = np.minimum(last, middle)
        count = until - first + 1
        start = np.cumsum(count) - count
        which = np.repeat(np.arange(middle.size), count)
        split = np.arange(int(count.sum())) - start[which] + first[which]
        total = before[split] + price(split, middle[which])
        best[middle] = least = np.minimum.reduceat(total, start)
        hits = np.flatnonzero(total == least[which])
        seen, place = np.unique(which[hits], return_index=True)
        choice[middle[seen]] = split[hits[place]]
        left, right = low < middle, middle < high
        taken = choice[middle]
        low, high, first, last = (
            np.concatenate([low[left], middle[right] + 1]),
            np.concatenate([middle[left] - 1, high[right]]),
            np.concatenate([first[left], taken[right]]),
            np.concatenate([taken[left], last[right]]),
        )
    return best, choice


def levels_of(values: Floats, k: int, weights: Floats | None, objective: str, points: int | None) -> Floats:
    """``exact_levels`` of many values: of all of them, or of the means of ``points`` bins with as many values each."""
    flat = values.reshape(-1)
    masses = spread_importance(weights, values.shape).reshape(-1)
    if points is None or flat.size <= points:
        return exact_levels(flat, k, masses, objective)
    order = np.argsort(flat, kind="stable")
    x, masses = _merged(flat[order], masses[order])
    if x.size <= points:
        return exact_levels(x, k, masses, objective)
    if objective != "mse":  # levels are points, and must reach the extremes
        chosen = np.unique(np.linspace(0, x.size - 1, points).round().astype(np.int64))
        return _restricted(x, masses, k, chosen)
    # Bins by value hold the tails, bins by count the middle: half of the edges each.
    half = points // 2
    by_count = np.linspace(0, x.size, half + 1).round().astype(np.int64)
    by_value = np.searchsorted(x, np.linspace(x[0], x[-1], half + 1)[1:-1])
    start = np.unique(np.concatenate([by_count[:-1], by_value]))
    start = start[start < x.size]
    mass, first = np.add.reduceat(masses, start), np.add.reduceat(masses * x, start)
    plain = x[start]
    means = np.divide(first, mass, out=plain, where=mass > 0)
    levels = exact_levels(means, k, mass, objective)
    return _refined(levels, x, masses)


def _restricted(x: Floats, masses: Floats, k: int, chosen: Indices) -> Floats:
    """Optimal levels for random rounding among chosen points; costs are those of all points."""
    sums = _Sums(x, masses)

    class Chosen(_Sums):
        def __init__(self) -> None:
            self.x = x[chosen]

        def interval(self, begin: Indices, end: Indices) -> Floats:
            return sums.interval(chosen[begin], chosen[end])

    return x[chosen[_endpoints(Chosen(), chosen.size, max(k, 2))]]


def _refined(levels: Floats, x: Floats, masses: Floats, most: int = 20) -> Floats:
    """Lloyd's iteration over all points, from levels of binned ones: never worse."""
    sums = _Sums(x, masses)
    for _ in range(most):
        inner = np.searchsorted(x, (levels[1:] + levels[:-1]) / 2, side="right")
        bounds = np.concatenate([[0], inner, [x.size]])
        mass, first = np.diff(sums.mass[bounds]), np.diff(sums.first[bounds])
        moved = np.divide(first, mass, out=levels.copy(), where=mass > 0)
        if np.array_equal(moved, levels):
            break
        levels = moved
    return levels


@dataclass(frozen=True)
class CodebookMethod(WeightMethod):
    """A codebook of ``2**bits`` values per tensor (or channel), by exact clustering; uses the importance.

    ``objective`` "stochastic_var" gives ZipML's levels for random rounding. ``points``: above so many distinct values
    they are binned first, and the levels improved on all of them (None: never). ``shared``: one codebook for all
    layers, which is in the file once (Choi et al., arXiv 1612.01543).
    """

    name: ClassVar[str] = "codebook"
    bits: int = 4
    objective: str = "mse"
    per_channel: bool = False
    points: int | None = 4096
    shared: bool = False

    def __post_init__(self) -> None:
        whole_in("bits", self.bits, 1, 8)
        one_of("objective", self.objective, OBJECTIVES)
        one_of("per_channel", self.per_channel, (True, False))
        one_of("shared", self.shared, (True, False))
        if self.shared and self.per_channel:
            raise InputError("shared", "is for one codebook, per_channel for many", "choose one of them")
        if self.points is not None:
            whole_in("points", self.points, 512, 2**20)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> LevelGrid:
        k = 2**self.bits
        if not self.per_channel:
            return LevelGrid(np.unique(levels_of(rows, k, importance, self.objective, self.points).astype(np.float32)))
        weights = spread_importance(importance, rows.shape)
        found = [
            levels_of(row, k, weight, self.objective, self.points) for row, weight in zip(rows, weights, strict=True)
        ]
        width = max(level.size for level in found)
        # Rows with fewer distinct values repeat their greatest.
        return LevelGrid(np.stack([np.pad(level, (0, width - level.size), mode="edge") for level in found]))
