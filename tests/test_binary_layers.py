"""Layers with weights of binary networks against sums in 64-bit integers, over awkward shapes and on every level."""

from __future__ import annotations

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Encoding, Seeded, SeparableSigns, Signs, Sum
from bittern.network import Network

from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.reference.arrays import Array

CONVOLUTIONS = [
    (1, 1, 5, 5, 1, 3, 3, 1, 1, 1, 1), (2, 3, 7, 9, 5, 3, 3, 2, 1, 1, 1), (1, 63, 8, 8, 7, 3, 3, 1, 1, 1, 1),
    (1, 64, 8, 8, 64, 3, 3, 1, 1, 1, 1), (1, 65, 6, 6, 33, 1, 1, 1, 0, 1, 1), (1, 130, 5, 4, 9, 5, 3, 2, 2, 1, 1),
    (2, 8, 9, 9, 8, 3, 3, 1, 1, 2, 1), (1, 12, 8, 8, 18, 3, 3, 1, 1, 1, 3), (1, 16, 8, 8, 16, 3, 3, 1, 1, 1, 16),
    (1, 256, 14, 14, 256, 3, 3, 1, 1, 1, 1),
]  # fmt: skip
"""N, C, H, W, outputs, kernel height and width, stride, padding, dilation, groups."""
PRODUCTS = [(3, inputs, outputs) for inputs in (1, 63, 64, 65, 1000) for outputs in (1, 10, 257)]


def weights(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Encoding]:
    """Trees of that shape whose elements are small integers."""
    signs = np.where(rng.integers(0, 2, shape), 1, -1)
    channels = 2.0 ** rng.integers(0, 3, shape[0])
    found: dict[str, Encoding] = {
        "signs": Signs.of(signs, channels, axis=0),
        "sum": Sum((Signs.of(signs, 2.0), Signs.of(-signs[::-1], channels, axis=0))),
        "seeded": Seeded.of(shape, 0.4, int(rng.integers(2**32))),
    }
    if len(shape) == 4:
        column, row = rng.integers(0, 2, (*shape[:3], 1)), rng.integers(0, 2, (*shape[:2], 1, shape[3]))
        found["separable"] = Signs(SeparableSigns.pack((column == row).astype(np.uint8)), Signs.of(1, 3.0))
        stored = (shape[0], shape[2], shape[3], shape[1])
        found["seeded by channels"] = Seeded.of(stored, 0.4, int(rng.integers(2**32)), order="OHWI")
    return found


def convolved(x: Array, weight: Array, stride: int, pad: int, dilation: int, groups: int) -> Array:
    """A convolution with real zeros around the map; exact, as all numbers are small integers."""
    outputs, inputs, height, width = weight.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    reach = (dilation * (height - 1) + 1, dilation * (width - 1) + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride, ::dilation, ::dilation]
    n, _, rows, columns = windows.shape[:4]
    parts = []
    for group in range(groups):
        own = windows[:, group * inputs : (group + 1) * inputs].transpose(0, 2, 3, 1, 4, 5)
        kernel = weight[group * outputs // groups : (group + 1) * outputs // groups].reshape(outputs // groups, -1)
        sums = own.reshape(n * rows * columns, -1) @ kernel.T.astype(np.float64)
        parts.append(sums.reshape(n, rows, columns, -1).transpose(0, 3, 1, 2))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: "x".join(map(str, case)))
def test_convolutions(case: tuple[int, ...], isa: str) -> None:
    batch, channels, height, width, outputs, rows, columns, stride, pad, dilation, groups = case
    rng = np.random.default_rng(seed_of(f"binary layers {case}"))
    if outputs == 256 and isa == "scalar":
        pytest.skip("large, and slow in portable code")
    x = rng.integers(-8, 9, (batch, channels, height, width)).astype(np.float32)
    attributes: dict[str, Any] = {
        "strides": [stride] * 2, "pads": [pad] * 4, "dilations": [dilation] * 2, "group": groups,
    }  # fmt: skip
    for kind, tree in weights(rng, (outputs, channels // groups, rows, columns)).items():
        net = Network("layer")
        net.add_input("x", x.shape)
        net.add_constant("w", tree)
        net.add_node("Conv", ["x", "w"], ["y"], **attributes)
        net.set_outputs(["y"])
        wanted = convolved(x, tree.decode(), stride, pad, dilation, groups)
        found = bittern.load(net.to_bytes(), isa=isa).run({"x": x})["y"]
        assert_equal(found, wanted.astype(np.float32), f"{kind}, {isa}")


@pytest.mark.parametrize("case", PRODUCTS, ids=lambda case: "x".join(map(str, case)))
def test_products(case: tuple[int, int, int], isa: str) -> None:
    batch, inputs, outputs = case
    rng = np.random.default_rng(seed_of(f"binary layers {case}"))
    x = rng.integers(-8, 9, (batch, inputs)).astype(np.float32)
    for kind, tree in weights(rng, (outputs, inputs)).items():
        net = Network("layer")
        net.add_input("x", ("N", inputs))
        net.add_constant("w", tree)
        net.add_node("Gemm", ["x", "w"], ["y"], transB=1)
        net.set_outputs(["y"])
        model, wanted = bittern.load(net.to_bytes(), isa=isa), x.astype(np.float64) @ tree.decode().T.astype(np.float64)
        for rows in (slice(0, 1), slice(None)):
            found = model.run({"x": x[rows]})["y"]
            assert_equal(found, wanted[rows].astype(np.float32), f"{kind}, {isa}")


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("per_channel", [True, False])
def test_sums_of_signs_stay_codes(levels: int, per_channel: bool, isa: str) -> None:
    """One row reads codes: two bits with a table for each channel, or up to four with one for the tensor."""
    rng = np.random.default_rng(seed_of(f"sums {levels} {per_channel}"))
    shape = (130, 260)
    signs = np.where(rng.integers(0, 2, (levels, *shape)), 1, -1)
    scales = rng.random((levels, shape[0] if per_channel else 1)) + 0.1
    axis = 0 if per_channel else None
    tree = Sum(tuple(Signs.of(signs[i], scales[i] if per_channel else scales[i, 0], axis=axis) for i in range(levels)))
    x = rng.integers(-8, 9, (1, shape[1])).astype(np.float32)
    net = Network("layer")
    net.add_input("x", (1, shape[1]))
    net.add_constant("w", tree)
    net.add_node("Gemm", ["x", "w"], ["y"], transB=1)
    net.set_outputs(["y"])
    model = bittern.load(net.to_bytes(), isa=isa)
    layer = next(layer for layer in model.plan.layers if layer.op == "Gemm")
    small = levels <= 2 or not per_channel
    assert layer.kernel.startswith("gemv_f32_lut") == small, layer
    bits = 2 if levels <= 2 else 4
    if small:
        assert f"stay {bits}-bit codes" in layer.reason, layer
        assert layer.packed_bytes < 1.5 * 144 * 264 * bits / 8 + 4096, layer
    weight = tree.decode().astype(np.float64)
    bound = (shape[1] + 8) * 2.0**-24 * (np.abs(x) @ np.abs(weight).T)
    assert (np.abs(model.run({"x": x})["y"] - x.astype(np.float64) @ weight.T) <= bound).all()
