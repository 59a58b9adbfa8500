"""Recipes that quantise networks: what the graph becomes, what calibration data may be, how well real networks fare."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.inputs import input_vectors
from bittern.compression.layerwise.prepare import prepare
from bittern.compression.layerwise.reconstruct import compensated, retargeted, validated_target
from bittern.compression.layerwise.walk import decibels
from bittern.encodings import Affine, Codebook, Packed, Pow2, Ternary
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network

from tests.compare import assert_equal
from tests.reference.arrays import Array

INT8: dict[str, Any] = {"recipe": "int8"}


def residual(rng: np.random.Generator, norm: bool = True) -> Network:
    """Convolutions with batch normalisation, a residual sum, pooling, a concatenation, a linear layer, a softmax."""

    def weight(*shape: int) -> Array:
        numbers: Array = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        return numbers

    net = Network("residual")
    net.add_input("x", ["N", 3, 12, 12])
    net.add_constant("w1", weight(8, 3, 3, 3))
    net.add_node("Conv", ["x", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1])
    for name, value in zip(("gamma", "beta", "mean", "variance"), rng.random((4, 8)) + 0.5, strict=True):
        net.add_constant(name, value.astype(np.float32))
    net.add_node("BatchNormalization", ["c1", "gamma", "beta", "mean", "variance"], ["n1"])
    net.add_node("Relu", ["n1" if norm else "c1"], ["r1"])
    net.add_constant("w2", weight(8, 4, 3, 3))
    net.add_constant("b2", weight(8))
    net.add_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1], group=2)
    net.add_node("Add", ["r1", "c2"], ["sum"])
    net.add_node("Relu", ["sum"], ["r2"])
    net.add_node("MaxPool", ["r2"], ["pool"], kernel_shape=[2, 2], strides=[2, 2])
    net.add_constant("w3", weight(4, 8, 1, 1))
    net.add_constant("low", np.array(0, np.float32))
    net.add_constant("high", np.array(100, np.float32))
    net.add_node("Conv", ["pool", "w3"], ["c3"], "conv3")
    net.add_node("Clip", ["c3", "low", "high"], ["r3"])
    net.add_node("Concat", ["pool", "r3"], ["both"], axis=1)
    net.add_node("GlobalAveragePool", ["both"], ["mean_out"])
    net.add_node("Flatten", ["mean_out"], ["flat"])
    net.add_constant("w4", weight(12, 5))
    net.add_constant("b4", weight(5))
    net.add_node("Gemm", ["flat", "w4", "b4"], ["logits"], "fc")
    net.add_node("Softmax", ["logits"], ["shares"])
    net.set_outputs(["shares", "logits"])
    return net


def ops(network: Network) -> Counter[str]:
    """How often each operator comes."""
    return Counter(node.op for node in network.nodes)


def run_all(network: Network, x: Array, name: str) -> Array:
    """An output for all samples."""
    return bittern.load(network).run({"x": x})[name]


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_a_residual_network_in_eight_bits(method: str, rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((24, 3, 12, 12)).astype(np.float32)
    made = compress(net, **INT8, calibration={"x": x[:16]}, calibration_method=method)
    assert made.problems() == []
    count = ops(made)
    assert count["QuantizeLinear"] == count["DequantizeLinear"]
    assert count["BatchNormalization"] == count["Relu"] == 0, "folded, and held by the quantisers"
    producers = {output: node for node in made.nodes for output in node.outputs}
    scales = {node.inputs[0]: node.inputs[1:] for node in made.nodes if node.op == "QuantizeLinear"}
    for node in made.nodes:
        quantised = [name for name in node.inputs if name in producers and producers[name].op == "DequantizeLinear"]
        if node.op in ("Conv", "Add", "MaxPool", "Concat", "GlobalAveragePool", "Flatten"):
            assert len(quantised) == (2 if node.op in ("Add", "Concat") else 1), node
            assert node.outputs[0] in scales, f"{node.op} gives codes"
        if node.op == "Gemm":
            assert quantised and node.outputs == ["logits"], "a result stays a number"
    pool = next(node for node in made.nodes if node.op == "MaxPool")
    assert scales[pool.outputs[0]] == producers[pool.inputs[0]].inputs[1:], "pooling keeps the scale"
    for name in ("w1", "w2", "w3", "w4"):
        tree = made.constants[name]
        assert isinstance(tree, Affine) and isinstance(tree.codes, Packed) and tree.codes.bits == 8
        assert tree.axis == (1 if name == "w4" else 0)
    found = run_all(made, x, "logits")
    exact = run_all(net, x, "logits")
    assert decibels([exact], [found]) >= 27
    assert decibels([exact], [found]) < 70, "it is quantised indeed"


def test_onnx_runtime_agrees(rng: np.random.Generator) -> None:
    """The graph means the same elsewhere: much closer to ours than the quantised network is to the float one."""
    runtime = pytest.importorskip("onnxruntime")
    net, x = residual(rng), rng.standard_normal((8, 3, 12, 12)).astype(np.float32)
    made = compress(net, **INT8, calibration=x)
    session = runtime.InferenceSession(made.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(["logits"], {"x": x})
    ours = [run_all(made, x, "logits")]
    assert decibels(theirs, ours) > decibels([run_all(net, x, "logits")], ours) + 6


def test_integer_biases(rng: np.random.Generator) -> None:
    """Steps of the product of input and weight scale, as float32; the value is the bias to half a step."""
    net, x = residual(rng), rng.standard_normal((8, 3, 12, 12)).astype(np.float32)
    made = compress(net, **INT8, calibration=x, bias_correction=False)
    prepared = prepare(net)
    producers = {output: node for node in made.nodes for output in node.outputs}
    seen = 0
    for node in made.nodes:
        if node.op in ("Conv", "Gemm") and len(node.inputs) > 2:
            bias, weight = made.constants[node.inputs[2]], made.constants[node.inputs[1]]
            assert isinstance(bias, Affine) and isinstance(weight, Affine)
            scale = made.constants[producers[node.inputs[0]].inputs[1]].decode()
            assert_equal(bias.scale.decode(), weight.scale.decode() * scale)
            before = next(n for n in prepared.nodes if n.name == node.name)
            exact = prepared.constants[before.inputs[2]].decode()
            assert (np.abs(bias.decode() - exact) <= bias.scale.decode() * 0.51).all()
            seen += 1
    assert seen == 3, "conv1 has the offset of its normalisation"


def test_clamps_stay_where_the_quantiser_does_not_hold_them() -> None:
    """Clip at 6: an output that reaches it is cut by the quantiser; one whose range ends elsewhere is not."""
    for low, high, gone in ((0.0, 6.0, True), (-1.0, 6.0, True), (0.0, 1e9, True), (0.5, 6.0, False)):
        net = Network("clip")
        net.add_input("x", ["N", 4])
        net.add_constant("w", 3 * np.eye(4, dtype=np.float32))
        net.add_constant("low", np.array(low, np.float32))
        net.add_constant("high", np.array(high, np.float32))
        net.add_node("MatMul", ["x", "w"], ["y"])
        net.add_node("Clip", ["y", "low", "high"], ["z"])
        net.add_node("MatMul", ["z", "w"], ["out"])
        net.set_outputs(["out"])
        x = np.linspace(-4, 4, 400, dtype=np.float32).reshape(100, 4)
        made = compress(net, **INT8, calibration=x, bias_correction=False)
        assert ops(made)["Clip"] == (0 if gone else 1)
        exact = 3 * np.clip(3 * x, low, high)
        assert np.abs(run_all(made, x, "out") - exact).max() < 0.03 * np.abs(exact).max()


def test_preparing_changes_nothing(rng: np.random.Generator) -> None:
    net = residual(rng)
    x = rng.standard_normal((4, 3, 12, 12)).astype(np.float32)
    prepared = prepare(net)
    assert ops(prepared)["BatchNormalization"] == 0
    assert decibels([run_all(net, x, "logits")], [run_all(prepared, x, "logits")]) > 100
    gemm = Network("factors")
    gemm.add_input("x", ["N", 5])
    gemm.add_constant("w", rng.standard_normal((5, 4)).astype(np.float32))
    gemm.add_constant("b", rng.standard_normal(4).astype(np.float32))
    gemm.add_node("Gemm", ["x", "w", "b"], ["y"], "first", alpha=0.5, beta=2.0)
    gemm.add_constant("v", rng.standard_normal((4, 4)).astype(np.float32))
    gemm.add_node("Gemm", ["y", "v", "b"], ["z"], "second")
    gemm.set_outputs(["z"])
    folded = prepare(gemm)
    assert not folded.nodes[0].attributes
    small = rng.standard_normal((3, 5)).astype(np.float32)
    assert decibels([run_all(gemm, small, "z")], [run_all(folded, small, "z")]) > 110


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm", "MatMul"])
@pytest.mark.parametrize("constant", ["channel", "single", "width"])
def test_constants_of_channels_become_part_of_the_layer(op: str, constant: str, rng: np.random.Generator) -> None:
    """Sums and products with one number per channel, or one for all, vanish; those along another dimension stay."""
    image = op.startswith("Conv")
    net = Network("fold")
    net.add_input("x", ["N", 3, 6, 6] if image else ["N", 4])
    net.add_constant("w", rng.standard_normal((3, 3, 1, 1) if image else (4, 3)).astype(np.float32))
    shapes = {"channel": (3, 1, 1) if image else (3,), "single": (), "width": (1, 1, 6) if image else (2, 1, 3)}
    for name in ("shift", "factor"):
        net.add_constant(name, (0.5 + rng.random(shapes[constant])).astype(np.float32))
    net.add_node(op, ["x", "w"], ["a"])
    net.add_node("Add", ["a", "shift"], ["b"])
    net.add_node("Mul", ["factor", "b"], ["c"])
    net.set_outputs(["c"])
    prepared = prepare(net)
    assert prepared.problems() == []
    count = ops(prepared)
    assert count["Add"] + count["Mul"] == (2 if constant == "width" else 0)
    x = rng.standard_normal((5, 3, 6, 6) if image else (5, 4)).astype(np.float32)
    assert decibels([run_all(net, x, "c")], [run_all(prepared, x, "c")]) > 110


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [("int4", Affine), ("codebook4", Codebook), ("ternary", Ternary), ("shift", Pow2), ("quantize", Affine)],
)
@pytest.mark.parametrize("activations", [None, "u8"])
def test_recipes_for_weights(recipe: str, kind: type, activations: str | None, rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((16, 3, 12, 12)).astype(np.float32)
    made = compress(net, recipe=recipe, activations=activations, calibration=x)
    assert all(isinstance(made.constants[name], kind) for name in ("w1", "w2"))
    assert ("QuantizeLinear" in ops(made)) == (activations is not None)
    again = Network.load(made.to_bytes())
    assert_equal(run_all(again, x, "logits"), run_all(made, x, "logits"))
    best = decibels([run_all(net, x, "logits")], [run_all(made, x, "logits")])
    assert best > (5 if recipe == "ternary" else 15)
    assert compress(net, recipe=recipe, activations=activations, calibration=x).to_bytes() == made.to_bytes()
    plain = compress(net, recipe=recipe, activations=activations, calibration=x, reconstruct=False)
    if recipe == "int4" and activations is None:
        assert best > decibels([run_all(net, x, "logits")], [run_all(plain, x, "logits")])


def test_recurrent_layers_are_quantised_in_their_weights(rng: np.random.Generator) -> None:
    net = Network("recurrent")
    net.add_input("x", [6, "N", 10])
    net.add_constant("W", 0.3 * rng.standard_normal((1, 60, 10)).astype(np.float32))
    net.add_constant("R", 0.2 * rng.standard_normal((1, 60, 20)).astype(np.float32))
    net.add_node("GRU", ["x", "W", "R"], ["y", "last"], hidden_size=20)
    net.add_constant("axes", np.array([0]))
    net.add_node("Squeeze", ["last", "axes"], ["h"])
    net.add_constant("v", rng.standard_normal((20, 7)).astype(np.float32))
    net.add_node("MatMul", ["h", "v"], ["out"])
    net.set_outputs(["out"])
    x = rng.standard_normal((6, 9, 10)).astype(np.float32)
    samples = [{"x": x[:, i : i + 1]} for i in range(9)]
    exact = run_all(net, x, "out")
    for options in ({"recipe": "int8"}, {"recipe": "int8", "activations": None}, {"recipe": "int4"}):
        made = compress(net, calibration=samples, **options)
        assert all(isinstance(made.constants[name], Affine) for name in ("W", "R", "v"))
        assert decibels([exact], [run_all(made, x, "out")]) > (15 if options["recipe"] == "int4" else 30)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
def test_recurrent_layers_are_reconstructed(direction: str, layout: int, rng: np.random.Generator) -> None:
    """Nearer to the float states than plain rounding, for inputs that hang together."""
    directions = 1 + (direction == "bidirectional")
    net = Network("recurrent")
    net.add_input("x", ["N", 12, 8] if layout else [12, "N", 8])
    net.add_constant("W", 0.5 * rng.standard_normal((directions, 64, 8)).astype(np.float32))
    net.add_constant("R", 0.2 * rng.standard_normal((directions, 64, 16)).astype(np.float32))
    attributes: dict[str, Any] = {"hidden_size": 16, "direction": direction, "layout": layout}
    net.add_node("LSTM", ["x", "W", "R"], ["y"], **attributes)
    net.set_outputs(["y"])
    mixing = rng.standard_normal((8, 8)) * 0.5 ** np.arange(8)
    x = (rng.standard_normal((40, 12, 8)) @ mixing).astype(np.float32)
    x = x if layout else np.ascontiguousarray(x.transpose(1, 0, 2))
    samples = [{"x": part} for part in np.split(x, 4, axis=0 if layout else 1)]
    made = {way: compress(net, recipe="int4", calibration=samples, reconstruct=way) for way in (True, False)}
    exact = run_all(net, x, "y")
    assert decibels([exact], [run_all(made[True], x, "y")]) > decibels([exact], [run_all(made[False], x, "y")]) + 1


def test_left_out_layers(rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((4, 3, 12, 12)).astype(np.float32)

    def quantised(**options: Any) -> set[str]:
        made = compress(net, calibration=x, **INT8, **options)
        return {name for name in ("w1", "w2", "w3", "w4") if isinstance(made.constants[name], Affine)}

    assert quantised() == {"w1", "w2", "w3", "w4"}
    assert quantised(first_layer=False, last_layer=False) == {"w2", "w3"}
    assert quantised(exclude=["w2", "conv3"]) == {"w1", "w4"}
    with pytest.raises(InputError, match=r"exclude.*'w9'.*w1, w2, w3, w4"):
        quantised(exclude=["w9"])


def test_fewer_bits_of_activations(rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((16, 3, 12, 12)).astype(np.float32)
    exact = run_all(net, x, "logits")
    found = []
    for bits in (8, 6, 4):
        made = compress(net, **INT8, calibration=x, activations=f"u{bits}")
        codes = [node.outputs[0] for node in made.nodes if node.op == "QuantizeLinear"]
        values = bittern.load(made).run({"x": x}, taps=codes)
        assert max(int(values[name].max()) for name in codes) == 2**bits - 1
        found.append(decibels([exact], [values["logits"]]))
    assert found[0] > found[1] + 6 and found[1] > found[2] + 4


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"recipe": "int8", "method": "magic"}, "method.*'magic'.*affine, balanced"),
        ({"recipe": "int8", "speed": 1}, "'speed'.*activations.*bits.*group"),
        ({"recipe": "ternary", "bits": 2}, "'bits'.*per_channel.*rule.*threshold"),
        ({"recipe": "int4", "bits": 9}, "bits: is 9"),
        ({"recipe": "int4", "activations": "f16"}, "activations: is 'f16'.*u8"),
        ({"recipe": "int4", "calibration_method": "max"}, "calibration_method: is 'max'.*minmax, percentile, mse"),
        ({"recipe": "int4", "calibration_percentile": 5}, "calibration_percentile: is 5"),
        ({"recipe": "int4", "reconstruct": 1}, "reconstruct: is 1"),
        ({"recipe": "int4", "samples": 0}, "samples: is 0"),
        ({"recipe": "int4", "exclude": "w1"}, "exclude: is 'w1'"),
        ({"recipe": "int4", "first_layer": None}, "first_layer: is None"),
    ],
)
def test_options_are_checked(options: dict[str, Any], problem: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=problem):
        compress(residual(rng), **options)


def test_a_weight_that_is_not_finite_is_named(rng: np.random.Generator) -> None:
    net = Network("broken")
    net.add_input("x", ["N", 4])
    net.add_constant("w", np.array([[1, np.nan, 2, 3]] * 4, np.float32))
    net.add_node("MatMul", ["x", "w"], ["y"])
    net.set_outputs(["y"])
    for options in ({"recipe": "int8"}, {"recipe": "int4"}):
        with pytest.raises(InputError, match=r"'w'.*not finite"):
            compress(net, **dict[str, Any](options))


def test_values_that_are_not_finite_inside(rng: np.random.Generator) -> None:
    """A layer whose inputs overflow is rounded without them; the others are not hurt."""
    net = Network("overflow")
    net.add_input("x", ["N", 4])
    for name in ("w", "v", "u"):
        net.add_constant(name, rng.standard_normal((4, 4)).astype(np.float32))
    net.add_constant("big", np.array(3e38, np.float32))
    net.add_node("MatMul", ["x", "w"], ["y"])
    net.add_node("Mul", ["y", "big"], ["huge"])
    net.add_node("MatMul", ["huge", "v"], ["lost"])
    net.add_node("Gemm", ["y", "u"], ["kept"])
    net.set_outputs(["lost", "kept"])
    x = 10 * rng.standard_normal((8, 4)).astype(np.float32)
    for options in ({"recipe": "int8"}, {"recipe": "int4"}):
        made = compress(net, calibration=x, **dict[str, Any](options))
        assert all(np.isfinite(tree.decode()).all() for tree in made.constants.values())
        assert decibels([run_all(net, x, "kept")], [run_all(made, x, "kept")]) > (
            25 if options["recipe"] == "int8" else 10
        )


def test_the_report(rng: np.random.Generator) -> None:
    net, x = residual(rng), rng.standard_normal((5, 3, 12, 12)).astype(np.float32)
    calls: list[tuple[int, int, str]] = []
    made = compress(net, **INT8, calibration=x, progress=lambda *call: calls.append(call))
    assert calls == [(i + 1, 4, f"w{i + 1}") for i in range(4)]
    rows = {row.name: row for row in made.summary().rows}
    for name in ("w1", "w4"):
        assert "weight " in rows[name].note and "output " in rows[name].note and (rows[name].error or 0) > 0
        assert 0 < (rows[name].output_error or 0) < 0.1
    text = str(made.summary())
    assert "calibrated on 5 samples" in text and "greatest element in 5 of 5" in text
    with pytest.raises(InputError, match="quantised already"):
        compress(made, **INT8, calibration=x)
    assert "random samples" in str(compress(net, **INT8).summary())
    assert "calibrated" not in str(compress(net, recipe="int4").summary())


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
def test_input_vectors_make_the_convolution(auto_pad: str, group: int, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((6, 4 // group, 3, 2)).astype(np.float32)
    x = rng.standard_normal((2, 4, 9, 8)).astype(np.float32)
    attributes: dict[str, Any] = {"auto_pad": auto_pad, "strides": [2, 1], "dilations": [1, 2], "group": group}
    if auto_pad == "NOTSET":
        attributes["pads"] = [1, 0, 2, 3]
    net = Network("conv")
    net.add_input("x", x.shape)
    net.add_constant("w", weight)
    net.add_node("Conv", ["x", "w"], ["y"], **attributes)
    net.set_outputs(["y"])
    vectors = input_vectors(Node("c", "Conv", ["x", "w"], ["y"], attributes), weight.shape, x)
    found = vectors @ weight.reshape(group, 6 // group, -1).transpose(0, 2, 1)
    expected = run_all(net, x, "y").transpose(0, 2, 3, 1).reshape(-1, 6)
    assert np.abs(found.transpose(1, 0, 2).reshape(-1, 6) - expected).max() < 1e-4


def test_compensation_lowers_the_error_of_the_output(rng: np.random.Generator) -> None:
    """For correlated inputs by far, for every method; and never much for the worse."""
    from bittern.compression.layerwise.grid import Layout
    from bittern.compression.quantize.methods import METHODS

    mixing = rng.standard_normal((40, 40)) * 0.9 ** np.arange(40)
    x = rng.standard_normal((2000, 40)) @ mixing
    hessian = (x.T @ x)[np.newaxis]
    rows = rng.standard_normal((16, 40))
    for name, method in METHODS.items():
        grid = method().fit(rows, Layout((16, 40), 0, 1))
        plain, better = grid.round(rows), grid.values(compensated(rows, grid, hessian))
        errors = [float(np.square(x @ (found - rows).T).sum()) for found in (plain, better)]
        assert errors[1] < (0.5 if name in ("affine", "codebook") else 0.95) * errors[0], name
    grouped = compensated(rows, grid, np.concatenate([hessian, hessian]))
    assert_equal(grouped, compensated(rows, grid, hessian))


def test_weights_for_the_inputs_that_are_there(rng: np.random.Generator) -> None:
    """Without a ridge, the least-squares solution; nearly so with a validated one; no change where there is none."""
    rows, x = rng.standard_normal((5, 12)), rng.standard_normal((300, 12))
    rough = 0.8 * x + 0.1 * rng.standard_normal(x.shape)
    hessian, cross = (rough.T @ rough)[np.newaxis], (x.T @ rough)[np.newaxis]
    expected = np.linalg.lstsq(rough, x @ rows.T, rcond=None)[0].T
    assert np.abs(retargeted(rows, hessian, cross, [0.0])[0] - expected).max() < 1e-9
    halves = [tuple((a[i::2].T @ rough[i::2])[np.newaxis] for i in range(2)) for a in (rough, x)]
    moved = validated_target(rows, (halves[0][0], halves[0][1]), (halves[1][0], halves[1][1]))

    def error(found: Array) -> float:
        return float(np.square(rough @ found.T - x @ rows.T).sum())

    assert error(moved) < 1.02 * error(expected) < 0.5 * error(rows)
    same = [(x[i::2].T @ x[i::2])[np.newaxis] for i in range(2)]
    assert np.abs(validated_target(rows, (same[0], same[1]), (same[0], same[1])) - rows).max() < 1e-9


# Real networks


def photos(shared_data: Path) -> Array:
    """The sample photos as SqueezeNet wants them."""
    images = np.load(shared_data / "imagenet_sample" / "images.npz")["images"][:, 14:241, 14:241, ::-1]
    values = images.astype(np.float32) - np.array([104, 117, 123], np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def squeezenet_quality(network: Network, shared_data: Path, chosen: list[int]) -> tuple[float, int]:
    """Signal to noise of the logits against the float network's, and how many first answers changed."""
    x = photos(shared_data)
    exact = np.load(shared_data / "squeezenet_dc" / "expected_imagenet_sample.npz")["logits"][chosen]
    model = bittern.load(network)
    found = np.concatenate([np.asarray(model(x[index : index + 1])) for index in chosen])
    return decibels([exact], [found]), int(np.count_nonzero(exact.argmax(axis=1) != found.argmax(axis=1)))


