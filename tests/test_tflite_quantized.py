"""Integer graphs of TensorFlow Lite: the reference of its arithmetic, layers one by one, whole files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.encodings import Affine
from bittern.errors import FormatError, UnsupportedError
from bittern.importers import convert
from bittern.model import load
from bittern.network import Network

from tests.compare import assert_equal, assert_within
from tests.reference.arrays import Array
from tests.reference.tflite import multiplier_of, run_file, scaled

pytest.importorskip("tflite", reason="the package tflite is not installed (pip install 'bittern[tflite]')")

from tests.tflite_models import Operator, Tensor, constant, litert_outputs, output_of, tflite_file


@dataclass(frozen=True)
class Layer:
    """A layer of int8: shapes of the inputs, constants by name, shape of the output; scales of all."""

    kind: str
    inputs: Sequence[tuple[Sequence[int], float, int]]
    output: tuple[Sequence[int], float, int]
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    options_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def codes(*shape: int) -> Array:
    """All codes of int8, the same for the same shape."""
    return generator(*shape).integers(-128, 128, shape).astype(np.int8)


def weights(shape: Sequence[int], axis: int, scale_in: float, biases: int) -> dict[str, Tensor]:
    """A weight with a scale per channel, and its bias."""
    rng = generator(*shape, axis)
    scales = rng.uniform(0.002, 0.02, shape[axis]).astype(np.float32)
    codes = rng.integers(-127, 128, shape).astype(np.int8)
    bias = rng.integers(-4000, 4000, biases).astype(np.int32)
    product = (np.float32(scale_in) * scales).tolist()
    return {
        "weight": constant(codes, scale=scales.tolist(), axis=axis),
        "bias": constant(bias, scale=product, axis=0),
    }


def window(padding: int, stride: tuple[int, int], **more: Any) -> dict[str, Any]:
    return {"Padding": padding, "StrideH": stride[0], "StrideW": stride[1], **more}


X = ((1, 7, 6, 5), 0.05, -3)
DILATED = {"DilationHFactor": 1, "DilationWFactor": 1}
LAYERS = {
    "conv": Layer(
        "CONV_2D",
        [X],
        ((1, 4, 6, 8), 0.06, 10),
        weights((8, 3, 3, 5), 0, 0.05, 8),
        "Conv2D",
        window(0, (2, 1), **DILATED),
    ),
    "conv_relu6": Layer(
        "CONV_2D",
        [X],
        ((1, 5, 4, 8), 0.03, -100),
        weights((8, 3, 3, 5), 0, 0.05, 8),
        "Conv2D",
        window(1, (1, 1), FusedActivationFunction=3, **DILATED),
    ),
    "depthwise_relu": Layer(
        "DEPTHWISE_CONV_2D",
        [X],
        ((1, 7, 6, 10), 0.04, -128),
        weights((1, 3, 3, 10), 3, 0.05, 10),
        "DepthwiseConv2D",
        window(0, (1, 1), DepthMultiplier=2, FusedActivationFunction=1, **DILATED),
    ),
    "fully_connected": Layer(
        "FULLY_CONNECTED",
        [((4, 30), 0.05, 7)],
        ((4, 9), 0.3, 20),
        {
            "weight": constant(codes(9, 30), scale=[0.013]),
            "bias": constant(generator(9).integers(-999, 999, 9).astype(np.int32), scale=[0.013 * 0.05]),
        },
        "FullyConnected",
    ),
    "add": Layer("ADD", [X, ((1, 7, 6, 5), 0.021, 30)], ((1, 7, 6, 5), 0.055, -5), {}, "Add"),
    "add_relu": Layer(
        "ADD", [X, ((1, 7, 6, 5), 0.02, 30)], ((1, 7, 6, 5), 0.03, -128), {}, "Add", {"FusedActivationFunction": 1}
    ),
    "average_pool": Layer(
        "AVERAGE_POOL_2D", [X], ((1, 4, 3, 5), 0.05, -3), {}, "Pool2D", window(0, (2, 2), FilterHeight=3, FilterWidth=3)
    ),
    "max_pool": Layer(
        "MAX_POOL_2D", [X], ((1, 4, 3, 5), 0.05, -3), {}, "Pool2D", window(0, (2, 2), FilterHeight=3, FilterWidth=3)
    ),
    "mean": Layer(
        "MEAN", [X], ((1, 5), 0.02, 11), {"axes": constant(np.array([1, 2], np.int32))}, "Reducer", {"KeepDims": False}
    ),
    "softmax": Layer("SOFTMAX", [((3, 10), 0.2, 4)], ((3, 10), 1 / 256, -128), {}, "Softmax", {"Beta": 1.0}),
    "reshape": Layer("RESHAPE", [X], ((7, 30), 0.05, -3), {"shape": constant(np.array([7, 30], np.int32))}),
    "concatenation": Layer("CONCATENATION", [X, X], ((1, 7, 6, 10), 0.05, -3), {}, "Concatenation", {"Axis": 3}),
}


def file_of(layer: Layer) -> tuple[bytes, dict[str, Array]]:
    tensors = {f"in{k}": Tensor(s, "int8", None, [a], [z]) for k, (s, a, z) in enumerate(layer.inputs)}
    feeds = {name: np.roll(codes(*tensor.shape), k) for k, (name, tensor) in enumerate(tensors.items())}
    shape, scale, zero = layer.output
    tensors |= {**layer.constants, "out": Tensor(shape, "int8", None, [scale], [zero])}
    names = [*feeds, *layer.constants]
    version = 1 if layer.kind == "RESHAPE" else 2
    operator = Operator(layer.kind, names, ["out"], layer.options_name, layer.options, version=version)
    return tflite_file(tensors, [operator], list(feeds), ["out"]), feeds


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer(name: str, isa: str) -> None:
    """A layer gives the very codes on every level."""
    data, feeds = file_of(LAYERS[name])
    (expected,) = run_file(data, list(feeds.values()), once=True)
    result = load(convert(data), isa=isa).run(feeds)["out"]
    assert_equal(result, expected)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_interpreter_agrees_with_the_reference(name: str) -> None:
    """Rounded once, the reference is the interpreter, code for code."""
    data, feeds = file_of(LAYERS[name])
    (expected,) = run_file(data, list(feeds.values()), once=True)
    assert_equal(litert_outputs(data, feeds)[0], expected)


@pytest.mark.parametrize("real", [0.75, 0.5, 1e-3, 3e-7, 1.0, 6.25, 0.99999999999])
def test_scaling_is_the_nearest_integer(real: float) -> None:
    """Both roundings, against exact fractions of the multiplier: once is the nearest, twice at most one off."""
    x = np.concatenate([generator(1).integers(-(2**24), 2**24, 500), [0, 1, -1, 2, -2, 3, -3]])
    fixed, shift = multiplier_of(real)
    exact = [Fraction(int(value)) * Fraction(fixed) * Fraction(2) ** (shift - 31) for value in x]
    assert scaled(x, real, once=True).tolist() == [math.floor(value + Fraction(1, 2)) for value in exact]
    twice = scaled(x, real).tolist()
    assert all(abs(value - near) <= 1 for value, near in zip(twice, exact, strict=True))


# Graphs


def graph_of(tensors: Mapping[str, Tensor], *operators: Operator, outputs: Sequence[str] = ("y",)) -> Network:
    inputs = [name for name in tensors if name.startswith("x")]
    return convert(tflite_file(tensors, operators, inputs, outputs))


def test_form() -> None:
    """DequantizeLinear, layer with affine weights, QuantizeLinear that says whose rounding; codes at both ends."""
    net = convert(file_of(LAYERS["conv_relu6"])[0])
    ops = [node.op for node in net.nodes]
    assert ops == ["Transpose", "DequantizeLinear", "Conv", "Clip", "QuantizeLinear", "Transpose"]
    assert [(info.name, info.dtype, info.shape) for info in net.inputs] == [("in0", "i8", (1, 7, 6, 5))]
    assert [(info.name, info.dtype, info.shape) for info in net.outputs] == [("out", "i8", (1, 5, 4, 8))]
    conv, quantize = net.nodes[2], net.nodes[4]
    assert quantize.attributes == {"requantize": "tflite"}
    weight, bias = (net.constants[name] for name in conv.inputs[1:])
    original = LAYERS["conv_relu6"].constants["weight"]
    assert isinstance(weight, Affine) and isinstance(bias, Affine)
    assert weight.describe() == "affine(packed(8))" and weight.axis == 0
    assert isinstance(original.data, np.ndarray)
    assert_equal(weight.codes.decode(), original.data.transpose(0, 3, 1, 2))
    assert_equal(weight.scale.decode(), np.array(original.scale, np.float32))
    assert_equal(bias.scale.decode(), np.float32(0.05) * np.array(original.scale, np.float32))
    assert_equal(bias.codes.decode(), np.asarray(LAYERS["conv_relu6"].constants["bias"].data))


def test_flattened_maps_and_zeros_around_them() -> None:
    """PAD goes into the convolution, the weight behind a flattened map changes its order: still the same codes."""
    tensors = {
        "x": Tensor((1, 5, 4, 3), "int8", None, [0.05], [4]),
        "pads": constant(np.array([[0, 0], [1, 1], [0, 1], [0, 0]], np.int32)),
        "p": Tensor((1, 7, 5, 3), "int8", None, [0.05], [4]),
        **weights((6, 3, 3, 3), 0, 0.05, 6),
        "c": Tensor((1, 5, 3, 6), "int8", None, [0.07], [-9]),
        "shape": constant(np.array([-1, 90], np.int32)),
        "r": Tensor((1, 90), "int8", None, [0.07], [-9]),
        "m": constant(codes(8, 90), scale=[0.01]),
        "y": Tensor((1, 8), "int8", None, [0.4], [3]),
    }
    operators = [
        Operator("PAD", ["x", "pads"], ["p"]),
        Operator("CONV_2D", ["p", "weight", "bias"], ["c"], "Conv2D", window(1, (1, 1), **DILATED), version=3),
        Operator("RESHAPE", ["c", "shape"], ["r"]),
        Operator("FULLY_CONNECTED", ["r", "m", None], ["y"], "FullyConnected", version=4),
    ]
    data, x = tflite_file(tensors, operators, ["x"], ["y"]), codes(1, 5, 4, 3)
    net = convert(data)
    form = ["DequantizeLinear", "Gemm", "QuantizeLinear"]
    assert [node.op for node in net.nodes] == ["Transpose", form[0], "Conv", form[2], "Reshape", *form]
    (expected,) = run_file(data, [x], once=True)
    assert_equal(output_of(net, x), expected)


def test_saturation_serves_as_relu() -> None:
    """With its zero at the lowest code a layer needs no activation of its own."""
    ops = [node.op for node in convert(file_of(LAYERS["depthwise_relu"])[0]).nodes]
    assert "Relu" not in ops and "Clip" not in ops


def test_quantize_and_dequantize() -> None:
    x = generator(3).standard_normal((4, 5)).astype(np.float32)
    net = graph_of(
        {
            "x": Tensor((4, 5)),
            "a": Tensor((4, 5), "int8", None, [0.02], [3]),
            "b": Tensor((4, 5), "uint8", None, [0.05], [128]),
            "y": Tensor((4, 5)),
        },
        Operator("QUANTIZE", ["x"], ["a"]),
        Operator("QUANTIZE", ["a"], ["b"]),
        Operator("DEQUANTIZE", ["b"], ["y"]),
    )
    rounding = [node.attributes.get("requantize") for node in net.nodes if node.op == "QuantizeLinear"]
    assert rounding == [None, "tflite"]
    first = np.clip(np.rint(x / np.float32(0.02)) + 3, -128, 127)
    second = np.clip(np.rint((first - 3) * np.float32(0.02) / np.float32(0.05)) + 128, 0, 255)
    assert_within(output_of(net, x), ((second - 128) * np.float32(0.05)).astype(np.float32), 1e-6)


@pytest.mark.parametrize("form", ["float16", "int8", "uint8", "int4"])
def test_weights_alone_are_codes(form: str) -> None:
    """Networks of numbers with narrow weights keep the weights as they are."""
    rng = generator(4)
    x, bias = rng.standard_normal((2, 6)).astype(np.float32), rng.standard_normal(5).astype(np.float32)
    raw = rng.standard_normal((5, 6)).astype(np.float16)
    tensors = {"x": Tensor((2, 6)), "y": Tensor((2, 5)), "bias": constant(bias)}
    operators = [Operator("FULLY_CONNECTED", ["x", "w", "bias"], ["y"], "FullyConnected")]
    if form == "float16":
        tensors |= {"half": constant(raw), "w": Tensor((5, 6))}
        operators.insert(0, Operator("DEQUANTIZE", ["half"], ["w"]))
        real, described = raw.astype(np.float32), "dense(f16)"
    elif form == "int4":
        codes = rng.integers(-8, 8, (5, 6)).astype(np.int8)
        pairs = codes.reshape(-1, 2).astype(np.uint8)
        data = ((pairs[:, 0] & 15) | (pairs[:, 1] << 4)).astype(np.uint8).tobytes()
        tensors["w"] = Tensor((5, 6), "int8", data, [0.1], code=17)
        real, described = codes * np.float32(0.1), "affine(packed(4))"
    else:
        codes = rng.integers(0, 100, (5, 6)).astype(form)
        scale = rng.uniform(0.01, 0.1, 5).astype(np.float32)
        zero = [7] * 5 if form == "uint8" else [0] * 5
        tensors["w"] = constant(codes, scale=scale.tolist(), zero=zero)
        real, described = (codes.astype(np.float32) - zero[0]) * scale[:, None], "affine(packed(8))"
    net = graph_of(tensors, *operators)
    assert [node.op for node in net.nodes] == ["Gemm"]
    assert net.constants[net.nodes[0].inputs[1]].describe() == described
    assert_within(output_of(net, x), (x.astype(np.float64) @ real.T + bias).astype(np.float32), 1e-5)


def test_sixteen_bits() -> None:
    """int16 values with int8 weights; the bias of 64 bits fits in 32."""
    rng = generator(16)
    x = rng.integers(-32768, 32768, (3, 12)).astype(np.int16)
    weight, bias = rng.integers(-127, 128, (4, 12)).astype(np.int8), rng.integers(-(2**20), 2**20, 4)
    tensors = {
        "x": Tensor((3, 12), "int16", None, [1e-4], [0]),
        "w": constant(weight, scale=[0.01]),
        "b": constant(bias, scale=[1e-6]),
        "y": Tensor((3, 4), "int16", None, [3e-4], [0]),
    }
    net = graph_of(tensors, Operator("FULLY_CONNECTED", ["x", "w", "b"], ["y"], "FullyConnected", version=4))
    acc = x.astype(np.int64) @ weight.T.astype(np.int64) + bias
    expected = np.clip(np.rint(acc * (1e-4 * 0.01 / 3e-4)), -32768, 32767)
    result = output_of(net, x)
    assert result.dtype == np.int16
    assert_within(result, expected.astype(np.int16), 1)


def test_padding_is_the_code_of_zero() -> None:
    x = codes(1, 3, 2, 2)
    pads = constant(np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32))
    tensors = {"x": Tensor(x.shape, "int8", None, [0.1], [9]), "pads": pads}
    net = graph_of(
        tensors | {"y": Tensor((1, 4, 4, 2), "int8", None, [0.1], [9])}, Operator("PAD", ["x", "pads"], ["y"])
    )
    assert [node.op for node in net.nodes] == ["Pad"]
    assert_equal(output_of(net, x), np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 0)], constant_values=9))


def test_refusals() -> None:
    x = Tensor((2, 3), "int8", None, [0.1, 0.2], [0, 0], axis=0)
    with pytest.raises(UnsupportedError, match="computed values with a scale per channel"):
        graph_of({"x": x, "y": Tensor((2, 3))}, Operator("DEQUANTIZE", ["x"], ["y"]))
    x = Tensor((2, 3), "int8", None, [0.1], [300])
    with pytest.raises(FormatError, match="tensor 0 'x': has zero point 300"):
        graph_of({"x": x, "y": Tensor((2, 3))}, Operator("DEQUANTIZE", ["x"], ["y"]))
    weight, bias = constant(codes(3, 3), scale=[0.1]), constant(np.zeros(3, np.int32))
    tensors = {"x": Tensor((2, 3)), "w": weight, "b": bias, "y": Tensor((2, 3))}
    with pytest.raises(FormatError, match="has type i32, but the layer is not quantized"):
        graph_of(tensors, Operator("FULLY_CONNECTED", ["x", "w", "b"], ["y"], "FullyConnected"))


# Whole files.


@pytest.mark.parametrize(
    ("file", "expected"),
    [("pretrainedResnet_quant", "expected_resnet8_cifar10"), ("ad01_int8", "expected_ad01_toycar")],
)
def test_files(shared_data: Path, file: str, expected: str, isa: str) -> None:
    """The reference and the integer kernels of every level give the interpreter's very codes."""
    folder = shared_data / "mlperf_tiny"
    data, arrays = (folder / f"{file}.tflite").read_bytes(), np.load(folder / f"{expected}.npz")
    rows = [run_file(data, [x[None]], once=True)[0] for x in arrays["input_int8"][:16]]
    assert_equal(np.concatenate(rows), arrays["output_int8"][:16])
    net = convert(folder / f"{file}.tflite")
    model = load(net, isa=isa)
    assert {layer.kernel.split("_u8")[0] for layer in model.plan.layers if layer.op in ("Conv", "Gemm")} == {"gemm"}
    result = model.run({net.inputs[0].name: arrays["input_int8"]})[net.outputs[0].name]
    assert_equal(result, arrays["output_int8"])
    assert sum(node.op == "Transpose" for node in net.nodes) == (file == "pretrainedResnet_quant")
    assert len(net.to_bytes()) < 1.5 * len(data)
