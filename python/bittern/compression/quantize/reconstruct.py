"""Rounding column by column, each error made good by the columns that are still to come.

Optimal brain quantisation in the order of GPTQ (Frantar et al., arXiv 2208.11420 and 2210.17323): with inputs ``X``
of a layer and ``H = X X^T``, the error of a rounded column is spread over the others so that ``||W X - Q X||`` stays
least. Convolutions in groups have a matrix per group; the columns of all groups go in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bittern.compression.quantize.grid import Codes, Floats, Grid

BLOCK = 64  # columns whose corrections are applied together
DAMPING = 0.01  # of the mean of the diagonal
RIDGES = (0.01, 0.05, 0.2, 1.0, 5.0)  # likewise


def compensated(rows: Floats, grid: Grid, hessian: Floats, damping: float = DAMPING) -> Codes:
    """Codes of ``rows`` ``[channels, n]`` on ``grid``; ``hessian`` is ``[groups, n, n]``, symmetric, not negative.

    ``damping`` times the mean of the diagonal is added to it. Columns go in order of falling diagonal.
    """
    groups, n = hessian.shape[:2]
    diagonal = np.diagonal(hessian, axis1=1, axis2=2)
    scale = diagonal.mean(axis=1)
    if not n or not np.isfinite(hessian).all() or not scale.any():
        return grid.nearest(rows)
    order = np.argsort(-diagonal.mean(axis=0), kind="stable")
    scale[scale <= 0] = 1.0
    damped = hessian[:, order][:, :, order] / scale[:, np.newaxis, np.newaxis] + damping * np.eye(n)
    upper = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    left = rows[:, order].reshape(groups, -1, n).copy()
    codes = np.empty(rows.shape, dtype=np.int64)
    for begin in range(0, n, BLOCK):
        end = min(begin + BLOCK, n)
        errors = np.empty((*left.shape[:2], end - begin))
        for column in range(begin, end):
            place = order[column : column + 1]
            code = grid.nearest(left[:, :, column].reshape(-1, 1), place)
            codes[:, place] = code
            rounded = grid.values(code, place).reshape(left.shape[:2])
            error = (left[:, :, column] - rounded) / upper[:, column, column, np.newaxis]
            left[:, :, column + 1 : end] -= error[:, :, np.newaxis] * upper[:, np.newaxis, column, column + 1 : end]
            errors[:, :, column - begin] = error
        left[:, :, end:] -= errors @ upper[:, begin:end, end:]
    return codes


def retargeted(rows: Floats, hessian: Floats, cross: Floats, ridges: Sequence[float]) -> list[Floats]:
    """The weights that make of the inputs of the quantised network what ``rows`` make of the original's, nearly.

    ``cross`` is the sum of ``x_original x_quantised^T``, ``hessian`` that of ``x_quantised x_quantised^T``, both
    ``[groups, n, n]``. Each ridge, times the mean of the diagonal, pulls towards ``rows`` ``[channels, n]``.
    """
    groups, n = hessian.shape[:2]
    scale = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
    scale = np.where(scale > 0, scale, 1.0)[:, np.newaxis, np.newaxis]
    parts = rows.reshape(groups, -1, n)
    wanted = (parts @ (cross - hessian)).transpose(0, 2, 1)
    found = []
    for ridge in ridges:
        change = np.linalg.solve(hessian + ridge * scale * np.eye(n), wanted)
        found.append((parts + change.transpose(0, 2, 1)).reshape(rows.shape))
    return found


def validated_target(rows: Floats, hessians: tuple[Floats, Floats], crosses: tuple[Floats, Floats]) -> Floats:
    """``retargeted`` with the ridge that serves inputs best which it has not seen: each half of the samples judges what
    the other half finds. ``rows`` as they are where no ridge helps.
    """
    if not hessians[0].any() or not hessians[1].any():
        return rows
    costs = np.zeros(1 + len(RIDGES))
    for half in range(2):
        found = retargeted(rows, hessians[half], crosses[half], RIDGES)
        costs += [_error(moved, rows, hessians[1 - half], crosses[1 - half]) for moved in (rows, *found)]
    best = int(np.argmin(costs))
    if best == 0:
        return rows
    return retargeted(rows, hessians[0] + hessians[1], crosses[0] + crosses[1], RIDGES[best - 1 : best])[0]


def _error(moved: Floats, rows: Floats, hessian: Floats, cross: Floats) -> float:
    """``||rows X_original - moved X_quantised||^2``, less what does not depend on ``moved``."""
    groups, n = hessian.shape[:2]
    new, old = moved.reshape(groups, -1, n), rows.reshape(groups, -1, n)
    return float(np.sum((new @ hessian) * new) - 2 * np.sum((old @ cross) * new))
