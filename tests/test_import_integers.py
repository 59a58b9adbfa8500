"""Import of integer layers and thresholds: joined to layers between quantisers, with the very same numbers."""

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression.quantize.half_gaussian import quantised as half_wave
from bittern.compression.quantize.half_gaussian import uniform_step
from bittern.encodings import Affine, Dense, Signs
from bittern.importers import convert
from bittern.importers.onnx_integers import with_quantisers

from tests.builders import floats
from tests.compare import assert_equal, assert_same_bits
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.test_import_quantized import helper, model_of, node, onnx, onnx_runtime, scalar, tensor

F32 = np.float32
VNNI = ("avx512vnni", "avxvnni")
"""Features of CPUs on which ONNX Runtime's products of bytes do not saturate."""


def integer_kernels(model: bittern.Model, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The loops that run the layers with weights."""
    layers = [layer for layer in model.plan_for(shapes).layers if layer.op in ("Conv", "MatMul", "Gemm")]
    return [layer.kernel.split("_u8")[0] for layer in layers]


def float_model(rng: np.random.Generator) -> Any:
    """Convolutions with and without bias and padding, products of two and three dimensions."""
    values = {
        "k": floats(rng, 8, 3, 3, 3) * F32(0.2), "kb": floats(rng, 8), "k2": floats(rng, 16, 8, 1, 1) * F32(0.3),
        "w": floats(rng, 5 * 4, 20) * F32(0.3), "b": floats(rng, 20), "w2": floats(rng, 20, 7) * F32(0.3),
        "w3": floats(rng, 16 * 20, 5) * F32(0.3), "shape": np.array([0, 16, 20]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "k", "kb"], "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "k2"], "c2"),
        node("Reshape", ["c2", "shape"], "rows"),
        node("MatMul", ["rows", "w"], "h"),
        node("Add", ["h", "b"], "hb"),
        node("Relu", ["hb"], "h2"),
        node("MatMul", ["h2", "w2"], "m"),
        node("Flatten", ["h2"], "flat"),
        node("MatMul", ["flat", "w3"], "p"),
        node("ReduceSum", ["m", "last"], "sum", keepdims=0),
        node("ReduceMax", ["sum"], "most", axes=[1], keepdims=1),
        node("Add", ["p", "most"], "y"),
    ]
    for i, each in enumerate(nodes):
        each.name = f"n{i}"
    tensors = [tensor(name, value) for name, value in values.items()] + [tensor("last", np.array([2]))]
    return model_of(nodes, {"x": ("N", 3, 9, 7)}, tensors, opset=17)


@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_dynamic_quantisation_of_onnx_runtime(
    weights: str, per_channel: bool, rng: np.random.Generator, tmp_path: Path
) -> None:
    """All layers run on integer kernels, and give the numbers of ONNX Runtime."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    source, target = tmp_path / "float.onnx", tmp_path / "dynamic.onnx"
    onnx.save(float_model(rng), source)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantization.quantize_dynamic(
                str(source), str(target), weight_type=quantization.QuantType[weights], per_channel=per_channel,
                reduce_range=not set(VNNI) & set(bittern.cpu().features), op_types_to_quantize=["Conv", "MatMul"],
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    quantised = onnx.load(target)
    assert sum(each.op_type in ("ConvInteger", "MatMulInteger") for each in quantised.graph.node) == 5
    net = convert(quantised)
    assert not {"ConvInteger", "MatMulInteger", "Cast"} & {each.op for each in net.nodes}
    for batch in (1, 3):
        x = floats(rng, batch, 3, 9, 7)
        model = bittern.load(net, threads=batch % 2 + 1)
        assert integer_kernels(model, {"x": x.shape}) == ["gemm"] * 4 + [
            "gemv" if batch == 1 and weights == "QInt8" else "gemm"
        ]
        result, expected = model.run({"x": x})["y"], onnx_runtime(quantised, {"x": x})
        # The sum over an axis is the only step that may be rounded otherwise.
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def dynamic_layer(rng: np.random.Generator, index: int) -> tuple[Any, Array]:
    """One layer as dynamic quantisation writes it: zero points, ranks, orders of factors, bias, activation."""
    conv, signed, many = index % 2 == 0, index // 2 % 2 == 0, index // 4 % 2 == 0
    kind = np.int8 if signed else np.uint8
    low, high = (-127, 128) if signed else (1, 255)
    x = floats(rng, *((2, 5, 6, 7) if conv else ((2, 3, 33) if index % 4 == 1 else (4, 33))))
    w = rng.integers(low, high, (6, 5, 3, 3) if conv else (33, 9)).astype(kind)
    channels = w.shape[0 if conv else 1]
    zero = rng.integers(-3, 4, channels if many and not conv else ()) + (0 if signed else 128)
    scale = rng.uniform(0.001, 0.01, (channels, *([1, 1] if conv else [])) if many else ()).astype(F32)
    tensors = [tensor("w", w), tensor("ws", scale), tensor("wz", zero.astype(kind))]
    scales = ["ws", "xs"] if index % 3 else ["xs", "ws"]
    factors = ["real", "s"] if index % 5 else ["s", "real"]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        node(
            "ConvInteger" if conv else "MatMulInteger",
            ["q", "w", "xz", "wz"],
            "sums",
            **({"pads": [1, 0, 2, 1]} if conv else {}),
        ),
        node("Cast", ["sums"], "real", to=onnx.TensorProto.FLOAT),
        node("Mul", scales, "s"),
        node("Mul", factors, "scaled"),
        node("Add", ["scaled", "b"], "biased"),
        node("Relu" if index % 3 else "Identity", ["biased"], "y"),
    ]
    tensors.append(tensor("b", floats(rng, channels, *([1, 1] if conv else []))))
    return model_of(nodes, {"x": ("N", *x.shape[1:])}, tensors, opset=17), x


@pytest.mark.parametrize("index", range(16))
def test_dynamically_quantised_layer(index: int, isa: str) -> None:
    """The same bits as its float steps, which are computed one by one where an output is asked of the middle."""
    seed = seed_of(f"dynamic layer {index}") % 2**32
    made, x = dynamic_layer(np.random.default_rng(seed), index)
    model = bittern.load(convert(made), isa=isa, threads=1 + index % 2)
    made.graph.output.append(onnx.ValueInfoProto(name="sums"))
    made.graph.output[-1].type.tensor_type.elem_type = onnx.TensorProto.INT32
    steps = convert(made)
    assert {"ConvInteger", "MatMulInteger"} & {each.op for each in steps.nodes}
    expected = bittern.load(steps, isa="scalar").run({"x": x})
    assert_equal(model.run({"x": x})["y"], expected["y"], f"seed {seed}")
    (layer,) = [layer for layer in model.plan_for({"x": x.shape}).layers if layer.op in ("Conv", "MatMul")]
    assert "gemm_u8" in layer.kernel and "quantised on the fly" in layer.reason, f"seed {seed}: {layer}"
    whole = [layer for layer in bittern.load(steps, isa=isa).plan_for({"x": x.shape}).layers if "Integer" in layer.op]
    assert "gemm_u8" in whole[0].kernel and "zero point is known when it runs" in whole[0].reason


def test_other_scales_keep_the_operators(rng: np.random.Generator) -> None:
    """Without the scale of the codes there is nothing to join: exact sums, then float steps."""
    x = rng.integers(0, 256, (3, 5)).astype(np.uint8)
    w, scale = rng.integers(-99, 99, (5, 4)).astype(np.int8), floats(rng, 1)
    nodes = [
        node("Cast", ["x"], "q", to=onnx.TensorProto.UINT8),
        node("MatMulInteger", ["q", "w", "z"], "sums"),
        node("Cast", ["sums"], "real", to=onnx.TensorProto.FLOAT),
        node("Mul", ["other", "s"], "t"),
        node("Mul", ["real", "t"], "y"),
    ]
    tensors = [tensor("w", w), scalar("z", 3, np.uint8), scalar("s", 0.25)]
    net = convert(model_of(nodes, {"x": (3, 5), "other": (1,)}, tensors, opset=17))
    assert "MatMulInteger" in {each.op for each in net.nodes}
    result = bittern.load(net).run({"x": x.astype(F32), "other": scale})["y"]
    sums = (x.astype(np.int64) - 3) @ w.astype(np.int64)
    assert_equal(result, sums.astype(F32) * (scale * F32(0.25)))


@pytest.mark.parametrize("many", [False, True], ids=["tensor", "columns"])
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
def test_fused_operators_of_onnx_runtime(many: bool, biased: bool, rng: np.random.Generator) -> None:
    """DynamicQuantizeMatMul and MatMulIntegerToFloat, which ONNX Runtime makes of the steps and may save."""
    x, w = floats(rng, 2, 3, 33), rng.integers(-63, 64, (33, 9)).astype(np.int8)
    scale = rng.uniform(0.001, 0.01, (9,) if many else ()).astype(F32)
    tensors = [tensor("w", w), tensor("ws", scale), tensor("wz", np.zeros(scale.shape, np.int8))]
    tensors += [tensor("b", floats(rng, 9))] if biased else []
    bias, domain = (["b"] if biased else []), "com.microsoft"
    together = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", *bias], ["y"], domain=domain)
    apart = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "xs", "xz"]),
        helper.make_node("MatMulIntegerToFloat", ["q", "w", "xs", "ws", "xz", "wz", *bias], ["y"], domain=domain),
    ]
    for nodes in ([together], apart):
        made = model_of(nodes, {"x": (2, 3, 33)}, tensors, opset=17)
        made.opset_import.append(helper.make_opsetid(domain, 1))
        model = bittern.load(convert(made))
        assert integer_kernels(model, {"x": x.shape}) == ["gemm"]
        expected = onnx_runtime(made, {"x": x})
        np.testing.assert_allclose(model.run({"x": x})["y"], expected, rtol=1e-6, atol=1e-6)


