"""Levels for rectified Gaussian activations: half-wave Gaussian quantisation (Cai et al., arXiv 1702.00953).

What comes out of batch normalisation is close to a standard normal; these are the levels of least square error for its
positive half. ``quantised`` is the forward function of networks trained with it.
"""

from __future__ import annotations

import math

import numpy as np

from bittern.compression.layerwise.grid import Floats


def _density(t: Floats) -> Floats:
    return np.exp(-np.square(t) / 2) / math.sqrt(2 * math.pi)


def _mass(t: Floats) -> Floats:
    """The standard normal's share below ``t``."""
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) if np.isfinite(value) else 1.0 for value in t])


def lloyd_levels(count: int, tolerance: float = 1e-12) -> Floats:
    """The ``count`` positive levels of least error: each the mean of its cell, limits halfway between levels."""
    levels = np.linspace(0.3, 2.5, count) if count > 1 else np.array([0.8])
    for _ in range(100_000):
        limits = np.concatenate([[0.0], (levels[1:] + levels[:-1]) / 2, [np.inf]])
        moved = -np.diff(_density(limits)) / np.diff(_mass(limits))
        if np.max(np.abs(moved - levels)) < tolerance:
            break
        levels = moved
    return levels


def uniform_step(count: int) -> float:
    """The step ``d`` of the levels ``d, 2 d, ... count d`` of least error, limits at ``1.5 d, 2.5 d, ...``."""
    step = 1.6 / count
    for _ in range(100_000):
        index = np.arange(1, count + 1, dtype=np.float64)
        limits = np.concatenate([[0.0], (index[1:] - 0.5) * step, [np.inf]])
        first, mass = -np.diff(_density(limits)), np.diff(_mass(limits))
        moved = float(index @ first / (np.square(index) @ mass))
        if abs(moved - step) < 1e-13:
            break
        step = moved
    return step


def quantised(x: Floats, levels: Floats) -> Floats:
    """0 for ``x <= 0``, else the level of the cell ``(t, t']`` that holds ``x``: limits belong to the cell below."""
    limits = (levels[1:] + levels[:-1]) / 2
    return np.where(np.asarray(x) > 0, levels[np.searchsorted(limits, x, side="left")], 0.0)
