"""Local binary convolution: fixed random filters of -1, 0 and +1, a Relu, and a 1x1 convolution fitted to the layer.

Juefei-Xu, Boddeti, Savvides, Local binary convolutional neural networks (arXiv 1608.06049). The paper trains the 1x1
weights from scratch; here they are those of least square error for calibration data, layer after layer, for the inputs
that the layers before, already replaced, give.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.calibration import samples_of
from bittern.compression.layerwise.executor import Values, run_node
from bittern.compression.layerwise.grid import Floats
from bittern.compression.layerwise.options import number_in, one_of, whole_in
from bittern.compression.layerwise.prepare import prepare, rebuilt
from bittern.compression.layerwise.walk import decibels
from bittern.compression.layerwise.weights import check_names
from bittern.encodings import Dense, Seeded
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network, unique

Progress = Callable[[int, int, str], None]
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)  # of the mean of the diagonal


@dataclass(frozen=True)
class LocalBinary:
    """The recipe: ``filters`` random ones for each input channel of a layer, of this ``density`` of non-zeros.

    ``seed``: layer number ``i`` of those replaced has ``seed + i``. ``ridge`` (None: what serves the other half of the
    samples best) is a share of the mean of the diagonal. ``bits``: 32 or 16, of the 1x1 weights.
    """

    filters: float = 4.0
    density: float = 0.5
    seed: int = 0
    ridge: float | None = None
    bits: int = 32
    samples: int = 32
    exclude: Collection[str] = ()
    first_layer: bool = False

    def __post_init__(self) -> None:
        number_in("filters", self.filters, 0.1, 64)
        number_in("density", self.density, 0.001, 1)
        whole_in("seed", self.seed, 0, 2**62)
        if self.ridge is not None:
            number_in("ridge", self.ridge, 0, 1e3)
        one_of("bits", self.bits, (16, 32))
        whole_in("samples", self.samples, 1, 2**31)
        one_of("first_layer", self.first_layer, (True, False))
        if isinstance(self.exclude, str) or not all(isinstance(name, str) for name in self.exclude):
            raise InputError("exclude", f"is {self.exclude!r}", "give a list of names of weights or nodes")

    def run(self, network: Network, progress: Progress | None = None, calibration: Any = None) -> Network:
        """A copy with convolutions replaced where that is smaller. Raises InputError for data that does not fit."""
        prepared = prepare(network)
        check_names(prepared, "exclude", self.exclude)
        samples = samples_of(prepared, calibration)
        few = samples[:: -(-len(samples) // self.samples)]
        chosen, notes = self._chosen(prepared)
        exact, rough = Values(prepared, few), Values(prepared, few)
        taken = set(prepared.constants) | {name for node in prepared.nodes for name in (*node.outputs, *node.inputs)}
        taken |= {info.name for info in prepared.inputs}
        node_names = {node.name for node in prepared.nodes}
        constants: dict[str, Any] = dict(prepared.constants)
        nodes: list[Node] = []
        errors: dict[str, float] = {}
        done = 0
        for node in prepared.nodes:
            run_node(node, prepared.constants, exact)
            if node.name in chosen:
                made, added = self._replacement(node, prepared, done, taken, node_names)
                constants.update(added)
                for part in made[:2]:
                    run_node(part, constants, rough)
                weight, bias = self._fitted(rough[made[1].outputs[0]], exact[node.outputs[0]])
                constants[made[2].inputs[1]] = Dense(weight if self.bits == 32 else weight.astype(np.float16))
                constants[made[2].inputs[2]] = Dense(bias)
                run_node(made[2], constants, rough)
                for sample in rough.samples:
                    for part in made[:2]:
                        sample.pop(part.outputs[0], None)
                quality = decibels(exact[node.outputs[0]], rough[node.outputs[0]])
                name = made[2].inputs[1]
                errors[name] = float(10 ** (-quality / 20)) if np.isfinite(quality) else 0.0
                notes[name] = f"{weight.shape[1]} random filters, output {quality:.1f} dB"
                nodes.extend(made)
                done += 1
                if progress is not None:
                    progress(done, len(chosen), node.name)
            else:
                run_node(node, constants, rough)
                nodes.append(node)
            exact.done(node)
            rough.done(node)
        result = rebuilt(prepared, nodes, constants)
        result._notes.update({name: note for name, note in notes.items() if name in result.constants})
        result._output_errors.update(errors)
        kind = "" if calibration is not None else "random "
        result._remarks.append(f"{done} convolutions replaced, fitted on {len(few)} {kind}samples")
        return result

    def _chosen(self, network: Network) -> tuple[set[str], dict[str, str]]:
        """The names of the nodes to replace; and why weights of other convolutions of several places stay."""
        convolutions = [node for node in network.nodes if node.op == "Conv" and node.inputs[1] in network.constants]
        found: set[str] = set()
        notes: dict[str, str] = {}
        for index, node in enumerate(convolutions):
            tree = network.constants[node.inputs[1]]
            names = {node.name, node.inputs[1]}
            if len(tree.shape) != 4 or tree.shape[2] * tree.shape[3] == 1 or not tree.is_real or not tree.size:
                continue
            if names & set(self.exclude) or (index == 0 and not self.first_layer):
                continue
            outputs, inputs = tree.shape[:2]
            if node.attributes.get("group", 1) != 1:
                notes[node.inputs[1]] = "kept: a convolution in groups"
            elif node.inputs[0] in network.constants:
                notes[node.inputs[1]] = "kept: its input is a constant"
            elif self._filters(inputs) * outputs * self.bits // 8 >= tree.nbytes:
                notes[node.inputs[1]] = "kept: random filters and their mixture are not smaller"
            else:
                found.add(node.name)
        return found, notes

    def _filters(self, inputs: int) -> int:
        return max(1, int(np.ceil(self.filters * inputs)))

    def _replacement(
        self, node: Node, network: Network, number: int, taken: set[str], node_names: set[str]
    ) -> tuple[list[Node], dict[str, Any]]:
        """Convolution with random filters, Relu, 1x1 convolution; and the filters by name."""

        def fresh(wanted: str, names: set[str]) -> str:
            name = unique(wanted, names)
            names.add(name)
            return name

        _, inputs, height, width = network.constants[node.inputs[1]].shape
        count = self._filters(inputs)
        weight, result = node.inputs[1], node.outputs[0]
        filters, mixture = fresh(f"{weight}.filters", taken), fresh(f"{weight}.mixture", taken)
        bias = fresh(f"{weight}.mixture_bias", taken)
        raw, positive = fresh(f"{result}_raw", taken), fresh(f"{result}_positive", taken)
        attributes = {key: value for key, value in node.attributes.items() if key != "kernel_shape"}
        nodes = [
            Node(fresh(f"{node.name}_filters", node_names), "Conv", [node.inputs[0], filters], [raw], attributes),
            Node(fresh(f"{node.name}_relu", node_names), "Relu", [raw], [positive]),
            Node(node.name, "Conv", [positive, mixture, bias], [result]),
        ]
        shape = (count, height, width, inputs)
        return nodes, {filters: Seeded.of(shape, self.density, self.seed + number, order="OHWI")}

    def _fitted(
        self, inputs: list[NDArray[Any]], targets: list[NDArray[Any]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weights ``[outputs, filters, 1, 1]`` and biases that make ``targets`` of ``inputs``, both maps, nearly."""
        size, outputs = inputs[0].shape[1] + 1, targets[0].shape[1]
        squares, products = np.zeros((2, size, size)), np.zeros((2, size, outputs))
        for index, (maps, target) in enumerate(zip(inputs, targets, strict=True)):
            rows = np.moveaxis(maps, 1, -1).reshape(-1, size - 1).astype(np.float64)
            rows = np.concatenate([rows, np.ones((rows.shape[0], 1))], axis=1)
            wanted = np.moveaxis(target, 1, -1).reshape(-1, outputs).astype(np.float64)
            squares[index % 2] += rows.T @ rows
            products[index % 2] += rows.T @ wanted
        if not np.isfinite(squares).all() or not np.isfinite(products).all():
            raise InputError("calibration", "gives values that are not finite", "leave those samples out")
        ridge = self.ridge if self.ridge is not None else _best_ridge(squares, products)
        found = _solved(squares.sum(axis=0), products.sum(axis=0), ridge).T
        return found[:, :-1, np.newaxis, np.newaxis].astype(np.float32), found[:, -1].astype(np.float32)


