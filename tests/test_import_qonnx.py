"""Import of QONNX: published networks, every rounding mode, constants as encodings, activations as quantisers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Dense, Packed, Signs
from bittern.importers import convert
from bittern.operators import significant

from tests.compare import assert_within
from tests.reference import quantize
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper = onnx.helper

DOMAINS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")


def model_of(
    op: str,
    values: Sequence[Array | None],
    attributes: Mapping[str, Any] | None = None,
    domain: str = "qonnx.custom_op.general",
    shape: Sequence[int | str] = ("N", 4),
) -> Any:
    """One node: None is the input x of this shape, the rest are constants; its result is y."""
    names = ["x" if value is None else f"c{i}" for i, value in enumerate(values)]
    tensors = [onnx.numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True) if v is not None]
    node = helper.make_node(op, names, ["y"], domain=domain, **(attributes or {}))
    inputs = [helper.make_tensor_value_info("x", 1, shape)] if any(v is None for v in values) else []
    graph = helper.make_graph([node], "made", inputs, [helper.make_tensor_value_info("y", 1, None)], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)])


def f32(*values: Any) -> list[Any]:
    """Constants of float32."""
    return [np.array(value, np.float32) for value in values]


def run(model: Any, x: Array) -> Array:
    """Imported, loaded, run."""
    return bittern.load(convert(model)).run({"x": x})["y"]


@pytest.mark.parametrize(("name", "encoding"), [("TFC_1W1A", "signs(packed(1))"), ("TFC_2W2A", "affine(packed(2))")])
def test_published_networks(name: str, encoding: str, shared_data: Path) -> None:
    """The logits that the QONNX package gives for a thousand digits; weights take 1 and 2 bits."""
    net = convert(shared_data / f"qonnx/{name}.onnx")
    layers = [node for node in net.nodes if node.op == "MatMul"]
    assert [net.constants[layer.inputs[1]].describe() for layer in layers] == [encoding] * 4
    model = bittern.load(net)
    images = np.load(shared_data / "mnist/mnist_test_1000.npz")["images"]
    expected = np.load(shared_data / f"qonnx/expected_{name}_1000.npz")["logits"]
    pixels = (images / np.float32(255)).astype(np.float32).reshape(-1, 1, 1, 28, 28)
    (output,) = (info.name for info in model.outputs)
    logits = np.concatenate([model.run({"0": image})[output] for image in pixels])
    assert_within(logits, expected, 1e-4)


@pytest.mark.parametrize("mode", [*quantize.MODES, "round", "half_up", "HALF_EVEN", "ROUND_TO_ZERO"])
@pytest.mark.parametrize("constant", [True, False])
def test_rounding_modes(mode: str, constant: bool) -> None:
    """Each against decimal arithmetic, evaluated at import and at run time; zero points that no ties hide."""
    x = np.arange(-40, 41, dtype=np.float32).reshape(-1, 1) / 4 + np.array([0, 0, 0.1, -0.1], np.float32)
    for zero in (0, 1, -2, 0.5):
        parameters = f32(0.5, zero, 5)
        model = model_of(
            "Quant", [x if constant else None, *parameters], {"signed": 1, "narrow": 0, "rounding_mode": mode}
        )
        plain = {"HALF_EVEN": "ROUND", "ROUND_TO_ZERO": "DOWN"}.get(mode, mode.upper())
        expected = quantize.quant([x, *parameters], {"rounding_mode": plain})
        if constant:
            net = convert(model)
            (node,) = net.nodes
            assert node.op == "Identity" and np.array_equal(net.constants[node.inputs[0]].decode(), expected)
        else:
            assert np.array_equal(run(model, x), expected)


@pytest.mark.parametrize(("signed", "narrow"), [(1, 0), (1, 1), (0, 0), (0, 1)])
@pytest.mark.parametrize("bits", range(1, 9))
def test_constants_take_their_bits(bits: int, signed: int, narrow: int, rng: np.random.Generator) -> None:
    """Per tensor and per channel; one signed bit are signs."""
    x = np.append(rng.uniform(-300, 300, (3, 7)), rng.uniform(-3, 3, (2, 7)), axis=0).astype(np.float32)
    x[0, 0] = x[4, 1] = 0
    for scale, axis in ((0.5, None), (rng.uniform(0.1, 1, (5, 1)), 0), (rng.uniform(0.1, 1, (1, 7)), 1)):
        parameters = f32(scale, 0, bits)
        attributes = {"signed": signed, "narrow": narrow, "rounding_mode": "ROUND"}
        net = convert(model_of("Quant", [x, *parameters], attributes))
        tree = net.constants[net.nodes[0].inputs[0]]
        assert isinstance(tree, Signs if bits == 1 and signed else Affine) and isinstance(tree.codes, Packed)
        assert tree.axis == axis and tree.codes.bits == bits
        assert np.array_equal(tree.decode(), quantize.quant([x, *parameters], attributes))


def test_zero_points_of_constants(rng: np.random.Generator) -> None:
    """Whole ones are part of the encoding, others of the numbers."""
    x = rng.uniform(-3, 3, (4, 6)).astype(np.float32)
    for zero, kind in ((3, Affine), (-5, Affine), (1.5, Dense)):
        parameters = f32(np.full((4, 1), 0.25), zero, 4)
        net = convert(model_of("Quant", [x, *parameters], {"signed": 1, "narrow": 1}))
        tree = net.constants[net.nodes[0].inputs[0]]
        assert isinstance(tree, kind)
        expected = quantize.quant([x, *parameters], {"narrow": 1})
        assert np.array_equal(tree.decode(), expected)


@pytest.mark.parametrize("domain", DOMAINS)
def test_bipolar_constants_are_signs(domain: str, rng: np.random.Generator) -> None:
    x = rng.uniform(-1, 1, (3, 5)).astype(np.float32)
    x[0] = (0, -0.0, 1, -1, np.nan)
    for scale in f32(0.5, np.array([[0.5], [1], [2]]), -1):
        net = convert(model_of("BipolarQuant", [x, scale], domain=domain))
        tree = net.constants[net.nodes[0].inputs[0]]
        assert isinstance(tree, Signs) and tree.describe() == "signs(packed(1))"
        assert np.array_equal(tree.decode(), quantize.bipolar_quant([x, scale], {}))


@pytest.mark.parametrize(
    ("attributes", "parameters", "operators"),
    [
        ({"signed": 1, "narrow": 1}, (0.25, 0, 4), ["QuantizeLinear", "DequantizeLinear"]),
        ({"signed": 1, "narrow": 0}, (0.25, 2, 4), ["QuantizeLinear", "DequantizeLinear"]),
        ({"signed": 0, "narrow": 0}, (0.25, 128, 8), ["QuantizeLinear", "DequantizeLinear"]),
        ({"signed": 0, "narrow": 0}, (np.full((1, 1), 0.25), np.zeros(1), 2), ["QuantizeLinear", "DequantizeLinear"]),
        ({"signed": 0, "narrow": 1}, (0.25, 0, 4), ["Quant"]),
        ({"signed": 1, "narrow": 0}, (0.25, 1, 4), ["Quant"]),
        ({"signed": 1, "narrow": 0}, (0.25, 0.5, 4), ["Quant"]),
        ({"signed": 1, "narrow": 0}, (0.25, 0, 1), ["Quant"]),
        ({"signed": 0, "narrow": 0}, (0.25, 0, 1), ["Quant"]),
        ({"signed": 1, "narrow": 0}, (0.25, 0, 9), ["Quant"]),
        ({"signed": 1, "narrow": 0}, ([0.25, 0.5, 0.75, 1], 0, 4), ["Quant"]),
        ({"signed": 1, "narrow": 0, "rounding_mode": "FLOOR"}, (0.25, 0, 4), ["Quant"]),
    ],
)
@pytest.mark.parametrize("op", ["Quant", "IntQuant"])
def test_activations(op: str, attributes: Any, parameters: Any, operators: list[str]) -> None:
    """Standard quantisers where they mean the same, else the operator itself; scales of powers of two meet all ties."""
    x = (np.arange(-160, 160, dtype=np.float32) / 8).reshape(-1, 4)
    arrays = f32(*parameters)
    model = model_of(op, [None, *arrays], attributes)
    net = convert(model)
    assert [node.op for node in net.nodes] == operators
    expected = quantize.quant([x, *arrays], attributes)
    assert np.array_equal(run(model, x), expected)


def test_parameters_of_other_types() -> None:
    """Bit widths and zero points as integers."""
    x = np.linspace(-3, 3, 40, dtype=np.float32).reshape(-1, 4)
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "CEIL"}
    arrays: list[Any] = [np.array(0.25, np.float32), np.array(1, np.int64), np.array(3, np.int32)]
    result = run(model_of("Quant", [None, *arrays], attributes), x)
    assert np.array_equal(result, quantize.quant([x, *f32(0.25, 1, 3)], attributes))


@pytest.mark.parametrize("mode", quantize.MODES)
@pytest.mark.parametrize("parameters", [(0.5, 1, 8, 4), (0.5, 2, 8, 4.0, 3), (0.1, 0, 8, 0.4, 4)])
@pytest.mark.parametrize("constant", [True, False])
def test_trunc(parameters: tuple[float, ...], mode: str, constant: bool) -> None:
    """Both versions of the operator."""
    x = (np.arange(-160, 160, dtype=np.float32) / 2).reshape(-1, 4)
    attributes = {"rounding_mode": mode} | ({"signed": 1, "narrow": 1} if len(parameters) == 5 else {})
    arrays = f32(*parameters)
    model = model_of("Trunc", [x if constant else None, *arrays], attributes)
    expected = quantize.trunc([x, *arrays], attributes)
    if constant:
        net = convert(model)
        assert np.array_equal(net.constants[net.nodes[0].inputs[0]].decode(), expected)
    else:
        assert np.array_equal(run(model, x), expected)


@pytest.mark.parametrize("domain", DOMAINS[1:])
def test_multi_threshold(domain: str, rng: np.random.Generator) -> None:
    x = np.rint(rng.uniform(-4, 4, (2, 3, 4, 5))).astype(np.float32)
    table = np.sort(np.rint(rng.uniform(-4, 4, (3, 7))), axis=1).astype(np.float32)
    attributes = {"out_dtype": "INT3", "out_scale": 1.0, "out_bias": -4.0}
    model = model_of("MultiThreshold", [None, table], attributes, domain, x.shape)
    expected = quantize.multi_threshold([x, table], {"out_bias": -4.0})
    result = run(model, x)
    assert np.array_equal(result, expected) and set(np.unique(result)) <= set(range(-4, 4))
    last = model_of("MultiThreshold", [None, table], {**attributes, "data_layout": "NHWC"}, domain, (2, 4, 5, 3))
    assert np.array_equal(run(last, x.transpose(0, 2, 3, 1)), expected.transpose(0, 2, 3, 1))


def test_nothing_is_lost_on_the_way_there_and_back() -> None:
    """Operators of QONNX are exported in its domain."""
    net = bittern.Network("qonnx")
    net.add_input("x", ("N", 4))
    for name, value in {"s": 0.5, "z": 1, "b": 4, "o": 1, "t": [[-1, 0, 1]]}.items():
        net.add_constant(name, np.array(value, np.float32))
    net.add_node("Quant", ["x", "s", "z", "b"], ["a"], rounding_mode="FLOOR", narrow=1)
    net.add_node("Trunc", ["a", "s", "z", "b", "o", "b"], ["c"], rounding_mode="CEIL")
    net.add_node("BipolarQuant", ["c", "s"], ["d"])
    net.add_node("MultiThreshold", ["d", "t"], ["y"], out_scale=0.5)
    net.set_outputs(["y"])
    again = convert(net.to_onnx())

    def parts(network: bittern.Network) -> list[Any]:
        return [(node.op, node.inputs, significant(node.op, node.attributes)) for node in network.nodes]

    assert parts(again) == parts(net)


@pytest.mark.parametrize(
    ("attributes", "parameters", "problem"),
    [
        ({"rounding_mode": "STOCHASTIC"}, (0.25, 0, 4), "Quant with rounding_mode STOCHASTIC is not supported"),
        ({}, (0.25, 0, [4, 4]), "Quant with several bit widths is not supported"),
        ({}, (0.25, 0, 0), "Quant with 0 bits is not supported"),
    ],
)
def test_what_is_not_supported_is_named(attributes: Any, parameters: Any, problem: str) -> None:
    with pytest.raises(bittern.UnsupportedError, match=problem):
        convert(model_of("Quant", [None, *f32(*parameters)], attributes))
