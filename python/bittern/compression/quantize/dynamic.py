"""Activations quantised on the fly: to 8 bits, with the range of each input as it comes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bittern.compression.layerwise.prepare import rebuilt
from bittern.compression.layerwise.walk import RECURRENT
from bittern.encodings import Affine, Encoding, Signs, Ternary
from bittern.graph import Node
from bittern.network import Network, unique

PRODUCTS = ("Gemm", "MatMul")


def is_whole(tree: Encoding) -> bool:
    """Whether the elements are whole numbers times scales that do not change along a product's inputs."""
    if isinstance(tree, Ternary):
        return np.array_equal(tree.positive.decode(), tree.negative.decode())
    return isinstance(tree, Signs) or (isinstance(tree, Affine) and tree.group is None)


def quantise_on_the_fly(network: Network, weights: Collection[str]) -> tuple[Network, int, int]:
    """DynamicQuantizeLinear before each product with one of ``weights``; how many products have it now, and how many
    recurrent layers, both of whose matrices are among ``weights`` and whole numbers, do the same in each step.

    The codes' scale and zero point are values of the graph, so such a layer computes in integers at run time without
    calibration. Convolutions keep their inputs: finding the range of large maps costs more than calibration once.
    """
    taken = {name for node in network.nodes for name in (*node.inputs, *node.outputs)} | set(network.constants)
    names = {node.name for node in network.nodes}
    nodes: list[Node] = []
    decoded: dict[str, str] = {}
    found = layers = 0
    for node in network.nodes:
        if node.op in PRODUCTS and node.inputs[1] in weights and node.inputs[0] not in network.constants:
            source = node.inputs[0]
            if source not in decoded:
                values = [unique(f"{source}_{part}", taken) for part in ("quantized", "scale", "zero_point")]
                taken.update(values)
                decoded[source] = unique(f"{source}_dequantized", taken)
                taken.add(decoded[source])
                for op, ends in (
                    ("DynamicQuantizeLinear", ([source], values)),
                    ("DequantizeLinear", (values, [decoded[source]])),
                ):
                    name = unique(f"{source}_{op}", names)
                    names.add(name)
                    nodes.append(Node(name, op, *ends, {}))
            node = Node(node.name, node.op, [decoded[source], *node.inputs[1:]], node.outputs, node.attributes)
            found += 1
        elif node.op in RECURRENT and all(
            name in weights and is_whole(network.constants[name]) for name in node.inputs[1:3]
        ):
            node = Node(node.name, node.op, node.inputs, node.outputs, {**node.attributes, "dynamic_quantization": 1})
            layers += 1
        nodes.append(node)
    return rebuilt(network, nodes, dict(network.constants)), found, layers
