"""Activations of residual levels (ResBinNet, arXiv 1711.01243) on planes of bits: a pass for each level and part."""

from itertools import pairwise
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Encoding, Signs
from onnx import TensorProto

from tests.builders import floats, output, reference
from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.kernels.bits import residual, weights
from tests.kernels.convolution import acceptance_shapes, random_convolution
from tests.quantized_graphs import Wiring
from tests.reference import apply, run
from tests.reference.arrays import Array
from tests.test_bit_sums import LEVELS, kernels_of, parts, whole
from tests.test_bits import model_of
from tests.test_bits_corners import NO_BITS
from tests.tolerances import dot_bound

ort = pytest.importorskip("onnxruntime")
F32 = np.float32
SCALES = (0.9, 0.37, 0.21, 0.13)


def encoded(x: Array, scales: Array) -> list[Array]:
    """The levels, as the paper has them, in float32."""
    left, found = x.astype(F32), []
    for scale in scales.astype(F32):
        found.append(np.where(left >= 0, scale, -scale))
        left = left - found[-1]
    return found


def sum_of(levels: list[Array]) -> Array:
    """Added from left to right in float32."""
    total = levels[0]
    for level in levels[1:]:
        total = total + level
    return total


def network(
    shape: tuple[int, ...], scales: Array, tree: Encoding | Array, op: str = "Conv", **attributes: Any
) -> bittern.Network:
    """Levels and one layer."""
    net = bittern.Network("levels")
    net.add_input("x", shape)
    bittern.add_residual_levels(net, "x", scales, "levels")
    net.add_constant("w", tree)
    net.add_node(op, ["levels", "w"], ["y"], **attributes)
    net.set_outputs(["y"])
    return net


def layers(model: bittern.Model) -> list[bittern.Layer]:
    """The plan's layers with weights."""
    return [row for row in model.plan.layers if row.op in ("Conv", "Gemm", "MatMul")]


def test_numbers_of_the_paper() -> None:
    """0.7 is 0.6 + 0.2, 0.5 is 0.6 - 0.2, in the graph and in a layer of one weight; zeros of both signs are plus."""
    x = np.array([0.7, 0.5, -0.5, -0.7, 0.0, -0.0], F32).reshape(6, 1, 1, 1)
    wanted = np.array([0.8, 0.4, -0.4, -0.8, 0.4, 0.4], F32)
    net = network((6, 1, 1, 1), np.array([0.6, 0.2], F32), Signs.of(np.ones((1, 1, 1, 1))))
    net.set_outputs(["levels", "y"])
    for level in LEVELS:
        model = bittern.load(net, isa=level, kernels=kernels_of("scalar", 0))
        assert layers(model)[0].kernel.startswith("bgemm_")
        for found in model.run({"x": x}).values():
            assert np.abs(found.reshape(-1) - wanted).max() <= 1e-6, level


def test_one_level_is_a_binary_layer(rng: np.random.Generator) -> None:
    """The same kernel and the very numbers."""
    tree, x = parts("2 levels each", rng, (33, 65, 3, 3))[0], floats(rng, 1, 65, 8, 8)
    net = network(x.shape, np.array([0.4], F32), tree, pads=[1, 1, 1, 1])
    binary = bittern.Network("binary")
    binary.add_input("x", x.shape)
    binary.add_constant("s", np.array(0.4, F32))
    binary.add_node("BipolarQuant", ["x", "s"], ["b"])
    binary.add_constant("w", tree)
    binary.add_node("Conv", ["b", "w"], ["y"], pads=[1, 1, 1, 1])
    binary.set_outputs(["y"])
    models = [bittern.load(each, kernels=kernels_of("scalar", 0)) for each in (net, binary)]
    assert layers(models[0])[0].kernel == layers(models[1])[0].kernel == "bgemm_b1_s1_s32_1x32__scalar"
    assert_equal(output(models[0], x), output(models[1], x))


