"""Networks on planes of bits: what the plan says, what importing recognises, the same answers everywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import onnx
import pytest
from bittern.encodings import Affine, Dense, Packed, Signs
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.builders import floats, output, reference
from tests.kernels.bits import weights
from tests.kernels.convolution import acceptance_shapes
from tests.reference import run

ort = pytest.importorskip("onnxruntime")
F32 = np.float32
Step = tuple[str, list[str], str, dict[str, Any]]
Array = NDArray[Any]


def signs(rng: np.random.Generator, *shape: int) -> Array:
    """Numbers of -1 and +1."""
    return rng.choice(np.array([-1, 1], F32), shape)


def kernels_of(model: bittern.Model) -> list[str]:
    """The kernels of a plan, without reorders."""
    return [layer.kernel for layer in model.plan.layers if layer.op != "Reorder"]


def model_of(
    nodes: list[tuple[str, list[str], str, dict[str, Any]]], constants: Mapping[str, Array], shape: list[int]
) -> bytes:
    """An ONNX file with one input ``x`` and one output ``y``."""
    made = [helper.make_node(op, inputs, [output], **attributes) for op, inputs, output, attributes in nodes]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        made,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


# How exporters write two levels: nodes from "x" to "b", constants, and what the bits layer reads as one plane.
_ONE, _TWO = np.array(1, F32), np.array(2, F32)
STEPS: dict[str, tuple[list[Step], dict[str, Array]]] = {
    "greater, cast, scaled": (
        [
            ("Greater", ["x", "t"], "g", {}),
            ("Cast", ["g"], "c", {"to": TensorProto.FLOAT}),
            ("Mul", ["c", "two"], "m", {}),
            ("Sub", ["m", "one"], "b", {}),
        ],
        {"t": np.linspace(-1, 1, 40, dtype=F32).reshape(40, 1, 1), "two": _TWO, "one": _ONE},
    ),
    "where": (
        [("GreaterOrEqual", ["x", "t"], "g", {}), ("Where", ["g", "one", "minus"], "b", {})],
        {"t": np.zeros(1, F32), "one": _ONE, "minus": -_ONE},
    ),
    "constant first": (
        [
            ("Less", ["t", "x"], "g", {}),
            ("Cast", ["g"], "c", {"to": TensorProto.FLOAT}),
            ("Mul", ["c", "minus two"], "m", {}),
            ("Add", ["one", "m"], "b", {}),
        ],
        {"t": np.array(0.25, F32), "one": _ONE, "minus two": -_TWO},
    ),
    "sign of sign": (
        [("Sign", ["x"], "s", {}), ("Add", ["s", "tenth"], "a", {}), ("Sign", ["a"], "b", {})],
        {"tenth": np.array(0.1, F32)},
    ),
    "sign": ([("Sign", ["x"], "b", {})], {}),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("padding", ["zero", "plus", "minus"])
def test_binary_networks_in_float_form(step: str, padding: str, rng: np.random.Generator) -> None:
    """Weights of -c and +c and steps as exporters write them run on bits, with ONNX Runtime's very numbers."""
    nodes, constants = STEPS[step]
    nodes = list(nodes)
    constants = dict(constants) | {"w": signs(rng, 70, 40, 3, 3) * F32(0.5), "w2": signs(rng, 33, 70, 1, 1)}
    value, pads = "b", [1, 1, 1, 1]
    if padding != "zero":
        constants |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "border": _ONE if padding == "plus" else -_ONE}
        nodes.append(("Pad", ["b", "pads", "border"], "p", {}))
        value, pads = "p", [0, 0, 0, 0]
    nodes.append(("Conv", [value, "w"], "s1", {"pads": pads}))
    if step == "sign":
        nodes.append(("Sign", ["s1"], "b1", {}))
    else:
        nodes.append(("BatchNormalization", ["s1", "g1", "h1", "m1", "v1"], "n1", {}))
        nodes += [("GreaterOrEqual", ["n1", "zero"], "r1", {}), ("Where", ["r1", "plus", "less"], "b1", {})]
        constants |= {"g1": floats(rng, 70), "h1": floats(rng, 70), "m1": floats(rng, 70) * F32(9)}
        constants |= {"v1": np.full(70, 4, F32), "zero": np.zeros((), F32), "plus": _ONE, "less": -_ONE}
    nodes.append(("Conv", ["b1", "w2"], "y", {}))
    data = model_of(nodes, constants, [2, 40, 7, 9])
    x = np.round(4 * floats(rng, 2, 40, 7, 9)) / F32(4)
    expected = ort.InferenceSession(data).run(None, {"x": x})[0]
    network = bittern.convert(data)
    for level in bittern.cpu().isa_levels_usable:
        for threads in (1, 2):
            model = bittern.load(network, isa=level, threads=threads)
            assert np.array_equal(output(model, x), expected), (level, threads)
    found = kernels_of(bittern.load(network))
    if "avx512icl" in bittern.cpu().isa_levels_usable:  # where counting is slow, three levels may not pay
        assert sum(kernel.startswith("bgemm_") for kernel in found) == 2, found
    assert isinstance(network.constants["w"], Signs)


