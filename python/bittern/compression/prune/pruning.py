"""Pruning as a part of a recipe: its options settled, and what it does to each weight on the walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from bittern.compression.layerwise.calibration import Feeds
from bittern.compression.layerwise.grid import Floats, Layout
from bittern.compression.layerwise.options import one_of
from bittern.compression.layerwise.walk import Cut
from bittern.compression.layerwise.weights import Placement, groups_of, users_of
from bittern.compression.prune.filters import prune_filters
from bittern.compression.prune.guided import SLOW_LAYERS, guided, machine_of
from bittern.compression.prune.magnitude import MagnitudeMethod
from bittern.compression.prune.method import Layer, PruneMethod
from bittern.compression.prune.methods import METHODS
from bittern.compression.prune.patterns import Filters, Mask, Pattern, Unstructured
from bittern.compression.prune.sensitivity import scan
from bittern.compression.prune.targets import DISTRIBUTIONS, checked_sparsity, densities, named
from bittern.errors import InputError
from bittern.network import Network

MOST_SCANNED = 8  # samples that sensitivities are measured with


@dataclass(frozen=True)
class LayerPruner:
    """Prunes each weight to its density; see ``layerwise.walk.Pruner``."""

    method: PruneMethod
    pattern: Pattern
    densities: Mapping[str, float]
    left: Mapping[str, str]

    @property
    def learns(self) -> bool:
        return self.method.needs_data

    def cut(self, name: str, layout: Layout, groups: int) -> Cut:
        """Weights that are left alone keep the zeros they have."""

        def pruned(rows: Floats, target: Floats, hessian: Floats | None) -> tuple[Floats, Mask]:
            if name in self.left:
                kept = rows != 0
                return np.where(kept, target, 0.0), kept
            layer = Layer(rows, target, self.pattern, self.pattern.cells(layout, groups), hessian)
            return self.method.prune(layer, self.densities[name])

        return pruned


@dataclass(frozen=True)
class Pruning:
    """Which weights go. ``method`` None: "reconstruct" where calibration data is given, else "magnitude". ``machine``:
    numbers of ``performance.Machine``; layers that would not be faster by them are treated by ``slow_layers``.
    """

    pattern: Pattern = field(default_factory=Unstructured)
    sparsity: float | None = None
    per_layer: str | Mapping[str, float] = "uniform"
    normalise: bool = False
    method: str | None = None
    policy: str = "independent"
    machine: Mapping[str, float] | str | None = None
    slow_layers: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # of the method

    def __post_init__(self) -> None:
        if self.sparsity is not None:
            checked_sparsity("sparsity", self.sparsity)
            fixed = self.pattern.sparsity
            if fixed is not None and abs(self.sparsity - fixed) > 1e-6:
                remedy = f"leave sparsity out, or choose another pattern ({self.pattern} removes {fixed:g})"
                raise InputError("sparsity", f"is {self.sparsity:g} with pattern {self.pattern}", remedy)
        if not isinstance(self.per_layer, Mapping):
            one_of("per_layer", self.per_layer, DISTRIBUTIONS)
            if self.sparsity is None and self.pattern.sparsity is None:
                remedy = "give the share of weights to remove, e.g. sparsity=0.8, or per_layer={name: share}"
                raise InputError("sparsity", "is missing", remedy)
        one_of("normalise", self.normalise, (True, False))
        one_of("policy", self.policy, ("independent", "greedy"))
        one_of("slow_layers", self.slow_layers, (None, *SLOW_LAYERS))
        if self.machine is not None:
            machine_of(self.machine)
            if isinstance(self.pattern, Filters):
                raise InputError("machine", "is given with pattern filters", "leave it out: what is left is dense")
            if self.slow_layers == "sparser" and self.pattern.sparsity is not None:
                remedy = f"use dense: {self.pattern} removes {self.pattern.sparsity:g} or nothing"
                raise InputError("slow_layers", f"is 'sparser' with pattern {self.pattern}", remedy)
        elif self.slow_layers is not None:
            remedy = "give machine as well: which layers are slow is judged by its numbers"
            raise InputError("slow_layers", f"is {self.slow_layers!r} without a machine", remedy)
        one_of("method", self.method, (None, *METHODS))
        if self.method is not None:
            self._method(self.method)

    def _method(self, name: str) -> PruneMethod:
        """The method with its options. Raises InputError for one it does not take."""
        known = [item.name for item in fields(METHODS[name])]  # type: ignore[arg-type]
        if unknown := sorted(set(self.options) - set(known)):
            raise InputError("prune", f"unknown option {unknown[0]!r}", f"method {name} takes {', '.join(known)}")
        return METHODS[name](**self.options)

    def chosen(self, given: bool) -> PruneMethod:
        """The method, by whether calibration data is given. Raises InputError if it needs what is not."""
        method = self._method(self.method or ("reconstruct" if given else "magnitude"))
        if method.needs_data and not given:
            remedy = "give sample inputs (calibration=, --calibration DATA.npz), or use method=magnitude"
            raise InputError("calibration", f"is missing, and method {method.name} learns from it", remedy)
        return method

    def reduced(self, network: Network) -> Network:
        """The network without the filters that go, where these are what is pruned; else as it is."""
        if not isinstance(self.pattern, Filters):
            return network
        shares: float | Mapping[str, float]
        if isinstance(self.per_layer, Mapping):
            shares = named(self.per_layer, users_of(network), "per_layer")
        elif self.per_layer != "uniform":
            remedy = "norms of filters do not compare between layers: use uniform, or name the layers"
            raise InputError("per_layer", f"is {self.per_layer!r} with pattern filters", remedy)
        else:
            shares = self.sparsity or 0.0
        return prune_filters(network, shares, policy=self.policy)

    def pruner(self, network: Network, placement: Placement, samples: list[Feeds], given: bool) -> LayerPruner:
        """What to do with each weight of a prepared network."""
        weights = placement.weights
        if isinstance(self.pattern, Filters):
            return LayerPruner(MagnitudeMethod(), self.pattern, {}, dict.fromkeys(weights, ""))
        method = self.chosen(given)
        left = {name: f"kept: {reason}" for name, layout in weights.items() if (reason := self.pattern.unfit(layout))}
        layers = {name: (layout, groups_of(network, name)) for name, layout in weights.items() if name not in left}

        def curves() -> Mapping[str, list[tuple[float, float]]]:
            if not given:
                remedy = "give sample inputs (calibration=, --calibration DATA.npz), or another per_layer"
                raise InputError("calibration", "is missing, and per_layer='sensitivity' measures with it", remedy)
            few = samples[:: -(-len(samples) // MOST_SCANNED)]
            return scan(network, layers, few, self.pattern).curves()

        found, remark = densities(
            network, layers, users_of(network), self.pattern, self.sparsity, self.per_layer, self.normalise, curves
        )
        if remark:
            network._remarks.append(remark)
        reasons: dict[str, str] = {}
        if self.machine is not None:
            slow = self.slow_layers or "dense"
            fixed = self.pattern.sparsity is not None
            found, reasons, remark = guided(network, found, machine_of(self.machine), slow, fixed)
            network._remarks.append(remark)
        left.update({name: "kept: not pruned" for name, density in found.items() if density >= 1} | reasons)
        return LayerPruner(method, self.pattern, found, left)
