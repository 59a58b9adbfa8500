"""Learned rounding: whether each weight goes up or down is found by gradient descent (AdaRound, Nagel et al.,
arXiv 2004.10568).

A weight may take the value below it or the one above. Its place between them is relaxed to a number from 0 to 1, and
the error of the layer's output is made least, with a price for numbers in between that rises until none is left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import Codes, Floats, Grid
from bittern.compression.layerwise.reconstruct import compensated, damped

Singles = NDArray[np.float32]

STEPS = 800
RATE = 0.05  # of Adam
PRICE = 3.0  # of a number in between, next to a mean squared error of 1 where all are rounded down
WARM = 0.2  # share of the steps without a price
STRETCH = 0.1  # of the sigmoid beyond 0 and 1, so that both are reached
SHARPNESS = (20.0, 2.0)  # the price's exponent, from first to last


def learned(rows: Floats, grid: Grid, hessian: Floats) -> Codes:
    """Codes of ``rows`` ``[channels, n]`` on ``grid``; ``hessian`` is ``[groups, n, n]``, symmetric, not negative.

    Grids that do not tell the neighbours of a number are rounded by ``compensated``.
    """
    around = grid.neighbours(rows)
    if around is None:
        return compensated(rows, grid, hessian)
    if not rows.size or not np.isfinite(hessian).all() or not hessian.any():
        return grid.nearest(rows)
    below, above = (grid.values(codes).astype(np.float32) for codes in around)
    target, width = rows.astype(np.float32), above - below
    share = np.divide(target - below, width, out=np.zeros_like(width), where=width > 0)
    matrices = damped(hessian).astype(np.float32)
    parts = (matrices.shape[0], -1, matrices.shape[1])

    def slope(place: Singles) -> Singles:
        """How the error of the output changes with each place, but for a factor."""
        error = (below + place * width - target).reshape(parts)
        found: Singles = (error @ matrices).reshape(width.shape) * width
        return found

    worst = float(np.sum(slope(np.zeros_like(width)) * -share))
    if not worst > 0:
        return grid.nearest(rows)
    # Where all are rounded down, the sum over all elements counts as much as there are elements.
    scale = 2 * rows.size / worst
    place = _descended(np.clip(share, 0.01, 0.99), lambda place: scale * slope(place))
    found, nearest = np.where(place >= 0.5, around[1], around[0]), grid.nearest(rows)
    costs = []
    for codes in (found, nearest):  # each row by itself: descent may end where it should not
        error = (grid.values(codes) - rows).reshape(parts)
        costs.append(np.sum((error @ matrices) * error, axis=2).reshape(-1, 1))
    return np.where(costs[0] <= costs[1], found, nearest)


def _descended(start: Singles, slope: Callable[[Singles], Singles]) -> Singles:
    """Places after all steps of Adam on what a stretched sigmoid makes places of."""
    whole = np.float32(1 + 2 * STRETCH)
    free = -np.log(whole / (start + np.float32(STRETCH)) - 1)
    mean, square = np.zeros_like(free), np.zeros_like(free)
    place = start
    for step in range(1, STEPS + 1):
        sigmoid = 1 / (1 + np.exp(-free))
        place = np.clip(sigmoid * whole - np.float32(STRETCH), 0, 1)
        change = slope(place)
        late = (step / STEPS - WARM) / (1 - WARM)
        if late > 0:
            power = SHARPNESS[0] + late * (SHARPNESS[1] - SHARPNESS[0])
            side = 2 * place - 1
            change -= np.float32(2 * PRICE * power) * np.sign(side) * np.abs(side) ** np.float32(power - 1)
        change *= whole * sigmoid * (1 - sigmoid) * ((place > 0) & (place < 1))
        mean += np.float32(0.1) * (change - mean)
        square += np.float32(0.001) * (np.square(change) - square)
        size = np.sqrt(square / np.float32(1 - 0.999**step)) + np.float32(1e-8)
        free -= np.float32(RATE / (1 - 0.9**step)) * mean / size
    return place
