"""Rounding column by column, each error made good by the columns that are still to come.

Optimal brain quantisation in the order of GPTQ (Frantar et al., arXiv 2208.11420 and 2210.17323): with inputs ``X``
of a layer and ``H = X X^T``, the error of a rounded column is spread over the others so that ``||W X - Q X||`` stays
least. Convolutions in groups have a matrix per group; the columns of all groups go in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import Codes, Floats, Grid

Indices = NDArray[np.int64]

BLOCK = 64  # columns whose corrections are applied together
DAMPING = 0.01  # of the mean of the diagonal
RIDGES = (0.01, 0.05, 0.2, 1.0, 5.0)  # likewise


def compensated(rows: Floats, grid: Grid, hessian: Floats, damping: float = DAMPING) -> Codes:
    """Codes of ``rows`` ``[channels, n]`` on ``grid``; ``hessian`` is ``[groups, n, n]``, symmetric, not negative.

    ``damping`` times the mean of the diagonal is added to it. Columns go in order of falling diagonal, those of a block
    of the grid together.
    """
    n = hessian.shape[1]
    if not n or not np.isfinite(hessian).all() or not hessian.any():
        return grid.nearest(rows)
    codes = np.empty(rows.shape, dtype=np.int64)

    def rounded(left: Floats, place: Indices) -> Floats:
        code = grid.nearest(left, place)
        codes[:, place] = code
        return grid.values(code, place)

    def settle(values: Floats, columns: Indices, pivots: Floats) -> None:
        importance = np.broadcast_to(1 / np.square(pivots)[:, np.newaxis], values.shape)
        grid.settle(values.reshape(rows.shape[0], -1), columns, importance.reshape(rows.shape[0], -1))

    if grid.block == 1:
        order = falling_order(hessian)
        stretches = [(at, min(at + BLOCK, n)) for at in range(0, n, BLOCK)]
        sweep(rows, factor(hessian, order, damping), rounded, order, stretches)
    else:
        order = falling_order(hessian, np.arange(n) // grid.block)
        stretches = [(at, at + grid.block) for at in range(0, n, grid.block)]
        sweep(rows, factor(hessian, order, damping), rounded, order, stretches, settle)
    return codes


def falling_order(hessian: Floats, *together: Indices) -> Indices:
    """The columns by falling diagonal; columns that have the same ids in ``together``, from coarse to fine, stay so."""
    diagonal = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=0)
    keys = [np.arange(diagonal.size), -diagonal]
    for ids in reversed(together):
        counts = np.maximum(np.bincount(ids), 1)
        keys += [ids, -(np.bincount(ids, diagonal) / counts)[ids]]
    return np.lexsort(keys)


def damped(hessian: Floats, damping: float = DAMPING) -> Floats:
    """The matrices over the mean of their diagonals, with ``damping`` added to each."""
    scale = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
    scale = np.where(scale > 0, scale, 1.0)[:, np.newaxis, np.newaxis]
    return np.asarray(hessian / scale + damping * np.eye(hessian.shape[1]))


def inverse_diagonal(hessian: Floats, damping: float = DAMPING) -> Floats:
    """The diagonals ``[groups, n]`` of the inverses of the damped matrices."""
    return np.diagonal(np.linalg.inv(damped(hessian, damping)), axis1=1, axis2=2)


def factor(hessian: Floats, order: Indices, damping: float = DAMPING) -> Floats:
    """The upper Cholesky factors ``[groups, n, n]`` of the inverses of the damped matrices, columns in this order."""
    ordered = damped(hessian[:, order][:, :, order], damping)
    return np.asarray(np.linalg.cholesky(np.linalg.inv(ordered)).transpose(0, 2, 1))


def sweep(
    rows: Floats,
    upper: Floats,
    change: Callable[[Floats, Indices], Floats],
    order: Indices,
    stretches: Sequence[tuple[int, int]],
    choose: Callable[[Floats, Indices, Floats], None] | None = None,
) -> None:
    """Go over the columns of ``rows`` ``[channels, n]`` in ``order``; the others make good what each loses.

    ``upper``: what ``factor`` makes of their inputs.

    ``change(values, [column])`` says what becomes of a column, both ``[channels, 1]``. Before each of ``stretches``
    (of ``order``, one after the other), ``choose(values, columns, pivots)`` sees its columns as they are by then,
    ``[groups, channels of a group, columns]``, with the pivots ``[groups, columns]``: dropping a value costs the square
    of its ratio to the pivot.
    """
    groups, n = upper.shape[:2]
    left = rows[:, order].reshape(groups, -1, n).copy()
    starts = dict(stretches)
    for begin, end in _blocks(stretches):
        errors = np.empty((*left.shape[:2], end - begin))
        for column in range(begin, end):
            if choose is not None and column in starts:
                stop = starts[column]
                pivots = np.diagonal(upper[:, column:stop, column:stop], axis1=1, axis2=2)
                choose(left[:, :, column:stop], order[column:stop], pivots)
            place = order[column : column + 1]
            changed = change(left[:, :, column].reshape(-1, 1), place).reshape(left.shape[:2])
            error = (left[:, :, column] - changed) / upper[:, column, column, np.newaxis]
            left[:, :, column + 1 : end] -= error[:, :, np.newaxis] * upper[:, np.newaxis, column, column + 1 : end]
            errors[:, :, column - begin] = error
        left[:, :, end:] -= errors @ upper[:, begin:end, end:]


def _blocks(stretches: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Whole stretches in runs of at least ``BLOCK`` columns, whose corrections are applied together."""
    begin = 0
    for index, (_, end) in enumerate(stretches):
        if end - begin >= BLOCK or index == len(stretches) - 1:
            yield begin, end
            begin = end


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