@pytest.mark.parametrize("levels", [2, 3, 4])
@pytest.mark.parametrize("kind", ["2 levels each", "two scales"])
def test_convolutions(levels: int, kind: str) -> None:
    """Within the bound of the float reference and 1e-4 of it, borders included; the same on every level."""
    rng = np.random.default_rng(seed_of(f"residual {levels} {kind}"))
    shapes = [shape for shape in acceptance_shapes() if shape.channels != 256]
    shapes += [random_convolution(rng, depthwise=False) for _ in range(8)]
    scales = np.array(SCALES[:levels], F32)
    for turn, shape in enumerate(shapes):
        size = (shape.filters, shape.channels // shape.groups, *shape.kernel)
        trees = parts(kind, rng, size)
        attributes: dict[str, Any] = shape.attributes()
        x = floats(rng, shape.batch, shape.channels, shape.height, shape.width)
        net = network(x.shape, scales, whole(trees), **attributes)
        terms = encoded(x, scales)
        expected = apply("Conv", [sum_of(terms), whole(trees).decode()], attributes)
        sizes = [
            np.abs(np.stack([np.asarray(v) for v in values])).sum(axis=0)
            for values in (terms, [t.decode() for t in trees])
        ]
        magnitude = apply("Conv", sizes, attributes)
        found = []
        for level in LEVELS:
            if level.endswith("vnni"):
                continue
            model = bittern.load(net, isa=level, threads=1 + turn % 2, kernels=kernels_of(level, turn))
            row = layers(model)[0]
            assert row.kernel.startswith("bgemm_") and row.isa == level, (shape.label(), row)
            found.append(output(model, x))
            assert_equal(found[-1], found[0], f"{shape.label()} {level}")
        error = np.abs(found[0].astype(np.float64) - expected)
        assert (error <= dot_bound(size[1] * size[2] * size[3], magnitude)).all(), shape.label()
        assert (error <= 1e-4 * np.maximum(1, np.abs(expected))).all(), shape.label()


@pytest.mark.parametrize("channels", [1, 3, 31, 32, 33, 63, 64, 65, 130])
def test_products_of_rows_and_maps(channels: int) -> None:
    """Rows of a matrix, and maps that are flattened: the graph's own numbers, as all are sums of powers of two."""
    rng = np.random.default_rng(seed_of(f"residual products {channels}"))
    for shape in ((3, channels), (2, channels, 3, 2)):
        x = np.round(4 * floats(rng, *shape)) / F32(4)
        net = bittern.Network("products")
        net.add_input("x", shape)
        bittern.add_residual_levels(net, "x", [2, 1, 0.25], "levels")
        if len(shape) == 4:
            net.add_node("Flatten", ["levels"], ["flat"])
        net.add_constant("w", weights("sum", rng, (x[0].size, 7), 1))
        net.add_node("MatMul", ["flat" if len(shape) == 4 else "levels", "w"], ["y"])
        net.set_outputs(["y"])
        expected = run(reference(net), {"x": x})["y"]
        for level in LEVELS:
            model = bittern.load(net, isa=level, kernels=kernels_of("scalar", 0))
            assert layers(model)[0].kernel.startswith("bgemm_")
            assert_equal(output(model, x), expected, f"{shape} {level}")


def block(wiring: Wiring, value: str, channels: int, filters: int, form: str, kind: str) -> str:
    """Residual levels, a layer, normalisation; perhaps pooling on either side."""
    rng = wiring.rng
    factors = [(4, 2, 0.5, 0.25), (2, 2, 1, 0.5), (1, 2, 0.5, 0.25)][int(rng.integers(3))]  # the last do not rise
    value = residual(wiring, form, value, factors)
    if rng.integers(3) == 0:
        value = wiring.add("MaxPool", [value], kernel_shape=[2, 2], pads=[1, 0, 0, 1])
    name = f"w{len(wiring.nodes)}"
    wiring.trees[name] = weights(kind, rng, (filters, channels, 3, 3), 0)
    value = wiring.add("Conv", [value, name], pads=[1, 1, 1, 1])
    if rng.integers(3) == 0:
        value = wiring.add("MaxPool", [value], kernel_shape=[2, 2], strides=[1, 1])
    gamma = rng.choice(np.array([-0.25, 0.125, 0.25], F32), filters)
    ones = np.full(filters, 4, F32)
    norm = [wiring.constant(f"{name}.{i}", part) for i, part in enumerate((gamma, gamma, ones, ones))]
    return wiring.add("BatchNormalization", [value, *norm], epsilon=0.0)


@pytest.mark.parametrize("case", range(16))
def test_random_networks(case: int) -> None:
    """Whatever is an output or read by others besides: the numbers of the plan without bits, all exact."""
    rng = np.random.default_rng(seed_of(f"residual networks {case}"))
    wiring = Wiring(rng)
    channels = int(rng.choice([1, 3, 31, 33, 64, 65]))
    wiring.inputs["x"] = np.round(8 * floats(rng, 2, channels, 6, 7)) / F32(4)
    value = "x"
    for _ in range(3):
        filters = int(rng.choice([2, 31, 33, 64]))
        form = str(rng.choice(["1", "2", "3 scaled", "4", "3 from the first"]))
        kind = str(rng.choice(["signs each", "sum", "two scales", "ternary"]))
        value = block(wiring, value, channels, filters, form, kind)
        channels = filters
    names = [target for _, _, target, _ in wiring.nodes]
    outputs = [value, *(str(name) for name in rng.choice(names[:-1], case % 4, replace=False))]
    net = wiring.network(outputs)
    plain = bittern.load(net, kernels=NO_BITS).run(wiring.inputs)
    for level in LEVELS:
        for kernels in ([], kernels_of(level, case)):
            model = bittern.load(net, isa=level, winograd=False, threads=1 + case % 2, kernels=kernels)
            found = model.run(wiring.inputs)
            for name in outputs:
                assert_equal(found[name], plain[name], f"{name} {level} {kernels}")
    reference_result = run(reference(net), wiring.inputs)
    assert_equal(plain[value], reference_result[value])


def test_a_chain_stays_in_bits_but_for_its_sums(rng: np.random.Generator) -> None:
    """Nothing of the levels' own graph is left: they are packed from sums, normalisation folded."""
    net = bittern.Network("chain")
    net.add_input("x", (1, 64, 16, 16))
    value = "x"
    for i, (inputs, outputs) in enumerate(((64, 128), (128, 128), (128, 256))):
        if i == 1:
            net.add_node("MaxPool", [value], ["pooled"], kernel_shape=[2, 2], strides=[2, 2])
            value = "pooled"
        if i:
            norm = [f"n{i}.{k}" for k in range(4)]
            for name in norm:
                net.add_constant(name, np.abs(floats(rng, inputs)) + F32(0.5))
            net.add_node("BatchNormalization", [value, *norm], [f"n{i}"])
            value = f"n{i}"
        bittern.add_residual_levels(net, value, SCALES[:2], f"a{i}")
        net.add_constant(f"w{i}", weights("signs each", rng, (outputs, inputs, 3, 3), 0))
        net.add_node("Conv", [f"a{i}", f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1])
        value = f"c{i}"
    net.set_outputs([value])
    model = bittern.load(net)
    found = [row.kernel.split("_")[0] for row in model.plan.layers if row.op != "Reorder"]
    if "avx512icl" in LEVELS:
        assert found == ["pack", "bgemm", "maxpool", "pack", "bgemm", "pack", "bgemm"], found
        assert all("planes of bits, 2 x 1, 2 levels: " in row.reason for row in layers(model)), layers(model)[0]
    x = floats(rng, 1, 64, 16, 16)
    taps = model.run({"x": x}, taps=["a0", "a0.left1"])
    assert_equal(taps["a0"], sum_of(encoded(x, np.array(SCALES[:2]))))
    assert_equal(taps["y" if "y" in taps else value], output(model, x))


@pytest.mark.parametrize("step", ["where", "sign", "sign and scale"])
def test_forms_of_exporters(step: str, rng: np.random.Generator) -> None:
    """Comparisons, or Sign times a scale, which is 0 at 0: recognised, with ONNX Runtime's numbers."""
    constants: dict[str, Array] = {"zero": np.array(0, F32), "one": np.array(1, F32), "minus": np.array(-1, F32)}
    constants["w"] = rng.choice(np.array([-1, 1], F32), (33, 64, 3, 3))
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
    left, total = "x", ""
    for i, scale in enumerate((2, 0.5)):
        constants |= {f"g{i}": np.array(scale, F32), f"m{i}": np.array(-scale, F32)}
        if step == "where":
            nodes += [
                ("GreaterOrEqual", [left, "zero"], f"c{i}", {}),
                ("Where", [f"c{i}", f"g{i}", f"m{i}"], f"b{i}", {}),
            ]
        elif step == "sign":
            nodes += [("Sign", [left], f"s{i}", {}), ("Mul", [f"s{i}", f"g{i}"], f"b{i}", {})]
        else:
            nodes += [("Greater", [left, "zero"], f"c{i}", {}), ("Cast", [f"c{i}"], f"f{i}", {"to": TensorProto.FLOAT})]
            nodes += [("Mul", [f"f{i}", "two"], f"d{i}", {}), ("Sub", [f"d{i}", "one"], f"s{i}", {})]
            nodes += [("Mul", [f"s{i}", f"g{i}"], f"b{i}", {})]
        if total:
            nodes.append(("Add", [total, f"b{i}"], "a", {}))
        else:
            nodes.append(("Sub", [left, f"b{i}"], f"left{i}", {}))
        left, total = f"left{i}", f"b{i}"
    constants["two"] = np.array(2, F32)
    nodes.append(("Conv", ["a", "w"], "y", {"pads": [1, 1, 1, 1]}))
    data = model_of(nodes, constants, [1, 64, 9, 9])
    x = np.round(2 * floats(rng, 1, 64, 9, 9)) / F32(2)
    expected = ort.InferenceSession(data).run(None, {"x": x})[0]
    file = bittern.convert(data)
    for level in LEVELS:
        model = bittern.load(file, isa=level, kernels=kernels_of("scalar", 0))
        assert layers(model)[0].kernel.startswith("bgemm_"), model.plan
        assert_equal(output(model, x), expected, level)


def test_scales_by_greedy_means(rng: np.random.Generator) -> None:
    """Each level leaves less; the mean magnitude is the best scale for its signs; nothing is left of two values."""
    x = rng.standard_normal((50, 40))
    errors = []
    for levels in range(1, 7):
        scales = bittern.residual_scales(x, levels)
        assert scales.shape == (levels,) and scales.dtype == F32
        errors.append(float(np.square(x - sum_of(encoded(x, scales))).mean()))
    assert all(after < before for before, after in pairwise(errors)), errors
    assert bittern.residual_scales([3.0, -3.0], 4).tolist() == [3.0]
    first = bittern.residual_scales(x, 1)
    for factor in (0.9, 1.1):
        assert np.square(x - sum_of(encoded(x, first * F32(factor)))).mean() > errors[0]
    for wrong in ([], [np.nan], [0.0]):
        with pytest.raises(bittern.InputError):
            bittern.residual_scales(wrong, 2)
    with pytest.raises(bittern.InputError, match="levels is 0"):
        bittern.residual_scales(x, 0)
    unfit: list[Any] = [[], [1, -1], [[1, 2]], [np.inf], [1] * 9]
    for scales in unfit:
        with pytest.raises(bittern.InputError, match="add_residual_levels"):
            bittern.add_residual_levels(bittern.Network(), "x", scales, "y")


LOOKALIKES: dict[str, list[tuple[str, list[str], str]]] = {
    "levels of two maps": [
        ("BipolarQuant", ["z", "g"], "c"),
        ("Sub", ["z", "c"], "e"),
        ("BipolarQuant", ["e", "h"], "d"),
    ],
    "a rest of another scale": [("Mul", ["b", "h"], "c"), ("Sub", ["x", "c"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "turned round": [("Sub", ["b", "x"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "added, not taken away": [("Add", ["x", "b"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "bounded": [("Sub", ["x", "b"], "r"), ("Relu", ["r"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "the first again": [("Sub", ["x", "b"], "e"), ("BipolarQuant", ["x", "h"], "d")],
    "spread over the batch": [("Sub", ["z", "b"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "taken away twice": [("Sub", ["x", "b"], "r"), ("Sub", ["r", "b"], "e"), ("BipolarQuant", ["e", "h"], "d")],
    "five levels": [
        *(("Sub", ["x", "b"], "e1"), ("BipolarQuant", ["e1", "h"], "b1"), ("Add", ["b", "b1"], "a1")),
        *(("Sub", ["e1", "b1"], "e2"), ("BipolarQuant", ["e2", "h"], "b2"), ("Add", ["a1", "b2"], "a2")),
        *(("Sub", ["e2", "b2"], "e3"), ("BipolarQuant", ["e3", "h"], "b3"), ("Add", ["a2", "b3"], "a3")),
        *(("Sub", ["e3", "b3"], "e4"), ("BipolarQuant", ["e4", "h"], "b4"), ("Add", ["a3", "b4"], "d")),
    ],
}
"""What is between the first level ``b`` of ``x`` and another value ``d`` that is added to it."""


@pytest.mark.parametrize("case", LOOKALIKES)
def test_what_only_looks_like_levels(case: str, rng: np.random.Generator) -> None:
    """Graphs that differ from residual levels in one place: the numbers of the graph."""
    wiring = Wiring(rng)
    wiring.constant("g", np.array(2, F32))
    wiring.constant("h", np.array(0.5, F32))
    for name in "xz":
        wiring.inputs[name] = np.round(
            8 * floats(rng, 3 if case.startswith("spread") and name == "z" else 1, 33, 5, 4)
        ) / F32(4)
    wiring.add("BipolarQuant", ["x", "g"], "b")
    for op, inputs, target in LOOKALIKES[case]:
        wiring.add(op, inputs, target)
    wiring.add("Add", ["b", "d"], "a")
    wiring.trees["w"] = weights("signs", rng, (9, 33, 3, 3), 0)
    wiring.add("Conv", ["a", "w"], "y", pads=[1, 1, 1, 1])
    net = wiring.network(["y"])
    expected = run(reference(net), wiring.inputs)["y"]
    for level in LEVELS:
        for kernels in ([], kernels_of(level, 0)):
            model = bittern.load(net, isa=level, kernels=kernels, winograd=False)
            assert_equal(model.run(wiring.inputs)["y"], expected, f"{case} {level}")
