"""Weights of two values that run as lists without values: what the planner does with them, and what they give."""

from __future__ import annotations

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Bitmap, Codebook, Dense, Encoding, Packed, Seeded, Sparse, Ternary
from bittern.network import Network

from tests import tolerances
from tests.compare import assert_equal, assert_same_bits
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.test_binary_layers import CONVOLUTIONS, convolved

CHANNELS = 64


def one_layer(tree: Encoding, x: Array, **attributes: Any) -> Network:
    """A convolution, or a product for a matrix of weights."""
    net = Network("layer")
    net.add_input("x", ("N", *x.shape[1:]))
    net.add_constant("w", tree)
    conv = len(tree.shape) == 4
    net.add_node("Conv" if conv else "Gemm", ["x", "w"], ["y"], "layer", **(attributes if conv else {"transB": 1}))
    net.set_outputs(["y"])
    return net


def row_of(model: bittern.Model, x: Array) -> bittern.Layer:
    """What the plan says of the layer."""
    (row,) = (layer for layer in model.plan_for({"x": x.shape}).layers if layer.name == "layer")
    return row


def ternary(rng: np.random.Generator, shape: tuple[int, ...], density: float) -> dict[str, Encoding]:
    """Encodings of weights with two values in each output channel."""
    codes = np.where(rng.random(shape) < density, rng.integers(0, 2, shape) * 2 - 1, 0)
    mask, one = codes != 0, np.float32(0.3).reshape(())
    scale, other = (rng.random(shape[0]).astype(np.float32) + np.float32(0.5) for _ in range(2))
    packed = Packed.pack(np.where(codes < 0, 2, codes), 2)
    kept = (codes * scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)[mask]
    return {
        "one scale": Ternary(packed, Dense(one), Dense(one)),
        "a scale of each channel": Ternary(packed, Dense(scale), Dense(scale), axis=0),
        "two scales of each channel": Ternary(packed, Dense(scale), Dense(other), axis=0),
        "a table": Codebook(Packed.pack(codes & 3, 2), Dense(np.array([0, 0.7, 9, -0.4], np.float32))),
        "values": Sparse(Bitmap.of(mask), Dense(kept), shape),
        "from a seed": Seeded.of(shape, density, 5),
    }


@pytest.mark.parametrize("rows", [0, 40], ids=["convolution", "product"])
def test_the_planner_takes_them(isa: str, rows: int) -> None:
    """At few weights, whatever the encoding; within the bound of real numbers, the same bits on two threads."""
    rng = np.random.default_rng(seed_of(f"lists {rows}"))
    shape = (4 * CHANNELS, 4 * CHANNELS) if rows else (CHANNELS, CHANNELS, 3, 3)
    x = rng.standard_normal((rows, shape[1]) if rows else (1, CHANNELS, 14, 14)).astype(np.float32)
    for name, tree in ternary(rng, shape, 0.1).items():
        net = one_layer(tree, x, pads=[1, 1, 1, 1])
        model = bittern.load(net, isa=isa, threads=1)
        row = row_of(model, x)
        assert "_f32_tern_f32_" in row.kernel, f"{name}: {row}"
        assert "% of the weights are not zero, in lists without values: estimated" in row.reason, f"{name}: {row}"
        w = tree.decode()
        entries = np.count_nonzero(w)
        # Two bytes an entry; groups of rows, their order, factors.
        assert 2 * entries <= row.packed_bytes <= 2 * entries + 30 * shape[0] + 1024, f"{name}: {row}"
        found = model.run({"x": x})["y"]
        wide, around = (np.float64(x), np.abs(np.float64(x)))
        exact, magnitude = (
            (value @ weight.T if rows else convolved(value, weight.astype(np.float32), 1, 1, 1, 1))
            for value, weight in ((wide, np.float64(w)), (around, np.abs(np.float64(w))))
        )
        assert (np.abs(found - exact) <= tolerances.dot_bound(w[0].size, magnitude)).all(), name
        again = bittern.load(net, isa=isa, threads=2).run({"x": x})["y"]
        assert_same_bits(again, found, f"{name}, two threads")


