"""Weights that are sums of levels, and ternary ones with two values, on planes of bits: a pass for each part."""

from dataclasses import replace
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Dense, Encoding, Packed, Signs, Sum, Ternary

from tests.builders import floats, output
from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.kernels.convolution import Convolution, acceptance_shapes, random_convolution
from tests.quantized_graphs import Wiring
from tests.reference import apply
from tests.reference.arrays import Array
from tests.tolerances import dot_bound

F32 = np.float32
LEVELS = bittern.cpu().isa_levels_usable
KINDS = ("2 levels", "4 levels each", "two scales", "two scales each", "mixed")


def parts(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> list[Encoding]:
    """Trees whose sum are the weights, with scales that are no powers of two."""
    each = kind.endswith("each")
    axis = 0 if each else None

    def scale(factor: float = 1) -> Array:
        return np.asarray((rng.uniform(0.2, 1, shape[0] if each else ()) * factor).astype(F32))

    if kind == "mixed":
        small = Packed.pack(rng.integers(-2, 2, shape).astype(np.int32), 2, signed=True)
        return [*parts("2 levels", rng, shape), Affine(small, Dense(scale(0.1))), *parts("two scales", rng, shape)]
    if kind.startswith("two scales"):
        return [Ternary(Packed.pack(rng.integers(0, 3, shape), 2), Dense(scale()), Dense(scale()), axis)]
    signs = rng.choice(np.array([-1, 1]), (int(kind[0]), *shape))
    return [Signs.of(level, scale(0.5**i), axis=axis) for i, level in enumerate(signs)]


def whole(trees: list[Encoding]) -> Any:
    """Their sum."""
    return trees[0] if len(trees) == 1 else Sum(tuple(trees))


def turned(tree: Any) -> Encoding:
    """The same weights with inputs and outputs exchanged."""
    if isinstance(tree, Sum):
        return Sum(tuple(turned(part) for part in tree.parts))
    codes = Packed.pack(tree.codes.decode().T, 2)
    if isinstance(tree, Ternary):
        return Ternary(codes, tree.positive, tree.negative, 1)
    return Signs(codes, tree.scale, 1)


def layer(
    shape: Convolution, trees: list[Encoding], rng: np.random.Generator
) -> tuple[bittern.Network, dict[str, Array], Array, Array]:
    """-0.75 and +0.75 into a convolution, a map added, a clamp; the result, and what bounds its error."""
    wiring = Wiring(rng)
    x = floats(rng, shape.batch, shape.channels, shape.height, shape.width)
    attributes: dict[str, Any] = shape.attributes()
    bias = floats(rng, shape.filters)
    wiring.inputs["x"] = x
    wiring.trees["w"] = whole(trees)
    levels = np.where(x >= 0, 0.75, -0.75).astype(F32)
    expected = apply("Conv", [levels, wiring.trees["w"].decode(), bias], attributes)
    sizes: Array = np.abs(np.stack([tree.decode() for tree in trees])).sum(axis=0)
    magnitude = apply("Conv", [np.abs(levels), sizes, np.abs(bias)], attributes)
    wiring.inputs["r"] = floats(rng, *expected.shape)
    value = wiring.add("BipolarQuant", ["x", wiring.constant("s", np.array(0.75, F32))])
    value = wiring.add("Conv", [value, "w", wiring.constant("bias", bias)], **attributes)
    value = wiring.add("Add", [value, "r"])
    high = F32(np.quantile(expected, 0.9))
    value = wiring.add("Clip", [value, "", wiring.constant("high", high)], "y")
    expected = np.minimum(expected + wiring.inputs["r"], high)
    return wiring.network([value]), dict(wiring.inputs), expected, magnitude + np.abs(wiring.inputs["r"])


def kernels_of(level: str, turn: int) -> list[str]:
    """The level's own kernels on bits, one of its tiles first."""
    found = [kernel.name for kernel in bittern.kernels() if kernel.loop == "bgemm" and kernel.isa == level]
    return found if turn % 2 else found[::-1]


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_parts(kind: str) -> None:
    """Within the bound of the exact result, the same on every level and any number of threads."""
    rng = np.random.default_rng(seed_of(f"bit sums {kind}"))
    shapes = [shape for shape in acceptance_shapes() if shape.channels != 256]
    shapes += [random_convolution(rng, depthwise=False) for _ in range(12)]
    for turn, shape in enumerate(shapes):
        size = (shape.filters, shape.channels // shape.groups, *shape.kernel)
        net, inputs, expected, magnitude = layer(shape, parts(kind, rng, size), rng)
        file, found = net.to_bytes(), []
        for level in LEVELS:
            if level.endswith("vnni"):
                continue  # levels of integers alone
            model = bittern.load(file, isa=level, threads=1 + turn % 2, kernels=kernels_of(level, turn))
            row = next(row for row in model.plan.layers if row.op == "Conv")
            assert row.kernel.startswith("bgemm_") and row.isa == level, (shape.label(), row)
            found.append(model.run(inputs)["y"])
            assert_equal(found[-1], found[0], f"{kind} {shape.label()} {level}")
        bound = dot_bound(size[1] * size[2] * size[3], magnitude)
        assert (np.abs(found[0].astype(np.float64) - expected) <= bound).all(), (kind, shape.label())


@pytest.mark.parametrize("kind", ["2 levels each", "two scales each"])
def test_products_and_orders_of_storage(kind: str) -> None:
    """Gemm, MatMul with a scale per column, weights stored by channels: the same numbers as decoded ones give."""
    rng = np.random.default_rng(seed_of(f"orders {kind}"))
    for inputs, outputs in ((1, 3), (63, 33), (65, 257), (1000, 31)):
        tree = whole(parts(kind, rng, (outputs, inputs)))
        x = floats(rng, 3, inputs)
        levels, bound = np.where(x >= 0, 1.0, -1.0), dot_bound(inputs, np.full((3, outputs), 2.0 * inputs))
        for transposed in (True, False):
            net = bittern.Network("product")
            net.add_input("x", (3, inputs))
            net.add_constant("s", np.array(1, F32))
            net.add_node("BipolarQuant", ["x", "s"], ["b"])
            net.add_constant("w", tree if transposed else turned(tree))
            attributes: dict[str, Any] = {"transB": 1} if transposed else {}
            net.add_node("Gemm" if transposed else "MatMul", ["b", "w"], ["y"], **attributes)
            net.set_outputs(["y"])
            expected = levels @ tree.decode().T.astype(np.float64)
            model = bittern.load(net, kernels=kernels_of("scalar", 0), isa="scalar")
            assert any(row.kernel.startswith("bgemm_") for row in model.plan.layers)
            assert (np.abs(output(model, x) - expected) <= bound).all(), (inputs, outputs, transposed)
    tree = replace(whole(parts(kind, rng, (6, 3, 2, 5))), order="OHWI")
    x = floats(rng, 1, 5, 4, 4)
    net = bittern.Network("stored")
    net.add_input("x", x.shape)
    net.add_constant("s", np.array(1, F32))
    net.add_node("BipolarQuant", ["x", "s"], ["b"])
    net.add_constant("w", tree)
    net.add_node("Conv", ["b", "w"], ["y"])
    net.set_outputs(["y"])
    expected = apply("Conv", [np.where(x >= 0, 1, -1).astype(F32), tree.decode()], {})
    model = bittern.load(net, kernels=kernels_of("scalar", 0), isa="scalar")
    assert any(row.kernel.startswith("bgemm_") for row in model.plan.layers)
    assert np.abs(output(model, x) - expected).max() <= 1e-5


def test_the_plan_says_how_many_planes(rng: np.random.Generator) -> None:
    """Two levels, or two values, are two passes, and faster than real numbers; eight levels of 3x3 weights are not."""
    for count, trees in (
        (2, parts("2 levels each", rng, (256, 256, 3, 3))),
        (2, parts("two scales", rng, (256, 256, 3, 3))),
        (8, parts("4 levels", rng, (32, 32, 3, 3)) + parts("4 levels", rng, (32, 32, 3, 3))),
    ):
        tree = whole(trees)
        net = bittern.Network("planned")
        net.add_input("x", (1, tree.shape[1], 14, 14))
        net.add_constant("s", np.array(1, F32))
        net.add_node("BipolarQuant", ["x", "s"], ["b"])
        net.add_constant("w", tree)
        net.add_node("Conv", ["b", "w"], ["y"], pads=[1, 1, 1, 1])
        net.set_outputs(["y"])
        for level in LEVELS:
            row = next(row for row in bittern.load(net, isa=level).plan.layers if row.op == "Conv")
            if level == "avx512icl":
                assert row.kernel.startswith("bgemm_") == (count == 2), row
            if row.kernel.startswith("bgemm_"):
                assert f"planes of bits, 1 x {count}, weights in {count} parts" in row.reason, row
                assert row.packed_bytes < tree.decode().size * count / 8 + 40 * 4 * 256 * count, row


def test_more_parts_are_decoded(rng: np.random.Generator) -> None:
    """Sums of sums with nine parts: no planes of bits, even where their kernel is asked for; all are added."""
    x, few = floats(rng, 2, 33), parts("4 levels", rng, (5, 33))
    for trees, runs in (
        ([*few[:3], Sum(tuple(few))], "bgemm_"),
        ([*few[:3], Sum(tuple(few)), Sum(tuple(few[:2]))], "gemm_"),
    ):
        net = bittern.Network("nested")
        net.add_input("x", x.shape)
        net.add_constant("s", np.array(1, F32))
        net.add_node("BipolarQuant", ["x", "s"], ["b"])
        net.add_constant("w", Sum(tuple(trees)))
        net.add_node("Gemm", ["b", "w"], ["y"], "layer", transB=1)
        net.set_outputs(["y"])
        model = bittern.load(net, kernels=kernels_of("scalar", 0), isa="scalar")
        assert next(row for row in model.plan.layers if row.name == "layer").kernel.startswith(runs)
        expected = np.where(x >= 0, 1.0, -1.0) @ whole([Sum(tuple(trees))]).decode().T.astype(np.float64)
        assert np.abs(output(model, x) - expected).max() <= dot_bound(33, np.array(33.0 * 6))
