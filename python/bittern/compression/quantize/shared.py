"""One codebook for all layers (Choi et al., Towards the Limit of Network Quantization, arXiv 1612.01543)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.calibration import Feeds
from bittern.compression.layerwise.executor import Values, run_node
from bittern.compression.layerwise.grid import Floats, Grid, Layout, WeightMethod, spread_importance
from bittern.compression.layerwise.walk import importance_of
from bittern.compression.layerwise.weights import Placement
from bittern.compression.quantize.entropy import ConstrainedGrid
from bittern.errors import InputError
from bittern.network import Network


class SharedGrid(WeightMethod):
    """The same levels for every weight, whatever it holds; their table is one array, so the file has it once."""

    name: ClassVar[str] = "shared"

    def __init__(self, grid: Grid) -> None:
        self.grid = grid

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> Grid:
        if isinstance(self.grid, ConstrainedGrid):
            return self.grid.weighing(spread_importance(importance, rows.shape))
        return self.grid


def shared_grid(method: WeightMethod, network: Network, placement: Placement, samples: list[Feeds]) -> SharedGrid:
    """Levels of ``method`` fitted to all weights together.

    With samples, a weight's error counts by the mean square of the inputs it meets, as a share of its layer's output:
    the part of the Hessian that needs no gradients. Without, all weights count alike. Raises InputError for a weight
    that is not finite.
    """
    rows = {}
    for name, layout in placement.weights.items():
        rows[name] = layout.rows(network.constants[name].decode()).astype(np.float64)
        if not np.isfinite(rows[name]).all():
            remedy = "train it again, or leave this layer out"
            raise InputError(f"weight {name!r}", "holds values that are not finite", remedy)
    if not rows:
        return SharedGrid(method.fit(np.zeros((1, 1)), Layout((1, 1), 0, 1)))
    importance = None
    if samples:
        found = _importance(network, placement, samples, rows)
        importance = np.concatenate([found[name].reshape(-1) for name in rows])[np.newaxis]
    every = np.concatenate([values.reshape(-1) for values in rows.values()])[np.newaxis]
    return SharedGrid(method.fit(every, Layout(every.shape, 0, 1), importance))


def _importance(
    network: Network, placement: Placement, samples: list[Feeds], rows: dict[str, Floats]
) -> dict[str, Floats]:
    """Of every element of every weight; layers weigh alike, and what meets nothing known like their mean."""
    found: dict[str, Floats] = {}
    values = Values(network, samples)
    for node in network.nodes:
        run_node(node, network.constants, values)
        for name in node.inputs:
            if name in placement.weights and name not in found:
                importance = spread_importance(
                    importance_of(name, node, network, values, placement.weights[name]), rows[name].shape
                )
                power = float(np.sum(importance * np.square(rows[name])))
                found[name] = importance * (rows[name].size / power) if power else np.zeros(rows[name].shape)
        values.done(node)
    return found
