"""Elementwise, broadcasting and reducing operators: what ONNX's own cases do not reach, and what is refused."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest

from tests.rawfile import assemble, leaf
from tests.reference.arrays import Array

NAMES = {np.dtype(f"{kind}{size}"): f"{kind}{8 * size}" for kind in "iu" for size in (1, 2, 4, 8)}
NAMES |= {np.dtype(np.float32): "f32", np.dtype(np.bool_): "bool", np.dtype(np.float64): "f64"}
INTEGERS = [dtype for dtype in NAMES if dtype.kind in "iu"]
NUMBERS = [*INTEGERS, np.dtype(np.float32)]


def one_node(
    op: str,
    inputs: Mapping[str, Array],
    result: Sequence[np.dtype[Any]],
    constants: Mapping[str, Array] | None = None,
    **attributes: Any,
) -> bytes:
    """A file of one operator: these inputs, then these constants, outputs `y0`, `y1` of these types."""
    constants = constants or {}
    types = {name: {"name": name, "dtype": NAMES[x.dtype], "shape": list(x.shape)} for name, x in inputs.items()}
    outputs = [f"y{i}" for i in range(len(result))]
    graph = {
        "name": "one node",
        "inputs": list(types.values()),
        "outputs": [{"name": name, "dtype": NAMES[dtype]} for name, dtype in zip(outputs, result, strict=True)],
        "constants": {name: {"kind": "dense", "leaf": name} for name in constants},
        "nodes": [
            {"name": "it", "op": op, "inputs": [*inputs, *constants], "outputs": outputs, "attributes": attributes}
        ],
        "metadata": {},
    }
    return assemble(graph, {name: leaf(array) for name, array in constants.items()})


def run(
    op: str,
    inputs: Mapping[str, Array],
    result: Sequence[Any],
    constants: Mapping[str, Array] | None = None,
    threads: int = 1,
    **attributes: Any,
) -> list[Array]:
    """The outputs of a network of one operator."""
    dtypes = [np.dtype(dtype) for dtype in result]
    values = bittern.load(one_node(op, inputs, dtypes, constants, **attributes), threads=threads).run(dict(inputs))
    return [values[f"y{i}"] for i in range(len(result))]


def refusal(
    op: str, inputs: Mapping[str, Array], constants: Mapping[str, Array] | None = None, **attributes: Any
) -> str:
    """The message with which a network of one operator is refused."""
    outputs = [next(iter(inputs.values())).dtype]
    with pytest.raises(bittern.Error) as caught:
        bittern.load(one_node(op, inputs, outputs, constants, **attributes)).run(dict(inputs))
    message = str(caught.value)
    assert f"node it ({op})" in message
    return message


def assert_equal(actual: Array, expected: Array) -> None:
    """Every element the same, compared in its own type: 64-bit integers are not exact in float64."""
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)


def numbers(rng: np.random.Generator, dtype: np.dtype[Any], shape: Sequence[int]) -> Array:
    """All values of small integer types, small and large ones of others, small whole numbers in float32."""
    if dtype.kind == "f":
        return rng.integers(-6, 7, shape).astype(dtype)
    limits = np.iinfo(dtype)
    values = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    small = rng.integers(0 if dtype.kind == "u" else -3, 4, shape).astype(dtype)
    return np.where(rng.random(shape) < 0.5, values, small)


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((), ()),
    ((5,), ()),
    ((), (2, 3)),
    ((2, 3, 4), (2, 3, 4)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4), (1, 3, 1)),
    ((4, 1), (1, 5)),
    ((2, 3, 1, 5), (3, 7, 1)),
    ((0, 3), (1, 3)),
    ((1, 1), (0,)),
    ((2, 1, 2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2, 1, 2)),
    ((300, 1, 301), (7, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", NUMBERS, ids=str)
def test_broadcasting(
    dtype: np.dtype[Any], shapes: tuple[tuple[int, ...], tuple[int, ...]], rng: np.random.Generator
) -> None:
    """Differences wrap, every element meets its partner, as in NumPy; on one thread and on two."""
    feeds = {"a": numbers(rng, dtype, shapes[0]), "b": numbers(rng, dtype, shapes[1])}
    for threads in (1, 2):
        assert_equal(run("Sub", feeds, [dtype], threads=threads)[0], np.subtract(feeds["a"], feeds["b"], dtype=dtype))
        assert_equal(run("Greater", feeds, [np.bool_], threads=threads)[0], np.asarray(feeds["a"] > feeds["b"]))
        assert_equal(run("Min", feeds, [dtype], threads=threads)[0], np.asarray(np.minimum(feeds["a"], feeds["b"])))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_of_all_signs(dtype: np.dtype[Any]) -> None:
    """Products wrap; quotients go towards zero, by zero to zero; nothing traps on the smallest number by -1."""
    limits = np.iinfo(dtype)
    values = np.array(
        sorted({limits.min, limits.min // 2 + 1, -7 % 256 % 128, -1 if limits.min < 0 else 1, 0, 1, 3, limits.max}),
        dtype,
    )
    a, b = values.reshape(-1, 1), values.reshape(1, -1)
    exact = [[(int(p), int(q)) for q in values] for p in values]

    def table(rule: Any) -> Array:
        wrapped = [[rule(p, q) & (2 ** (8 * dtype.itemsize) - 1) for p, q in row] for row in exact]
        return np.array(wrapped, np.uint64).astype(f"u{dtype.itemsize}").view(dtype)

    def quotient(p: int, q: int) -> int:
        return 0 if q == 0 else abs(p) // abs(q) * (1 if (p < 0) == (q < 0) else -1)

    feeds = {"a": a, "b": b}
    assert_equal(run("Mul", feeds, [dtype])[0], table(lambda p, q: p * q))
    assert_equal(run("Div", feeds, [dtype])[0], table(quotient))
    assert_equal(run("Mod", feeds, [dtype])[0], table(lambda p, q: 0 if q == 0 else p % q))
    assert_equal(run("Mod", feeds, [dtype], fmod=1)[0], table(lambda p, q: 0 if q == 0 else p - q * quotient(p, q)))
    assert_equal(run("Neg", {"a": a}, [dtype])[0], table(lambda p, q: -p)[:, :1])
    assert_equal(run("Abs", {"a": a}, [dtype])[0], table(lambda p, q: abs(p))[:, :1])


def test_powers() -> None:
    """Integers to integers are exact modulo 2^64; negative exponents truncate the fraction."""
    base = np.array([[3], [-2], [1], [-1], [0]], np.int64)
    exponent = np.array([[0, 1, 5, 39, 63, -1, -2]], np.int8)
    exact = [
        [int(b) ** int(e) if e >= 0 else {1: 1, -1: 1 - 2 * (e % 2)}.get(int(b), 0) for e in exponent[0].tolist()]
        for b in base[:, 0]
    ]
    wrapped = np.array([[value & (2**64 - 1) for value in row] for row in exact], np.uint64).view(np.int64)
    assert_equal(run("Pow", {"a": base, "b": exponent}, [np.int64])[0], wrapped)
    x = np.array([-1.5, 0.0, 7.0], np.float32)
    assert_equal(run("Pow", {"a": x}, [np.float32], {"b": np.array(2, np.int64)})[0], x * x)


def test_casts_saturate() -> None:
    """What an integer type does not hold becomes its nearest number, NaN 0; integers keep their low bits."""
    x = np.array(
        [np.nan, np.inf, -np.inf, 1e30, -1e30, 2.9, -2.9, -0.5, 127.9, 128, -128.9, 255.5, 2**31, 2**63, 2**64],
        np.float32,
    )
    for dtype in INTEGERS:
        limits = np.iinfo(dtype)
        expected = [
            0 if np.isnan(v) else limits.max if v >= limits.max else limits.min if v <= limits.min else int(v)
            for v in x.astype(np.float64)
        ]
        assert_equal(run("Cast", {"x": x}, [dtype], to=NAMES[dtype])[0], np.array(expected, dtype))
    whole = np.array([-1, 0, 1, 300, 2**40 + 7], np.int64)
    for dtype in [*NUMBERS, np.dtype(np.bool_)]:
        assert_equal(run("Cast", {"x": whole}, [dtype], to=NAMES[dtype])[0], whole.astype(dtype))
        assert_equal(run("CastLike", {"x": whole, "like": np.zeros(2, dtype)}, [dtype])[0], whole.astype(dtype))
    assert_equal(run("Cast", {"x": x}, [np.bool_], to="bool")[0], x.astype(np.bool_))


def test_nan_passes() -> None:
    """Minima, maxima, bounds and steps hand a NaN on."""
    x = np.array([np.nan, 1, -1], np.float32)
    y = np.array([2, np.nan, -3], np.float32)
    assert_equal(run("Min", {"x": x, "y": y}, [np.float32])[0], np.minimum(x, y))
    assert_equal(run("Max", {"x": x, "y": y}, [np.float32])[0], np.maximum(x, y))
    assert_equal(run("ReduceMax", {"x": x}, [np.float32], keepdims=0)[0], np.array(np.nan, np.float32))
    assert_equal(run("ArgMin", {"x": x[::-1].copy()}, [np.int64])[0], np.array([2]))
    low = np.array(0, np.float32)
    # A bound that is computed, so that no tuned kernel takes it.
    for op, feeds in {
        "Clip": {"x": x, "low": low},
        "Sign": {"x": x},
        "Shrink": {"x": x},
        "ThresholdedRelu": {"x": x},
    }.items():
        assert np.isnan(run(op, feeds, [np.float32])[0]).tolist() == [True, False, False], op


def test_infinite_bounds() -> None:
    """Without bounds nothing is clipped, infinities included; where bounds cross, the upper one holds."""
    x = np.array([-np.inf, 3, np.inf], np.float32)
    low, high = np.array(5, np.float32), np.array(-np.inf, np.float32)
    assert_equal(run("Clip", {"x": x, "low": low, "high": high}, [np.float32])[0], np.full(3, -np.inf, np.float32))


REDUCTIONS: dict[str, Any] = {
    "ReduceSum": np.sum,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, **how: np.sum(np.abs(x), **how),
    "ReduceSumSquare": lambda x, **how: np.sum(x * x, **how),
}


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.int64)], ids=str)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Every set of axes of a tensor with sizes of 1 and beyond a block; whole numbers, so that all is exact."""
    x = (
        rng.choice(np.array([1, -1], dtype), (3, 1, 70, 2))
        if op == "ReduceProd"
        else rng.integers(-9, 10, (3, 1, 70, 2)).astype(dtype)
    )
    for count in range(5):
        for axes in itertools.combinations(range(4), count):
            listed = {"axes": np.array([axis - 4 for axis in axes], np.int64)}
            for keep in (0, 1):
                result = run(op, {"x": x}, [dtype], listed, keepdims=keep, noop_with_empty_axes=1)[0]
                assert_equal(result, np.asarray(REDUCTIONS[op](x, axis=axes, keepdims=bool(keep)), dtype))
    everything = run(op, {"x": x}, [dtype], keepdims=0)[0]
    assert_equal(everything, np.asarray(REDUCTIONS[op](x), dtype))


