"""Batch normalisation measured again in the compressed network, its constants as powers of two, and folded."""

from __future__ import annotations

from typing import Any

import bittern
import bittern.encodings as enc
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.batch_norm import (
    CHUNK,
    Statistics,
    folded,
    nearest_power,
    recalibrated,
    scaled,
)
from bittern.errors import InputError
from bittern.network import Network

from tests.compare import assert_equal
from tests.reference.arrays import Array

EPSILON = 1e-3


def normalised(rng: np.random.Generator, *, last: bool = False, epsilon: float = EPSILON) -> Network:
    """Convolution, normalisation, Relu, twice, the second normalisation before its convolution; a product."""
    net = Network("normalised")
    net.add_input("x", ["N", 3, 8, 8])

    def norm(name: str, source: str, channels: int) -> str:
        for key in ("gamma", "beta", "mean", "variance"):
            numbers = rng.standard_normal(channels) if key in ("beta", "mean") else rng.random(channels) + 0.5
            net.add_constant(f"{name}.{key}", numbers.astype(np.float32))
        parameters = [f"{name}.{key}" for key in ("gamma", "beta", "mean", "variance")]
        net.add_node("BatchNormalization", [source, *parameters], [name], f"{name}_node", epsilon=epsilon)
        return name

    def weight(name: str, *shape: int) -> str:
        net.add_constant(name, (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))
        return name

    net.add_node("Conv", ["x", weight("w1", 8, 3, 3, 3)], ["c1"], "conv1", pads=[1, 1, 1, 1])
    net.add_node("Relu", [norm("n1", "c1", 8)], ["r1"])
    net.add_node("Conv", [norm("n2", "r1", 8), weight("w2", 6, 8, 3, 3)], ["c2"], "conv2")
    net.add_node("Relu", [norm("n3", "c2", 6)], ["r2"])
    net.add_node("Flatten", ["r2"], ["f"])
    net.add_node("Gemm", ["f", weight("w3", 5, 216)], ["g"], "fc", transB=1)
    net.set_outputs([norm("n4", "g", 5) if last else "g"])
    return net


def normalise(x: Array, net: Network, name: str, mean: Array, variance: Array, shift: bool = False) -> Array:
    """A normalisation by its definition, in float64."""
    gamma, beta = (net.constants[f"{name}.{key}"].decode().astype(np.float64) for key in ("gamma", "beta"))
    factor = 1 / np.sqrt(variance + EPSILON)
    if shift:
        gamma, factor = nearest_power(gamma), nearest_power(factor)
    column = (1, -1) + (1,) * (x.ndim - 2)
    return np.asarray((x - mean.reshape(column)) * (gamma * factor).reshape(column) + beta.reshape(column))


