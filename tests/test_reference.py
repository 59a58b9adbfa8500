"""The NumPy reference against onnxruntime: an oracle that is itself wrong would bless anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tolerances
from tests.compare import assert_within
from tests.reference import Node, ReferenceNetwork, apply, run
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def onnx_run(op: str, inputs: list[Array | None], attributes: Mapping[str, Any]) -> Array:
    """One operator by onnxruntime, opset 17."""
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    values = {name: value for name, value in zip(names, inputs, strict=True) if value is not None}
    node = onnx.helper.make_node(op, names, ["y"], **attributes)
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in values.items()
    ]
    output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "one", infos, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, values)[0]
    return result


def check(op: str, inputs: list[Array | None], scale: float = 1.0, **attributes: Any) -> None:
    """Both executors on one operator; onnxruntime's rounding gets 64 units in the last place of the largest value."""
    expected = onnx_run(op, inputs, attributes)
    actual = apply(op, inputs, attributes)
    largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    assert_within(actual, expected, 64 * tolerances.UNIT * scale * max(largest, 1e-30), f"{op} {attributes}")


def floats(rng: np.random.Generator, *shape: int) -> Array:
    """Normal numbers in float32."""
    return rng.standard_normal(shape).astype(np.float32)


def test_conv_attributes(rng: np.random.Generator) -> None:
    for _ in range(80):
        groups, share, per_group = (int(rng.integers(1, 4)) for _ in range(3))
        kernel = [int(rng.integers(1, 5)) for _ in range(2)]
        dilations = [int(rng.integers(1, 3)) for _ in range(2)]
        extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        attributes: dict[str, Any] = {"group": groups, "strides": [int(rng.integers(1, 4)) for _ in range(2)]}
        mode = str(rng.choice(["NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
        if mode.startswith("SAME"):
            attributes["auto_pad"] = mode  # onnxruntime refuses SAME with dilations
            dilations = [1, 1]
        elif mode == "VALID":
            attributes |= {"auto_pad": mode, "dilations": dilations, "kernel_shape": kernel}
        else:
            attributes |= {"dilations": dilations, "pads": [int(rng.integers(0, 3)) for _ in range(4)]}
        x = floats(rng, int(rng.integers(1, 3)), groups * per_group, *(e + int(rng.integers(0, 9)) for e in extent))
        w = floats(rng, groups * share, per_group, *kernel)
        bias = floats(rng, groups * share) if rng.integers(2) else None
        check("Conv", [x, w] if bias is None else [x, w, bias], **attributes)


def test_pooling_attributes(rng: np.random.Generator) -> None:
    for trial in range(200):
        op = ("MaxPool", "AveragePool")[trial % 2]
        kernel = [int(rng.integers(1, 5)) for _ in range(2)]
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(rng.integers(1, 4)) for _ in range(2)]}
        attributes["ceil_mode"] = int(rng.integers(2))
        extent = list(kernel)
        if op == "MaxPool":
            attributes["dilations"] = [int(rng.integers(1, 3)) for _ in range(2)]
            extent = [d * (k - 1) + 1 for k, d in zip(kernel, attributes["dilations"], strict=True)]
        else:
            attributes["count_include_pad"] = int(rng.integers(2))
        if rng.integers(3) == 0:
            # onnxruntime takes these only without dilations, ceil_mode and gaps between windows.
            attributes["auto_pad"] = str(rng.choice(["VALID", "SAME_UPPER", "SAME_LOWER"]))
            attributes["ceil_mode"] = 0
            attributes["strides"] = [min(pair) for pair in zip(attributes["strides"], kernel, strict=True)]
            attributes.pop("dilations", None)
            extent = list(kernel)
        elif op == "AveragePool" or attributes["dilations"] == [1, 1]:
            attributes["pads"] = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
        x = floats(rng, 2, 3, *(e + int(rng.integers(0, 9)) for e in extent))
        check(op, [x], **attributes)


def test_global_pooling(rng: np.random.Generator) -> None:
    x = floats(rng, 2, 5, 7, 3)
    check("GlobalAveragePool", [x])
    check("GlobalMaxPool", [x])


def test_gemm_and_matmul(rng: np.random.Generator) -> None:
    for trial in range(16):
        a, b = floats(rng, 4, 7), floats(rng, 7, 5)
        attributes: dict[str, Any] = {"transA": trial & 1, "transB": trial >> 1 & 1, "alpha": 0.3, "beta": -1.7}
        shape = [(5,), (4, 5), (4, 1), (1,)][trial >> 2]
        check("Gemm", [a.T if trial & 1 else a, b.T if trial & 2 else b, floats(rng, *shape)], **attributes)
    check("Gemm", [floats(rng, 3, 4), floats(rng, 4, 2)])
    check("MatMul", [floats(rng, 2, 3, 4), floats(rng, 4, 5)])
    check("MatMul", [floats(rng, 4), floats(rng, 4, 5)])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_binary_operators_broadcast(op: str, rng: np.random.Generator) -> None:
    pairs = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((3, 1), (2, 1, 4)), ((), (2, 3)), ((1, 3, 1, 1), (2, 3, 4, 5))]
    for a, b in pairs:
        x, y = floats(rng, *a), floats(rng, *b)
        expected = onnx_run(op, [x, y], {})
        assert_within(apply(op, [x, y]), expected, 0.0, f"{op} {a} {b}")  # one IEEE operation: exact


