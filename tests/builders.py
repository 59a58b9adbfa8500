"""Short ways to build networks for tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np

from tests.reference import ReferenceNetwork, load_file
from tests.reference.arrays import Array

NodeSpec = tuple[str, Sequence[str], str, Mapping[str, Any]]
"""Operator, inputs, output, attributes."""


def network(
    inputs: Mapping[str, Sequence[int | str]],
    constants: Mapping[str, Array],
    nodes: Sequence[NodeSpec],
    outputs: Sequence[str],
) -> bittern.Network:
    """A network of float32 inputs, whose nodes are named after their outputs."""
    net = bittern.Network("test")
    for name, shape in inputs.items():
        net.add_input(name, tuple(shape))
    for name, array in constants.items():
        net.add_constant(name, array)
    for op, sources, target, attributes in nodes:
        net.add_node(op, list(sources), [target], name=f"{target}_node", **attributes)
    net.set_outputs(list(outputs))
    return net


def one_node(
    op: str,
    x: Array,
    constants: Mapping[str, Array] | None = None,
    inputs: Sequence[str] | None = None,
    **attributes: Any,
) -> bittern.Network:
    """A network of one operator: input `x`, output `y`, constants as further inputs unless `inputs` names them."""
    constants = constants or {}
    sources = ["x", *constants] if inputs is None else list(inputs)
    return network({"x": x.shape}, constants, [(op, sources, "y", attributes)], ["y"])


def reference(net: bittern.Network) -> ReferenceNetwork:
    """The same network as the reference reads it from the file's bytes."""
    return load_file(net.to_bytes())


def floats(rng: np.random.Generator, *shape: int) -> Array:
    """Normal numbers in float32."""
    return rng.standard_normal(shape).astype(np.float32)


def small_integers(rng: np.random.Generator, *shape: int, limit: int = 4) -> Array:
    """Integers in float32, small enough for sums of thousands of products to be exact."""
    return rng.integers(-limit, limit + 1, shape).astype(np.float32)


def digits_like(seed: int = 7, batch: int | str = "N") -> bittern.Network:
    """A small network with every fusion in it: conv, batch norm, residual, pooling, fully connected, softmax."""
    rng = np.random.default_rng(seed)
    variance = np.abs(floats(rng, 17)) + np.float32(0.5)
    constants = {
        "w1": floats(rng, 17, 1, 3, 3),
        "b1": floats(rng, 17),
        "scale": floats(rng, 17),
        "shift": floats(rng, 17),
        "mean": floats(rng, 17),
        "variance": variance,
        "w2": floats(rng, 17, 17, 3, 3) * np.float32(0.1),
        "w3": floats(rng, 10, 17 * 16) * np.float32(0.1),
        "b3": floats(rng, 10),
    }
    nodes: list[NodeSpec] = [
        ("Conv", ["image", "w1", "b1"], "c1", {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], "n1", {}),
        ("Relu", ["n1"], "r1", {}),
        ("Conv", ["r1", "w2"], "c2", {"pads": [1, 1, 1, 1]}),
        ("Add", ["c2", "r1"], "a2", {}),
        ("Relu", ["a2"], "r2", {}),
        ("MaxPool", ["r2"], "p2", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", ["p2"], "f", {}),
        ("Gemm", ["f", "w3", "b3"], "logits", {"transB": 1}),
        ("Softmax", ["logits"], "scores", {}),
    ]
    return network({"image": (batch, 1, 8, 8)}, constants, nodes, ["scores"])


def output(model: bittern.Model, *arrays: Array, out: Array | None = None) -> Array:
    """The only output of a model, called with arrays in the order of its inputs."""
    result = model(*arrays, out=out)
    assert isinstance(result, np.ndarray)
    return result
