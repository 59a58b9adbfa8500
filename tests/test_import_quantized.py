"""Import of ONNX networks with quantisers: constants become encodings, results agree with ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Dense, Packed
from bittern.importers import convert

from tests.quantized_models import decibels, quantized_model
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, TensorProto = onnx.helper, onnx.TensorProto


def tensor(name: str, array: Array, kind: int | None = None) -> Any:
    """An initializer, of a type that NumPy does not have if ``kind`` says so."""
    if kind is None:
        return onnx.numpy_helper.from_array(array, name)
    return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())


def model_of(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], tensors: Sequence[Any], opset: int = 21
) -> Any:
    """A model with the output y."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(list(nodes), "made", infos, [onnx.ValueInfoProto(name="y")], list(tensors))
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    """A node without a name."""
    return helper.make_node(op, list(inputs), [output], **attributes)


def onnx_runtime(model: Any, feeds: Mapping[str, Array]) -> Array:
    """What ONNX Runtime gives, its own rewriting of quantised networks left out."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, dict(feeds))[0]
    return result


KINDS: dict[str, tuple[Any, ...]] = {
    "int8": (None, np.int8, 8, -128, 127),
    "uint8": (None, np.uint8, 8, 0, 255),
    "int16": (None, np.int16, 16, -32768, 32767),
    "uint16": (None, np.uint16, 16, 0, 65535),
    "int4": (TensorProto.INT4, np.int8, 4, -8, 7),
    "uint4": (TensorProto.UINT4, np.uint8, 4, 0, 15),
}


@pytest.mark.parametrize("grid", ["tensor", "axis", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_become_affine_encodings(kind: str, grid: str, rng: np.random.Generator) -> None:
    """The layer reads the constant's codes; nothing dequantises it at run time."""
    number, dtype, bits, low, high = KINDS[kind]
    codes = rng.integers(low, high + 1, (6, 5)).astype(dtype)
    grids: dict[str, tuple[Any, dict[str, Any]]] = {
        "tensor": ((), {}),
        "axis": ((5,), {"axis": 1}),
        "block": ((3, 5), {"axis": 0, "block_size": 2}),
    }
    shape, attributes = grids[grid]
    scale = rng.uniform(0.01, 0.1, shape).astype(np.float32)
    zero = rng.integers(low, high + 1, shape).astype(dtype)
    model = model_of(
        [node("DequantizeLinear", ["w", "s", "z"], "real", **attributes), node("MatMul", ["x", "real"], "y")],
        {"x": ("N", 6)},
        [tensor("w", codes, number), tensor("s", scale), tensor("z", zero, number)],
    )
    net = convert(model)
    assert [n.op for n in net.nodes] == ["MatMul"]
    tree = net.constants["real"]
    assert isinstance(tree, Affine) and isinstance(tree.codes, Packed)
    assert tree.codes.bits == bits and np.array_equal(tree.codes.decode(), codes)
    assert (tree.axis, tree.group) == (attributes.get("axis"), attributes.get("block_size"))
    x = rng.standard_normal((3, 6)).astype(np.float32)
    expected = onnx_runtime(model, {"x": x})
    assert np.allclose(bittern.load(net).run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_biases_of_32_bits(rng: np.random.Generator) -> None:
    codes, scale = rng.integers(-(2**20), 2**20, 4).astype(np.int32), rng.uniform(1e-4, 1e-3, 4).astype(np.float32)
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    model = model_of(
        [node("DequantizeLinear", ["b", "s"], "bias", axis=0), node("Gemm", ["x", "w", "bias"], "y", transB=1)],
        {"x": ("N", 3)},
        [tensor("b", codes), tensor("s", scale), tensor("w", weight)],
        opset=13,
    )
    net = convert(model)
    tree = net.constants["bias"]
    assert isinstance(tree, Affine) and isinstance(tree.codes, Dense) and tree.codes.leaf.dtype == np.int32
    assert np.array_equal(tree.decode(), codes.astype(np.float32) * scale)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    assert np.allclose(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_quantised_constants_are_folded(opset: int, rng: np.random.Generator) -> None:
    """QuantizeLinear of a float constant, DequantizeLinear behind it, and Transpose: one encoding."""
    weight = rng.standard_normal((5, 6)).astype(np.float32)
    weight[0, :3] = (0.5 * 0.1, 1.5 * 0.1, 99)
    axis: dict[str, Any] = {"axis": 0} if opset >= 13 else {}
    scale = np.full(5 if axis else (), 0.1, np.float32)
    zero = np.full(scale.shape, 2, np.int8)
    model = model_of(
        [
            node("QuantizeLinear", ["w", "s", "z"], "codes", **axis),
            node("DequantizeLinear", ["codes", "s", "z"], "real", **axis),
            node("Transpose", ["real"], "turned", perm=[1, 0]),
            node("MatMul", ["x", "turned"], "y"),
        ],
        {"x": ("N", 6)},
        [tensor("w", weight), tensor("s", scale), tensor("z", zero)],
        opset=opset,
    )
    net = convert(model)
    assert [n.op for n in net.nodes] == ["MatMul"] and list(net.constants) == ["turned"]
    tree = net.constants["turned"]
    assert isinstance(tree, Affine) and tree.axis == (1 if axis else None)
    x = np.eye(6, dtype=np.float32)
    assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


def test_activations_keep_their_quantisers(rng: np.random.Generator) -> None:
    """Codes of 4 bits live in bytes; ONNX Runtime gives the same numbers."""
    model = model_of(
        [
            node("QuantizeLinear", ["x", "s", "z"], "codes"),
            node("DequantizeLinear", ["codes", "s", "z"], "y"),
        ],
        {"x": ("N", 3)},
        [
            tensor("s", np.array([0.1, 0.2, 0.3], np.float32)),
            tensor("z", np.array([1, 2, 15], np.uint8), TensorProto.UINT4),
        ],
    )
    net = convert(model)
    assert [(n.op, n.attributes) for n in net.nodes] == [
        ("QuantizeLinear", {"bits": 4}),
        ("DequantizeLinear", {"bits": 4}),
    ]
    x = rng.uniform(-5, 5, (50, 3)).astype(np.float32)
    assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


@pytest.mark.parametrize(
    ("op", "attributes", "scale", "zero", "problem"),
    [
        ("DequantizeLinear", {}, np.float16, (np.int8, None), "scale of type float16"),
        ("DequantizeLinear", {}, np.float32, (np.float32, TensorProto.FLOAT8E4M3FN), "codes of type float8_e4m3fn"),
        ("QuantizeLinear", {"output_dtype": 17}, np.float32, None, "output_dtype float8e4m3fn"),
        ("DequantizeLinear", {"output_dtype": 10}, np.float32, (np.int8, None), "output_dtype float16"),
    ],
)
def test_what_is_not_supported_is_named(op: str, attributes: Any, scale: Any, zero: Any, problem: str) -> None:
    tensors = [tensor("s", np.ones((), scale))]
    if zero is not None:
        tensors.append(tensor("z", np.zeros((), zero[0]), zero[1]))
    model = model_of([node(op, ["x", *(t.name for t in tensors)], "y", **attributes)], {"x": ("N", 3)}, tensors, 23)
    with pytest.raises(bittern.UnsupportedError, match=problem):
        convert(model)


def test_scales_that_do_not_fit_are_told() -> None:
    model = model_of(
        [node("DequantizeLinear", ["w", "s"], "real", axis=1), node("MatMul", ["x", "real"], "y")],
        {"x": ("N", 6)},
        [tensor("w", np.zeros((6, 5), np.int8)), tensor("s", np.ones(4, np.float32))],
    )
    with pytest.raises(bittern.FormatError, match=r"its scale has shape \[4\] for a tensor \[6, 5\]"):
        convert(model)


@pytest.mark.parametrize(
    ("activations", "weights"), [("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt16", "QInt8")]
)
def test_a_quantised_network(activations: str, weights: str, shared_data: Path, tmp_path: Path) -> None:
    """ResNet-8 as ONNX Runtime's tool quantises it.

    Convolutions between the quantisers run in float32 here and there, in another order of summation: where a sum lies
    at a tie, codes differ by a step, and what follows differs a little. So results are near each other, not equal.
    """
    images = np.load(shared_data / "mlperf_tiny/expected_resnet8_cifar10.npz")["input_float"].astype(np.float32)
    path = quantized_model(
        shared_data / "mlperf_tiny/resnet8_cifar10_float.onnx",
        tmp_path / "quantised.onnx",
        [{"input": image[None]} for image in images[:8]],
        form="QDQ",
        activations=activations,
        weights=weights,
    )
    net = convert(path)
    layers = [n for n in net.nodes if n.op in ("Conv", "Gemm")]
    assert len(layers) == 10
    for layer in layers:
        weight, bias = net.constants[layer.inputs[1]], net.constants[layer.inputs[2]]
        assert weight.describe() == "affine(packed(8))" and bias.describe() == "affine(dense(i32))"
    expected = onnx_runtime(onnx.load(path), {"input": images})
    logits = bittern.load(net).run({"input": images})["output"]
    assert decibels(logits, expected) > 25
    assert np.array_equal(logits.argmax(1), expected.argmax(1))
