"""Pruning of weights: patterns, how much of each layer, what reconstruction makes good, and few bits on top."""

from __future__ import annotations

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.grid import Layout
from bittern.compression.layerwise.reconstruct import DAMPING
from bittern.compression.prune.magnitude import MagnitudeMethod
from bittern.compression.prune.method import Layer
from bittern.compression.prune.patterns import pattern_of
from bittern.compression.prune.performance import Machine, Work, dense_time, sparse_time
from bittern.compression.prune.reconstruct import ReconstructMethod, refitted
from bittern.compression.prune.targets import by_curves, named
from bittern.compression.sparse import smallest_form
from bittern.encodings import Affine, Codebook, Dense, Packed, Sparse, Ternary
from bittern.errors import InputError
from bittern.network import Network

from tests.pruned_networks import residual
from tests.reference.arrays import Array

PATTERNS = ("unstructured", "2:4", "1:4", "1x4", "4x1", "2x3", "row-balanced", "row-balanced:4")


def kept_well(pattern: str, kept: Array, density: float) -> bool:
    """Whether a mask ``[outputs, inputs, kernel, kernel]`` is one of the pattern."""
    outputs, inputs = kept.shape[:2]
    if ":" in pattern and pattern[0].isdigit():
        n, m = map(int, pattern.split(":"))
        counts = [kept[:, at : at + m].sum(axis=1) for at in range(0, inputs, m)]
        return all((count <= n).all() for count in counts)
    if "x" in pattern:
        tall, wide = map(int, pattern.split("x"))
        blocks = [kept[r : r + tall, c : c + wide] for r in range(0, outputs, tall) for c in range(0, inputs, wide)]
        whole = all((block.any(axis=(0, 1)) == block.all(axis=(0, 1))).all() for block in blocks)
        holds = [int(block.any(axis=(0, 1)).sum()) for block in blocks]
        return whole and sum(holds) == int(density * len(blocks) * kept[0, 0].size + 0.5)
    if pattern.startswith("row-balanced"):
        banks = int(pattern.partition(":")[2] or outputs)
        return len({int(kept[bank::banks].sum()) for bank in range(banks)}) == 1
    return int(kept.sum()) == int(density * kept.size + 0.5)


def problem(rng: np.random.Generator, layout: Layout, groups: int = 1) -> tuple[Array, Array]:
    """Rows of a weight, and the Hessian of correlated inputs."""
    rows = layout.rows(rng.standard_normal(layout.shape))
    n = rows.shape[1]
    inputs = rng.standard_normal((groups, 3 * n, n)) @ rng.standard_normal((groups, n, n)) + rng.standard_normal(n)
    return rows, inputs.transpose(0, 2, 1) @ inputs / n


def error(new: Array, old: Array, hessian: Array) -> float:
    """What the output loses."""
    change = (new - old).reshape(hessian.shape[0], -1, hessian.shape[1])
    return float(np.sum((change @ hessian) * change))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("groups", [1, 2])
def test_reconstruction_loses_less_than_magnitude(pattern: str, groups: int, rng: np.random.Generator) -> None:
    layout, rule = Layout((8, 8, 3, 3), 0, 1), pattern_of(pattern)
    rows, hessian = problem(rng, layout, groups)
    cells = rule.cells(layout, groups)
    density = 1 - rule.sparsity if rule.sparsity is not None else 0.5
    layer = Layer(rows, rows, rule, cells, hessian)
    losses = []
    for method in (
        MagnitudeMethod(),
        ReconstructMethod(rounds=1, refit=False),
        ReconstructMethod(rounds=1),
        ReconstructMethod(),
    ):
        new, kept = method.prune(layer, density)
        assert kept_well(pattern, layout.tensor(kept), density)
        assert not new[~kept].any() and np.isfinite(new).all()
        losses.append(error(new, rows, hessian))
        if isinstance(method, MagnitudeMethod):
            assert np.array_equal(new[kept], rows[kept])
    assert losses[1] < 0.9 * losses[0] and losses[2] <= losses[1] * (1 + 1e-6) and losses[3] < 0.6 * losses[0]


