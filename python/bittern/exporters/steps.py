"""MultiThreshold nodes of one threshold in operators that every ONNX runtime has."""

from __future__ import annotations

import numpy as np

from bittern.encodings import Dense
from bittern.graph import Node
from bittern.network import Network, unique
from bittern.operators import Attribute
from bittern.shapes import infer_shapes


def with_comparisons(network: Network) -> Network:
    """A network in which nodes of one threshold for a value, or one for each channel, are comparisons with it.

    ``out_scale * (x >= t) + out_bias`` by GreaterOrEqual, Cast, Mul and Add: the same float32 numbers.
    Other nodes stay.
    """
    if not any(node.op == "MultiThreshold" for node in network.nodes):
        return network
    shapes = infer_shapes(network)
    result = network.copy()
    nodes, result.nodes = result.nodes, []
    taken = {name for node in nodes for name in (*node.inputs, *node.outputs)} | set(result.constants)
    taken |= {info.name for info in result.inputs}
    titles = {node.name for node in nodes}
    for node in nodes:
        tree = result.constants.get(node.inputs[1]) if node.op == "MultiThreshold" else None
        info = shapes.get(node.inputs[0])
        if tree is None or tree.shape[-1] != 1 or info is None or info.shape is None:
            result.nodes.append(node)
            continue
        rank, layout = len(info.shape), str(node.attributes.get("data_layout", "NCHW"))
        second = layout in ("NCHW", "NCW") and rank > 1 and (layout == "NCW" or rank in (2, 4))
        behind = rank - 2 if second else 0
        value = node.outputs[0]
        numbers = {
            "bound": tree.decode().reshape(-1, *[1] * behind),
            "factor": np.array(node.attributes.get("out_scale", 1.0), np.float32),
            "shift": np.array(node.attributes.get("out_bias", 0.0), np.float32),
        }
        names = {key: unique(f"{value}.{key}", taken) for key in (*numbers, "reached", "count", "scaled")}
        taken |= set(names.values())
        for key, number in numbers.items():
            result.constants[names[key]] = Dense(number)
        steps: tuple[tuple[str, list[str], str, dict[str, Attribute]], ...] = (
            ("GreaterOrEqual", [node.inputs[0], names["bound"]], names["reached"], {}),
            ("Cast", [names["reached"]], names["count"], {"to": "f32"}),
            ("Mul", [names["count"], names["factor"]], names["scaled"], {}),
            ("Add", [names["scaled"], names["shift"]], value, {}),
        )
        for op, inputs, output, attributes in steps:
            title = node.name if output == value else unique(f"{node.name}.{op}", titles)
            titles.add(title)
            result.nodes.append(Node(title, op, inputs, [output], attributes))
    return result
