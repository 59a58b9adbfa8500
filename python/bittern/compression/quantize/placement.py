"""Where activations are quantised: which values between the layers, and which of those share a scale."""

from __future__ import annotations

from collections import Counter

from bittern.compression.layerwise.weights import Placement
from bittern.graph import Node
from bittern.network import Network
from bittern.shapes import infer_shapes

# The output holds only elements of the inputs, so that codes can be moved instead.
MOVES = (
    *("MaxPool", "GlobalMaxPool", "Concat", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity"),
    *("Dropout", "Slice", "Split", "Expand", "Tile", "Gather", "DepthToSpace", "SpaceToDepth"),
)
SEVERAL = ("Concat",)  # moves with more than one data input
ARITHMETIC = ("Add", "Sub", "Mul", "AveragePool", "GlobalAveragePool")
CLAMPS = ("Relu", "Clip")  # may vanish in the saturation of the quantiser that follows


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
