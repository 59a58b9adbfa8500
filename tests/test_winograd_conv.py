"""WinogradConv: weights in Winograd's domain, on every level; what it equals, what it counts, what it refuses."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Sparse
from bittern.operators import significant

from tests import tolerances
from tests.builders import floats, small_integers
from tests.compare import assert_equal, assert_within
from tests.rawfile import declared, raw_file
from tests.reference import apply, winograd
from tests.reference.arrays import Array

NODE = "WinogradConv"


def file_of(feeds: Mapping[str, Array], attributes: Mapping[str, Any], held: Sequence[str] = ("q", "b")) -> bytes:
    """A file of one node that gives y; what is not `held` is given at run time."""
    result = declared(apply(NODE, list(feeds.values()), attributes))
    given = {name: declared(array) for name, array in feeds.items() if name not in held}
    constants = {name: feeds[name] for name in feeds if name in held}
    return raw_file(given, constants, [(NODE, list(feeds), ["y"], attributes)], {"y": result})


def bound_of(feeds: Mapping[str, Array], attributes: Mapping[str, Any]) -> Array:
    """Of the products and the sums of both transforms."""
    _, magnitude = winograd.sums(feeds["x"], feeds["q"], feeds.get("b"), dict(attributes))
    return tolerances.dot_bound(feeds["q"].shape[1] + 16, magnitude)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("pad", [0, 1])
def test_it_equals_the_convolution(m: int, pad: int, isa: str, rng: np.random.Generator) -> None:
    """Weights G w G^T and no ReLU: the ordinary convolution, of odd sizes."""
    x, w, b = floats(rng, 2, 33, 9, 13), floats(rng, 7, 33, 3, 3), floats(rng, 7)
    feeds = {"x": x, "q": winograd.transformed_weights(w, m), "b": b}
    attributes = {"m": m, "pads": [pad] * 4}
    expected = apply("Conv", [x, w, b], {"pads": [pad] * 4})
    for held in (("q", "b"), ("q",), ()):
        given = {name: array for name, array in feeds.items() if name not in held}
        y = bittern.load(file_of(feeds, attributes, held), isa=isa).run(given)["y"]
        assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("m", [2, 4])
def test_weights_of_the_run(m: int, relu: int, isa: str, rng: np.random.Generator) -> None:
    """Plain code: exact for whole numbers, within the bound for others; empty maps, no channels."""
    for shape, outputs, pads in (
        ((2, 3, 5, 7), 4, [1, 1, 1, 1]),
        ((1, 2, 3, 3), 1, [0, 0, 0, 0]),
        ((1, 5, 1, 2), 3, [4, 0, 2, 5]),
        ((0, 2, 4, 4), 3, [0, 1, 2, 3]),
        ((2, 0, 4, 4), 3, [1, 1, 1, 1]),
        ((2, 3, 4, 4), 0, [1, 1, 1, 1]),
    ):
        weight = (outputs, shape[1], m + 2, m + 2)
        attributes = {"m": m, "relu": relu, "pads": pads}
        whole = {"x": small_integers(rng, *shape), "q": small_integers(rng, *weight), "b": small_integers(rng, outputs)}
        results = []
        for threads in (1, 2):
            model = bittern.load(file_of(whole, attributes, ()), isa=isa, threads=threads)
            results.append(model.run(whole)["y"])
        assert_equal(results[0], apply(NODE, list(whole.values()), attributes))
        assert_equal(results[0], results[1])
        feeds = {"x": floats(rng, *shape), "q": floats(rng, *weight)}
        y = bittern.load(file_of(feeds, attributes, ()), isa=isa).run(feeds)["y"]
        assert_within(y, apply(NODE, list(feeds.values()), attributes), bound_of(feeds, attributes))


@pytest.mark.parametrize("m", [2, 4])
def test_weights_of_the_file(m: int, isa: str, rng: np.random.Generator) -> None:
    """Sparse weights give what the same weights give dense, whoever runs them; threads change nothing."""
    x, q = floats(rng, 2, 40, 19, 45), floats(rng, 24, 40, m + 2, m + 2)
    feeds = {"x": x, "q": np.where(rng.random(q.shape) < 0.2, q, np.float32(0)), "b": floats(rng, 24)}
    attributes = {"m": m, "relu": 1, "pads": [1, 0, 2, 1]}
    expected, bound = apply(NODE, list(feeds.values()), attributes), bound_of(feeds, attributes)
    file = file_of(feeds, attributes)
    level = next(name for name in ("avx512", "avx2", "scalar") if isa.startswith(name))  # integers add nothing here
    ways = [f"sparse_winograd_f32_f32_f32_{m}x{m}__{level}", *[f"winograd_f32_f32_f32_2x2__{level}"] * (m == 2)]
    for way in ways:
        results = []
        for threads in (1, 2):
            model = bittern.load(file, isa=isa, threads=threads, kernels=[way])
            assert way in {layer.kernel for layer in model.plan_for({"x": x.shape}).layers}
            results.append(model.run({"x": x})["y"])
        assert_equal(results[0], results[1])
        assert_within(results[0], expected, bound)


@pytest.mark.parametrize("way", ["", "winograd_f32_f32_f32_2x2__scalar", "sparse_winograd_f32_f32_f32_2x2__scalar"])
def test_one_model_for_many_sizes(way: str, rng: np.random.Generator) -> None:
    """Plans of one model share packed weights where they may."""
    q, b = floats(rng, 17, 9, 4, 4), floats(rng, 17)
    net = bittern.Network("sizes")
    net.add_input("x", ("N", 9, "H", "W"))
    net.add_constant("q", q)
    net.add_constant("b", b)
    net.add_node(NODE, ["x", "q", "b"], ["y"], pads=[1, 1, 1, 1])
    net.set_outputs(["y"])
    model = bittern.load(net, kernels=[way] * bool(way))
    for shape in ((1, 9, 2, 2), (3, 9, 40, 33), (1, 9, 2, 2), (2, 9, 5, 70)):
        feeds = {"x": floats(rng, *shape), "q": q, "b": b}
        attributes = {"pads": [1, 1, 1, 1]}
        y = model.run({"x": feeds["x"]})["y"]
        assert_within(y, apply(NODE, list(feeds.values()), attributes), bound_of(feeds, attributes))


def test_the_plan_says_how(rng: np.random.Generator) -> None:
    """Products are counted for weights that are not zero; which loop runs them follows from their share."""
    kernels = {}
    for density in (0.1, 1.0):
        q = floats(rng, 64, 64, 4, 4)
        q[rng.random(q.shape) >= density] = 0
        feeds = {"x": floats(rng, 1, 64, 27, 28), "q": q}
        model = bittern.load(file_of(feeds, {"pads": [1, 1, 1, 1]}))
        (layer,) = (each for each in model.plan.layers if each.op == NODE)
        assert layer.macs == np.count_nonzero(q) * 14 * 14
        assert layer.density == pytest.approx(np.count_nonzero(q) / q.size)
        assert layer.dense_kernel.startswith("winograd_") and layer.sparse_kernel.startswith("sparse_winograd_")
        assert (layer.sparse_estimate < layer.dense_estimate) == (density < 1)
        assert f"{100 * layer.density:.1f} % of the weights are not zero" in layer.reason
        kernels[density] = layer.kernel
        y = model.run({"x": feeds["x"]})["y"]
        bound = bound_of(feeds, {"pads": [1, 1, 1, 1]})
        assert_within(y, apply(NODE, list(feeds.values()), {"pads": [1, 1, 1, 1]}), bound)
    assert kernels[0.1].startswith("sparse_winograd_") and kernels[1.0].startswith("winograd_")


REFUSED: list[tuple[tuple[tuple[int, ...], ...], dict[str, Any], str]] = [
    (((1, 4, 5), (3, 4, 4, 4)), {}, "rank 4 is needed"),
    (((1, 4, 5, 5), (3, 4, 4)), {}, "rank 4 is needed"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"m": 3}, "m 3; allowed are 2 and 4"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"m": 2**62}, "allowed are 2 and 4"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"m": -2}, "allowed are 2 and 4"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"relu": 2}, "relu 2"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"m": 4}, r"shape \[3, 4, 6, 6\] is needed"),
    (((1, 4, 5, 5), (3, 4, 4, 6)), {}, r"shape \[3, 4, 4, 4\] is needed"),
    (((1, 4, 5, 5), (3, 3, 4, 4)), {}, r"shape \[3, 4, 4, 4\] is needed"),
    (((1, 4, 5, 5), (3, 4, 4, 4), (4,)), {}, "one element per output channel"),
    (((1, 4, 5, 5), (3, 4, 4, 4), (3, 1)), {}, "one element per output channel"),
    (((1, 4, 2, 5), (3, 4, 4, 4)), {}, "a window of 3 over 2"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"pads": [1, 1]}, "four numbers are needed"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"pads": [-1, 0, 0, 0]}, "pads"),
    (((1, 4, 5, 5), (3, 4, 4, 4)), {"pads": [2**62, 0, 0, 0]}, "pads"),
]


@pytest.mark.parametrize(("shapes", "attributes", "problem"), REFUSED, ids=str)
def test_what_does_not_fit_is_refused(
    shapes: tuple[tuple[int, ...], ...], attributes: dict[str, Any], problem: str
) -> None:
    """Of files, whether weights are constants or not, by the engine."""
    feeds = {name: np.zeros(shape, np.float32) for name, shape in zip("xqb", shapes, strict=False)}
    for held in (("q", "b"), ()):
        given = {name: declared(array) for name, array in feeds.items() if name not in held}
        constants = {name: array for name, array in feeds.items() if name in held}
        node = (NODE, list(feeds), ["y"], attributes)
        with pytest.raises(bittern.Error, match=problem):
            bittern.load(raw_file(given, constants, [node], {"y": declared(np.zeros((1, 3, 3, 3), np.float32))}))


def test_the_package_knows_its_shapes(rng: np.random.Generator) -> None:
    net = bittern.Network("shapes")
    net.add_input("x", ("N", 3, 9, "W"))
    net.add_constant("q", floats(rng, 5, 3, 6, 6))
    net.add_node(NODE, ["x", "q"], ["y"], m=4, pads=[0, 1, 1, 1])
    net.set_outputs(["y"])
    assert net.outputs[0].shape == ("N", 5, 8, "W")
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "tiles of 4 x 4"), ({"m": 3}, "supported: 2, 4"), ({"m": 4, "relu": -1}, "supported: 0, 1"),
        ({"m": 4, "strides": [2, 2]}, "not supported"),
    )  # fmt: skip
    for attributes, problem in wrong:
        other = bittern.Network("wrong")
        other.add_input("x", ("N", 3, 9, 9))
        other.add_constant("q", floats(rng, 5, 3, 6, 6))
        with pytest.raises(bittern.Error, match=problem):
            other.add_node(NODE, ["x", "q"], ["y"], **attributes)
            other.set_outputs(["y"])


def test_through_onnx_and_back(rng: np.random.Generator) -> None:
    """Its own domain; zeros of the weights become a sparse encoding again."""
    q = floats(rng, 6, 5, 4, 4)
    q[rng.random(q.shape) < 0.8] = 0
    net = bittern.Network("own")
    net.add_input("x", ("N", 5, 7, 8))
    net.add_constant("q", q)
    net.add_constant("b", floats(rng, 6))
    net.add_node(NODE, ["x", "q", "b"], ["y"], relu=1, pads=[1, 1, 1, 1])
    net.set_outputs(["y"])
    model = net.to_onnx()
    assert [(node.op_type, node.domain) for node in model.graph.node] == [(NODE, "bittern")]
    assert [entry.version for entry in model.opset_import if entry.domain == "bittern"] == [1]
    again = bittern.convert(model)
    assert isinstance(again.constants["q"], Sparse)
    assert [significant(node.op, node.attributes) for node in again.nodes] == [{"relu": 1, "pads": [1, 1, 1, 1]}]
    x = floats(rng, 2, 5, 7, 8)
    assert_equal(bittern.load(again).run({"x": x})["y"], bittern.load(net).run({"x": x})["y"])


def test_no_outputs_are_no_work() -> None:
    """A few bytes that ask for a million million tiles of nothing."""
    feeds = {"x": np.zeros((1, 3, 4, 4), np.float32), "q": np.zeros((0, 3, 4, 4), np.float32)}
    output = ("f32", [1, 0, 2**21 + 2, 2**21 + 2])
    file = raw_file(
        {"x": declared(feeds["x"])},
        {"q": feeds["q"]},
        [(NODE, list(feeds), ["y"], {"pads": [2**20] * 4})],
        {"y": output},
    )
    assert bittern.load(file).run({"x": feeds["x"]})["y"].shape == (1, 0, 2**21 + 2, 2**21 + 2)
