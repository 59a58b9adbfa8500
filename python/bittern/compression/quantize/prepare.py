"""A network made ready: batch normalisation and constant factors folded into the layers before them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense
from bittern.graph import Node
from bittern.network import Network, unique

LAYERS = ("Conv", "Gemm", "MatMul")  # those whose inputs can be quantised


def rebuilt(network: Network, nodes: list[Node], constants: dict[str, Any]) -> Network:
    """A network with these nodes, in a valid order, and those of the constants that they use."""
    made = Network(network.name)
    for info in network.inputs:
        made.add_input(info.name, info.shape or (), info.dtype)
    used = {name for node in nodes for name in node.inputs} | {info.name for info in network.outputs}
    for name, tree in constants.items():
        if name in used:
            made.add_constant(name, tree)
    for node in nodes:
        made.add_node(node.op, node.inputs, node.outputs, node.name, **node.attributes)
    made.outputs, made.metadata = list(network.outputs), dict(network.metadata)
    return made


def prepare(network: Network) -> Network:
    """A copy in which no BatchNormalization follows a layer directly, and Gemm has neither alpha nor beta."""
    constants: dict[str, Any] = dict(network.constants)
    nodes = [
        Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes)) for node in network.nodes
    ]
    uses = Counter(name for node in nodes for name in node.inputs)
    uses.update(info.name for info in network.outputs)
    taken = set(constants) | {name for node in nodes for name in node.outputs} | {info.name for info in network.inputs}
    producers = {node.outputs[0]: node for node in nodes if node.op in (*LAYERS, "ConvTranspose")}
    kept: list[Node] = []
    for node in nodes:
        if node.op == "Gemm":
            _fold_factors(node, constants, uses, taken)
        layer = producers.get(node.inputs[0]) if node.op == "BatchNormalization" else None
        if layer is not None and uses[layer.outputs[0]] == 1 and _fold_norm(node, layer, constants, uses, taken):
            layer.outputs[0] = node.outputs[0]
            producers[node.outputs[0]] = layer
            continue
        kept.append(node)
    return rebuilt(network, kept, constants)


def _numbers(constants: dict[str, Any], name: str) -> NDArray[np.float64] | None:
    return constants[name].decode().astype(np.float64) if name in constants else None


def _replace(
    node: Node, index: int, value: NDArray[np.float64], constants: dict[str, Any], uses: Counter[str], taken: set[str]
) -> None:
    """A new constant in place of an input; under its name if nobody else uses that."""
    single = value.astype(np.float32)
    old = node.inputs[index] if index < len(node.inputs) else ""
    if old and uses[old] == 1:
        constants[old] = Dense(single)
        return
    name = unique(old or f"{node.name}.bias", taken)
    taken.add(name)
    constants[name] = Dense(single)
    uses[name] += 1
    uses[old] -= 1
    node.inputs[index : index + 1] = [name]


def _fold_factors(node: Node, constants: dict[str, Any], uses: Counter[str], taken: set[str]) -> None:
    for key, index in (("alpha", 1), ("beta", 2)):
        factor = node.attributes.get(key, 1.0)
        if factor == 1.0 or not isinstance(factor, (int, float)):
            continue
        value = _numbers(constants, node.inputs[index]) if index < len(node.inputs) and node.inputs[index] else None
        if value is not None:
            _replace(node, index, value * factor, constants, uses, taken)
            del node.attributes[key]


def _fold_norm(norm: Node, layer: Node, constants: dict[str, Any], uses: Counter[str], taken: set[str]) -> bool:
    """Whether the normalisation is now part of the layer's weight and bias."""
    weight = _numbers(constants, layer.inputs[1])
    gamma, beta, mean, variance = (_numbers(constants, name) for name in norm.inputs[1:5])
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] != ""
    bias = _numbers(constants, layer.inputs[2]) if has_bias else None
    group = layer.attributes.get("group", 1)
    if weight is None or gamma is None or beta is None or mean is None or variance is None:
        return False
    if (has_bias and bias is None) or layer.op == "MatMul" or (layer.op == "ConvTranspose" and group != 1):
        return False
    if layer.op == "Gemm" and (layer.attributes.get("alpha", 1) != 1 or layer.attributes.get("beta", 1) != 1):
        return False
    epsilon = norm.attributes.get("epsilon", 1e-5)
    factor = gamma / np.sqrt(variance + (float(epsilon) if isinstance(epsilon, (int, float)) else 1e-5))
    axis = 0 if layer.op == "Conv" or (layer.op == "Gemm" and layer.attributes.get("transB", 0)) else 1
    along = [-1 if i == axis else 1 for i in range(weight.ndim)]
    offset = beta - mean * factor
    _replace(layer, 1, weight * factor.reshape(along), constants, uses, taken)
    _replace(layer, 2, offset if bias is None else bias * factor + offset, constants, uses, taken)
    return True