def test_large_reductions(rng: np.random.Generator) -> None:
    """Work for several tasks gives the same on one thread and on two; log-sum-exp of large numbers stays finite."""
    x = rng.integers(-4, 5, (130, 40, 33)).astype(np.float32)
    for axes in [(0,), (1,), (2,), (0, 2), (1, 2)]:
        listed = {"axes": np.array(axes, np.int64)}
        for threads in (1, 2):
            assert_equal(
                run("ReduceSum", {"x": x}, [np.float32], listed, threads=threads, keepdims=0)[0], x.sum(axis=axes)
            )
    large = np.array([[1000, 1000], [-1000, -np.inf], [-np.inf, -np.inf], [np.inf, 1]], np.float32)
    result = run("ReduceLogSumExp", {"x": large}, [np.float32], {"axes": np.array([1], np.int64)}, keepdims=0)[0]
    assert_equal(result, np.array([1000 + np.log(2), -1000, -np.inf, np.inf], np.float32))


def test_top_k_of_many_lines(rng: np.random.Generator) -> None:
    """Sorted, of equal elements the first, along any axis, for every k; and a NaN is above all numbers."""
    x = rng.integers(-5, 6, (40, 30, 41)).astype(np.float32)
    for axis, k, largest in [(0, 3, 1), (1, 30, 0), (-1, 1, 1), (2, 0, 1)]:
        for threads in (1, 2):
            values, places = run(
                "TopK",
                {"x": x},
                [np.float32, np.int64],
                {"k": np.array([k], np.int64)},
                threads=threads,
                axis=axis,
                largest=largest,
            )
            order = np.take(np.argsort(-x if largest else x, axis=axis, kind="stable"), range(k), axis=axis)
            assert_equal(places, order)
            assert_equal(values, np.take_along_axis(x, order, axis))
    odd = np.array([1, np.nan, 3, np.nan], np.float32)
    assert run("TopK", {"x": odd}, [np.float32, np.int64], {"k": np.array([3])})[1].tolist() == [1, 3, 2]
    assert run("TopK", {"x": odd}, [np.float32, np.int64], {"k": np.array([3])}, largest=0)[1].tolist() == [0, 2, 1]