def test_activations(rng: np.random.Generator) -> None:
    x = 4 * floats(rng, 3, 41)
    x[0, :4] = [0.0, -0.0, 90.0, -90.0]
    for op in ("Relu", "Sigmoid", "Tanh", "Identity"):
        check(op, [x])
    check("LeakyRelu", [x])
    check("LeakyRelu", [x], alpha=0.3)
    low, high = np.array(-1.5, np.float32), np.array(2.5, np.float32)
    for limits in ([], [low], [None, high], [low, high]):
        check("Clip", [x, *limits])


def test_normalization(rng: np.random.Generator) -> None:
    x = floats(rng, 2, 5, 3, 4)
    parameters = [floats(rng, 5), floats(rng, 5), floats(rng, 5), np.abs(floats(rng, 5)) + np.float32(0.1)]
    check("BatchNormalization", [x, *parameters], scale=4.0)
    check("BatchNormalization", [x, *parameters], scale=4.0, epsilon=0.01, momentum=0.5)
    check("BatchNormalization", [floats(rng, 4, 5), *parameters], scale=4.0)
    for axis in (-1, 0, 1, 2, -2):
        check("Softmax", [5 * floats(rng, 3, 4, 6)], axis=axis)
    check("Softmax", [floats(rng, 3, 4)])


def test_shape_operators(rng: np.random.Generator) -> None:
    x = floats(rng, 2, 3, 4, 1)
    check("Transpose", [x])
    check("Transpose", [x], perm=[0, 2, 3, 1])
    for axis in (0, 1, 2, 4, -1, -3):
        check("Flatten", [x], axis=axis)
    check("Flatten", [x])
    for shape in ([0, -1], [6, 4], [-1], [2, 0, -1, 2], [1, 2, 3, 4, 1]):
        check("Reshape", [x, np.array(shape, np.int64)])
    check("Squeeze", [x, np.array([3], np.int64)])
    check("Squeeze", [x, np.array([-1], np.int64)])
    check("Squeeze", [x])
    check("Unsqueeze", [x, np.array([0, -1], np.int64)])
    check("Unsqueeze", [x, np.array([2], np.int64)])
    check("Concat", [x, floats(rng, 2, 3, 2, 1), x], axis=2)
    check("Concat", [x, x], axis=-1)
    check("Dropout", [x])


def from_onnx(path: Path) -> ReferenceNetwork:
    """A reference network straight from an ONNX file whose operators read as in opset 17."""
    graph = onnx.load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = [
        Node(
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            {
                attribute.name: value.decode() if isinstance(value, bytes) else value
                for attribute in node.attribute
                for value in [onnx.helper.get_attribute_value(attribute)]
            },
        )
        for node in graph.node
    ]
    inputs = tuple(value.name for value in graph.input if value.name not in constants)
    return ReferenceNetwork(inputs, tuple(value.name for value in graph.output), tuple(nodes), constants)


def test_resnet8(shared_data: Path) -> None:
    expected = np.load(shared_data / "mlperf_tiny" / "expected_resnet8_cifar10.npz")
    network = from_onnx(shared_data / "mlperf_tiny" / "resnet8_cifar10_float.onnx")
    result = run(network, {"input": expected["input_float"][:4]})
    assert_within(result["output"], expected["onnx_output"][:4], tolerances.RESNET8)
    assert not np.allclose(result["output"], expected["onnx_output"][4:8], atol=tolerances.RESNET8)


def test_face_detector(shared_data: Path) -> None:
    expected = np.load(shared_data / "ultraface" / "expected_version-slim-320_simplified.npz")
    network = from_onnx(shared_data / "ultraface" / "version-slim-320_simplified.onnx")
    image = (expected["images"][:1].astype(np.float32) - 127) / 128
    result = run(network, {"input": np.ascontiguousarray(image.transpose(0, 3, 1, 2))}, taps=["185"])
    assert_within(result["scores"], expected["scores"][:1], tolerances.FACE_DETECTOR)
    assert_within(result["boxes"], expected["boxes"][:1], tolerances.FACE_DETECTOR)
    assert result["185"].shape == (1, 16, 120, 160)
