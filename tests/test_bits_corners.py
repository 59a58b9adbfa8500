"""Corners of planes of bits: values that others read, shapes that change, numbers that are none."""

from typing import Any

import bittern
import numpy as np
import pytest

from tests.builders import NodeSpec, floats, network, output
from tests.kernels.bits import weights

ort = pytest.importorskip("onnxruntime")
F32 = np.float32
NO_BITS = ["gemm_f32_f32_f32_2x16__scalar"]


def signs(rng: np.random.Generator, *shape: int) -> Any:
    """Weights of one bit each."""
    return weights("signs", rng, shape, 0)


def on_bits(model: bittern.Model) -> int:
    """How many layers run on bits."""
    return sum(layer.kernel.startswith("bgemm_") for layer in model.plan.layers)


def test_quantised_values_are_added_and_read_as_bits(rng: np.random.Generator) -> None:
    """A residual network of 2-bit codes: its values exist as codes, as numbers and as bits."""
    net = bittern.Network("residual")
    net.add_input("x", (1, 64, 8, 8))
    net.add_constant("s", np.array(0.5, F32))
    net.add_constant("z", np.array(1, np.uint8))

    def quantised(value: str, name: str) -> str:
        net.add_node("QuantizeLinear", [value, "s", "z"], [f"{name}.q"], bits=2)
        net.add_node("DequantizeLinear", [f"{name}.q", "s", "z"], [name], bits=2)
        return name

    first = quantised("x", "d")
    net.add_constant("w", signs(rng, 64, 64, 3, 3))
    net.add_node("Conv", [first, "w"], ["c"], pads=[1, 1, 1, 1])
    net.add_node("Add", [first, quantised("c", "d1")], ["a"])
    net.add_node("Conv", [quantised("a", "d2"), "w"], ["y"], pads=[1, 1, 1, 1])
    net.set_outputs(["y", "d"])
    x = np.round(4 * floats(rng, 1, 64, 8, 8)) / F32(4)
    found, expected = bittern.load(net).run({"x": x}), bittern.load(net, kernels=NO_BITS).run({"x": x})
    assert all(np.array_equal(found[name], expected[name]) for name in ("y", "d"))


def test_a_tap_between_normalisation_and_quantiser(rng: np.random.Generator) -> None:
    """With the tap the quantiser reads the normalised numbers, without it those before: one model, both plans."""
    parts = {"g": floats(rng, 32), "h": floats(rng, 32), "m": floats(rng, 32), "v": np.full(32, 4, F32)}
    nodes: list[NodeSpec] = [
        ("BatchNormalization", ["x", *parts], "n", {}),
        ("BipolarQuant", ["n", "s"], "b", {}),
        ("Conv", ["b", "w"], "y", {}),
    ]
    net = network({"x": (1, 32, 5, 5)}, {**parts, "s": np.array(1, F32)}, nodes[:2], ["b"])
    net.add_constant("w", signs(rng, 40, 32, 1, 1))
    net.add_node("Conv", ["b", "w"], ["y"])
    net.set_outputs(["y"])
    x = floats(rng, 1, 32, 5, 5)
    expected = bittern.load(net, kernels=NO_BITS).run({"x": x})["y"]
    orders: list[list[list[str]]] = [[[], ["n"]], [["n"], []]]
    for taps in orders:
        model = bittern.load(net, kernels=["bgemm_b1_s1_s32_1x32__scalar"])
        for each in taps:
            assert np.array_equal(model.run({"x": x}, taps=each)["y"], expected)


def test_maps_of_several_sizes_are_flattened(rng: np.random.Generator) -> None:
    """One model, 256 inputs of its product in maps of every form."""
    net = bittern.Network("flat")
    net.add_input("x", ("N", "C", "H", "W"))
    net.add_constant("s", np.array(1, F32))
    net.add_node("BipolarQuant", ["x", "s"], ["b"])
    net.add_node("Flatten", ["b"], ["f"])
    net.add_constant("w", weights("signs", rng, (256, 64), 1))
    net.add_node("MatMul", ["f", "w"], ["y"])
    net.set_outputs(["y"])
    model, plain = bittern.load(net, kernels=["bgemm_b1_s1_s32_1x32__scalar"]), bittern.load(net, kernels=NO_BITS)
    for shape in ((1, 16, 4, 4), (1, 64, 2, 2), (2, 256, 1, 1), (3, 4, 8, 8), (1, 1, 16, 16)):
        x = floats(rng, *shape)
        assert np.array_equal(output(model, x), output(plain, x)), shape
    assert any(layer.kernel.startswith("bgemm_") for layer in model.plan_for({"x": (1, 16, 4, 4)}).layers)


