"""The weights of a network that a method changes, and how each is laid out."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from bittern.compression.layerwise.grid import Layout
from bittern.compression.layerwise.prepare import LAYERS
from bittern.encodings import Seeded
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network
from bittern.operators import OPERATORS


@dataclass
class Placement:
    """``values``: quantised values, in order; ``root[v]``: the value whose scale ``v`` takes."""

    weights: dict[str, Layout] = field(default_factory=dict)  # weights to quantise
    layers: dict[str, Node] = field(default_factory=dict)  # by name, those whose inputs are quantised
    values: list[str] = field(default_factory=list)
    root: dict[str, str] = field(default_factory=dict)


def layout_of(node: Node, index: int, shape: tuple[int, ...]) -> Layout | None:
    """How the weight at input ``index`` is laid out; None if it is not for methods that go layer by layer."""
    if node.op == "Conv":
        return Layout(shape, 0, 1) if len(shape) > 1 else None
    if node.op == "ConvTranspose":
        return Layout(shape, 1, 0) if len(shape) > 1 else None
    if node.op in ("LSTM", "GRU", "RNN"):
        return Layout(shape, 1, 2)
    if len(shape) < 2 or node.op == "WinogradConv":  # whose inputs are no pixels
        return None
    if node.op == "Gemm" and node.attributes.get("transB", 0):
        return Layout(shape, 0, 1)
    return Layout(shape, len(shape) - 1, len(shape) - 2)


def find_weights(
    network: Network, excluded: Collection[str] = (), first: bool = True, last: bool = True, kernels: str = "all"
) -> Placement:
    """The weights to quantise, without those of excluded names (of weights or nodes), and the layers they serve.

    ``kernels``: "spatial" for those of convolutions of several places alone, "pointwise" for all others.
    """
    made = Placement()
    users: dict[str, list[Node]] = {}
    for node in network.nodes:
        for index in OPERATORS[node.op].weights:
            name = node.inputs[index] if index < len(node.inputs) else ""
            if name not in network.constants or not network.constants[name].is_real:
                continue
            if isinstance(network.constants[name], Seeded):  # nothing to gain; what follows was fitted to it
                if node.name not in excluded and _runs_in_integers(node, network):
                    made.layers[node.name] = node
                continue
            layout = layout_of(node, index, network.constants[name].shape)
            if layout is not None and network.constants[name].size:
                users.setdefault(name, []).append(node)
                made.weights.setdefault(name, layout)
    names = list(made.weights)
    out = {name for name in names if name in excluded or any(node.name in excluded for node in users[name])}
    if names and not first:
        out.add(names[0])
    if names and not last:
        out.add(names[-1])
    if kernels != "all":
        out |= {name for name in names if _is_spatial(name, users[name], network) != (kernels == "spatial")}
    for name in out:
        del made.weights[name]
    for name in made.weights:
        made.layers.update({node.name: node for node in users[name] if _runs_in_integers(node, network)})
    return made


def _is_spatial(name: str, users: list[Node], network: Network) -> bool:
    """Whether convolutions use the weight, at more than one place of the map."""
    places = math.prod(network.constants[name].shape[2:])
    return places > 1 and all(node.op in ("Conv", "ConvTranspose") for node in users)


def _runs_in_integers(node: Node, network: Network) -> bool:
    """Whether the layer takes quantised inputs: one known weight, no transposition, no factors left."""
    if node.op not in LAYERS or node.inputs[0] in network.constants:
        return False
    plain = all(node.attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
    rank = len(network.constants[node.inputs[1]].shape)
    return plain and not node.attributes.get("transA", 0) and (node.op == "Conv" or rank == 2)


def known_names(network: Network) -> tuple[set[str], set[str]]:
    """The names of all weights, and of all nodes."""
    weights = {
        node.inputs[index]
        for node in network.nodes
        for index in OPERATORS[node.op].weights
        if index < len(node.inputs) and node.inputs[index] in network.constants
    }
    return weights, {node.name for node in network.nodes}


def check_names(network: Network, place: str, names: Collection[str]) -> None:
    """Raises InputError for a name that is neither a weight's nor a node's."""
    weights, nodes = known_names(network)
    if unknown := [name for name in names if name not in weights | nodes]:
        remedy = f"use weights: {', '.join(sorted(weights))}; or nodes"
        raise InputError(place, f"no weight or node is named {unknown[0]!r}", remedy)


def groups_of(network: Network, weight: str) -> int:
    """The groups of the first convolution that uses the weight; 1 for other layers."""
    node = next((node for node in network.nodes if weight in node.inputs), None)
    groups = node.attributes.get("group", 1) if node is not None and node.op == "Conv" else 1
    return groups if isinstance(groups, int) else 1


def users_of(network: Network) -> dict[str, list[str]]:
    """The nodes that use each weight, by name, in the order of the graph."""
    found: dict[str, list[str]] = {}
    for node in network.nodes:
        for index in OPERATORS[node.op].weights if node.op in OPERATORS else ():
            name = node.inputs[index] if index < len(node.inputs) else ""
            if name in network.constants and network.constants[name].is_real:
                found.setdefault(name, []).append(node.name)
    return found
