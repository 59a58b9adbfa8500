"""Activations as residual levels: each level is the sign of what those before it left (ResBinNet, arXiv 1711.01243)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bittern.errors import InputError

if TYPE_CHECKING:
    from bittern.network import Network

MOST_LEVELS = 8


def residual_scales(x: ArrayLike, levels: int) -> NDArray[np.float32]:
    """The scale of each level for activations such as ``x``, any shape, finite: the mean magnitude of what is left.

    That is the scale of least square error for the signs of a level. Returns float32 ``[levels]``; levels that nothing
    is left for are left out. The error falls with each level (arXiv 1711.01243). Raises InputError.
    """
    left = np.asarray(x, dtype=np.float64).reshape(-1)
    if not left.size or not bool(np.isfinite(left).all()):
        raise InputError("residual_scales", "the activations are empty, or not all finite", "give those of some inputs")
    if isinstance(levels, bool) or not isinstance(levels, int) or not 1 <= levels <= MOST_LEVELS:
        raise InputError("residual_scales", f"levels is {levels!r}", f"give a number from 1 to {MOST_LEVELS}")
    scales: list[np.float32] = []
    for _ in range(levels):
        scale = np.float32(np.abs(left).mean())
        if not np.finfo(np.float32).tiny <= scale < np.inf:
            break
        scales.append(scale)
        left = left - np.where(left >= 0, scale, -scale)
    if not scales:
        raise InputError("residual_scales", "the activations have no mean magnitude", "give others than zeros")
    return np.array(scales, dtype=np.float32)


def add_residual_levels(net: Network, value: str, scales: ArrayLike, output: str) -> None:
    """Add the nodes that make ``output`` of ``value``: ``b_1 + b_2 + ...``, ``b_l = +-scales[l]`` with the sign of
    ``value - b_1 - ... - b_(l-1)``, of zero +.

    ``value`` is float32 of any shape, ``output`` has the same; ``scales`` are positive, ``[levels]``, up to 8. A layer
    with weights of few values that reads ``output`` runs on planes of bits with up to 4 levels; zeros that it pads with
    count as 0. Names of values in between start with ``output``. Raises InputError.
    """
    given = np.atleast_1d(np.asarray(scales, dtype=np.float32))
    if given.ndim != 1 or not 1 <= given.size <= MOST_LEVELS or not bool(((given > 0) & np.isfinite(given)).all()):
        raise InputError(
            "add_residual_levels", f"scales are {scales!r}", f"give 1 to {MOST_LEVELS} positive numbers, one per level"
        )
    left, total = value, ""
    for level, scale in enumerate(given, 1):
        last = level == given.size
        net.add_constant(f"{output}.scale{level}", np.array(scale))
        sign = output if last and level == 1 else f"{output}.level{level}"
        net.add_node("BipolarQuant", [left, f"{output}.scale{level}"], [sign])
        if level > 1:
            target = output if last else f"{output}.sum{level}"
            net.add_node("Add", [total, sign], [target])
            total = target
        else:
            total = sign
        if not last:
            net.add_node("Sub", [left, sign], [f"{output}.left{level}"])
            left = f"{output}.left{level}"
