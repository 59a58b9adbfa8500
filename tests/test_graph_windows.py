"""Operators over windows of maps: one to three dimensions, weights given at run time, all attributes, refusals."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest

from tests import tolerances
from tests.builders import floats, small_integers
from tests.compare import assert_equal, assert_within
from tests.conftest import INTEGER_LEVELS
from tests.rawfile import Node, declared, raw_file
from tests.reference import maps
from tests.reference.arrays import Array


def one_node(
    op: str,
    feeds: Mapping[str, Array],
    results: Sequence[Array],
    attributes: Mapping[str, Any],
    constants: Sequence[str] = (),
) -> bytes:
    """A file of one node with the outputs y0, y1; `constants` are those of `feeds` that the file holds."""
    outputs = {f"y{i}": declared(array) for i, array in enumerate(results)}
    given = {name: declared(array) for name, array in feeds.items() if name not in constants}
    held = {name: feeds[name] for name in constants}
    return raw_file(given, held, [(op, list(feeds), list(outputs), attributes)], outputs)


def check(
    op: str,
    feeds: Mapping[str, Array],
    expected: Sequence[Array],
    attributes: Mapping[str, Any],
    isa: str,
    bound: float = 0.0,
) -> None:
    """Parameters as inputs and as constants, one thread and two: as expected, and all the same."""
    for constants in [[]] if len(feeds) == 1 else [[], list(feeds)[1:]]:
        data = one_node(op, feeds, expected, attributes, constants)
        given = {name: array for name, array in feeds.items() if name not in constants}
        results = [bittern.load(data, isa=isa, threads=threads, winograd=False).run(given) for threads in (1, 2)]
        for i, array in enumerate(expected):
            assert_within(results[0][f"y{i}"], array, bound, f"y{i}, constants {constants}")
            assert_equal(results[0][f"y{i}"], results[1][f"y{i}"], "threads")


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9), (5, 3, 3), {}),
    ((1, 16, 20), (16, 8, 5), {"group": 2, "strides": [3], "pads": [2, 1], "dilations": [2]}),
    ((1, 6, 11), (6, 1, 3), {"group": 6, "auto_pad": "SAME_LOWER", "strides": [2]}),
    ((2, 5, 6, 7), (9, 5, 3, 2), {"pads": [1, 0, 2, 1], "strides": [1, 2]}),
    ((1, 8, 5, 6), (4, 4, 2, 3), {"group": 2, "dilations": [2, 1], "auto_pad": "VALID"}),
    ((1, 3, 4, 5, 6), (8, 3, 3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    ((2, 4, 5, 4, 6), (4, 1, 3, 1, 2), {"group": 4, "strides": [2, 1, 2], "pads": [1, 0, 1, 1, 0, 0]}),
    ((1, 17, 3, 4, 5), (18, 17, 1, 1, 1), {"strides": [1, 2, 1]}),
    ((1, 12, 6, 5, 7), (15, 4, 2, 3, 2), {"group": 3, "dilations": [2, 1, 3], "auto_pad": "SAME_UPPER"}),
]


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 3, 9), (3, 5, 3), {}),
    ((1, 16, 10), (16, 8, 5), {"group": 2, "strides": [3], "pads": [2, 1], "dilations": [2], "output_padding": [2]}),
    ((1, 6, 5, 4), (6, 1, 4, 4), {"group": 6, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 5, 6, 7), (5, 9, 3, 2), {"pads": [1, 0, 2, 1], "strides": [1, 2]}),
    ((1, 8, 3, 4), (8, 16, 2, 2), {"strides": [4, 3]}),
    ((1, 8, 5, 6), (8, 4, 3, 3), {"strides": [4, 6], "dilations": [2, 3], "pads": [3, 2, 0, 1]}),
    ((1, 3, 1, 1), (3, 20, 4, 4), {}),
    ((2, 4, 3, 2, 4), (4, 6, 3, 2, 2), {"strides": [2, 1, 3], "output_padding": [1, 0, 2], "pads": [1, 0, 1, 0, 1, 0]}),
    ((1, 6, 2, 3, 2), (6, 1, 2, 3, 2), {"group": 3, "strides": [2, 2, 1], "dilations": [1, 2, 1]}),
]


@pytest.mark.parametrize(
    ("op", "shape", "weight", "attributes"),
    [("Conv", *case) for case in CONVOLUTIONS] + [("ConvTranspose", *case) for case in TRANSPOSED],
    ids=str,
)
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
def test_convolutions(
    op: str,
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    attributes: dict[str, Any],
    biased: bool,
    isa: str,
    rng: np.random.Generator,
) -> None:
    channels, by_definition = (
        (weight[0], maps.conv) if op == "Conv" else (weight[1] * attributes.get("group", 1), maps.conv_transpose)
    )
    feeds = {"x": small_integers(rng, *shape), "w": small_integers(rng, *weight)}
    if biased:
        feeds["b"] = small_integers(rng, channels)
    check(op, feeds, [by_definition(feeds["x"], feeds["w"], feeds.get("b"), attributes)], attributes, isa)


@pytest.mark.parametrize(
    ("asked", "explicit"),
    [
        ({"output_shape": [11]}, {"pads": [1, 0]}),
        ({"output_shape": [11], "auto_pad": "SAME_UPPER"}, {"pads": [0, 1]}),
        ({"output_shape": [14]}, {"output_padding": [2]}),
        ({"output_shape": [9], "output_padding": [1]}, {"output_padding": [1], "pads": [2, 2]}),
        ({"auto_pad": "SAME_UPPER"}, {"pads": [1, 1]}),
        ({"auto_pad": "SAME_LOWER", "output_padding": [1]}, {"output_padding": [1], "pads": [2, 1]}),
        ({"auto_pad": "VALID"}, {}),
    ],
    ids=str,
)
def test_sizes_of_transposed_convolution(
    asked: dict[str, Any], explicit: dict[str, Any], isa: str, rng: np.random.Generator
) -> None:
    """Sizes that are asked for are reached by padding: 5 inputs, 4 taps and a stride of 2 cover 12 outputs."""
    feeds = {"x": small_integers(rng, 1, 3, 5), "w": small_integers(rng, 3, 4, 4)}
    expected = maps.conv_transpose(feeds["x"], feeds["w"], None, {**explicit, "strides": [2]})
    check("ConvTranspose", feeds, [expected], {**asked, "strides": [2]}, isa)


POOLS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((2, 5, 20), {"kernel_shape": [3], "strides": [2], "pads": [1, 2], "ceil_mode": 1}),
    ((1, 17, 30), {"kernel_shape": [4], "dilations": [3], "auto_pad": "SAME_UPPER"}),
    ((2, 3, 7, 8), {"kernel_shape": [3, 2], "strides": [2, 3], "dilations": [1, 2], "ceil_mode": 1}),
    ((1, 19, 6, 5), {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 1, 2]}),
    ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [2, 2, 3], "pads": [1, 1, 0, 0, 2, 1], "ceil_mode": 1}),
    ((2, 4, 4, 5, 6), {"kernel_shape": [3, 2, 2], "dilations": [1, 3, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 1, 1, 2, 270), {"kernel_shape": [1, 2, 3]}),
]


@pytest.mark.parametrize(("shape", "attributes"), POOLS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
def test_max_pool(
    shape: tuple[int, ...], attributes: dict[str, Any], dtype: str, isa: str, rng: np.random.Generator
) -> None:
    low = 0 if dtype == "uint8" else -100
    x = rng.integers(low, 100, shape).astype(dtype)
    for order in (0, 1):
        y, indices = maps.max_pool(x, {**attributes, "storage_order": order})
        check("MaxPool", {"x": x}, [y, indices], {**attributes, "storage_order": order}, isa)
        check("MaxPool", {"x": x}, [y], {**attributes, "storage_order": order}, isa)


@pytest.mark.parametrize(("shape", "attributes"), POOLS, ids=str)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(
    shape: tuple[int, ...], attributes: dict[str, Any], include: int, isa: str, rng: np.random.Generator
) -> None:
    x = floats(rng, *shape)
    attributes = {**attributes, "count_include_pad": include}
    check(
        "AveragePool",
        {"x": x},
        [maps.mean_pool(x, attributes)],
        attributes,
        isa,
        16 * tolerances.UNIT * float(np.abs(x).max()),
    )


@pytest.mark.parametrize(("shape", "attributes"), POOLS, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(
    shape: tuple[int, ...], attributes: dict[str, Any], p: int, isa: str, rng: np.random.Generator
) -> None:
    x = floats(rng, *shape)
    attributes = {**attributes, "p": p}
    expected = maps.lp_pool(x, attributes)
    check("LpPool", {"x": x}, [expected], attributes, isa, 32 * tolerances.UNIT * float(expected.max()))


def test_padding_wider_than_the_window(isa: str) -> None:
    """Windows wholly in padding: the least value and no index; nothing to divide by."""
    x = np.array([[[3.0, -1.0]]], np.float32)
    attributes = {"kernel_shape": [1], "pads": [2, 1]}
    inf = np.inf
    y, indices = np.array([[[-inf, -inf, 3, -1, -inf]]], np.float32), np.array([[[-1, -1, 0, 1, -1]]], np.int64)
    check("MaxPool", {"x": x}, [y, indices], attributes, isa)
    lowest = np.array([[[-128, -128, 3, -1, -128]]], np.int8)
    check("MaxPool", {"x": x.astype(np.int8)}, [lowest], attributes, isa)
    check("AveragePool", {"x": x}, [np.array([[[np.nan, np.nan, 3, -1, np.nan]]], np.float32)], attributes, isa)
    check(
        "AveragePool",
        {"x": x},
        [np.array([[[0, 0, 3, -1, 0]]], np.float32)],
        {**attributes, "count_include_pad": 1},
        isa,
    )


def test_not_a_number_is_the_largest(isa: str) -> None:
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 2, 2)
    x[0, 0, 0, 1, 0] = np.nan
    y = np.array([np.nan, 7], np.float32).reshape(1, 1, 2, 1, 1)
    indices = np.array([2, 7], np.int64).reshape(1, 1, 2, 1, 1)
    check("MaxPool", {"x": x}, [y, indices], {"kernel_shape": [1, 2, 2]}, isa)
    check("MaxPool", {"x": x}, [y], {"kernel_shape": [1, 2, 2]}, isa)


@pytest.mark.parametrize("rank", [3, 4, 5, 6])
def test_whole_maps(rank: int, isa: str, rng: np.random.Generator) -> None:
    """Global pools, LRN and batch normalisation take maps of any rank."""
    x = floats(rng, 2, 19, *(3, 4, 2, 5)[: rank - 2])
    axes = tuple(range(2, rank))
    bound = 64 * tolerances.UNIT * float(np.abs(x).max())
    check(
        "GlobalAveragePool",
        {"x": x},
        [x.mean(axis=axes, dtype=np.float64, keepdims=True).astype(np.float32)],
        {},
        isa,
        bound,
    )
    check("GlobalMaxPool", {"x": x}, [x.max(axis=axes, keepdims=True)], {}, isa)
    for p in (1, 2, 3):
        norm = (np.abs(x.astype(np.float64)) ** p).sum(axis=axes, keepdims=True) ** (1 / p)
        check(
            "GlobalLpPool", {"x": x}, [norm.astype(np.float32)], {"p": p}, isa, 64 * tolerances.UNIT * float(norm.max())
        )
    for size in (1, 2, 5, 40):
        attributes = {"size": size, "alpha": 0.5, "beta": 0.6, "bias": 2.0}
        check("LRN", {"x": x}, [maps.local_response(x, attributes)], attributes, isa, bound)
    feeds = {"x": x, "scale": floats(rng, 19), "shift": floats(rng, 19), "mean": floats(rng, 19)}
    feeds["variance"] = np.abs(floats(rng, 19)) + np.float32(0.5)
    scale, shift, mean, variance = (
        feeds[name].astype(np.float64).reshape(19, *[1] * (rank - 2)) for name in ("scale", "shift", "mean", "variance")
    )
    y = ((x - mean) / np.sqrt(variance + 1e-3) * scale + shift).astype(np.float32)
    check("BatchNormalization", feeds, [y], {"epsilon": 1e-3}, isa, 8 * bound)


def test_large_maps(isa: str, rng: np.random.Generator) -> None:
    """More outputs than are gathered at once, and groups of them."""
    feeds = {"x": small_integers(rng, 1, 64, 2, 24, 25, limit=2), "w": small_integers(rng, 10, 32, 1, 3, 3, limit=2)}
    attributes = {"group": 2, "pads": [0, 1, 1, 0, 1, 1]}
    check("Conv", feeds, [maps.conv(feeds["x"], feeds["w"], None, attributes)], attributes, isa)


def test_the_plan_says_what_runs(isa: str, rng: np.random.Generator) -> None:
    """Constant weights are packed once for a tile of the level; depthwise layers run on the weights as they are."""
    feeds = {"x": floats(rng, 1, 8, 5, 6), "w": floats(rng, 8, 4, 3, 3)}
    y = maps.conv_transpose(feeds["x"], feeds["w"], None, {})
    model = bittern.load(one_node("ConvTranspose", feeds, [y], {}, ["w"]), isa=isa)
    model.run({"x": feeds["x"]})
    (layer,) = model.plan.layers
    assert layer.kernel.startswith("gemm_") and layer.kernel.endswith(f"__{INTEGER_LEVELS.get(isa, isa)}")
    assert layer.encoding == "dense" and layer.encoded_bytes == 8 * 4 * 9 * 4 <= layer.packed_bytes
    assert layer.macs == 8 * 4 * 9 * 5 * 6


@pytest.mark.parametrize(
    "attributes",
    [{"output_shape": [11]}, {"output_shape": [10], "auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}],
    ids=str,
)
def test_packed_weights_serve_many_sizes(attributes: dict[str, Any], isa: str, rng: np.random.Generator) -> None:
    """Padding that follows from sizes changes which taps an output phase has: weights are packed for each."""
    w, strides = small_integers(rng, 4, 6, 4), [3]
    node: Node = ("ConvTranspose", ["x", "w"], ["y"], {**attributes, "strides": strides})
    x = {size: small_integers(rng, 1, 4, size) for size in (5, 4, 6, 3, 5)}
    model = bittern.load(
        raw_file({"x": ("f32", [1, 4, "size"])}, {"w": w}, [node], {"y": ("f32", [1, 6, "width"])}), isa=isa
    )
    for size, array in x.items():
        covered = strides[0] * (size - 1) + 4
        width = attributes.get("output_shape", [strides[0] * size])[0]
        cut = max(0, covered - width)
        before = cut // 2 if attributes.get("auto_pad") == "SAME_UPPER" else cut - cut // 2
        explicit = {"strides": strides, "pads": [before, cut - before], "output_padding": [max(0, width - covered)]}
        assert_equal(model.run({"x": array})["y"], maps.conv_transpose(array, w, None, explicit), f"size {size}")


@pytest.mark.parametrize("threads", [1, 2])
def test_network_of_lines(threads: int, isa: str, rng: np.random.Generator) -> None:
    """A 1-D network: folded normalisation, groups, depthwise, a residual, a concatenation, pools."""
    constants = {
        "w1": small_integers(rng, 16, 3, 5),
        "scale": np.array([2, -1] * 8, np.float32),
        "shift": small_integers(rng, 16),
        "mean": small_integers(rng, 16),
        "variance": np.ones(16, np.float32),
        "w2": small_integers(rng, 16, 8, 3, limit=1),
        "b2": small_integers(rng, 16),
        "w3": small_integers(rng, 16, 1, 3),
        "w4": small_integers(rng, 5, 16, 1, limit=1),
    }
    strided, grouped, depthwise = (
        {"strides": [2], "pads": [2, 2]},
        {"group": 2, "pads": [2, 2], "dilations": [2]},
        {"group": 16, "pads": [1, 1]},
    )
    pooled = {"kernel_shape": [3], "strides": [2], "ceil_mode": 1}
    nodes: list[Node] = [
        ("Conv", ["x", "w1"], ["c1"], strided),
        ("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"], {"epsilon": 0.0}),
        ("Relu", ["n1"], ["r1"], {}),
        ("Conv", ["r1", "w2", "b2"], ["c2"], grouped),
        ("Add", ["r1", "c2"], ["a"], {}),
        ("MaxPool", ["a"], ["p"], pooled),
        ("Conv", ["p", "w3"], ["c3"], depthwise),
        ("Conv", ["c3", "w4"], ["c4"], {}),
        ("Concat", ["c4", "p"], ["j"], {"axis": 1}),
        ("GlobalMaxPool", ["j"], ["g"], {}),
    ]
    x = small_integers(rng, 2, 3, 37)
    column = {name: constants[name].reshape(16, 1) for name in ("scale", "shift", "mean")}
    c1 = maps.conv(x, constants["w1"], None, strided)
    r1 = np.maximum((c1 - column["mean"]) * column["scale"] + column["shift"], np.float32(0))
    p, _ = maps.max_pool(r1 + maps.conv(r1, constants["w2"], constants["b2"], grouped), pooled)
    c4 = maps.conv(maps.conv(p, constants["w3"], None, depthwise), constants["w4"], None, {})
    j = np.concatenate([c4, p], axis=1)
    expected = {"g": j.max(axis=2, keepdims=True), "p": p, "j": j}
    file = raw_file({"x": declared(x)}, constants, nodes, {name: declared(y) for name, y in expected.items()})
    model = bittern.load(file, isa=isa, threads=threads, winograd=False)
    for name, value in model.run({"x": x}).items():
        assert_equal(value, expected[name], name)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_layers_without_inputs_are_their_bias(op: str, isa: str, rng: np.random.Generator) -> None:
    bias = small_integers(rng, 4)
    feeds = {"x": floats(rng, 2, 0, 3, 3), "w": floats(rng, *((4, 0) if op == "Conv" else (0, 4)), 1, 1), "b": bias}
    check(op, feeds, [np.broadcast_to(bias.reshape(4, 1, 1), (2, 4, 3, 3))], {}, isa)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"])
def test_no_images(op: str, isa: str) -> None:
    feeds = {"x": np.zeros((0, 2, 3, 4, 5), np.float32)}
    attributes = {} if op.startswith("Conv") else {"kernel_shape": [1, 1, 1]}
    if op.startswith("Conv"):
        feeds["w"] = np.ones((2, 2, 1, 1, 1), np.float32)
    check(op, feeds, [feeds["x"]], attributes, isa)


X3, X5 = (1, 4, 6), (1, 4, 3, 3, 3)
BIG = 2**62
Refusal = tuple[str, tuple[tuple[int, ...], ...], dict[str, Any], str]
KERNEL = {"kernel_shape": [2]}
LAYERS: list[tuple[str, tuple[tuple[int, ...], ...], dict[str, Any]]] = [
    ("Conv", ((4, 4, 2),), {}),
    ("ConvTranspose", ((4, 4, 2),), {}),
    ("MaxPool", (), KERNEL),
    ("AveragePool", (), KERNEL),
    ("LpPool", (), KERNEL),
]
ATTRIBUTES: list[tuple[dict[str, Any], str]] = [
    ({"strides": [0]}, "strides"),
    ({"strides": [-1]}, "strides"),
    ({"strides": [BIG]}, "strides"),
    ({"strides": [1, 1]}, "one number is needed"),
    ({"strides": []}, "one number is needed"),
    ({"dilations": [0]}, "dilations"),
    ({"dilations": [BIG]}, "dilations"),
    ({"dilations": [1, 1, 1]}, "one number is needed"),
    ({"pads": [-1, 0]}, "pads"),
    ({"pads": [0, BIG]}, "pads"),
    ({"pads": [0]}, "two numbers are needed"),
    ({"auto_pad": "SAME"}, "auto_pad SAME"),
]
REFUSALS: list[Refusal] = [
    ("Conv", ((1, 4), (4, 4)), {}, "1-D, 2-D and 3-D"),
    ("Conv", ((1, 4, 1, 1, 1, 1), (4, 4, 1, 1, 1, 1)), {}, "1-D, 2-D and 3-D"),
    ("Conv", (X5, (4, 4, 1, 1)), {}, "same rank"),
    ("Conv", (X3, (4, 3, 2)), {}, "do not fit"),
    ("Conv", (X3, (4, 2, 2)), {"group": 3}, "do not fit"),
    ("Conv", (X3, (3, 2, 2)), {"group": 2}, "do not fit"),
    ("Conv", (X3, (4, 4, 2)), {"group": 0}, "do not fit"),
    ("Conv", (X3, (4, 4, 2)), {"group": -1}, "do not fit"),
    ("Conv", (X3, (4, 4, 2)), {"group": BIG}, "do not fit"),
    ("Conv", (X3, (4, 4, 2)), {"kernel_shape": [3]}, "differs from weight"),
    ("Conv", (X3, (4, 4, 2), (3,)), {}, "one element per output channel"),
    ("Conv", (X3, (4, 4, 7)), {}, "a window of 7 over 6"),
    ("Conv", (X5, (4, 4, 1, 4, 1)), {}, "a window of 4 over 3"),
    ("Conv", (X3, (4, 4, 3)), {"dilations": [2**20]}, "a window of 2097153 over 6"),
    ("Conv", (X5, (4, 4, 1, 1, 1)), {"pads": [1, 1, 1, 1]}, "six numbers are needed"),
    ("Conv", ((1, 4, 0), (4, 4, 1)), {}, "a window of 1 over 0"),
    ("Conv", ((1, 4, 5), (4, 4, 0)), {}, "kernel of 0"),
    ("ConvTranspose", (X3, (3, 4, 2)), {}, "do not fit"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"group": 3}, "do not fit"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"group": 0}, "do not fit"),
    ("ConvTranspose", (X3, (4, 4, 2), (5,)), {}, "one element per output channel"),
    ("ConvTranspose", ((1, 4, 0), (4, 4, 2)), {}, "a map of sizes"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"pads": [4, 4]}, "nothing would be left"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"output_padding": [-1]}, "output_padding"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"output_padding": [1, 1]}, "one number is needed"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"output_shape": [0]}, "output_shape"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"output_shape": [BIG]}, "output_shape"),
    ("ConvTranspose", (X3, (4, 4, 2)), {"output_shape": [1, 4, 7]}, "one number is needed"),
    ("ConvTranspose", ((0, 4, 9, 9, 9), (4, 4, 2, 2, 2)), {"output_shape": [2**30, 2**30, 4]}, "at most 2\\^44"),
    ("ConvTranspose", ((0, 0, 1), (0, 1, 1)), {"group": BIG}, "at most 2\\^44"),
    ("MaxPool", ((1, 4),), {"kernel_shape": []}, "1-D, 2-D and 3-D"),
    ("MaxPool", (X3,), {}, "one size for each dimension"),
    ("MaxPool", (X3,), {"kernel_shape": [2, 2]}, "one size for each dimension"),
    ("MaxPool", (X3,), {"kernel_shape": [0]}, "kernel of 0"),
    ("MaxPool", (X3,), {"kernel_shape": [-3]}, "kernel of -3"),
    ("MaxPool", (X3,), {"kernel_shape": [BIG]}, "kernel of"),
    ("MaxPool", (X5,), {"kernel_shape": [2**20, 2**20, 2**20]}, "at most 67108864"),
    ("MaxPool", (X3,), {"kernel_shape": [2], "storage_order": 2}, "storage_order 2"),
    ("MaxPool", ((1, 4, 0),), KERNEL, "a window of 2 over 0"),
    ("LpPool", (X3,), {**KERNEL, "p": 0}, "p 0"),
    ("LpPool", (X3,), {**KERNEL, "p": BIG}, "allowed are 1 to 1024"),
    ("GlobalLpPool", (X3,), {"p": -1}, "p -1"),
    ("GlobalAveragePool", ((2, 3),), {}, "rank 3 or more"),
    ("GlobalMaxPool", ((2, 3, 4, 0),), {}, "an empty map"),
    ("LRN", ((2, 3),), {"size": 3}, "rank 3 or more"),
    ("LRN", (X3,), {"size": 0}, "size 0"),
    ("LRN", (X3,), {"size": BIG}, "allowed are 1 to 4096"),
    ("BatchNormalization", ((3,), (3,), (3,), (3,), (3,)), {}, "at least rank 2"),
    ("BatchNormalization", (X3, (4,), (4,), (3,), (4,)), {}, "one element per channel"),
    ("BatchNormalization", (X3, (4,), (4,), (4,), (4,)), {"training_mode": 1}, "training_mode 1 is not supported"),
    *(
        (op, (X3, *more), {**attributes, **base}, message)
        for op, more, base in LAYERS
        for attributes, message in ATTRIBUTES
    ),
]


@pytest.mark.parametrize(("op", "shapes", "attributes", "message"), REFUSALS, ids=str)
def test_refusal(op: str, shapes: Sequence[tuple[int, ...]], attributes: dict[str, Any], message: str) -> None:
    """Attributes and shapes that do not fit are told in one line that names the node."""
    feeds = {f"x{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
    data = one_node(op, feeds, [np.zeros((1,), np.float32)], attributes)
    with pytest.raises(bittern.Error, match=message) as caught:
        bittern.load(data).run(feeds)
    assert f"node {op}_0 ({op})" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("op", "dtype", "attributes", "message"),
    [
        ("MaxPool", "int32", KERNEL, "supported: f32, i8, u8"),
        ("AveragePool", "int8", KERNEL, "only f32"),
        ("LpPool", "uint8", KERNEL, "only f32"),
        ("GlobalMaxPool", "int64", {}, "only f32"),
        ("LRN", "int8", {"size": 1}, "only f32"),
    ],
)
def test_types_that_are_refused(op: str, dtype: str, attributes: dict[str, Any], message: str) -> None:
    feeds = {"x": np.zeros((1, 2, 3), dtype)}
    with pytest.raises(bittern.Error, match=message):
        bittern.load(one_node(op, feeds, [np.zeros((1,), dtype)], attributes)).run(feeds)


@pytest.mark.parametrize("size", [1, 2])
def test_ceil_mode_lets_one_window_reach_beyond_the_map(size: int, isa: str, rng: np.random.Generator) -> None:
    """ceil((size - kernel) / stride) + 1 is 1 for a map that is too small by less than the stride."""
    x = floats(rng, 2, 3, size, size)
    for op, expected in (("MaxPool", x.max((2, 3))), ("AveragePool", x.mean((2, 3)))):
        net = bittern.Network("pool")
        net.add_input("x", x.shape)
        net.add_node(op, ["x"], ["y"], kernel_shape=[3, 3], strides=[3, 3], ceil_mode=1)
        net.set_outputs(["y"])
        assert_within(bittern.load(net, isa=isa).run({"x": x})["y"], expected[:, :, None, None], 1e-6)
