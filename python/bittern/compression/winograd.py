"""Pruning in Winograd's domain: 3x3 convolutions with most of their transformed weights left out.

Liu, Pool, Han, Dally, Efficient sparse-Winograd convolutional neural networks (arXiv 1802.06367; its workshop form:
openreview r1rqJyHKg). A kernel g with zeros has few of them left in G g G^T, so G g G^T itself is pruned. The papers
retrain afterwards, and put the ReLU behind the input transform (``relu`` of the operator WinogradConv): with that a
network trained in the spatial domain would compute another function, so this recipe leaves it off.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.calibration import samples_of
from bittern.compression.layerwise.executor import Values, run_node
from bittern.compression.layerwise.options import number_in, one_of
from bittern.compression.layerwise.prepare import prepare, rebuilt
from bittern.compression.layerwise.walk import decibels
from bittern.compression.layerwise.weights import check_names
from bittern.compression.zeros import sparse_form
from bittern.encodings import Dense, Encoding
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network, unique

Progress = Callable[[int, int, str], None]
SAMPLES = 32  # looked at for errors of outputs

_KERNEL: dict[int, list[list[float]]] = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def winograd_weights(weight: NDArray[Any], m: int) -> NDArray[np.float32]:
    """``G g G^T`` of kernels ``[K, C, 3, 3]``, ``[K, C, m+2, m+2]``: computed in float64, rounded once. ``m``: 2 or 4.

    The weights with which WinogradConv computes what Conv does with ``weight`` (Lavin, Gray, arXiv 1509.09308).
    """
    g = np.array(_KERNEL[one_of("m", m, (2, 4))])
    return np.asarray(g @ weight.astype(np.float64) @ g.T, np.float32)


def prune_positions(weight: NDArray[np.float32], density: float) -> NDArray[np.float32]:
    """The share ``density`` of the numbers ``[K, C, T, T]``, those largest beside the deviation of their position.

    Positions of a tile differ in scale, those of larger tiles much: one threshold would empty whole positions. Of
    equal numbers the first stay.
    """
    spread = np.sqrt(np.mean(np.square(weight.astype(np.float64)), axis=(0, 1)))
    score = np.abs(weight) / np.where(spread > 0, spread, 1)
    order = np.argsort(-score.reshape(-1), kind="stable")
    pruned = np.zeros(weight.size, np.float32)
    kept = order[: int(np.ceil(density * weight.size - 1e-9))]
    pruned[kept] = weight.reshape(-1)[kept]
    return pruned.reshape(weight.shape)


@dataclass(frozen=True)
class Winograd:
    """The recipe: tiles of ``m`` x ``m`` outputs, of whose weights the share ``density`` stays.

    ``density``: one number, or ``{name: number}`` by weight or node, then of these layers alone.
    """

    density: float | Mapping[str, float] = 0.3
    m: int = 2
    exclude: Collection[str] = ()
    first_layer: bool = False

    def __post_init__(self) -> None:
        given = self.density.items() if isinstance(self.density, Mapping) else [("", self.density)]
        for name, value in given:
            number_in(f"density of {name}" if name else "density", value, 1e-6, 1)
        one_of("m", self.m, (2, 4))
        one_of("first_layer", self.first_layer, (True, False))
        if isinstance(self.exclude, str) or not all(isinstance(name, str) for name in self.exclude):
            raise InputError("exclude", f"is {self.exclude!r}", "give a list of names of weights or nodes")

    def run(self, network: Network, progress: Progress | None = None, calibration: Any = None) -> Network:
        """A copy whose 3x3 convolutions of stride 1 and without groups are WinogradConv. Raises InputError."""
        prepared = prepare(network)
        check_names(prepared, "exclude", self.exclude)
        if isinstance(self.density, Mapping):
            check_names(prepared, "density", list(self.density))
        chosen, notes = self._chosen(prepared)
        taken = set(prepared.constants) | {name for node in prepared.nodes for name in node.outputs}
        taken |= {info.name for info in prepared.inputs}
        constants: dict[str, Encoding] = dict(prepared.constants)
        made: dict[tuple[str, float], str] = {}  # a weight of several nodes stays one
        errors: dict[str, float] = {}
        nodes: list[Node] = []
        for node in prepared.nodes:
            if node.name not in chosen:
                nodes.append(node)
                continue
            weight, density = node.inputs[1], chosen[node.name]
            if (weight, density) not in made:
                exact = winograd_weights(prepared.constants[weight].decode(), self.m)
                pruned = prune_positions(exact, density)
                name = unique(f"{weight}.winograd", taken)
                taken.add(name)
                constants[name] = sparse_form(pruned) or Dense(pruned)
                made[weight, density] = name
                norm = float(np.linalg.norm(exact.astype(np.float64)))
                errors[name] = float(np.linalg.norm(pruned.astype(np.float64) - exact)) / norm if norm else 0.0
                notes[name] = f"F({self.m}x{self.m}, 3x3), pruned to {100 * density:.3g} %"
            attributes: dict[str, Any] = {"m": self.m, "pads": _pads(node)}
            inputs = [node.inputs[0], made[weight, density], *node.inputs[2:]]
            nodes.append(Node(node.name, "WinogradConv", inputs, list(node.outputs), attributes))
            if progress is not None:
                progress(sum(each.op == "WinogradConv" for each in nodes), len(chosen), node.name)
        result = rebuilt(prepared, nodes, constants)
        if calibration is not None:
            few = samples_of(prepared, calibration)
            for name, quality in _qualities(prepared, result, few[:: -(-len(few) // SAMPLES)]).items():
                weight = next(node.inputs[1] for node in nodes if node.name == name)
                notes[weight] += f", output {quality:.1f} dB"
                result._output_errors[weight] = float(10 ** (-quality / 20)) if np.isfinite(quality) else 0.0
        result._errors.update(errors)
        result._notes.update({name: note for name, note in notes.items() if name in result.constants})
        result._remarks.append(f"{len(chosen)} convolutions have their weights in Winograd's domain")
        return result

    def _chosen(self, network: Network) -> tuple[dict[str, float], dict[str, str]]:
        """The nodes to replace with their densities; why weights of other 3x3 convolutions stay."""
        found: dict[str, float] = {}
        notes: dict[str, str] = {}
        convolutions = [node for node in network.nodes if node.op == "Conv" and node.inputs[1] in network.constants]
        for index, node in enumerate(convolutions):
            tree, names = network.constants[node.inputs[1]], (node.inputs[1], node.name)
            if tree.shape[2:] != (3, 3) or not tree.is_real or not tree.size or set(names) & set(self.exclude):
                continue
            named = self.density if isinstance(self.density, Mapping) else dict.fromkeys(names, self.density)
            density = next((named[name] for name in names if name in named), None)
            if density is None or (index == 0 and not self.first_layer and not isinstance(self.density, Mapping)):
                continue
            attributes = node.attributes
            if attributes.get("group", 1) != 1:
                notes[node.inputs[1]] = "kept: a convolution in groups"
            elif any(step != 1 for key in ("strides", "dilations") for step in _numbers(attributes.get(key, []))):
                notes[node.inputs[1]] = "kept: its stride or dilation is not 1"
            else:
                found[node.name] = float(density)
        return found, notes


def _numbers(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _pads(node: Node) -> list[int]:
    """Of a 3x3 kernel of stride 1: both ways of keeping the size pad by one on every side."""
    mode = str(node.attributes.get("auto_pad", "NOTSET"))
    given = _numbers(node.attributes.get("pads", [])) if mode == "NOTSET" else []
    return [1] * 4 if mode.startswith("SAME") else given or [0] * 4


def _qualities(network: Network, changed: Network, samples: list[dict[str, NDArray[Any]]]) -> dict[str, float]:
    """Signal to noise in dB of the outputs of nodes that were replaced, for inputs that replaced layers give."""
    exact, rough = Values(network, samples), Values(changed, samples)
    found: dict[str, float] = {}
    others = {node.name: node for node in changed.nodes}
    for node in network.nodes:
        other = others[node.name]
        run_node(node, network.constants, exact)
        run_node(other, changed.constants, rough)
        if other.op != node.op:
            found[node.name] = decibels(exact[node.outputs[0]], rough[node.outputs[0]])
        exact.done(node)
        rough.done(other)
    return found


def winograd_recipe(options: Mapping[str, Any]) -> Winograd:
    """The recipe with a user's options. Raises InputError that names those that are allowed."""
    known = [item.name for item in fields(Winograd)]
    if unknown := sorted(set(options) - set(known)):
        raise InputError("winograd", f"unknown option {unknown[0]!r}", f"use {', '.join(known)}")
    return Winograd(**options)