def moments(x: Array, shift: bool = False) -> tuple[Array, Array]:
    """Mean and variance of each channel; that of shift-based normalisation has a power of two for one factor."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    mean = x.astype(np.float64).mean(axis=axes)
    apart = x - mean.reshape((1, -1) + (1,) * (x.ndim - 2))
    return mean, (apart * (nearest_power(apart) if shift else apart)).mean(axis=axes)


@pytest.mark.parametrize("shift", [False, True])
def test_statistics_are_those_of_the_samples(shift: bool, rng: np.random.Generator) -> None:
    """Each normalisation is measured behind those before it, over all samples at once."""
    net, x = normalised(rng, last=True), rng.standard_normal((40, 3, 8, 8)).astype(np.float32) + 1
    made = recalibrated(net, [{"x": x[i : i + 1]} for i in range(len(x))], shift)
    # Layer after layer in NumPy, from what the engine gives before the first normalisation.
    values = bittern.load(made).run({"x": x}, taps=["c1", "r1", "c2", "g", "n1", "n2", "n3", "n4"])
    for name, source in (("n1", "c1"), ("n2", "r1"), ("n3", "c2"), ("n4", "g")):
        wanted = normalise(values[source], net, name, *moments(values[source], shift), shift=shift)
        np.testing.assert_allclose(values[name], wanted, rtol=2e-4, atol=2e-4, err_msg=name)
    if not shift:
        np.testing.assert_allclose(values["n4"].mean(axis=0), net.constants["n4.beta"].decode(), atol=1e-4)


def test_statistics_over_chunks(rng: np.random.Generator) -> None:
    """Cumulative sums of many chunks are the moments of all of them."""
    x = 3 * rng.standard_normal((300, 4, 2, 5)) + 7
    statistics = Statistics()
    for start in range(0, 300, 70):
        statistics.add([x[i : i + 1] for i in range(start, min(start + 70, 300))])
    found = statistics.moments()
    assert found is not None
    for ours, theirs in zip(found, moments(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    net, maps = normalised(rng), rng.standard_normal((2 * CHUNK + 3, 3, 8, 8)).astype(np.float32)
    made = recalibrated(net, [{"x": maps[i : i + 1]} for i in range(len(maps))])
    c1 = bittern.load(net).run({"x": maps}, taps=["c1"])["c1"]
    node = next(node for node in made.nodes if node.name == "n1_node")
    for index, wanted in zip((3, 4), moments(c1), strict=True):
        np.testing.assert_allclose(made.constants[node.inputs[index]].decode(), wanted, rtol=1e-4, atol=1e-5)


def test_shift_based_constants(rng: np.random.Generator) -> None:
    """Without samples: the given constants, so that each channel's factor is a power of two to the bit."""
    net = normalised(rng)
    made = recalibrated(net, [], shift=True)
    for name in ("n1", "n2", "n3"):
        node = next(node for node in made.nodes if node.name == f"{name}_node")
        gamma, beta, mean, variance = (made.constants[key].decode().astype(np.float64) for key in node.inputs[1:5])
        assert node.attributes["epsilon"] == 0
        mantissa, _ = np.frexp(gamma / np.sqrt(variance))
        assert (np.abs(mantissa) == 0.5).all()
        given = net.constants[f"{name}.variance"].decode().astype(np.float64)
        assert_equal(gamma, nearest_power(net.constants[f"{name}.gamma"].decode()).astype(np.float64))
        assert_equal(1 / np.sqrt(variance), nearest_power(1 / np.sqrt(given + np.float32(EPSILON))))
        assert_equal(beta, net.constants[f"{name}.beta"].decode().astype(np.float64))
        assert_equal(mean, net.constants[f"{name}.mean"].decode().astype(np.float64))


TREES: dict[str, Any] = {
    "dense": lambda w: enc.Dense(w),
    "affine": lambda w: enc.Affine(enc.Packed.pack(np.rint(8 * w) + 16, 6), number(0.125), number(16, np.uint8)),
    "affine axis": lambda w: enc.Affine(enc.Packed.pack(np.rint(8 * w) + 16, 6), each(0.125), each(16, np.uint8), 0),
    "signs": lambda w: enc.Signs.of(np.where(w >= 0, 1, -1), 0.5),
    "signs axis": lambda w: enc.Signs.of(np.where(w >= 0, 1, -1), np.full(6, 0.5), axis=0),
    "ternary": lambda w: enc.Ternary(enc.Packed.pack(np.rint(w) % 3, 2), number(0.5), number(0.25)),
    "pow2": lambda w: enc.Pow2.of((1 + np.rint(np.abs(w)))[..., None].astype(int), each(0.5), 4, axis=0),
    "codebook": lambda w: enc.Codebook(enc.Packed.pack(np.rint(w) % 3, 2), enc.Dense(np.arange(3, dtype=np.float32))),
    "sum": lambda w: enc.Sum((enc.Signs.of(np.where(w >= 0, 1, -1), 0.5), enc.Dense(w))),
}


def number(value: float, kind: type = np.float32) -> enc.Dense:
    """A parameter of the whole tensor."""
    return enc.Dense(np.array(value, kind))


def each(value: float, kind: type = np.float32) -> enc.Dense:
    """A parameter of each of six channels."""
    return enc.Dense(np.full(6, value, kind))


