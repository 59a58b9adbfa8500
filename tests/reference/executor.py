"""Runs the unfused graph node by node; every value is float32, every operator computes in float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.reference import conv, elementwise, linear, normalization, pooling, quantize, shape_ops, winograd
from tests.reference.arrays import Array, Attributes
from tests.reference.container import parse
from tests.reference.decoders import decode

OPERATORS: dict[str, Callable[[list[Array | None], Attributes], Array]] = {
    "Add": elementwise.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalization.batch_normalization,
    "BipolarQuant": quantize.bipolar_quant,
    "Clip": elementwise.clip,
    "Concat": shape_ops.concat,
    "Conv": conv.conv,
    "ConvInteger": quantize.conv_integer,
    "DequantizeLinear": quantize.dequantize_linear,
    "Div": elementwise.div,
    "Dropout": shape_ops.identity,
    "Flatten": shape_ops.flatten,
    "Gemm": linear.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Identity": shape_ops.identity,
    "LRN": normalization.lrn,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": linear.matmul,
    "MatMulInteger": quantize.matmul_integer,
    "MaxPool": pooling.max_pool,
    "Mul": elementwise.mul,
    "MultiThreshold": quantize.multi_threshold,
    "Pad": shape_ops.pad,
    "Quant": quantize.quant,
    "QuantizeLinear": quantize.quantize_linear,
    "Relu": elementwise.relu,
    "Reshape": shape_ops.reshape,
    "Sigmoid": elementwise.sigmoid,
    "Softmax": normalization.softmax,
    "Squeeze": shape_ops.squeeze,
    "Sub": elementwise.sub,
    "Tanh": elementwise.tanh,
    "Transpose": shape_ops.transpose,
    "Trunc": quantize.trunc,
    "Unsqueeze": shape_ops.unsqueeze,
    "WinogradConv": winograd.winograd_conv,
}


@dataclass(frozen=True)
class Node:
    """One operator of the graph."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferenceNetwork:
    """A graph with its constants decoded."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    metadata: dict[str, str] = field(default_factory=dict)


def load_file(data: bytes) -> ReferenceNetwork:
    """The network in the bytes of a `.bittern` file."""
    graph, leaves = parse(data)
    nodes = [
        Node(node["op"], tuple(node["inputs"]), tuple(node["outputs"]), node.get("attributes", {}))
        for node in graph["nodes"]
    ]
    return ReferenceNetwork(
        inputs=tuple(value["name"] for value in graph["inputs"]),
        outputs=tuple(value["name"] for value in graph["outputs"]),
        nodes=tuple(nodes),
        constants={name: decode(tree, leaves) for name, tree in graph.get("constants", {}).items()},
        metadata=graph.get("metadata", {}),
    )


def apply(op: str, inputs: Sequence[Array | None], attributes: Mapping[str, Any] | None = None) -> Array:
    """One operator on arrays."""
    return OPERATORS[op](list(inputs), dict(attributes or {}))


def run(network: ReferenceNetwork, feeds: Mapping[str, Array], taps: Sequence[str] = ()) -> dict[str, Array]:
    """All graph outputs, and the values named in taps."""
    assert set(feeds) == set(network.inputs)
    values: dict[str, Array] = {**network.constants, **feeds}
    for node in network.nodes:
        inputs = [values[name] if name else None for name in node.inputs]
        assert len(node.outputs) == 1
        values[node.outputs[0]] = apply(node.op, inputs, node.attributes)
    return {name: values[name] for name in (*network.outputs, *taps)}
