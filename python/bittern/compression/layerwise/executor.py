"""A network run node by node, so that a layer can be changed before the next one sees its output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense, Encoding
from bittern.graph import Node
from bittern.model import Model, load
from bittern.network import Network
from bittern.values import NUMPY_TYPES

Feeds = dict[str, NDArray[Any]]
TYPES = {numpy: ours for ours, numpy in NUMPY_TYPES.items()}


class Values:
    """The values of every sample, kept as long as a node still needs them."""

    def __init__(self, network: Network, samples: list[Feeds]) -> None:
        self._left = Counter(name for node in network.nodes for name in set(node.inputs))
        self._left.update(info.name for info in network.outputs)
        self.samples = [dict(sample) for sample in samples]

    def __getitem__(self, name: str) -> list[NDArray[Any]]:
        return [sample[name] for sample in self.samples]

    def __setitem__(self, name: str, arrays: list[NDArray[Any]]) -> None:
        for sample, array in zip(self.samples, arrays, strict=True):
            sample[name] = array

    def done(self, node: Node) -> None:
        """Forget what no later node needs."""
        for name in set(node.inputs):
            self._left[name] -= 1
            if self._left[name] == 0:
                for sample in self.samples:
                    sample.pop(name, None)


def run_node(
    node: Node, constants: Mapping[str, Encoding | NDArray[Any]], values: Values, kept: list[str] | None = None
) -> None:
    """Compute the node's outputs for every sample."""
    data = [name for name in dict.fromkeys(node.inputs) if name and name not in constants]
    model: Model | None = None
    shapes: list[tuple[int, ...]] = []
    for sample in values.samples:
        arrays = {name: sample[name] for name in data}
        found = [array.shape for array in arrays.values()]
        if model is None or found != shapes:
            model, shapes = _single(node, constants, arrays), found
        sample.update(model.run(arrays))


def _single(node: Node, constants: Mapping[str, Encoding | NDArray[Any]], arrays: Feeds) -> Model:
    network = Network(node.name)
    for name, array in arrays.items():
        network.add_input(name, array.shape, TYPES[array.dtype.name])
    for name in dict.fromkeys(node.inputs):
        if name in constants:
            value = constants[name]
            network.add_constant(name, Dense(value) if isinstance(value, np.ndarray) else value)
    network.add_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
    network.set_outputs([name for name in node.outputs if name])
    return load(network)
