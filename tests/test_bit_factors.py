"""A factor for each pixel behind a layer on bits, as XNOR-Net has it (arXiv 1603.05279): part of the layer."""

from typing import Any

import bittern
import numpy as np
import pytest

from tests.builders import floats, reference, small_integers
from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.kernels.bits import normalised, residual, source, weights
from tests.kernels.convolution import acceptance_shapes, random_convolution
from tests.quantized_graphs import F32, Wiring
from tests.reference import apply, run
from tests.test_bit_sums import LEVELS, kernels_of
from tests.test_bits_corners import NO_BITS


def shapes(rng: np.random.Generator) -> list[Any]:
    """Standard and random ones."""
    standard = [shape for shape in acceptance_shapes() if shape.channels != 256]
    return [*standard, *(random_convolution(rng, depthwise=False) for _ in range(12))]


@pytest.mark.parametrize("kind", ["signs each", "sum", "two scales each"])
def test_factors_are_part_of_the_layer(kind: str) -> None:
    """With bias, another map, bounds, steps behind it; whichever side, and wherever, the factors come from."""
    rng = np.random.default_rng(seed_of(f"factors {kind}"))
    for turn, shape in enumerate(shapes(rng)):
        wiring = Wiring(rng)
        x = source(rng, shape.batch, shape.channels, shape.height, shape.width)
        wiring.inputs["x"] = x
        wiring.trees["w"] = weights(kind, rng, (shape.filters, shape.channels // shape.groups, *shape.kernel), 0)
        bias = wiring.constant("bias", small_integers(rng, shape.filters))
        value = residual(wiring, str(1 + turn % 2), "x")
        attributes: dict[str, Any] = shape.attributes()
        value = wiring.add("Conv", [value, "w", bias], **attributes)
        size = apply("Conv", [x, wiring.trees["w"].decode()], attributes).shape
        if turn % 3 == 0:
            wiring.inputs["r"] = source(rng, *size)
            value = wiring.add("Add", [value, "r"])
        factors = np.abs(small_integers(rng, size[0], 1, *size[2:], limit=4)) / F32(4)
        if turn % 4 == 0:
            wiring.constant("k", factors)
        else:
            wiring.inputs["k"] = factors
        k = wiring.add("Relu", ["k"]) if turn % 4 == 1 else "k"  # behind the layer in the file
        value = wiring.add("Mul", [value, k] if turn % 2 else [k, value])
        if turn % 5 == 0:
            value = wiring.add("Clip", [value, wiring.constant("low", F32(-3)), wiring.constant("high", F32(20))])
        net = wiring.network([value])
        if turn % 3:
            one = wiring.constant("one", np.array(1, F32))
            value = wiring.add("BipolarQuant", [normalised(wiring, value, shape.filters), one])
            wiring.trees["last"] = weights("signs", rng, (5, shape.filters, 1, 1), 0)
            net = wiring.network([wiring.add("Conv", [value, "last"])])
        expected = next(iter(run(reference(net), wiring.inputs).values()))
        for level in LEVELS:
            if level.endswith("vnni"):
                continue
            model = bittern.load(net, isa=level, threads=1 + turn % 2, kernels=kernels_of(level, turn))
            row = next(row for row in model.plan.layers if row.op == "Conv")
            assert row.kernel.startswith("bgemm_") and "a factor for each pixel" in row.reason, row
            assert all(row.op != "Mul" for row in model.plan.layers), shape.label()
            found = next(iter(model.run(wiring.inputs).values()))
            assert_equal(found, expected, f"{shape.label()} {level}")


@pytest.mark.parametrize("rows", [1, 3])
def test_factors_of_rows(rows: int, rng: np.random.Generator) -> None:
    """A product has a factor for each row; a map that is flattened, one for each image."""
    for shape in ((rows, 65), (rows, 33, 2, 3)):
        wiring = Wiring(rng)
        wiring.inputs |= {"x": source(rng, *shape), "k": source(rng, rows, 1)}
        value = wiring.add("BipolarQuant", ["x", wiring.constant("one", np.array(1, F32))])
        if len(shape) == 4:
            value = wiring.add("Flatten", [value])
        wiring.trees["w"] = weights("sum", rng, (33, int(np.prod(shape[1:]))), 0)
        wiring.add("Mul", ["k", wiring.add("Gemm", [value, "w"], transB=1)], "y")
        net = wiring.network(["y"])
        expected = run(reference(net), wiring.inputs)["y"]
        for level in LEVELS:
            model = bittern.load(net, isa=level, kernels=kernels_of("scalar", 0))
            assert all(row.op != "Mul" for row in model.plan.layers)
            assert_equal(model.run(wiring.inputs)["y"], expected, level)


def test_what_stays_a_product(rng: np.random.Generator) -> None:
    """Sums that others read, bounds in between, a factor for each element, two maps: the numbers stay the same."""
    for case in ("output", "clamp", "full", "twice", "square"):
        wiring = Wiring(rng)
        wiring.inputs |= {"x": source(rng, 1, 33, 5, 4), "k": np.abs(floats(rng, 1, 17 if case == "full" else 1, 5, 4))}
        value = wiring.add("BipolarQuant", ["x", wiring.constant("one", np.array(1, F32))])
        wiring.trees["w"] = weights("signs each", rng, (17, 33, 3, 3), 0)
        sums = value = wiring.add("Conv", [value, "w"], pads=[1, 1, 1, 1])
        if case == "clamp":
            value = wiring.add("Relu", [value])
        value = wiring.add("Mul", [value, sums if case == "square" else "k"])
        if case == "twice":
            value = wiring.add("Mul", ["k", value])
        net = wiring.network([value, sums] if case == "output" else [value])
        model = bittern.load(net, kernels=kernels_of("scalar", 0))
        assert any(row.op == "Mul" for row in model.plan.layers), case
        found, plain = (each.run(wiring.inputs) for each in (model, bittern.load(net, kernels=NO_BITS)))
        for name, wanted in plain.items():
            assert_equal(found[name], wanted, case)
        assert_equal(model.run(wiring.inputs, taps=[sums])[value], found[value], case)


def test_the_square_of_one_channel(rng: np.random.Generator) -> None:
    """Sums times themselves are no factors from elsewhere."""
    wiring = Wiring(rng)
    wiring.inputs["x"] = source(rng, 1, 33, 5, 4)
    value = wiring.add("BipolarQuant", ["x", wiring.constant("one", np.array(1, F32))])
    wiring.trees["w"] = weights("signs", rng, (1, 33, 3, 3), 0)
    value = wiring.add("Conv", [value, "w"])
    net = wiring.network([wiring.add("Mul", [value, value], "y")])
    model = bittern.load(net, kernels=kernels_of("scalar", 0))
    assert any(row.kernel.startswith("bgemm_") for row in model.plan.layers)
    assert_equal(model.run(wiring.inputs)["y"], run(reference(net), wiring.inputs)["y"])


def test_factors_that_are_infinite(rng: np.random.Generator) -> None:
    """They reach what they multiply, and through a dense layer behind it their own pixel, as infinity."""
    wiring = Wiring(rng)
    k = np.ones((1, 1, 5, 4), F32)
    k[0, 0, 2, 1] = np.inf
    wiring.inputs |= {"x": np.ones((1, 33, 5, 4), F32), "k": k}
    value = wiring.add("BipolarQuant", ["x", wiring.constant("one", np.array(1, F32))])
    wiring.trees["w"] = weights("u1", np.random.default_rng(1), (33, 33, 1, 1), 0)
    value = wiring.add("Mul", [wiring.add("Conv", [value, "w"]), "k"])
    wiring.add("Conv", [value, wiring.constant("dense", np.abs(floats(rng, 7, 33, 1, 1)) + F32(0.1))], "y")
    for level in LEVELS:
        model = bittern.load(wiring.network(["y"]), isa=level, kernels=kernels_of("scalar", 0))
        assert any(row.kernel.startswith("bgemm_") for row in model.plan.layers)
        found = model.run(wiring.inputs)["y"]
        assert np.isposinf(found[0, :, 2, 1]).all() and np.isfinite(np.delete(found.reshape(7, 20), 9, axis=1)).all()