def test_squeezenet_in_eight_bits(shared_data: Path) -> None:
    """Calibrated on ten photos, judged on the others."""
    path = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    made = compress(path, **INT8, calibration={"data": photos(shared_data)[::3]})
    others = [index for index in range(29) if index % 3]
    quality, changed = squeezenet_quality(made, shared_data, others)
    assert quality >= 25 and changed <= 2


def test_squeezenet_in_four_bits_needs_reconstruction(shared_data: Path) -> None:
    path = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    options: dict[str, Any] = {"recipe": "int4", "activations": "u8", "calibration": photos(shared_data)[:24:4]}
    others = [1, 6, 11, 14, 19, 22, 25, 27]
    plain = compress(path, reconstruct=False, bias_correction=False, **options)
    before, _ = squeezenet_quality(plain, shared_data, others)
    after, _ = squeezenet_quality(compress(path, **options), shared_data, others)
    assert after >= before + 4


def test_resnet_agrees_as_well_as_the_reference(shared_data: Path) -> None:
    """At least as often with the float network as the published int8 file, and closer to its outputs."""
    folder = shared_data / "mlperf_tiny"
    data = np.load(folder / "expected_resnet8_cifar10.npz")
    exact = data["onnx_output"]
    reference = (data["output_int8"].astype(np.float64) + 128) / 256
    made = compress(folder / "resnet8_cifar10_float.onnx", **INT8, calibration=data["input_float"][::2])
    found = bittern.load(made).run({"input": data["input_float"]})["output"]

    def agreeing(other: Array) -> int:
        return int(np.count_nonzero(other.argmax(axis=1) == exact.argmax(axis=1)))

    assert agreeing(found) >= agreeing(reference)
    assert decibels([exact], [found]) > decibels([exact], [reference])