def test_running_sums(rng: np.random.Generator) -> None:
    """Along every axis, both ways, with and without the element itself."""
    x = rng.integers(-9, 10, (7, 150, 133)).astype(np.int32)
    for axis, exclusive, reverse in itertools.product((0, 1, -1), (0, 1), (0, 1)):
        turned = np.flip(x, axis) if reverse else x
        sums = np.cumsum(turned, axis, dtype=np.int32) - (turned if exclusive else 0)
        expected = np.flip(sums, axis) if reverse else sums
        result = run(
            "CumSum",
            {"x": x},
            [np.int32],
            {"axis": np.array(axis, np.int64)},
            threads=2,
            exclusive=exclusive,
            reverse=reverse,
        )[0]
        assert_equal(result, expected)


def test_any_byte_is_true() -> None:
    """Booleans are read as zero or not, and written as 0 or 1."""
    a, b = np.array([0, 2, 255, 0], np.uint8).view(np.bool_), np.array([0, 1, 4, 3], np.uint8).view(np.bool_)
    expected = {"And": [0, 1, 1, 0], "Or": [0, 1, 1, 1], "Xor": [0, 0, 0, 1], "Equal": [1, 1, 1, 0]}
    for op, bits in expected.items():
        assert run(op, {"a": a, "b": b}, [np.bool_])[0].view(np.uint8).tolist() == bits, op
    assert run("Not", {"a": a}, [np.bool_])[0].view(np.uint8).tolist() == [1, 0, 0, 1]
    assert run("Cast", {"a": a}, [np.int16], to="i16")[0].tolist() == [0, 1, 1, 0]
    assert run("ReduceMax", {"a": a}, [np.bool_], keepdims=0)[0].view(np.uint8).tolist() == 1
    assert run("ReduceMin", {"a": a[1:3].copy()}, [np.bool_], keepdims=0)[0].view(np.uint8).tolist() == 1