def test_a_chain_stays_in_bits(rng: np.random.Generator) -> None:
    """Between the first quantiser and the last sums there is nothing but bits; they take an eighth of a byte each."""
    net = bittern.Network("chain")
    net.add_input("x", (1, 64, 16, 16))
    value = "x"
    for i, (inputs, outputs) in enumerate(((64, 128), (128, 128), (128, 256))):
        net.add_constant(f"s{i}", np.array(1, F32))
        net.add_node("BipolarQuant", [value, f"s{i}"], [f"b{i}"])
        value = f"b{i}"
        if i:
            net.add_node("MaxPool", [value], [f"p{i}"], kernel_shape=[2, 2], strides=[2, 2])
            value = f"p{i}"
        net.add_constant(f"w{i}", weights("signs each", rng, (outputs, inputs, 3, 3), 0))
        net.add_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1])
        value = f"c{i}"
    net.set_outputs([value])
    file = net.to_bytes()
    numbers = 9 * (64 * 128 + 128 * 128 + 128 * 256)
    assert len(file) < numbers / 8 + 4 * 512 + 4096
    model = bittern.load(file)
    found = kernels_of(model)
    assert [kernel.split("_")[0] for kernel in found] == ["pack", "bgemm", "maxpool", "bgemm", "maxpool", "bgemm"]
    layers = [layer for layer in model.plan.layers if layer.kernel.startswith("bgemm_")]
    for layer, count in zip(layers, (64 * 128, 128 * 128, 128 * 256), strict=True):
        assert layer.encoded_bytes <= 9 * count / 8 + 4 * 256
        assert layer.packed_bytes <= 9 * count / 8 + 40 * 4 * 256  # and thresholds of nine kinds of borders
        assert "planes of bits, 1 x 1" in layer.reason


def test_levels_that_others_read_stay_real_too(rng: np.random.Generator) -> None:
    """A value of two levels that is an output or is added somewhere exists as bits and as numbers."""
    net = bittern.Network("both")
    net.add_input("x", (1, 64, 8, 8))
    net.add_constant("s", np.array(0.5, F32))
    net.add_node("BipolarQuant", ["x", "s"], ["b"])
    net.add_constant("w", weights("signs", rng, (64, 64, 3, 3), 0))
    net.add_node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1])
    net.add_node("Add", ["c", "b"], ["sum"])
    net.add_node("BipolarQuant", ["sum", "s"], ["b2"])
    net.add_node("Conv", ["b2", "w"], ["y"], pads=[1, 1, 1, 1])
    net.set_outputs(["y", "b2", "sum"])
    x = floats(rng, 1, 64, 8, 8)
    model = bittern.load(net)
    found = model.run({"x": x})
    plain = bittern.load(net, kernels=["gemm_f32_f32_f32_2x16__scalar"]).run({"x": x})
    assert all(np.array_equal(found[name], plain[name]) for name in ("y", "b2", "sum"))
    assert sum(kernel.startswith("bgemm_") for kernel in kernels_of(model)) == 2
    taps = model.run({"x": x}, taps=["b", "c"])
    assert np.array_equal(taps["b"], np.where(x >= 0, F32(0.5), F32(-0.5))) and np.array_equal(taps["y"], plain["y"])