def _best_ridge(squares: Floats, products: Floats) -> float:
    """The ridge with which each half of the samples says most about the other."""
    if not squares[0].any() or not squares[1].any():
        return RIDGES[2]
    costs = []
    for ridge in RIDGES:
        found = [_solved(squares[half], products[half], ridge) for half in range(2)]
        costs.append(
            sum(
                float(np.sum(x * (squares[1 - half] @ x)) - 2 * np.sum(x * products[1 - half]))
                for half, x in enumerate(found)
            )
        )
    return RIDGES[int(np.argmin(costs))]


def _solved(squares: Floats, products: Floats, ridge: float) -> Floats:
    """The least-squares solution; what no filter ever gives, or gives twice, is left to the ridge."""
    n = squares.shape[0]
    weight = ridge * float(np.trace(squares)) / n
    penalty = np.full(n, max(weight, 1e-12))
    penalty[-1] = 1e-12  # the bias is free
    return np.asarray(np.linalg.solve(squares + np.diag(penalty), products))


def local_binary_recipe(options: Mapping[str, Any]) -> LocalBinary:
    """The recipe with a user's options. Raises InputError that names those that are allowed."""
    known = [item.name for item in fields(LocalBinary)]
    if unknown := sorted(set(options) - set(known)):
        raise InputError("local-binary", f"unknown option {unknown[0]!r}", f"use {', '.join(known)}")
    return LocalBinary(**options)