# Thresholds


def threshold_network(rng: np.random.Generator, index: int) -> tuple[bittern.Network, Array]:
    """Convolutions and products of whole numbers with thresholds between them, as FINN has them."""
    net = bittern.Network("thresholds")
    net.add_input("x", ("N", 3, 8, 8))
    steps = (1, 3, 15, 255)[index % 4]
    value, channels = "x", 3
    for layer, filters in enumerate((16, 5 if index % 2 else 17, 9)):
        table = np.sort(rng.integers(-40, 60, (channels if layer else 1, steps)), axis=1)
        scale, bias = ((1.0, 0.0), (1.0, -1.0), (0.5, 0.0), (0.25, -0.5))[(index + layer) % 4]
        net.add_constant(f"t{layer}", table.astype(F32))
        net.add_node("MultiThreshold", [value, f"t{layer}"], [f"a{layer}"], out_scale=scale, out_bias=bias)
        value = f"a{layer}"
        if layer == 1:
            net.add_node("MaxPool", [value], ["pooled"], kernel_shape=[2, 2], strides=[2, 2])
            value = "pooled"
        if layer == 2:
            net.add_node("Flatten", [value], ["flat"])
            net.add_constant("w2", rng.integers(-3, 4, (16 * channels, filters)).astype(F32))
            net.add_node("MatMul", ["flat", "w2"], ["y"])
            continue
        net.add_constant(f"w{layer}", rng.integers(-3, 4, (filters, channels, 3, 3)).astype(F32))
        net.add_node("Conv", [value, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1])
        value, channels = f"c{layer}", filters
    net.set_outputs(["y"])
    return net, rng.integers(-70, 90, (2, 3, 8, 8)).astype(F32)


