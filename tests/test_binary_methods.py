"""Methods for binary networks: closed forms of the papers against brute force and by hand, and what the file says."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import bittern
import bittern.encodings
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.grid import Layout
from bittern.compression.quantize.methods import METHODS
from bittern.compression.quantize.residual import ResidualGrid
from bittern.compression.quantize.separable import separable_signs
from bittern.encodings import SeparableSigns, Signs, Sum, Ternary, Trits
from bittern.errors import InputError
from bittern.network import Network

from tests.compare import assert_equal, assert_same_bits
from tests.conftest import seed_of
from tests.reference.arrays import Array

method_of: dict[str, Any] = dict(METHODS)
CONV = Layout((6, 5, 3, 3), 0, 1)


def candidates(height: int, width: int) -> Array:
    """Every product of a column and a row of signs, by the code that stands for it in a file."""
    count = height + width - 1
    bits = 2 * (np.arange(2**count)[:, None] >> np.arange(count) & 1) - 1
    column = np.concatenate([np.ones((2**count, 1), int), bits[:, : height - 1]], axis=1)
    return np.asarray(column[:, :, None] * bits[:, height - 1 :][:, None, :])


def test_scales_of_binary_filters(rng: np.random.Generator) -> None:
    """XNOR-Net: the mean magnitude of each filter; after taking away the mean over the input channels, if asked."""
    weight = rng.standard_normal(CONV.shape)
    weight[0, 0, 0, :2] = [0.0, -0.0]
    rows = CONV.rows(weight)
    for centre in (False, True):
        moved = weight - weight.mean(axis=1, keepdims=True) if centre else weight
        wanted = np.where(moved >= 0, 1, -1) * np.abs(moved).mean(axis=(1, 2, 3), keepdims=True).astype(np.float32)
        grid = method_of["binary"](centre=centre).fit(rows, CONV)
        assert_equal(CONV.tensor(grid.round(rows)).astype(np.float32), wanted.astype(np.float32), f"centre {centre}")
    unit = method_of["binary"](scale="unit").fit(rows, CONV)
    assert_equal(unit.round(rows), np.where(rows >= 0, 1.0, -1.0))
    tree = unit.encoding(unit.nearest(rows), CONV)
    assert tree.nbytes == -(-rows.size // 8) + 4
    matmul = Layout((40, 7), 1, 0)
    rows = rng.standard_normal((7, 40))
    grid = method_of["binary"](centre=True).fit(rows, matmul)
    assert_equal(grid.nearest(rows), (rows >= rows.mean(axis=1, keepdims=True)).astype(np.int64))


def test_separable_kernels_of_all_512_patterns() -> None:
    """For every pattern of 3x3 the best of the 32 products; of several best ones the first."""
    patterns = (2 * (np.arange(512)[:, None] >> np.arange(9) & 1).reshape(512, 3, 3) - 1).astype(np.float64)
    every = candidates(3, 3)
    assert len({kernel.tobytes() for kernel in every}) == 32
    scores = np.einsum("nhw,khw->nk", patterns, every)
    assert_equal(separable_signs(patterns).astype(np.int64), every[scores.argmax(axis=1)])
    kept = np.sum(scores.max(axis=1) == 9)
    assert kept == 32, "patterns that are products themselves stay"


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (4, 1), (2, 3), (3, 3), (5, 5), (5, 2)])
def test_separable_kernels_of_weights(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed_of(f"separable {size}"))
    weights = rng.standard_normal((60, *size))
    every = candidates(*size)
    best = np.einsum("nhw,khw->nk", weights, every).max(axis=1)
    found = separable_signs(weights)
    np.testing.assert_allclose(np.sum(found * weights, axis=(1, 2)), best, rtol=1e-12)


def test_tall_separable_kernels(rng: np.random.Generator) -> None:
    """Products hidden under some noise are found; what is found is never improved by another row or column."""
    column, row = (rng.choice([-1.0, 1.0], (40, 11)) for _ in range(2))
    hidden = column[:, :, None] * row[:, None, :]
    assert_equal(separable_signs(hidden + 0.3 * rng.standard_normal(hidden.shape)).astype(float), hidden)
    weights = rng.standard_normal((40, 11, 11))
    found = separable_signs(weights)
    rows = np.abs(np.einsum("nh,nhw->nw", found[:, :, 0].astype(float), weights)).sum(axis=1)
    np.testing.assert_allclose(np.sum(found * weights, axis=(1, 2)), rows, rtol=1e-12)


@pytest.mark.parametrize("objective", ["weights", "signs"])
def test_the_separable_method(objective: str, rng: np.random.Generator) -> None:
    """Five bits a kernel; the scale of least error for the signs chosen; plain signs where there are no kernels."""
    weight = rng.standard_normal(CONV.shape)
    rows = CONV.rows(weight)
    grid = method_of["separable"](objective=objective).fit(rows, CONV)
    tree = grid.encoding(grid.nearest(rows), CONV)
    assert isinstance(tree, Signs) and isinstance(tree.codes, SeparableSigns)
    assert tree.codes.nbytes == -(-6 * 5 * 5 // 8)
    signs = np.where(tree.codes.decode() == 1, 1.0, -1.0)
    scale = (signs * weight).reshape(6, -1).mean(axis=1)
    np.testing.assert_allclose(tree.scale.decode(), scale, rtol=1e-6)
    wanted = weight if objective == "weights" else np.where(weight >= 0, 1.0, -1.0)
    every = candidates(3, 3)
    best = np.einsum("oihw,khw->oik", wanted, every).max(axis=-1)
    np.testing.assert_allclose(np.sum(signs * wanted, axis=(2, 3)), best, rtol=1e-12)
    linear = Layout((7, 40), 0, 1)
    rows = rng.standard_normal((7, 40))
    plain = method_of["separable"](objective=objective).fit(rows, linear)
    binary = method_of["binary"]().fit(rows, linear)
    assert_same_bits(plain.encoding(plain.nearest(rows), linear).decode(), binary.round(rows).astype(np.float32))


def test_residual_levels() -> None:
    """ResBinNet's example, and a code for each choice of signs."""
    grid = ResidualGrid((np.full((1, 1), 0.6, np.float32), np.full((1, 1), 0.2, np.float32)))
    rows = np.array([[0.7, 0.5, 0.0, -0.5, -0.7]])
    assert grid.nearest(rows).tolist() == [[3, 1, 1, 2, 0]]
    assert grid.round(rows)[0] == pytest.approx([0.8, 0.4, 0.4, -0.4, -0.8], rel=1e-6)