@pytest.mark.parametrize("kind", TREES)
def test_factors_of_channels_go_into_scales(kind: str, rng: np.random.Generator) -> None:
    weight = np.clip(rng.standard_normal((6, 4, 3, 3)), -1.9, 1.9).astype(np.float32)
    tree = TREES[kind](weight)
    factor = rng.standard_normal(6)
    found = scaled(tree, factor, 0)
    assert found is not None and type(found) is type(tree)
    np.testing.assert_allclose(found.decode(), tree.decode() * factor.reshape(6, 1, 1, 1), rtol=1e-6, atol=1e-7)
    if kind != "dense":
        small = 6 * 4 * 6
        assert found.nbytes <= tree.nbytes + small, "the codes stay as they are"


def test_forms_without_room_for_factors() -> None:
    many = enc.Codebook(enc.Packed.pack(np.zeros((6, 9), int), 4), enc.Dense(np.zeros(16, np.float32)))
    other = enc.Signs.of(np.ones((6, 9)), np.ones(9), axis=1)
    for tree in (many, other, enc.Seeded.of((6, 9), 0.5, 1), enc.Dense(np.ones((6, 9), np.float16))):
        assert scaled(tree, np.ones(6), 0) is None


@pytest.mark.parametrize("last", [False, True])
def test_folding_changes_no_results(last: bool, rng: np.random.Generator) -> None:
    net, x = normalised(rng, last=last), rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    made = folded(net)
    left = [node.name for node in made.nodes if node.op == "BatchNormalization"]
    assert left == ["n2_node"], "the one that stands behind no layer"
    exact, found = (next(iter(bittern.load(one).run({"x": x}).values())) for one in (net, made))
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activations", [None, "u8", "dynamic"])
@pytest.mark.parametrize("mode", ["recalibrate", "shift"])
@pytest.mark.parametrize("method", ["binary", "codebook", "affine"])
def test_recipes(mode: str, activations: str | None, method: str, rng: np.random.Generator) -> None:
    """What comes out of a normalisation has the mean and deviation that training gave it, whatever the weights are."""
    net, x = normalised(rng, last=True), rng.standard_normal((48, 3, 8, 8)).astype(np.float32)
    made = compress(
        net, recipe="quantize", method=method, batch_norm=mode, activations=activations, calibration=x,
        reconstruct=False,
    )  # fmt: skip
    found = bittern.load(made).run({"x": x})["n4"]
    beta, gamma = (net.constants[f"n4.{key}"].decode() for key in ("beta", "gamma"))
    np.testing.assert_allclose(found.mean(axis=0), beta, atol=0.02 if activations else 1e-3)
    ratio = found.std(axis=0) / gamma
    limits = (0.99, 1.01) if mode == "recalibrate" else (0.4, 2.4)
    assert (ratio > limits[0]).all() and (ratio < limits[1]).all()
    norms = sum(node.op == "BatchNormalization" for node in made.nodes)
    text = str(made.summary())
    assert f"measured again on 48 samples{' and rounded' if mode == 'shift' else ','}" in text, text
    assert f"{4 - norms} of them folded" in text
    assert norms == (1 if method != "codebook" else 4), "scales take the factors, a codebook of all channels does not"
    old = compress(net, recipe="quantize", method=method, activations=activations, calibration=x, reconstruct=False)
    assert bittern.load(old).run({"x": x})["n4"].shape == found.shape


def test_it_needs_data(rng: np.random.Generator) -> None:
    net = normalised(rng)
    with pytest.raises(InputError, match=r"batch_norm.*needs calibration data"):
        compress(net, recipe="quantize", batch_norm="recalibrate")
    with pytest.raises(InputError, match=r"batch_norm.*use one of fold, recalibrate, shift"):
        compress(net, recipe="quantize", batch_norm="again")
    made = compress(net, recipe="quantize", batch_norm="shift")
    assert sum(node.op == "BatchNormalization" for node in made.nodes) == 1


def test_with_pruned_filters(rng: np.random.Generator) -> None:
    """Filters that go take their share of the normalisation with them."""
    net, x = normalised(rng), rng.standard_normal((48, 3, 8, 8)).astype(np.float32)
    made = compress(
        net, recipe="prune", pattern="filters", sparsity=0.4, quantize="int8", batch_norm="recalibrate", calibration=x
    )
    assert made.constants["w1"].shape[0] < 8
    assert np.isfinite(bittern.load(made).run({"x": x})["g"]).all()