def test_axes_from_arithmetic() -> None:
    """Axes that follow from constants by arithmetic on integers are known when the network is planned."""
    constants: dict[str, Array] = {"one": np.array([1], np.int64), "three": np.array([3.7], np.float32)}
    nodes = [
        ("Cast", ["three"], "whole", {"to": "i64"}),
        ("Sub", ["whole", "one"], "two", {}),
        ("Greater", ["two", "one"], "more", {}),
        ("Where", ["more", "two", "one"], "axis", {}),
        ("ReduceSum", ["x", "axis"], "y", {"keepdims": 0}),
    ]
    graph = {
        "name": "axes",
        "inputs": [{"name": "x", "dtype": "i32", "shape": [2, 3, 4]}],
        "outputs": [{"name": "y", "dtype": "i32"}],
        "constants": {name: {"kind": "dense", "leaf": name} for name in constants},
        "nodes": [
            {"name": f"{target}_node", "op": op, "inputs": sources, "outputs": [target], "attributes": attributes}
            for op, sources, target, attributes in nodes
        ],
        "metadata": {},
    }
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    model = bittern.load(assemble(graph, {name: leaf(array) for name, array in constants.items()}))
    assert_equal(model.run({"x": x})["y"], x.sum(axis=2, dtype=np.int32))


F = np.zeros((2, 3), np.float32)
L = np.zeros((2, 3), np.int64)
B = np.zeros((2, 3), np.bool_)