def test_no_images(rng: np.random.Generator) -> None:
    """An empty batch may be reshaped to any number of columns."""
    net = bittern.Network("empty")
    net.add_input("x", (0, 512, 16, 16))
    net.add_constant("s", np.array(1, F32))
    net.add_constant("to", np.array([0, 64]))
    net.add_node("BipolarQuant", ["x", "s"], ["b"])
    net.add_node("Reshape", ["b", "to"], ["f"], allowzero=1)
    net.add_constant("w", weights("signs", rng, (64, 64), 1))
    net.add_node("MatMul", ["f", "w"], ["y"])
    net.set_outputs(["y"])
    assert output(bittern.load(net), np.zeros((0, 512, 16, 16), F32)).shape == (0, 64)


def test_numbers_that_are_none(rng: np.random.Generator) -> None:
    """A NaN becomes the lowest code behind a clamp, too; factors of zero and infinite inputs as the graph says."""
    bias = floats(rng, 32)
    bias[3] = np.nan
    gamma = floats(rng, 32)
    gamma[:5] = [0, -1, 1, 1e-20, np.inf]
    parts = {"g": gamma, "h": floats(rng, 32), "m": np.zeros(32, F32), "v": np.ones(32, F32)}
    net = network(
        {"x": (1, 32, 5, 5)}, {**parts, "s": np.array(1, F32)}, [("BatchNormalization", ["x", *parts], "n", {})], ["n"]
    )
    net.add_constant("w", signs(rng, 32, 32, 1, 1))
    net.add_constant("bias", bias)
    net.add_constant("t", np.zeros((1, 1), F32))
    net.add_node("BipolarQuant", ["n", "s"], ["b"])
    net.add_node("Conv", ["b", "w", "bias"], ["c"])
    net.add_node("Relu", ["c"], ["r"])
    net.add_node("MultiThreshold", ["r", "t"], ["b2"])
    net.add_node("Conv", ["b2", "w"], ["y"])
    net.set_outputs(["y"])
    x = floats(rng, 1, 32, 5, 5)
    x.reshape(-1)[::7] = np.inf
    x.reshape(-1)[1::7] = 1e-20
    model = bittern.load(net, kernels=["bgemm_b1_s1_s32_1x32__scalar"])
    assert on_bits(model) == 2
    assert np.array_equal(output(model, x), output(bittern.load(net, kernels=NO_BITS), x))


@pytest.mark.parametrize(
    ("shape", "bound"),
    [
        ((1, 1, 8, 8), (8, 1, 1)),
        ((5, 1), (64,)),
        ((8, 8, 8), (1, 1, 1, 1)),
        ((9, 8, 9), (9, 1, 1)),
        ((2, 8, 9), (8, 1)),
    ],
)
def test_comparisons_that_spread_their_input(
    shape: tuple[int, ...], bound: tuple[int, ...], rng: np.random.Generator
) -> None:
    """Bounds that make the result larger, of higher rank, or lie along the batch, stay comparisons."""
    from onnx import TensorProto

    from tests.test_bits import model_of

    wide = np.broadcast_shapes(shape, bound)
    size: tuple[int, ...] = (64, 8, 1) if len(wide) == 3 else (64, 8, 1, 1)
    layer: tuple[str, list[str], str, dict[str, Any]] = ("Conv", ["b", "w"], "y", {})
    if len(wide) == 2:
        size, layer = (64, 64), ("MatMul", ["b", "w"], "y", {})
    constants = {
        "t": np.linspace(-1, 1, int(np.prod(bound)), dtype=F32).reshape(bound),
        "one": np.array(1, F32),
        "two": np.array(2, F32),
        "w": rng.choice(np.array([-1, 1], F32), size),
    }
    nodes = [
        ("Greater", ["x", "t"], "g", {}),
        ("Cast", ["g"], "c", {"to": TensorProto.FLOAT}),
        ("Mul", ["c", "two"], "m", {}),
        ("Sub", ["m", "one"], "b", {}),
        layer,
    ]
    data = model_of(nodes, constants, list(shape))
    x = floats(rng, *shape)
    expected = ort.InferenceSession(data).run(None, {"x": x})[0]
    assert np.array_equal(output(bittern.load(bittern.convert(data)), x), expected)


def test_levels_of_higher_rank_stay_a_choice(rng: np.random.Generator) -> None:
    """Where with constants of four dimensions makes a map of a value of three."""
    from tests.test_bits import model_of

    constants = {
        "t": np.zeros((), F32),
        "one": np.ones((1, 1, 1, 1), F32),
        "minus": np.array(-1, F32),
        "w": rng.choice(np.array([-1, 1], F32), (64, 8, 1, 1)),
    }
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("GreaterOrEqual", ["x", "t"], "g", {}),
        ("Where", ["g", "one", "minus"], "b", {}),
        ("Conv", ["b", "w"], "y", {}),
    ]
    data = model_of(nodes, constants, [8, 8, 8])
    x = floats(rng, 8, 8, 8)
    expected = ort.InferenceSession(data).run(None, {"x": x})[0]
    assert np.array_equal(output(bittern.load(bittern.convert(data)), x), expected)
