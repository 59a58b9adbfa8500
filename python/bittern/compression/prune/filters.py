"""Whole filters by their L1 norm (Li et al., Pruning Filters for Efficient ConvNets, arXiv 1608.08710)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bittern.compression.layerwise.options import one_of
from bittern.compression.layerwise.weights import check_names
from bittern.compression.prune.channels import without
from bittern.compression.prune.coupling import Couplings
from bittern.compression.prune.targets import checked_sparsity
from bittern.errors import UnsupportedError
from bittern.graph import Node
from bittern.network import Network


@dataclass
class _Unit:
    """Layers whose output channels go together, and what represents each of these channels."""

    roots: set[int]
    layers: list[Node] = field(default_factory=list)
    held: str = ""  # why none may go


def prune_filters(network: Network, sparsity: float | Mapping[str, float], *, policy: str = "independent") -> Network:
    """A copy of ``network`` without a share of the filters of each Conv, Gemm and MatMul: those of least L1 norm.

    ``sparsity``: the share for all layers, or by weight or node (others keep all). ``policy``: "independent" takes the
    norms of the weights as they are; "greedy" leaves out what met channels that an earlier layer has lost. Layers whose
    outputs are added up lose the same filters: those of least norm in the 1x1 convolutions of a shortcut, or in sum
    where there is none. Layers that feed outputs of the network, convolutions in groups or nodes that cannot be
    followed keep all; the remarks of the summary name them.

    Raises InputError for a share that is not from 0 to below 1 and for unknown names, UnsupportedError if no layer may
    lose filters.
    """
    one_of("policy", policy, ("independent", "greedy"))
    if isinstance(sparsity, Mapping):
        check_names(network, "sparsity", list(sparsity))
        shares = {name: checked_sparsity(f"sparsity of {name}", value) for name, value in sparsity.items()}
    else:
        shares = {}
        checked_sparsity("sparsity", sparsity)
    couplings = Couplings(network)
    removed: set[int] = set()
    kept: list[str] = []
    for unit in _units(couplings):
        named = [shares[key] for node in unit.layers for key in (node.inputs[1], node.name) if key in shares]
        share = (max(named) if named else 0.0) if isinstance(sparsity, Mapping) else float(sparsity)
        count = int(share * len(unit.roots) + 1e-9)
        if not count:
            continue
        if unit.held:
            kept += [node.name for node in unit.layers]
            continue
        norms = _norms(couplings, unit, removed if policy == "greedy" else set())
        removed.update(sorted(norms, key=lambda root: (norms[root], root))[:count])
    if kept and not removed:
        reason = next(unit.held for unit in _units(couplings) if unit.held)
        raise UnsupportedError("filters", f"no layer may lose any: {reason}", "use another pattern")
    made = without(couplings, removed)
    elements = sum(network.constants[name].size for name in network.constants if network.constants[name].is_real)
    left = sum(tree.size for tree in made.constants.values() if tree.is_real)
    made._remarks.append(f"{len(removed)} filters removed, {left:,} of {elements:,} numbers left")
    if kept:
        made._remarks.append(f"kept all filters of {', '.join(kept)}")
    return made


def _units(couplings: Couplings) -> list[_Unit]:
    """Layers that make channels, those together that share some, in the order of the graph."""
    pins = couplings.pins()
    grouped = {root for name in couplings.grouped for root in couplings.roots(name).tolist()}
    units: list[_Unit] = []
    for node in couplings.network.nodes:
        makes = node.op in ("Conv", "Gemm", "MatMul") and couplings.flow.get(node.outputs[0]) is not None
        if not makes or couplings.flow[node.outputs[0]].kind != "fresh" or couplings.weight(node) is None:
            continue
        roots = set(couplings.roots(node.outputs[0]).tolist())
        unit = _Unit(set(roots), [node])
        for other in [unit_ for unit_ in units if unit_.roots & roots]:
            unit = _Unit(other.roots | unit.roots, [*other.layers, *unit.layers])
            units.remove(other)
        units.append(unit)
    for unit in units:
        found = next((pins[root] for root in sorted(unit.roots) if root in pins), None)
        if found is not None:
            unit.held = found[1]
        elif unit.roots & grouped:
            unit.held = "a convolution in groups needs as many channels of each"
    return units


def _norms(couplings: Couplings, unit: _Unit, gone: set[int]) -> dict[int, float]:
    """The L1 norm of what makes each channel, without what meets channels that are ``gone``."""
    added = {name for node in couplings.network.nodes if node.op in ("Add", "Sum") for name in node.inputs}
    shortcuts = [
        node
        for node in unit.layers
        if node.op == "Conv" and _kernel(couplings, node) == 1 and node.outputs[0] in added and len(unit.layers) > 1
    ]
    several = [node for node in shortcuts if any(_kernel(couplings, other) > 1 for other in unit.layers)]
    total = dict.fromkeys(sorted(unit.roots), 0.0)
    for node in several or unit.layers:
        weight = np.abs(couplings.network.constants[node.inputs[1]].decode().astype(np.float64))
        rows_out = node.op == "Conv" or bool(node.attributes.get("transB", 0))
        rows = weight if rows_out else weight.T
        x = node.inputs[0]
        if x in couplings.of and couplings.of[x].ids.size == rows.shape[1]:
            stay = np.array([root not in gone for root in couplings.roots(x).tolist()], dtype=np.bool_)
            rows = rows[:, stay]
        norms = rows.reshape(rows.shape[0], -1).sum(axis=1)
        for root, norm in zip(couplings.roots(node.outputs[0]).tolist(), norms.tolist(), strict=True):
            total[root] += norm
    return total


def _kernel(couplings: Couplings, node: Node) -> int:
    return int(np.prod((couplings.weight(node) or ())[2:]))
