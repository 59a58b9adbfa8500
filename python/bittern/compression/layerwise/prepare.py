"""A network made ready: normalisation, factors and offsets of channels folded into the layers before them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense
from bittern.graph import Node
from bittern.network import Network, unique
from bittern.shapes import infer_shapes

FOLDED = ("BatchNormalization", "Add", "Mul")
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


def prepare(network: Network, *, fold_norms: bool = True) -> Network:
    """A copy in which neither BatchNormalization nor a sum or product with a constant for each channel follows a layer
    directly, and Gemm has neither alpha nor beta. A MatMul of matrices that gets a bias becomes a Gemm.

    Without ``fold_norms``, BatchNormalization stays as it is, and what follows it too.
    """
    shapes = infer_shapes(network)
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
        layer = next((producers[name] for name in node.inputs if name in producers), None)
        wanted = node.op in FOLDED and (fold_norms or node.op != "BatchNormalization")
        if layer is not None and wanted and uses[layer.outputs[0]] == 1:
            change = _change(node, layer, constants)
            shape = shapes[layer.inputs[0]].shape
            if change is not None and _fold(
                layer, *change, constants, uses, taken, shape is not None and len(shape) == 2
            ):
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


Change = tuple[NDArray[np.float64], NDArray[np.float64]]


def _change(node: Node, layer: Node, constants: dict[str, Any]) -> Change | None:
    """Factor and offset of each channel that the node gives the layer's output; None if it does something else."""
    weight = _numbers(constants, layer.inputs[1])
    if weight is None:
        return None
    channels = weight.shape[_channel_axis(layer, weight.ndim)] * _groups_of_transposed(layer)
    if node.op == "BatchNormalization":
        gamma, beta, mean, variance = (_numbers(constants, name) for name in node.inputs[1:5])
        if node.inputs[0] != layer.outputs[0] or gamma is None or beta is None or mean is None or variance is None:
            return None
        epsilon = node.attributes.get("epsilon", 1e-5)
        factor = gamma / np.sqrt(variance + (float(epsilon) if isinstance(epsilon, (int, float)) else 1e-5))
        return factor, beta - mean * factor
    value = next((_numbers(constants, name) for name in node.inputs if name != layer.outputs[0]), None)
    rank = weight.ndim if layer.op in ("Conv", "ConvTranspose") else 1
    position = rank - 2 if rank > 1 else 0  # counted from the last dimension
    if value is None or value.ndim > max(rank, 2) or value.size not in (1, channels):
        return None
    if value.size != 1 and (value.ndim <= position or value.shape[value.ndim - 1 - position] != channels):
        return None
    spread = np.broadcast_to(value.reshape(-1), channels)
    return (np.ones(channels), spread) if node.op == "Add" else (spread, np.zeros(channels))


def _channel_axis(layer: Node, rank: int) -> int:
    if layer.op == "Conv" or (layer.op == "Gemm" and layer.attributes.get("transB", 0)):
        return 0
    return 1 if layer.op == "ConvTranspose" else rank - 1


def _groups_of_transposed(layer: Node) -> int:
    group = layer.attributes.get("group", 1)
    return group if layer.op == "ConvTranspose" and isinstance(group, int) else 1


def _fold(
    layer: Node,
    factor: NDArray[np.float64],
    offset: NDArray[np.float64],
    constants: dict[str, Any],
    uses: Counter[str],
    taken: set[str],
    is_matrix: bool,
) -> bool:
    """Whether factor and offset are now part of the layer's weight and bias."""
    weight = _numbers(constants, layer.inputs[1])
    has_bias = len(layer.inputs) > 2 and layer.inputs[2] != ""
    bias = _numbers(constants, layer.inputs[2]) if has_bias else np.zeros(())
    if weight is None or bias is None or _groups_of_transposed(layer) != 1:
        return False
    if layer.op == "Gemm" and (layer.attributes.get("alpha", 1) != 1 or layer.attributes.get("beta", 1) != 1):
        return False
    if has_bias and (bias.size not in (1, factor.size) or bias.shape[-1:] not in ((), (bias.size,))):
        return False
    needs_bias = has_bias or bool(offset.any())
    if layer.op == "MatMul" and needs_bias:
        if not is_matrix or weight.ndim != 2:
            return False
        layer.op = "Gemm"
    if (factor != 1).any():
        axis = _channel_axis(layer, weight.ndim)
        along = [-1 if i == axis else 1 for i in range(weight.ndim)]
        _replace(layer, 1, weight * factor.reshape(along), constants, uses, taken)
    if needs_bias:
        _replace(layer, 2, bias.reshape(-1) * factor + offset, constants, uses, taken)
    return True