@pytest.mark.parametrize("index", range(8))
def test_thresholds_between_layers(index: int, isa: str) -> None:
    """All layers run on codes; the numbers are those of the operators one by one, all of them exact."""
    seed = seed_of(f"threshold network {index}") % 2**32
    net, x = threshold_network(np.random.default_rng(seed), index)
    joined = convert(net.to_onnx())
    assert isinstance(joined.constants["w0"], Affine)
    plain, model = bittern.load(net, isa=isa), bittern.load(joined, isa=isa, threads=1 + index % 2)
    taps = ["a1", "pooled"]
    expected, found = plain.run({"x": x}, taps=taps), model.run({"x": x}, taps=taps)
    for name in ("y", *taps):
        assert_equal(found[name], expected[name], f"seed {seed}: {name}")
    assert_equal(model.run({"x": x})["y"], expected["y"], f"seed {seed}")
    layers = model.plan_for({"x": x.shape}).layers
    assert integer_kernels(model, {"x": x.shape}) == ["gemm"] * 3
    assert sum(layer.kernel.startswith("threshold_u8") for layer in layers) == 3
    assert [layer.kernel.split("__")[0] for layer in layers if layer.op == "MaxPool"] == ["maxpool_u8"]
    assert not [layer for layer in layers if layer.op in ("QuantizeLinear", "DequantizeLinear")]


def test_thresholds_that_are_no_codes_stay(rng: np.random.Generator) -> None:
    """A bias that is no multiple of the scale, weights that are no whole numbers, a result nobody computes with."""
    for scale, bias, weight in ((0.3, 0.1, 2.0), (1.0, 0.5, 2.0), (1.0, 1.0, 2.0), (1.0, 0.0, 0.3)):
        net = bittern.Network("real")
        net.add_input("x", (2, 4))
        net.add_constant("t", np.array([[-1, 0, 1]], F32))
        net.add_constant("w", np.full((4, 3), weight, F32))
        net.add_node("MultiThreshold", ["x", "t"], ["a"], out_scale=scale, out_bias=bias)
        net.add_node("MatMul", ["a", "w"], ["y"])
        net.set_outputs(["y"])
        again = convert(net.to_onnx())
        assert [each.op for each in again.nodes] == ["MultiThreshold", "MatMul"]
        x = floats(rng, 2, 4)
        assert_equal(bittern.load(again).run({"x": x})["y"], bittern.load(net).run({"x": x})["y"])


