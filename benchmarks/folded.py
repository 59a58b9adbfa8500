"""An ONNX network as a plain list of steps, batch normalisation folded in, for engines without a reader."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Step:
    """One operator: what it reads, the value it gives, its attributes, its constants by position."""

    op: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]
    constants: dict[int, Array] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(self.inputs)}) -> {self.output}"


@dataclass
class Folded:
    """A network with one input and one output."""

    input: str
    output: str
    steps: list[Step]

    @property
    def uses(self) -> Counter[str]:
        """How many steps read each value; the output counts as read once more."""
        counts = Counter(name for step in self.steps for name in step.inputs)
        counts[self.output] += 1
        return counts


def read_folded(path: Path) -> Folded:
    """Read a file that networks.py wrote. ValueError for networks with several inputs or outputs."""
    import onnx
    from onnx import helper, numpy_helper

    graph = onnx.load(str(path)).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ValueError(f"{path}: {len(inputs)} inputs and {len(graph.output)} outputs, one of each is allowed")
    steps = []
    for node in graph.node:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        held = {place: constants[name] for place, name in enumerate(node.input) if name in constants}
        values = [name for name in node.input if name and name not in constants]
        steps.append(Step(node.op_type, values, node.output[0], attributes, held))
    return _fold(Folded(inputs[0], graph.output[0].name, steps))


def _fold(network: Folded) -> Folded:
    """Merge every batch normalisation into the convolution before it, where nothing else reads that one's output."""
    uses = network.uses
    makers: dict[str, Step] = {}
    kept = []
    for step in network.steps:
        maker = makers.get(step.inputs[0])
        if step.op == "BatchNormalization" and maker is not None and maker.op == "Conv" and uses[maker.output] == 1:
            scale, bias, mean, variance = (step.constants[place].astype(np.float64) for place in (1, 2, 3, 4))
            factor = scale / np.sqrt(variance + step.attributes.get("epsilon", 1e-5))
            weights = maker.constants[1].astype(np.float64)
            old_bias = maker.constants.get(2, np.zeros(len(weights)))
            maker.constants[1] = (weights * factor[:, None, None, None]).astype(np.float32)
            maker.constants[2] = ((old_bias - mean) * factor + bias).astype(np.float32)
            maker.output = step.output
            makers[step.output] = maker
            continue
        kept.append(step)
        makers[step.output] = step
    return Folded(network.input, network.output, kept)