REFUSED: list[tuple[str, dict[str, Array], dict[str, Array], dict[str, Any], tuple[str, ...]]] = [
    ("Add", {"a": F, "b": L}, {}, {}, ("f32 and i64", "Cast")),
    ("Add", {"a": B, "b": B}, {}, {}, ("bool", "supported: f32, i8")),
    ("Mul", {"a": L, "b": np.zeros((4, 3), np.int64)}, {}, {}, ("[2, 3] and [4, 3]", "broadcast")),
    ("Exp", {"a": L}, {}, {}, ("i64", "f32")),
    ("Not", {"a": F}, {}, {}, ("f32", "bool")),
    ("And", {"a": B, "b": L}, {}, {}, ("bool and i64",)),
    ("BitwiseAnd", {"a": F, "b": F}, {}, {}, ("f32", "i8")),
    ("BitShift", {"a": L, "b": L}, {}, {"direction": "UP"}, ("'UP'", "LEFT, RIGHT")),
    ("BitShift", {"a": L, "b": L}, {}, {}, ("direction", "LEFT, RIGHT")),
    ("Pow", {"a": L.astype(np.int8), "b": L}, {}, {}, ("i8", "f32, i32, i64")),
    ("PRelu", {"a": F, "b": np.zeros((4, 2, 3), np.float32)}, {}, {}, ("[4, 2, 3]", "slope")),
    ("Less", {"a": B, "b": B}, {}, {}, ("bool",)),
    ("Where", {"a": L, "b": F, "c": F}, {}, {}, ("i64", "bool")),
    ("Where", {"a": B, "b": F, "c": L}, {}, {}, ("f32 and i64",)),
    ("Clip", {"a": F, "b": F}, {}, {}, ("single",)),
    ("Clip", {"a": L, "b": F}, {}, {}, ("i64 and f32",)),
    ("Gelu", {"a": F}, {}, {"approximate": "cubic"}, ("cubic", "none, tanh")),
    ("Cast", {"a": F}, {}, {"to": "complex64"}, ("'complex64'", "f32, i8")),
    ("Cast", {"a": F}, {}, {"to": "f16"}, ("'f16'",)),
    ("Cast", {"a": F}, {}, {}, ("to",)),
    ("Add", {"a": F}, {}, {}, ("1 inputs",)),
    ("Elu", {"a": F}, {}, {"alpha": "one"}, ("alpha", "a number")),
    ("Mean", {"a": L}, {}, {}, ("i64", "f32")),
    ("ReduceSum", {"a": F}, {"b": np.array([2])}, {}, ("axis 2", "rank 2")),
    ("ReduceSum", {"a": F}, {"b": np.array([-(2**63)])}, {}, ("rank 2",)),
    ("ReduceSum", {"a": F}, {"b": np.array([1, -1])}, {}, ("twice",)),
    ("ReduceSum", {"a": F}, {"b": np.array([1], np.float32)}, {}, ("integers",)),
    ("ReduceSum", {"a": B}, {}, {}, ("bool",)),
    ("ReduceMean", {"a": np.float32(1).reshape(())}, {"b": np.array([0])}, {}, ("axis 0", "rank 0")),
    ("ArgMax", {"a": F}, {}, {"axis": 2}, ("axis 2", "rank 2")),
    ("ArgMin", {"a": np.zeros((2, 0), np.float32)}, {}, {"axis": 1}, ("[2, 0]", "empty")),
    ("ArgMax", {"a": B}, {}, {}, ("bool",)),
    ("TopK", {"a": F}, {"b": np.array([4])}, {}, ("k is 4", "3 elements")),
    ("TopK", {"a": F}, {"b": np.array([-1])}, {}, ("k is -1",)),
    ("TopK", {"a": F}, {"b": np.array([1, 1])}, {}, ("2 numbers",)),
    ("TopK", {"a": F}, {"b": np.array([1])}, {"axis": -3}, ("axis -3",)),
    ("CumSum", {"a": F}, {"b": np.array(2)}, {}, ("axis 2",)),
    ("CumSum", {"a": F}, {"b": np.array([0, 1])}, {}, ("2 numbers",)),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case[0]} {' '.join(case[4])}")
def test_refusals(case: tuple[str, dict[str, Array], dict[str, Array], dict[str, Any], tuple[str, ...]]) -> None:
    """Wrong types, shapes, axes and attributes are refused: the message names the node and says what is wrong."""
    op, inputs, constants, attributes, words = case
    message = refusal(op, inputs, constants, **attributes)
    for word in words:
        assert word in message