def test_thresholds_far_before_their_layer(rng: np.random.Generator) -> None:
    """More operators that hand codes on than Python nests calls."""
    net = bittern.Network("long")
    net.add_input("x", (2, 4))
    net.add_constant("t", np.array([[-1, 0, 1]], F32))
    net.add_constant("w", np.full((4, 3), 2, F32))
    net.add_node("MultiThreshold", ["x", "t"], ["v0"])
    count = 1100
    for i in range(count):
        net.add_node("Flatten", [f"v{i}"], [f"v{i + 1}"])
    net.add_node("MatMul", [f"v{count}", "w"], ["y"])
    net.set_outputs(["y"])
    again = convert(net.to_onnx())
    assert sum(each.op == "QuantizeLinear" for each in again.nodes) == count + 1
    x = floats(rng, 2, 4)
    assert_equal(bittern.load(again).run({"x": x})["y"], bittern.load(net).run({"x": x})["y"])


def test_a_negative_zero_is_no_code(rng: np.random.Generator) -> None:
    """Codes have one zero: weights with a -0.0 stay floats, bit for bit."""
    for zero in (0.0, -0.0):
        net = bittern.Network("zero")
        net.add_input("x", (2, 4))
        net.add_constant("t", np.array([[-1, 0, 1]], F32))
        weight = rng.integers(-3, 4, (4, 3)).astype(F32)
        weight[1, 2] = zero
        net.add_constant("w", weight)
        net.add_node("MultiThreshold", ["x", "t"], ["a"])
        net.add_node("MatMul", ["a", "w"], ["y"])
        net.set_outputs(["y"])
        tree = convert(net.to_onnx()).constants["w"]
        assert isinstance(tree, Dense if np.signbit(zero) else Affine)
        assert_same_bits(tree.decode(), weight)


def test_many_thresholds_cost_little() -> None:
    """Four times as many layers take four times as many steps, not sixteen times."""

    def steps(layers: int) -> int:
        net = bittern.Network("many")
        net.add_input("v0", (2, 4))
        net.add_constant("t", np.array([[-1, 0, 1]], F32))
        net.add_constant("w", np.full((4, 4), 2, F32))
        for i in range(layers):
            net.add_node("MultiThreshold", [f"v{i}", "t"], [f"a{i}"])
            net.add_node("Flatten", [f"a{i}"], [f"b{i}"])
            net.add_node("MatMul", [f"b{i}", "w"], [f"v{i + 1}"])
        net.set_outputs([f"v{layers}"])
        count = 0

        def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
            nonlocal count
            count += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            with_quantisers(net)
        finally:
            sys.settrace(before)
        assert sum(node.op == "QuantizeLinear" for node in net.nodes) == 2 * layers
        return count

    assert steps(80) < 5 * steps(20)


@pytest.mark.parametrize("count", [1, 3, 7, 15])
def test_half_wave_gaussian_layer(count: int, isa: str, rng: np.random.Generator) -> None:
    """HWGQ (1702.00953): levels of a half Gaussian times signs. A number at a limit belongs to the level below."""
    step = F32(uniform_step(count))
    limits = np.array([0.0, *((np.arange(1, count) + 0.5) * step)], F32)
    net = bittern.Network("half wave")
    net.add_input("x", ("N", 40))
    above = np.maximum(np.nextafter(limits, F32(9)), np.finfo(F32).tiny)  # the least that the engine tells from 0
    net.add_constant("t", above[None])  # MultiThreshold counts equal numbers as well
    signs = rng.choice(np.array([-1, 1], F32), (40, 9))
    net.add_constant("w", signs)
    net.add_node("MultiThreshold", ["x", "t"], ["a"], out_scale=float(step))
    net.add_node("MatMul", ["a", "w"], ["y"])
    net.set_outputs(["y"])
    x = rng.standard_normal((6, 40)).astype(F32)
    special = np.concatenate([limits, above, [-1, 99]])
    x.reshape(-1)[: special.size] = special
    levels = step * np.arange(1, count + 1)
    counts = np.rint(half_wave(x.astype(np.float64), levels.astype(np.float64)) / step).astype(np.int64)
    # Limits between the levels in float64 and the thresholds in float32 are the same numbers but for a rounding.
    counts[np.isin(x, limits)] = np.searchsorted(limits, x[np.isin(x, limits)], side="left")
    assert counts.max() == count and counts.min() == 0
    again = convert(net.to_onnx())
    assert isinstance(again.constants["w"], Signs)
    expected = (counts @ signs.astype(np.int64)).astype(F32) * step
    codes = [kernel.name for kernel in bittern.kernels() if kernel.loop == "gemm_u8" and kernel.isa == isa]
    for kernels in ([], codes):
        model = bittern.load(again, isa=isa, threads=1, kernels=kernels)
        assert_equal(model.run({"x": x})["y"], expected)
    assert integer_kernels(model, {"x": x.shape}) == ["gemm"]
