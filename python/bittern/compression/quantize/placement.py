"""Where a network is quantised: which layers, which values between them, and which of those share a scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from bittern.compression.quantize.grid import Layout
from bittern.compression.quantize.prepare import LAYERS
from bittern.graph import Node
from bittern.network import Network
from bittern.operators import OPERATORS
from bittern.shapes import infer_shapes

# The output holds only elements of the inputs, so that codes can be moved instead.
MOVES = (
    *("MaxPool", "GlobalMaxPool", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity"),
    *("Dropout", "Slice", "Split", "Expand", "Tile", "Gather", "DepthToSpace", "SpaceToDepth"),
)
SEVERAL = ("Concat",)  # moves with more than one data input
ARITHMETIC = ("Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool")
CLAMPS = ("Relu", "Clip")  # may vanish in the saturation of the quantiser that follows


@dataclass
class Placement:
    """``values``: quantised values, in order; ``root[v]``: the value whose scale ``v`` takes."""

    weights: dict[str, Layout] = field(default_factory=dict)  # weights to quantise
    layers: dict[str, Node] = field(default_factory=dict)  # by name, those whose inputs are quantised
    values: list[str] = field(default_factory=list)
    root: dict[str, str] = field(default_factory=dict)


def layout_of(node: Node, index: int, shape: tuple[int, ...]) -> Layout | None:
    """How the weight at input ``index`` is laid out; None if it has no output channels of its own."""
    if node.op == "Conv":
        return Layout(shape, 0, 1) if len(shape) > 1 else None
    if node.op == "ConvTranspose":
        return Layout(shape, 1, 0) if len(shape) > 1 else None
    if node.op in ("LSTM", "GRU", "RNN"):
        return Layout(shape, 1, 2)
    if len(shape) < 2:
        return None
    if node.op == "Gemm" and node.attributes.get("transB", 0):
        return Layout(shape, 0, 1)
    return Layout(shape, len(shape) - 1, len(shape) - 2)


def find_weights(network: Network, excluded: Collection[str] = (), first: bool = True, last: bool = True) -> Placement:
    """The weights to quantise, without those of excluded names (of weights or nodes), and the layers they serve."""
    made = Placement()
    users: dict[str, list[Node]] = {}
    for node in network.nodes:
        for index in OPERATORS[node.op].weights:
            name = node.inputs[index] if index < len(node.inputs) else ""
            if name not in network.constants or not network.constants[name].is_real:
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
    for name in out:
        del made.weights[name]
    for name in made.weights:
        made.layers.update({node.name: node for node in users[name] if _runs_in_integers(node, network)})
    return made


def _runs_in_integers(node: Node, network: Network) -> bool:
    """Whether the layer takes quantised inputs: one known weight, no transposition, no factors left."""
    if node.op not in LAYERS or node.inputs[0] in network.constants:
        return False
    plain = all(node.attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
    rank = len(network.constants[node.inputs[1]].shape)
    return plain and not node.attributes.get("transA", 0) and (node.op == "Conv" or rank == 2)


def place_activations(network: Network, made: Placement) -> None:
    """Choose the values to quantise: what layers read, and what leads there through moves and arithmetic."""
    shapes = infer_shapes(network)
    layers = made.layers
    needed: set[str] = set()
    clamped: set[str] = set()  # reach a quantiser through a clamp alone

    def real(name: str) -> bool:
        return bool(name) and name not in network.constants and shapes[name].dtype == "f32"

    for node in reversed(network.nodes):
        if node.name in layers:
            needed.add(node.inputs[0])
        elif node.op in CLAMPS and node.outputs[0] in needed:
            clamped.add(node.inputs[0])
        elif any(output in needed or output in clamped for output in node.outputs):
            data = node.inputs if node.op in (*SEVERAL, *ARITHMETIC) else node.inputs[:1]
            if node.op in (*MOVES, *ARITHMETIC) and all(real(name) for name in data):
                needed.update(data)
    order = [info.name for info in network.inputs] + [output for node in network.nodes for output in node.outputs]
    made.values = [name for name in order if name in needed]
    made.root = {name: name for name in made.values}
    for node in network.nodes:
        if node.op in MOVES and node.op not in SEVERAL and node.inputs[0] in needed:
            for output in node.outputs:
                if output in needed and shapes[output].dtype == "f32":
                    made.root[output] = made.root[node.inputs[0]]


def removable_clamps(network: Network, made: Placement) -> dict[str, Node]:
    """Clamps whose output is quantised and whose input nobody else wants, by output."""
    uses = Counter(name for node in network.nodes for name in node.inputs)
    uses.update(info.name for info in network.outputs)
    made_here = {output for node in network.nodes for output in node.outputs}
    quantised = set(made.values)
    return {
        node.outputs[0]: node
        for node in network.nodes
        if node.op in CLAMPS
        and node.outputs[0] in quantised
        and node.inputs[0] in made_here - quantised
        and uses[node.inputs[0]] == 1
    }