def test_refit_solves_the_normal_equations(rng: np.random.Generator) -> None:
    """On what stays, the gradient of the damped square error is zero; a direct solution agrees."""
    rows, hessian = problem(rng, Layout((6, 20), 0, 1))
    kept = rng.random(rows.shape) < 0.4
    new = refitted(np.where(kept, rows, 0.0), rows, kept, hessian)
    scale = float(np.diagonal(hessian[0]).mean())
    matrix = hessian[0] / scale + DAMPING * np.eye(20)
    gradient = (rows - new) @ matrix
    assert np.abs(gradient[kept]).max() <= 1e-5 * np.abs(rows @ matrix).max()
    for row, stay, found in zip(rows, kept, new, strict=True):
        direct = np.linalg.solve(matrix[stay][:, stay], (row @ matrix)[stay])
        assert np.allclose(found[stay], direct, rtol=1e-4, atol=1e-5)


def test_magnitude_takes_the_least(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((5, 12))
    rows[2, 3] = 0.0  # stays zero, and counts
    rule, layout = pattern_of("unstructured"), Layout((5, 12), 0, 1)
    new, kept = MagnitudeMethod().prune(Layer(rows, rows, rule, rule.cells(layout)), 0.25)
    limit = np.sort(np.abs(rows).reshape(-1))[-15]
    assert np.array_equal(kept, np.abs(rows) >= limit) and np.array_equal(new, np.where(kept, rows, 0))
    rule = pattern_of("1x4")
    new, kept = MagnitudeMethod("l2").prune(Layer(rows, rows, rule, rule.cells(layout)), 1 / 3)
    blocks = np.square(rows).reshape(5, 3, 4).sum(axis=2)
    wanted = blocks >= np.sort(blocks.reshape(-1))[-5]
    assert np.array_equal(kept, np.repeat(wanted, 4, axis=1) & (rows != 0))


def test_the_gradual_schedule() -> None:
    found = [bittern.gradual_sparsity(t, 0.2, 0.9, begin=2, steps=4, every=5) for t in (0, 2, 7, 11, 12, 22, 99)]
    expected = [0.9 - 0.7 * (1 - step / 4) ** 3 for step in (0, 0, 1, 1, 2, 4, 4)]
    assert found == pytest.approx(expected, abs=1e-12)
    with pytest.raises(InputError, match="final"):
        bittern.gradual_sparsity(1, 0, 1.5)


def run(network: Network, x: Array) -> Array:
    """The network's only output."""
    found = bittern.load(network).run({"x": x})
    return found[network.outputs[0].name]


def weights_of(network: Network) -> dict[str, Array]:
    """Decoded weights of layers, by name."""
    return {name: tree.decode() for name, tree in network.constants.items() if tree.is_real and len(tree.shape) > 1}


def data_for(rng: np.random.Generator, count: int = 16) -> Array:
    """Correlated inputs."""
    base = rng.standard_normal((count, 3, 6, 6)) + 2 * rng.standard_normal((count, 3, 1, 1))
    return base.astype(np.float32)


def sqnr(exact: Array, rough: Array) -> float:
    """Signal to noise, in dB."""
    return float(10 * np.log10(np.sum(np.square(exact)) / np.sum(np.square(exact - rough))))


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1x4", "row-balanced"])
def test_a_network_is_pruned(pattern: str, rng: np.random.Generator) -> None:
    net, x, unseen = residual(rng), data_for(rng), data_for(rng)
    options: dict[str, Any] = {"pattern": pattern} if ":" in pattern else {"pattern": pattern, "sparsity": 0.5}
    plain = compress(net, recipe="prune", method="magnitude", bias_correction=False, calibration=x, **options)
    alone = compress(net, recipe="prune", **options)
    made = compress(net, recipe="prune", calibration=x, **options)
    exact = run(net, unseen)
    assert sqnr(exact, run(made, unseen)) > sqnr(exact, run(plain, unseen)) + 1
    for name, weight in weights_of(made).items():
        if pattern == "2:4" and weight.shape[1] == 3:
            assert weight.all() and "fewer than 4" in made._notes[name]
            continue
        rows = weight.T if name == "fc2.w" else weight
        assert kept_well(pattern, (rows if rows.ndim == 4 else rows[:, :, None, None]) != 0, 0.5)
        assert np.array_equal(weights_of(alone)[name], weights_of(plain)[name])
        if weight.size >= 400:
            assert isinstance(made.constants[name], Sparse)
    assert made.to_bytes() == compress(net, recipe="prune", calibration=x, **options).to_bytes()
    assert np.array_equal(run(Network.load(made.to_bytes()), x), run(made, x))


def test_sparsities_by_layer(rng: np.random.Generator) -> None:
    net, x = residual(rng), data_for(rng, 8)
    made = weights_of(compress(net, recipe="prune", sparsity=0.25, per_layer={"a*": 0.75, "a1.w": 0.5, "fc2": 0}))
    shares = {name: float(np.mean(weight == 0)) for name, weight in made.items()}
    wanted = {"a1.w": 0.5, "a2.w": 0.75, "fc2.w": 0.0, "stem.w": 0.25}
    assert {name: shares[name] for name in wanted} == pytest.approx(wanted, abs=0.01)
    assert named({"b*": 0.1, "*": 0.2}, {"bw": ["conv"], "w": ["bn"]}, "p") == {"bw": 0.1, "w": 0.1}

    prepared = compress(net, recipe="prune", sparsity=0.0)  # normalisation folded, and nothing else
    for normalise in (False, True):
        found = compress(net, recipe="prune", sparsity=0.6, per_layer="global", normalise=normalise)
        before, after = weights_of(prepared), weights_of(found)
        scale = {name: float(before[name].std()) if normalise else 1.0 for name in before}
        lost = {name: np.abs(before[name][after[name] == 0]) / scale[name] for name in before}
        left = {name: np.abs(before[name][after[name] != 0]) / scale[name] for name in before}
        assert max(part.max() for part in lost.values() if part.size) <= min(part.min() for part in left.values())
        total = sum(weight.size for weight in after.values())
        assert abs(sum(part.size for part in lost.values()) / total - 0.6) < 1e-3
        assert any("one threshold" in remark for remark in found._remarks)

    scan = bittern.prune_sensitivity(net, x, sparsities=(0.5, 0.9), samples=4)
    assert len(scan.points) == 2 * len(made) and scan.to_json()["samples"] == 4 and "stem.w" in str(scan)
    for points in scan.curves().values():
        assert [sparsity for sparsity, _ in points] == [0.5, 0.9] and points[0][1] < points[1][1]
    found = compress(net, recipe="prune", sparsity=0.6, per_layer="sensitivity", calibration=x)
    after = weights_of(found)
    total = sum(weight.size for weight in after.values())
    assert abs(sum(int(np.sum(weight == 0)) for weight in after.values()) / total - 0.6) < 0.01
    shares = {name: float(np.mean(weight == 0)) for name, weight in after.items()}
    assert max(shares.values()) - min(shares.values()) > 0.1


def test_sparsities_by_curves_are_the_best() -> None:
    """Against all choices on a fine grid, where noise is convex in sparsity."""
    sizes = {"a": 100, "b": 300}
    curves = {"a": [(0.5, 1.0), (0.9, 5.0)], "b": [(0.5, 2.0), (0.9, 30.0)]}
    found = by_curves(sizes, curves, 0.6)
    assert sum(found[name] * sizes[name] for name in sizes) == pytest.approx(240)

    def noise(shares: dict[str, float]) -> float:
        return sum(float(np.interp(shares[n], *np.array([(0, 0), *curves[n]]).T)) for n in sizes)

    others = [{"a": a, "b": (240 - 100 * a) / 300} for a in np.linspace(0, 0.9, 181) if (240 - 100 * a) / 300 <= 0.9]
    assert noise(found) <= min(map(noise, others)) + 1e-9
    with pytest.raises(InputError, match="more than the scanned"):
        by_curves(sizes, curves, 0.95)


QUANTISED: dict[str, type] = {
    **{"int8": Affine, "int4": Affine, "affine": Affine, "codebook4": Codebook, "ternary": Ternary},
    **{"entropy": Codebook, "cells": Codebook, "log": object, "shift": object, "fixed-point": Affine},
}


@pytest.mark.parametrize("quantise", list(QUANTISED))
@pytest.mark.parametrize("given", [True, False])
def test_zeros_stay_through_quantisation(quantise: str, given: bool, rng: np.random.Generator) -> None:
    net, x = residual(rng), data_for(rng, 16)
    options: dict[str, Any] = {"calibration": x} if given else {}
    if quantise == "codebook4":
        options["per_channel"] = given
    made = compress(net, recipe="prune", pattern="1x4", sparsity=0.75, quantize=quantise, **options)
    assert made.problems() == []
    for name in ("a2.w", "b1.w", "b2.w", "shortcut.w"):
        tree = made.constants[name]
        weight = tree.decode()
        assert isinstance(tree, QUANTISED[quantise])
        padded = np.pad(weight != 0, [(0, 0), (0, -weight.shape[1] % 4), (0, 0), (0, 0)])
        blocks = np.asarray(padded.reshape(weight.shape[0], -1, 4, *weight.shape[2:]).any(axis=2))
        assert blocks.mean() <= 0.26, name  # whole blocks are zero, as they were pruned
        assert quantise == "ternary" or blocks.mean() > 0.15, name
    assert np.isfinite(run(made, x)).all()
    if quantise == "int8":
        assert isinstance(made.constants["b1.w"], Affine) and isinstance(made.constants["b1.w"].codes, Sparse)
        assert any(node.op == "QuantizeLinear" for node in made.nodes)


def test_zeros_that_are_there_stay(rng: np.random.Generator) -> None:
    net, x = residual(rng), data_for(rng, 16)
    zeros: dict[str, Array] = {}
    for name in ("a2.w", "b1.w"):
        weight = net.constants[name].decode()
        weight[rng.random(weight.shape) < 0.8] = 0
        net.constants[name], zeros[name] = Dense(weight), ~weight.astype(np.bool_)
    several: tuple[dict[str, Any], ...] = ({}, {"quantize": "int4"})
    for options in several:
        made = compress(net, recipe="prune", sparsity=0.5, calibration=x, **options)
        for name, where in zeros.items():
            assert not made.constants[name].decode()[where].any()
            assert options or np.count_nonzero(made.constants[name].decode()) == np.count_nonzero(~where)


def test_filters_in_the_recipe(rng: np.random.Generator) -> None:
    net, x = residual(rng), data_for(rng, 8)
    made = compress(net, recipe="prune", pattern="filters", sparsity=0.25, quantize="int8", calibration=x)
    assert made.constants["stem.w"].shape == (6, 3, 3, 3) and isinstance(made.constants["stem.w"], Affine)
    assert any("filters removed" in remark for remark in made._remarks)
    made = compress(net, recipe="prune", pattern="filters", per_layer={"b1": 0.5}, policy="greedy")
    assert made.constants["b1.w"].shape == (5, 12, 3, 3) and made.constants["a1.w"].shape == (6, 8, 3, 3)


def test_matrices_of_recurrent_layers(rng: np.random.Generator) -> None:
    net = Network("lstm")
    net.add_input("x", [7, "N", 6])
    for name, shape in (("w", (1, 32, 6)), ("r", (1, 32, 8)), ("b", (1, 64))):
        net.add_constant(name, (rng.standard_normal(shape) / 3).astype(np.float32))
    net.add_node("LSTM", ["x", "w", "r", "b"], ["y"], "lstm", hidden_size=8)
    net.set_outputs(["y"])
    x = [{"x": rng.standard_normal((7, 4, 6)).astype(np.float32)} for _ in range(6)]
    exact = bittern.load(net).run(x[0])["y"]
    losses = []
    for method in ("magnitude", "reconstruct"):
        made = compress(net, recipe="prune", pattern="row-balanced", sparsity=0.5, method=method, calibration=x)
        for name in ("w", "r"):
            assert len(set(np.count_nonzero(made.constants[name].decode()[0], axis=1).tolist())) == 1
        losses.append(float(np.sum(np.square(bittern.load(made).run(x[0])["y"] - exact))))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 0.9])
