"""Products whose activations are quantised on the fly: exact in whole numbers, the same bits everywhere."""

import bittern
import numpy as np
import pytest

from tests.compare import assert_equal
from tests.reference.arrays import Array


def product(rng: np.random.Generator, rows: int, inputs: int, outputs: int) -> bittern.Network:
    net = bittern.Network("product")
    net.add_input("x", (rows, inputs))
    net.add_constant("w", rng.standard_normal((inputs, outputs)).astype(np.float32))
    net.add_constant("b", rng.standard_normal(outputs).astype(np.float32))
    net.add_node("Gemm", ["x", "w", "b"], ["y"])
    net.add_node("Relu", ["y"], ["z"])
    net.set_outputs(["z"])
    return net


def meaning(net: bittern.Network, x: Array) -> Array:
    """DynamicQuantizeLinear as ONNX has it, whole sums, one product, one sum in float32."""
    gemm = next(node for node in net.nodes if node.op == "Gemm")
    tree = net.constants[gemm.inputs[1]]
    assert isinstance(tree, bittern.encodings.Affine)
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = int(np.clip(np.rint((0 - low) / scale), 0, 255))
    codes = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64)
    sums = (codes - zero) @ np.asarray(tree.codes.decode()).astype(np.int64)
    real = sums.astype(np.float32) * (scale * np.asarray(tree.scale.decode()).astype(np.float32))
    result: Array = np.maximum(real + net.constants[gemm.inputs[2]].decode(), 0)
    return result


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_products(recipe: str, rows: int, isa: str, rng: np.random.Generator) -> None:
    """One row decodes in registers, several run on the tile; the plan says that activations are quantised."""
    for inputs, outputs in ((33, 17), (257, 3), (130, 77)):
        given = product(rng, rows, inputs, outputs)
        net = bittern.compress(given, recipe=recipe, activations="dynamic", reconstruct=False)
        x = rng.standard_normal((rows, inputs)).astype(np.float32)
        model = bittern.load(net, isa=isa, threads=1 + rows % 2)
        layer = next(layer for layer in model.plan.layers if layer.op == "Gemm")
        assert layer.kernel.startswith("gemv_u8" if rows == 1 else "gemm_u8")
        assert "on the fly" in layer.reason
        assert_equal(model.run({"x": x})["z"], meaning(net, x))


def test_summary_and_other_layers(rng: np.random.Generator) -> None:
    """The summary counts the products; convolutions keep their inputs."""
    net = bittern.Network("mixed")
    net.add_input("x", (1, 4, 6, 6))
    net.add_constant("k", rng.standard_normal((8, 4, 3, 3)).astype(np.float32))
    net.add_constant("w", rng.standard_normal((8 * 16, 10)).astype(np.float32))
    net.add_node("Conv", ["x", "k"], ["c"])
    net.add_node("Flatten", ["c"], ["f"])
    net.add_node("MatMul", ["f", "w"], ["y"])
    net.set_outputs(["y"])
    small = bittern.compress(net, recipe="int8", activations="dynamic", reconstruct=False)
    assert [node.op for node in small.nodes].count("DynamicQuantizeLinear") == 1
    assert "inputs of 1 products are quantised to 8 bits on the fly" in str(small.summary())
    x = rng.standard_normal((1, 4, 6, 6)).astype(np.float32)
    result, expected = (bittern.load(each).run({"x": x})["y"] for each in (small, net))
    assert np.linalg.norm(result - expected) < 0.02 * np.linalg.norm(expected)


def test_a_constant_input_is_left_alone(rng: np.random.Generator) -> None:
    """Zeros have no range: the codes are those of zero."""
    net = bittern.compress(product(rng, 1, 9, 5), recipe="int8", activations="dynamic", reconstruct=False)
    result = bittern.load(net).run({"x": np.zeros((1, 9), np.float32)})["z"]
    assert_equal(result, np.maximum(net.constants["b"].decode(), 0)[None])