def test_what_is_no_list(isa: str) -> None:
    """Three values in a channel, magnitudes far apart, whole numbers whose ratio rounds, and most weights there."""
    rng = np.random.default_rng(seed_of("no lists"))
    shape = (CHANNELS, CHANNELS, 3, 3)
    x = rng.integers(-9, 10, (1, CHANNELS, 14, 14)).astype(np.float32)
    for name, values, density in (
        ("three", [1, -1, 2], 0.1),
        ("far", [1.5, 2.0**-30], 0.1),
        ("thirds", [3, -2], 0.1),
        ("most", [0.5, -0.5], 0.97),
    ):
        mask = rng.random(shape) < density
        kept = rng.choice(np.array(values, np.float32), np.count_nonzero(mask))
        row = row_of(bittern.load(one_layer(Sparse(Bitmap.of(mask), Dense(kept), shape), x, pads=[1] * 4), isa=isa), x)
        assert "_tern_" not in row.kernel, f"{name}: {row}"
        assert row.kernel.startswith("spmm_") == (density == 0.1), f"{name}: {row}"


@pytest.mark.parametrize("case", CONVOLUTIONS[:-1], ids=lambda case: "x".join(map(str, case)))
def test_local_binary_filters(case: tuple[int, ...], isa: str) -> None:
    """Filters from a seed: on 8-bit codes exact, on real numbers within 1e-5, in lists and as the planner likes."""
    batch, channels, height, width, outputs, rows, columns, stride, pad, dilation, groups = case
    rng = np.random.default_rng(seed_of(f"local binary {case}"))
    lists = [k.name for k in bittern.kernels() if k.isa == isa and "_f32_tern_f32_" in k.name]
    attributes: dict[str, Any] = {
        "strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2, "group": groups,
    }  # fmt: skip
    x = rng.standard_normal((batch, channels, height, width)).astype(np.float32)
    codes = rng.integers(-128, 128, x.shape).astype(np.int8)
    for density in (0.1, 0.5):
        tree = Seeded.of((outputs, rows, columns, channels // groups), density, 11, order="OHWI")
        w = tree.decode()
        wanted, magnitude = (
            convolved(a, b, stride, pad, dilation, groups) for a, b in ((x, w), (np.abs(x), np.abs(w)))
        )
        net = one_layer(tree, x, **attributes)
        whole = convolved(codes.astype(np.float32), w, stride, pad, dilation, groups)
        for kernels in ([], lists):
            model = bittern.load(net, isa=isa, kernels=kernels)
            assert row_of(model, x).kernel in lists or not kernels
            assert (np.abs(model.run({"x": x})["y"] - wanted) <= 1e-5 * np.maximum(magnitude, 1e-30)).all()
            found = model.run({"x": codes.astype(np.float32)})["y"]
            assert_equal(found, whole.astype(np.float32), f"{kernels}")
        on_codes = Network("codes")
        on_codes.add_input("codes", codes.shape, "i8")
        on_codes.add_constant("scale", np.float32(0.5).reshape(()))
        on_codes.add_constant("zero", np.int8(0).reshape(()))
        on_codes.add_constant("w", tree)
        on_codes.add_node("DequantizeLinear", ["codes", "scale", "zero"], ["x"])
        on_codes.add_node("Conv", ["x", "w"], ["y"], "layer", **attributes)
        on_codes.set_outputs(["y"])
        found = bittern.load(on_codes, isa=isa).run({"codes": codes})["y"]
        assert_equal(found, (whole * 0.5).astype(np.float32), "codes")


def test_filters_of_a_seed_run_sparse() -> None:
    """The layer that the recipe makes: no byte of weights, a line in the graph, lists in memory."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((1, CHANNELS, 14, 14)).astype(np.float32)
    tree = Seeded.of((2 * CHANNELS, 3, 3, CHANNELS), 0.2, 7, order="OHWI")
    row = row_of(bittern.load(one_layer(tree, x, pads=[1] * 4), threads=1), x)
    assert row.kernel.startswith("spmm_f32_tern_f32_") and row.encoding == "seeded" and row.encoded_bytes == 0
    assert 0.19 < row.density < 0.21 and row.sparse_estimate < row.dense_estimate
    assert row.dense_kernel.startswith("gemm_"), "weights of whole numbers never take Winograd, so it is no alternative"