def test_the_smaller_form_says_the_same(density: float, rng: np.random.Generator) -> None:
    mask = rng.random((40, 30)) < density
    codes = np.where(mask, rng.integers(1, 8, mask.shape) * rng.choice([-1, 1], mask.shape), 0)
    table = np.array([-2.0, -0.5, 0.0, 0.25, 4.0], np.float32)
    for tree in (
        Dense(codes.astype(np.float32) * np.float32(0.3)),
        Affine(Packed.pack(codes, 4, signed=True), Dense(rng.random(40).astype(np.float32) + 1), axis=0),
        Codebook(Packed.pack(np.where(mask, np.abs(codes) % 5, 2), 3), Dense(table)),
        Ternary(Packed.pack(np.where(mask, 1 + np.abs(codes) % 2, 0), 2), Dense(np.float32(1)), Dense(np.float32(2))),
    ):
        small = smallest_form(tree)
        assert np.array_equal(small.decode(), tree.decode()) and small.nbytes <= tree.nbytes
        if density < 0.1:
            assert small.nbytes < tree.nbytes / 2


def test_the_performance_model() -> None:
    machine = {"flops": 1e11, "bandwidth": 1e10, "alpha": 3.0, "beta": 2.0}
    work = Work.convolution((384, 256, 3, 3), (256, 13, 13), (384, 13, 13))
    assert work.flops == 2 * 384 * 256 * 9 * 169 and work.weight_bytes == 4 * 384 * 256 * 9
    found = bittern.sparse_outlook(work, machine, 0.12)
    assert found.dense == work.flops / 1e11 and found.sparse == pytest.approx(0.36 * found.dense)
    assert found.pays and found.crossover == pytest.approx(1 / 3)
    for name, shape, sizes in (("fc", (4096, 9216), ()), ("pointwise", (8, 512, 1, 1), (56, 56))):
        work = Work.convolution(shape, (shape[1], *sizes), (shape[0], *sizes))
        for batch_machine in (machine, {**machine, "bandwidth": 1e12}, {**machine, "alpha": 0.9, "beta": 1.0}):
            limits, at = Machine.of(batch_machine), bittern.sparse_outlook(work, batch_machine, 0.5).crossover
            for density in np.linspace(0, 1, 41):
                faster = sparse_time(work, limits, density) < dense_time(work, limits)
                assert faster == (density < at) or abs(density - at) < 1e-9, (name, density, at)
    with pytest.raises(InputError, match="bandwidth"):
        bittern.sparse_outlook(work, {"flops": 1e9}, 0.5)
    with pytest.raises(InputError, match="density"):
        bittern.sparse_outlook(work, machine, 1.5)
    with pytest.raises(InputError, match="speed"):
        bittern.sparse_outlook(work, {**machine, "speed": 1}, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "sparsity: is missing"),
        ({"sparsity": 1.0}, "from 0 to below 1"),
        ({"sparsity": -0.1}, "from 0 to below 1"),
        ({"sparsity": "half"}, "from 0 to below 1"),
        ({"sparsity": 0.5, "pattern": "diagonal"}, "row-balanced"),
        ({"pattern": "4:2"}, "at least 1 and below M"),
        ({"pattern": "0x4"}, "at least one row"),
        ({"pattern": "row-balanced:0", "sparsity": 0.5}, "at least one bank"),
        ({"pattern": "2:4", "sparsity": 0.9}, "2:4 removes 0.5"),
        ({"pattern": "2:4", "per_layer": {"a1": 0.3}}, "2:4 removes 0.5"),
        ({"pattern": "2:4", "per_layer": "global"}, "use uniform"),
        ({"sparsity": 0.5, "method": "reconstruct"}, "calibration: is missing"),
        ({"sparsity": 0.5, "per_layer": "sensitivity"}, "calibration: is missing"),
        ({"sparsity": 0.5, "per_layer": {"nobody": 0.5}}, "nobody"),
        ({"sparsity": 0.5, "per_layer": "evenly"}, "uniform, global, sensitivity"),
        ({"sparsity": 0.5, "method": "luck"}, "magnitude, reconstruct"),
        ({"sparsity": 0.5, "method": "magnitude", "rounds": 3}, "rounds"),
        ({"sparsity": 0.5, "bits": 4}, "bits"),
        ({"sparsity": 0.5, "quantize": "binary"}, "no zero"),
        ({"sparsity": 0.5, "quantize": "int3"}, "int8"),
        ({"sparsity": 0.5, "quantize": "int8", "speed": 3}, "speed"),
        ({"sparsity": 0.5, "pattern": "filters", "per_layer": "global"}, "norms of filters"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=message):
        compress(residual(rng), recipe="prune", **options)