def test_residual_error_falls_with_each_level(rng: np.random.Generator) -> None:
    weight = rng.standard_normal(CONV.shape)
    rows = CONV.rows(weight)
    for per_channel in (True, False):
        last = np.inf
        for levels in range(1, 9):
            method = method_of["residual"](levels=levels, per_channel=per_channel)
            grid = method.fit(rows, CONV)
            error = np.square(grid.round(rows) - rows).sum()
            assert error < last
            last = error
            scales = np.concatenate([scale.reshape(1, -1) for scale in grid.scales])
            assert (np.diff(scales, axis=0) < 0).all() and (scales > 0).all()
            tree = grid.encoding(grid.nearest(rows), CONV)
            parts = tree.parts if isinstance(tree, Sum) else (tree,)
            assert len(parts) == levels
            assert tree.nbytes == levels * (-(-rows.size // 8) + 4 * (6 if per_channel else 1))
            if levels == 1:
                binary = method_of["binary"](per_channel=per_channel).fit(rows, CONV)
                assert_same_bits(tree.decode(), CONV.tensor(binary.round(rows)).astype(np.float32))


def test_loss_aware_scale_by_hand() -> None:
    """The golden case of arXiv 1611.01600's closed form: d = 1, 2, 1, 4."""
    layout = Layout((1, 4), 0, 1)
    rows = np.array([[0.5, -1, 0.25, -0.25]])
    method = method_of["loss-aware"](curvature={"w": np.array([[1.0, 4.0, 1.0, 16.0]])}, epsilon=0)
    assert method.named("w").fit(rows, layout).round(rows).tolist() == [[0.46875, -0.46875, 0.46875, -0.46875]]
    assert method.named("other").fit(rows, layout).round(rows).tolist() == [[0.5, -0.5, 0.5, -0.5]]


def test_loss_aware_is_the_least_weighted_error(rng: np.random.Generator) -> None:
    """Against every choice of signs, each with the scale that serves it best, of up to ten weights."""
    for size in range(1, 11):
        rows, moments = rng.standard_normal((1, size)), rng.random((1, size)) ** 4 + 1e-6
        layout, distance = Layout((1, size), 0, 1), np.sqrt(moments) + 1e-8
        every = np.array([*itertools.product((-1.0, 1.0), repeat=size)])
        scale = np.maximum((distance * rows * every).sum(axis=1) / distance.sum(), 0)
        least = (distance * np.square(rows - scale[:, None] * every)).sum(axis=1).min()
        found = method_of["loss-aware"](curvature={"w": moments}).named("w").fit(rows, layout).round(rows)
        ours = float((distance * np.square(rows - found)).sum())
        assert ours == pytest.approx(least, rel=1e-6)
        plain = method_of["binary"]().fit(rows, layout).round(rows)
        assert ours <= (distance * np.square(rows - plain)).sum() * (1 + 1e-6)


def test_curvature_of_a_network(tmp_path: Path, rng: np.random.Generator) -> None:
    """By the name of a weight, as a dict or a file; what does not fit is told with the weight's name."""
    net = two_layers(rng)
    moments = {"w1": rng.random((8, 3, 3, 3)).astype(np.float32)}
    np.savez(tmp_path / "v.npz", allow_pickle=False, **moments)
    small = compress(net, recipe="quantize", method="loss-aware", curvature=moments)
    again = compress(net, recipe="quantize", method="loss-aware", curvature=str(tmp_path / "v.npz"))
    assert small.to_bytes() == again.to_bytes()
    weight = net.constants["w1"].decode().astype(np.float64)
    distance = np.sqrt(moments["w1"].astype(np.float64)) + 1e-8
    tree = small.constants["w1"]
    assert isinstance(tree, Signs)
    assert tree.scale.decode() == pytest.approx((distance * np.abs(weight)).sum() / distance.sum(), rel=1e-6)
    wrong: dict[str, Any] = {"shape": {"w1": np.ones(3)}, "negative": {"w1": -moments["w1"]}}
    for problem, given in wrong.items():
        with pytest.raises(InputError, match=f"weight 'w1': curvature.*{problem}|weight 'w1'.*{problem}"):
            compress(net, recipe="quantize", method="loss-aware", curvature=given)
    for given in (3, [1.0]):
        with pytest.raises(InputError, match="curvature"):
            compress(net, recipe="quantize", method="loss-aware", curvature=given)


def two_layers(rng: np.random.Generator) -> Network:
    """A convolution and a product."""
    net = Network("two")
    net.add_input("x", ["N", 3, 6, 6])
    net.add_constant("w1", rng.standard_normal((8, 3, 3, 3)).astype(np.float32))
    net.add_constant("w2", rng.standard_normal((128, 5)).astype(np.float32))
    net.add_node("Conv", ["x", "w1"], ["c"], "conv")
    net.add_node("Flatten", ["c"], ["f"])
    net.add_node("MatMul", ["f", "w2"], ["y"], "fc")
    net.set_outputs(["y"])
    return net


def test_dorefa_codes() -> None:
    """The golden case of two bits; one bit is the sign times the mean magnitude of the whole tensor."""
    rows = np.array([[0.3, -1.2], [0.05, 2.0]])
    layout = Layout((2, 2), 0, 1)
    grid = method_of["dorefa"](bits=2, scale="unit").fit(rows, layout)
    assert grid.nearest(rows).tolist() == [[2, 0], [2, 3]]
    assert grid.round(rows).reshape(-1) == pytest.approx([1 / 3, -1, 1 / 3, 1], rel=1e-6)
    for scale in ("match", "unit"):
        one = method_of["dorefa"](bits=1, scale=scale).fit(np.array([[0.0, -1.0], [0.5, 2.5]]), layout)
        assert one.round(np.array([[0.0, -1.0], [0.5, 2.5]])).tolist() == [[1, -1], [1, 1]]
        assert isinstance(one.encoding(np.ones((2, 2), np.int64), layout), Signs)


def test_dorefa_matched_to_each_channel(rng: np.random.Generator) -> None:
    """The factor of least square error, of each channel alone."""
    rows = rng.standard_normal((5, 60)) * np.array([[0.01], [0.1], [1], [2], [5]])
    layout = Layout((5, 60), 0, 1)
    unit = method_of["dorefa"](bits=3, scale="unit").fit(rows, layout).round(rows)
    found = method_of["dorefa"](bits=3, per_channel=True).fit(rows, layout)
    factors = (rows * unit).sum(axis=1) / np.square(unit).sum(axis=1)
    np.testing.assert_allclose(found.round(rows), unit * factors[:, None], rtol=1e-6)
    whole = method_of["dorefa"](bits=3).fit(rows, layout)
    assert np.square(found.round(rows) - rows).sum() < np.square(whole.round(rows) - rows).sum()


@pytest.mark.parametrize("size", [5, 7, 33, 1001])
def test_ternary_files_take_a_fifth_of_a_byte(size: int, rng: np.random.Generator) -> None:
    """Equally frequent values: five to a byte and two scales, also where five does not divide their number."""
    rows = rng.choice([-1.0, 0.0, 1.0], (1, size))
    layout = Layout((1, size), 0, 1)
    grid = method_of["ternary"](rule="threshold").fit(rows, layout)
    tree = grid.encoding(grid.nearest(rows), layout)
    assert isinstance(tree, Ternary) and tree.nbytes <= size / 5 + 1 + 8
    assert isinstance(tree.codes, Trits) or size < 10, "as many bytes as packed ones, then those are simpler"
    assert_equal(tree.decode(), rows.astype(np.float32))


CONFIGURATIONS: list[dict[str, Any]] = [
    {"method": "binary", "centre": True},
    {"method": "binary", "scale": "unit"},
    {"method": "separable"},
    {"method": "residual", "levels": 3},
    {"method": "loss-aware"},
    {"method": "dorefa", "bits": 1},
]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=lambda options: "-".join(map(str, options.values())))
@pytest.mark.parametrize("activations", [None, "u8"])
def test_networks_run_with_the_decoded_weights(options: dict[str, Any], activations: str | None) -> None:
    """The engine's results are those of the same network with its weights written out."""
    rng = np.random.default_rng(seed_of("binary networks"))
    net, x = two_layers(rng), rng.standard_normal((16, 3, 6, 6)).astype(np.float32)
    small = compress(net, recipe="quantize", calibration=x, activations=activations, **options)
    dense = small.copy()
    for name in ("w1", "w2"):
        assert not isinstance(small.constants[name], bittern.encodings.Dense)
        dense.constants[name] = bittern.encodings.Dense(small.constants[name].decode())
    found, wanted = (bittern.load(one.to_bytes()).run({"x": x})["y"] for one in (small, dense))
    noise = np.square(found - wanted).mean() / np.square(wanted).mean()
    assert noise <= (1e-12 if activations is None else 1e-4)


def test_kernels_of_several_places_alone(rng: np.random.Generator) -> None:
    """SEP-Nets (arXiv 1706.03912): binary kernels of several places, 8 bits elsewhere; bytes to the last one."""
    net = Network("separate")
    net.add_input("x", ["N", 8, 9, 9])
    for name, shape in (("w1", (16, 8, 3, 3)), ("w2", (8, 16, 1, 1)), ("w3", (9, 8, 1, 3)), ("w4", (9 * 49, 5))):
        net.add_constant(name, rng.standard_normal(shape).astype(np.float32))
    net.add_node("Conv", ["x", "w1"], ["a"], "conv1", pads=[1, 1, 1, 1])
    net.add_node("Conv", ["a", "w2"], ["b"], "conv2")
    net.add_node("Conv", ["b", "w3"], ["c"], "conv3")
    net.add_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 1])
    net.add_node("Flatten", ["p"], ["f"])
    net.add_node("MatMul", ["f", "w4"], ["y"], "fc")
    net.set_outputs(["y"])
    x = rng.standard_normal((16, 8, 9, 9)).astype(np.float32)
    first = compress(net, recipe="quantize", method="binary", kernels="spatial", calibration=x)
    second = compress(first, recipe="int8", calibration=x)
    sizes = {"w1": 16 * 72 // 8 + 4 * 16, "w2": 8 * 16 + 4 * 8, "w3": 9 * 24 // 8 + 4 * 9, "w4": 9 * 49 * 5 + 4 * 5}
    for made, exact in ((first, ("w2", "w4")), (second, ())):
        for name, size in sizes.items():
            if name in exact:
                assert made.constants[name].describe() == "dense"
            else:
                assert made.constants[name].nbytes == size, name
        assert isinstance(made.constants["w1"], Signs) and isinstance(made.constants["w3"], Signs)
    layers = bittern.load(second).plan_for({"x": (1, 8, 9, 9)}).layers
    kernels = [layer.kernel for layer in layers if layer.op.startswith(("Conv", "MatMul", "Gemm"))]
    assert len(kernels) == 4 and all("_u8_" in kernel for kernel in kernels), kernels
    other = compress(net, recipe="quantize", method="binary", kernels="pointwise")
    assert [isinstance(other.constants[name], Signs) for name in ("w1", "w2", "w3", "w4")] == [False, True, False, True]
    with pytest.raises(InputError, match="kernels"):
        compress(net, recipe="quantize", kernels="3x3")
