"""Second-order pruning with compensation, layer by layer: optimal brain surgeon in the order of SparseGPT.

With inputs ``X`` of a layer and ``H = X X^T``, dropping a weight costs ``w^2 / [H^-1]_jj`` where the others make good
what they can (Hassibi and Stork, 1993). Columns are taken one after the other; what is dropped is chosen anew for each
run of columns from what compensation has made of them, and made good by the columns that follow (Frantar and Alistarh,
arXiv 2301.00774). In the end the weights that stay are solved for by least squares, as in Yang et al.
(arXiv 1611.05128, section 4), all rows at once by conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.grid import Floats
from bittern.compression.layerwise.options import one_of, whole_in
from bittern.compression.layerwise.reconstruct import DAMPING, factor, falling_order, inverse_diagonal, sweep
from bittern.compression.prune.method import Layer, PruneMethod
from bittern.compression.prune.patterns import Ids, Mask, select
from bittern.compression.prune.schedule import gradual_sparsity

STRETCH = 16  # columns that are decided on together: more see less of what compensation makes of them
STEPS = 60  # of conjugate gradients; a quarter of them between rounds
SMALL = 1e-7  # of the residual at the start, where they end


@dataclass(frozen=True)
class ReconstructMethod(PruneMethod):
    """Prunes in ``rounds``, their sparsities on the cubic schedule; ``refit`` solves for what stays after each."""

    name: ClassVar[str] = "reconstruct"
    needs_data: ClassVar[bool] = True
    rounds: int = 3
    refit: bool = True

    def __post_init__(self) -> None:
        whole_in("rounds", self.rounds, 1, 100)
        one_of("refit", self.refit, (True, False))

    def prune(self, layer: Layer, density: float) -> tuple[Floats, Mask]:
        kept: Mask = layer.rows != 0
        hessian = layer.hessian
        if hessian is None or not np.isfinite(hessian).all() or not hessian.any():
            kept = select(layer.pattern, layer.cells, np.abs(layer.rows), density, kept)
            return np.where(kept, layer.rows, 0.0), kept
        rows = np.where(kept, layer.target, 0.0)
        cells = layer.cells
        order = falling_order(hessian, cells.column_contest[cells.column_tile], cells.column_tile)
        upper, diagonal = factor(hessian, order), inverse_diagonal(hessian)
        begin = 1 - np.count_nonzero(kept) / max(kept.size, 1)
        for turn in range(1, self.rounds + 1):
            share = 1 - gradual_sparsity(turn, begin, max(1 - density, begin), 0, self.rounds)
            share = density if turn == self.rounds else share
            rows, kept = _pruned(layer, rows, kept, share, diagonal, order, upper)
            if self.refit:
                steps = STEPS if turn == self.rounds else STEPS // 4
                rows = refitted(rows, layer.target, kept, hessian, steps)
        return np.where(kept, rows, 0.0), kept


def _pruned(
    layer: Layer, rows: Floats, support: Mask, density: float, diagonal: Floats, order: Ids, upper: Floats
) -> tuple[Floats, Mask]:
    """One pass over the columns. ``diagonal``, ``upper``: of the inverse of the Hessian, and its factor."""
    groups, n = diagonal.shape
    saliency = np.square(rows).reshape(groups, -1, n) / diagonal[:, np.newaxis]
    first = select(layer.pattern, layer.cells, saliency.reshape(rows.shape), density, support)
    kept = np.zeros_like(support)
    pruned = np.zeros_like(rows)
    stretches = layer.pattern.stretches(layer.cells, order, STRETCH)

    def choose(left: Floats, columns: Ids, pivots: Floats) -> None:
        """As many as the first choice took of each contest, by what the weights are now."""
        scores = np.square(left) / np.square(pivots)[:, np.newaxis]
        allowed = support[:, columns]
        cells = layer.cells.columns(columns)
        elements = np.where(allowed, scores.reshape(rows.shape[0], -1), 0.0)
        kept[:, columns] = cells.best(elements, cells.counts(first[:, columns])) & allowed

    def drop(left: Floats, place: Ids) -> Floats:
        pruned[:, place] = np.where(kept[:, place], left, 0.0)
        return np.asarray(pruned[:, place])

    sweep(rows, upper, drop, order, stretches, choose)
    return pruned, kept


def refitted(rows: Floats, target: Floats, kept: Mask, hessian: Floats, steps: int = STEPS) -> Floats:
    """The rows with these elements that are nearest to ``target`` in their output: the least of
    ``(w - t) (H + DAMPING * mean diagonal * I) (w - t)^T``, by ``steps`` of conjugate gradients from ``rows``.
    """
    groups, n = hessian.shape[:2]
    scale = np.diagonal(hessian, axis1=1, axis2=2).mean(axis=1)
    scale = np.where(scale > 0, scale, 1.0)[:, np.newaxis, np.newaxis]
    matrix = hessian / scale + DAMPING * np.eye(n)
    free = kept.reshape(groups, -1, n).astype(np.float64)
    found, aim = (part.reshape(groups, -1, n) for part in (rows, target))
    ease = free / np.diagonal(matrix, axis1=1, axis2=2)[:, np.newaxis]  # Jacobi's preconditioner
    found = found * free
    residual = ((aim - found) @ matrix) * free
    direction = ease * residual
    power = np.sum(residual * direction, axis=2, keepdims=True)
    enough = SMALL**2 * power.max(initial=0.0)
    for _ in range(min(steps, n)):
        if not (power > enough).any():
            break
        ahead = (direction @ matrix) * free
        bend = np.sum(direction * ahead, axis=2, keepdims=True)
        length = np.divide(power, bend, out=np.zeros_like(power), where=bend > 0)
        found = found + length * direction
        residual = residual - length * ahead
        eased = ease * residual
        new = np.sum(residual * eased, axis=2, keepdims=True)
        direction = eased + np.divide(new, power, out=np.zeros_like(power), where=power > 0) * direction
        power = new
    return np.asarray(found.reshape(rows.shape))