@pytest.mark.parametrize(("planes", "kind"), [(1, "signs"), (2, "signs"), (2, "ternary"), (4, "i4")])
def test_the_planner_weighs_bits_against_codes(planes: int, kind: str, rng: np.random.Generator) -> None:
    """Few products of planes run on bits, many on 8-bit codes where there are any; the answers are the same."""
    net = bittern.Network("weighed")
    net.add_input("x", (1, 256, 14, 14))
    net.add_constant("s", np.array(0.5, F32))
    net.add_constant("z", np.array(0, np.uint8))
    for i in range(2):
        net.add_node("QuantizeLinear", ["x" if i == 0 else "c0", "s", "z"], [f"q{i}"], bits=max(2, planes))
        net.add_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"], bits=max(2, planes))
        net.add_constant(f"w{i}", weights(kind, rng, (256, 256, 3, 3), 0))
        net.add_node("Conv", [f"d{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1])
    net.set_outputs(["c1"])
    x = floats(rng, 1, 256, 14, 14)
    model = bittern.load(net)
    on_bits = any(kernel.startswith("bgemm_") for kernel in kernels_of(model))
    counted = "avx512icl" in bittern.cpu().isa_levels_usable
    if kind == "signs" and counted:
        assert on_bits
    if kind == "i4":
        assert not on_bits
    asked = bittern.load(net, kernels=["bgemm_b1_b1_s32_1x32__scalar", "bgemm_b1_s1_s32_1x32__scalar"])
    assert any(kernel.startswith("bgemm_") for kernel in kernels_of(asked))
    codes = bittern.load(net, kernels=["gemm_u8_s8_s32_2x16__scalar"])
    found = output(model, x)
    assert np.array_equal(found, output(asked, x)) and np.array_equal(found, output(codes, x))


def test_the_map_of_xnor_net(rng: np.random.Generator) -> None:
    """K = |I| averaged over channels and window, by operators of the graph, beside bits (arXiv 1603.05279)."""
    net = bittern.Network("k")
    net.add_input("x", (1, 1, 3, 3))
    net.add_node("Abs", ["x"], ["a"])
    net.add_constant("axes", np.array([1]))
    net.add_node("ReduceMean", ["a", "axes"], ["mean"])
    net.add_node("AveragePool", ["mean"], ["k"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    net.set_outputs(["k"])
    x = np.array([[-1, -0.75, -0.5], [-0.25, 0, 0.25], [0.5, 0.75, 1]], F32)[None, None]
    golden = [[0.2222, 0.3056, 0.1667], [0.3611, 0.5556, 0.3611], [0.1667, 0.3056, 0.2222]]
    assert np.abs(output(bittern.load(net), x)[0, 0] - golden).max() < 1e-4
    whole = bittern.Network("xnor")
    whole.add_input("x", (1, 65, 6, 6))
    whole.add_constant("one", np.array(1, F32))
    whole.add_constant("axes", np.array([1]))
    whole.add_node("Abs", ["x"], ["a"])
    whole.add_node("ReduceMean", ["a", "axes"], ["mean"])
    whole.add_node("AveragePool", ["mean"], ["k"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    whole.add_node("BipolarQuant", ["x", "one"], ["b"])
    alpha, bits = np.abs(floats(rng, 7)), rng.integers(0, 2, (7, 65, 3, 3)).astype(np.uint8)
    whole.add_constant("w", Signs(Packed.pack(bits, 1), Dense(alpha), axis=0))
    whole.add_node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1])
    whole.add_node("Mul", ["c", "k"], ["y"])
    whole.set_outputs(["y", "k", "c"])
    x = floats(rng, 1, 65, 6, 6)
    model = bittern.load(whole)
    assert any(kernel.startswith("bgemm_") for kernel in kernels_of(model))
    found = model.run({"x": x})
    padded = np.pad(np.abs(x[0]).mean(0, dtype=np.float64), 1)
    k = np.array([[padded[i : i + 3, j : j + 3].mean() for j in range(6)] for i in range(6)])
    levels = np.pad(np.where(x[0] >= 0, 1.0, -1.0), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(levels, (3, 3), (1, 2))
    sums = np.einsum("chwij,ocij->ohw", windows, 2.0 * bits - 1)
    assert np.allclose(found["k"][0, 0], k, rtol=1e-5)
    assert np.allclose(found["y"][0], sums * alpha[:, None, None] * k, rtol=1e-5)


@pytest.mark.parametrize("name", ["mnist_lfcW1A1", "cifar10_cnvW1A1"])
def test_published_binary_networks_run_on_bits(name: str, shared_data: Path) -> None:
    """All layers but the first, whose inputs are pixels; the file takes a bit for each weight."""
    source = shared_data / "bnn_pynq" / f"{name}.onnx"
    network = bittern.convert(source)
    layers = [layer for layer in bittern.load(network).plan.layers if layer.op in ("Conv", "Gemm")]
    assert [layer.kernel.startswith("bgemm_") for layer in layers] == [False] + [True] * (len(layers) - 1)
    elements = sum(
        numpy_helper.to_array(tensor).size for tensor in onnx.load(source).graph.initializer if "weight" in tensor.name
    )
    assert len(network.to_bytes()) < elements / 8 + 20_000


def test_thresholds_of_finn(rng: np.random.Generator) -> None:
    """MultiThreshold of a few steps, of all channels or each, in front of binary weights; pooling between them."""
    net = bittern.Network("finn")
    net.add_input("x", (2, 33, 9, 9))
    value, channels = "x", 33
    for i, (steps, filters, scale, bias) in enumerate(((1, 70, 2.0, -1.0), (3, 64, 1.0, 0.0), (3, 10, 0.5, -0.5))):
        table = np.sort(rng.integers(-30, 31, (channels if i else 1, steps)), axis=1).astype(F32)
        net.add_constant(f"t{i}", table / F32(8 if i == 0 else 1))
        net.add_node("MultiThreshold", [value, f"t{i}"], [f"a{i}"], out_scale=scale, out_bias=bias)
        value = f"a{i}"
        if i == 1:
            net.add_node("MaxPool", [value], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
            value = "pooled"
        net.add_constant(f"w{i}", weights("signs", rng, (filters, channels, 3, 3), 0).decode())
        net.add_node("Conv", [value, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1])
        value, channels = f"c{i}", filters
    net.set_outputs([value])
    x = np.round(4 * floats(rng, 2, 33, 9, 9)) / F32(4)
    expected = run(reference(net), {"x": x})[value]
    again = bittern.convert(net.to_onnx())
    assert isinstance(again.constants["w1"], Signs)
    for level in bittern.cpu().isa_levels_usable:
        assert np.array_equal(output(bittern.load(again, isa=level, threads=2), x), expected), level
    if "avx512icl" in bittern.cpu().isa_levels_usable:
        found = kernels_of(bittern.load(again))
        assert [kernel.split("_")[0] for kernel in found] == ["pack", "bgemm", "maxpool", "bgemm", "bgemm"], found


def test_a_module_of_torch(rng: np.random.Generator) -> None:
    """Binary layers as people write them in PyTorch."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")

    class Binary(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(64, 48, 3, padding=1, bias=False)
            self.norm = torch.nn.BatchNorm2d(48)
            self.last = torch.nn.Conv2d(48, 5, 1, bias=False)
            for layer in (self.conv, self.last):
                layer.weight.data = torch.where(layer.weight.data >= 0, 1.0, -1.0) * 0.25

        def forward(self, x: Any) -> Any:
            x = torch.where(x >= 0, 1.0, -1.0)
            x = self.norm(self.conv(x))
            return self.last((x > 0).float() * 2 - 1)

    module = Binary().eval()
    x = floats(rng, 1, 64, 6, 6)
    network = bittern.convert(module, example_inputs=torch.from_numpy(x))
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    model = bittern.load(network)
    assert np.abs(output(model, x) - expected).max() < 1e-5
    assert sum(kernel.startswith("bgemm_") for kernel in kernels_of(model)) == 2, kernels_of(model)


@pytest.mark.parametrize("weight_bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_codes_of_dorefa(weight_bits: int, bits: int, rng: np.random.Generator) -> None:
    """Odd weights 2 q - n against unsigned codes, on any loop: the sums of whole numbers (arXiv 1606.06160)."""
    asked = ["bgemm_b1_s1_s32_1x32__scalar"] if weight_bits * bits <= 16 else []
    for index, shape in enumerate(acceptance_shapes()):
        if shape.channels == 256 or index % 3 != (weight_bits + bits) % 3:
            continue
        net = bittern.Network("dorefa")
        net.add_input("x", (shape.batch, shape.channels, shape.height, shape.width))
        most = 2**bits - 1
        net.add_constant("s", np.array(0.25, F32))
        if bits == 1:
            net.add_constant("t", np.array([[0.125]], F32))
            net.add_node("MultiThreshold", ["x", "t"], ["a"], out_scale=0.25)
        else:
            net.add_constant("z", np.array(0, np.uint8))
            net.add_node("QuantizeLinear", ["x", "s", "z"], ["q"], bits=bits)
            net.add_node("DequantizeLinear", ["q", "s", "z"], ["a"], bits=bits)
        size = (shape.filters, shape.channels // shape.groups, *shape.kernel)
        codes = (2 * rng.integers(0, 2**weight_bits, size) - (2**weight_bits - 1)).astype(np.int16)
        net.add_constant("w", Affine(Dense(codes), Dense(np.array(0.5, F32))))
        attributes: dict[str, Any] = shape.attributes()
        net.add_node("Conv", ["a", "w"], ["y"], **attributes)
        net.set_outputs(["y"])
        q = rng.integers(0, most + 1, (shape.batch, shape.channels, shape.height, shape.width))
        x = q.astype(F32) / F32(4)
        expected = run(reference(net), {"x": x})["y"]
        for kernels in ([], asked):
            model = bittern.load(net, kernels=kernels, isa="scalar" if kernels else None)
            assert np.array_equal(output(model, x), expected), (shape.label(), kernels, kernels_of(model))


def test_pooling_before_normalisation_stays_in_bits(rng: np.random.Generator) -> None:
    """The order of BNN and XNOR-Net: where a negative factor turns numbers round, a window's bits are joined by and."""
    net = bittern.Network("bnn")
    net.add_input("x", (2, 64, 12, 12))
    net.add_constant("one", np.array(1, F32))
    net.add_node("BipolarQuant", ["x", "one"], ["b"])
    net.add_constant("w", weights("signs", rng, (70, 64, 3, 3), 0))
    net.add_node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1])
    net.add_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2])
    gamma = floats(rng, 70)
    gamma[:9] = 0
    parts = (gamma, floats(rng, 70), F32(9) * floats(rng, 70), np.full(70, 4, F32))
    for name, part in zip("ghmv", parts, strict=True):
        net.add_constant(name, part)
    net.add_node("BatchNormalization", ["p", *"ghmv"], ["n"])
    net.add_node("BipolarQuant", ["n", "one"], ["b2"])
    net.add_constant("w2", weights("signs", rng, (64, 70, 1, 1), 0))
    net.add_node("Conv", ["b2", "w2"], ["y"])
    net.set_outputs(["y"])
    x = floats(rng, 2, 64, 12, 12)
    expected = run(reference(net), {"x": x})["y"]
    for level in bittern.cpu().isa_levels_usable:
        model = bittern.load(net, isa=level, threads=2)
        assert np.array_equal(output(model, x), expected), level
        assert np.array_equal(model.run({"x": x}, taps=["p"])["y"], expected), level
    found = [kernel.split("_")[0] for kernel in kernels_of(bittern.load(net))]
    assert found == ["pack", "bgemm", "maxpool", "bgemm"], found
