"""Recurrent layers, products of computed matrices, normalisations over axes: values, refusals, threads."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest

from tests.builders import floats
from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.rawfile import assemble, leaf
from tests.reference.arrays import Array
from tests.reference.recurrent import DEFAULTS, TWO_PARAMETERS, Recurrent, recurrent

TYPES = {np.float32: "f32", np.int32: "i32", np.int64: "i64", np.uint32: "u32", np.uint64: "u64"}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
ACTIVATIONS = [*DEFAULTS, "Relu", "Sigmoid", "Softsign", "Softplus", "Tanh"]


def file_of(
    op: str, inputs: Sequence[Array | None], outputs: int, constant: bool, attributes: Mapping[str, Any]
) -> bytes:
    """A file of one node; all inputs but the first are constants if `constant`."""
    names = [f"i{i}" if array is not None else "" for i, array in enumerate(inputs)]
    arrays = {name: array for name, array in zip(names, inputs, strict=True) if array is not None}
    constants = {name: array for name, array in arrays.items() if constant and name != "i0"}
    kind = "f32" if inputs[0] is None else TYPES[inputs[0].dtype.type]
    graph = {
        "name": "sequence",
        "inputs": [
            {"name": name, "dtype": TYPES[array.dtype.type], "shape": list(array.shape)}
            for name, array in arrays.items()
            if name not in constants
        ],
        "outputs": [{"name": f"o{i}", "dtype": kind} for i in range(outputs)],
        "constants": {name: {"kind": "dense", "leaf": name} for name in constants},
        "nodes": [
            {
                "name": "node",
                "op": op,
                "inputs": names,
                "outputs": [f"o{i}" for i in range(outputs)],
                "attributes": dict(attributes),
            }
        ],
        "metadata": {},
    }
    return assemble(graph, {name: leaf(array) for name, array in constants.items()})


def run(
    op: str,
    inputs: Sequence[Array | None],
    *,
    outputs: int = 1,
    constant: bool = False,
    isa: str | None = None,
    threads: int = 1,
    **attributes: Any,
) -> list[Array]:
    """All outputs of one node."""
    model = bittern.load(file_of(op, inputs, outputs, constant, attributes), isa=isa, threads=threads)
    feeds = {f"i{i}": a for i, a in enumerate(inputs) if a is not None and (i == 0 or not constant)}
    results = model.run(feeds)
    return [results[f"o{i}"] for i in range(outputs)]


def assert_close(actual: Array, expected: Array, bound: float = 2e-5) -> None:
    """float32 of the same shape, off by at most `bound` per unit of size."""
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected.astype(np.float32), rtol=bound, atol=bound)


def whole(rng: np.random.Generator, dtype: type, shape: Sequence[int], least: int = -4, end: int = 5) -> Array:
    """Whole numbers small enough for exact sums."""
    values: Array = rng.integers(least, end, tuple(shape)).astype(dtype)
    return values


def random_layer(
    rng: np.random.Generator, op: str, direction: str
) -> tuple[Recurrent, list[Array | None], dict[str, Any]]:
    """A layer with some of its options, lengths out of range among them."""
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[op]
    steps, batch, inputs, hidden = (int(rng.integers(1, most)) for most in (8, 5, 24, 40))

    def some(array: Array) -> Array | None:
        return array if rng.random() < 0.6 else None

    def half(*shape: int) -> Array:
        halves: Array = floats(rng, *shape) * np.float32(0.5)
        return halves

    arrays: list[Array | None] = [
        half(steps, batch, inputs),
        half(directions, gates * hidden, inputs),
        half(directions, gates * hidden, hidden) * np.float32(0.5),
        some(half(directions, 2 * gates * hidden)),
        some(rng.integers(-1, steps + 2, batch).astype(np.int32)),
        some(half(directions, batch, hidden)),
    ]
    if op == "LSTM":
        arrays += [some(half(directions, batch, hidden)), some(half(directions, 3 * hidden))]
    names = [str(name) for name in rng.choice(ACTIVATIONS, FUNCTIONS[op] * directions)] if rng.random() < 0.5 else []
    alpha = [float(rng.uniform(0.1, 0.9)) for name in names if name in DEFAULTS]
    beta = [float(rng.uniform(0.1, 0.9)) for name in names if name in TWO_PARAMETERS]
    layer = Recurrent(
        op,
        direction,
        names,
        alpha,
        beta,
        clip=float(rng.choice([0.0, 0.7])),
        linear_before_reset=int(rng.integers(2)) if op == "GRU" else 0,
        input_forget=int(rng.integers(2)) if op == "LSTM" else 0,
        cell_clip=float(rng.choice([0.0, 0.3])) if op == "LSTM" else 0.0,
    )
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if names:
        attributes |= {"activations": ",".join(names), "activation_alpha": alpha, "activation_beta": beta}
    if layer.clip:
        attributes["clip"] = layer.clip
    if op == "GRU":
        attributes["linear_before_reset"] = layer.linear_before_reset
    if op == "LSTM":
        attributes["input_forget"] = layer.input_forget
        if layer.cell_clip:
            attributes["cell_clip"] = layer.cell_clip
    return layer, arrays, attributes


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_recurrent(op: str, direction: str, isa: str) -> None:
    """Against the step-by-step definition: both layouts, constant and computed weights, any number of threads."""
    rng = np.random.default_rng(seed_of(f"recurrent {op} {direction}"))
    outputs = 3 if op == "LSTM" else 2
    for trial in range(12):
        layer, arrays, attributes = random_layer(rng, op, direction)
        with np.errstate(over="ignore"):
            expected = recurrent(layer, arrays)[:outputs]
        if not all(np.abs(value).max() < 1e3 for value in expected):
            continue  # activations without bounds make any error grow
        constant = trial % 2 == 0
        results = run(op, arrays, outputs=outputs, constant=constant, isa=isa, **attributes)
        for actual, wanted in zip(results, expected, strict=True):
            assert_close(actual, wanted, 1e-4)
        for again, first in zip(
            run(op, arrays, outputs=outputs, constant=constant, isa=isa, threads=3, **attributes), results, strict=True
        ):
            assert_equal(again, first, "threads")
        swapped = [
            None if a is None else np.ascontiguousarray(np.swapaxes(a, 0, 1)) if i in (0, 5, 6) else a
            for i, a in enumerate(arrays)
        ]
        y, *states = run(op, swapped, outputs=outputs, constant=constant, isa=isa, layout=1, **attributes)
        assert_close(y, np.moveaxis(expected[0], 2, 0), 1e-4)
        for actual, wanted in zip(states, expected[1:], strict=True):
            assert_close(actual, np.swapaxes(wanted, 0, 1), 1e-4)


def test_large_steps_are_shared_by_threads(rng: np.random.Generator) -> None:
    """Products long enough for several tasks: the same bits for any number of threads."""
    arrays = [floats(rng, 3, 4, 96), floats(rng, 2, 1600, 96) * 0.05, floats(rng, 2, 1600, 400) * 0.05]
    weights = [arrays[0], *(a.astype(np.float32) for a in arrays[1:])]
    first = run("LSTM", weights, outputs=3, constant=True, direction="bidirectional")
    for actual, wanted in zip(first, recurrent(Recurrent("LSTM", "bidirectional"), weights), strict=True):
        assert_close(actual, wanted, 1e-4)
    for again, value in zip(
        run("LSTM", weights, outputs=3, constant=True, threads=4, direction="bidirectional"), first, strict=True
    ):
        assert_equal(again, value, "threads")


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_one_model_runs_sequences_of_any_length(op: str, isa: str, rng: np.random.Generator) -> None:
    """Other lengths choose other tiles: weights packed for one plan are not taken for another's."""
    weights = [floats(rng, 1, GATES[op] * 96, size) * np.float32(0.1) for size in (114, 96)]
    values = {"w": weights[0], "r": weights[1]}
    node = {"name": "node", "op": op, "inputs": ["x", "w", "r"], "outputs": ["y"], "attributes": {}}
    model = bittern.load(
        assemble(
            {
                "name": "lengths",
                "inputs": [{"name": "x", "dtype": "f32", "shape": ["T", "N", 114]}],
                "outputs": [{"name": "y", "dtype": "f32"}],
                "constants": {name: {"kind": "dense", "leaf": name} for name in values},
                "nodes": [node],
                "metadata": {},
            },
            {name: leaf(array) for name, array in values.items()},
        ),
        isa=isa,
    )
    for steps, batch in [(1, 1), (40, 1), (3, 30), (200, 1)]:
        x = floats(rng, steps, batch, 114)
        assert_close(model.run({"x": x})["y"], recurrent(Recurrent(op), [x, *weights])[0], 1e-4)


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (3, 0), (0, 0)])
def test_empty_sequences(steps: int, batch: int, isa: str, rng: np.random.Generator) -> None:
    """No step: the last state is the first."""
    h = floats(rng, 1, batch, 5)
    y, y_h = run(
        "GRU",
        [floats(rng, steps, batch, 4), floats(rng, 1, 15, 4), floats(rng, 1, 15, 5), None, None, h],
        outputs=2,
        isa=isa,
    )
    assert y.shape == (steps, 1, batch, 5)
    assert_equal(y_h, h, "state")


def test_published_keyword_spotter(shared_data: Any, isa: str) -> None:
    """Its GRU and its last layer give the logits that another runtime gave."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(shared_data / "ml_kws" / "GRU_S.onnx").graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    layer = next(node for node in graph.node if node.op_type == "GRU")
    last = graph.node[-1]
    expected = np.load(shared_data / "ml_kws" / "expected_GRU_S.npz")
    x = np.ascontiguousarray(np.swapaxes(expected["mfcc"], 0, 1))
    weights = [values[name] if name else None for name in layer.input[1:]]
    attributes = {
        a.name: onnx.helper.get_attribute_value(a)
        for a in layer.attribute
        if a.name in ("hidden_size", "linear_before_reset")
    }
    _, state = run("GRU", [x, *weights], outputs=2, constant=True, isa=isa, threads=2, **attributes)
    transposed = any(a.name == "transB" and a.i == 1 for a in last.attribute)
    (logits,) = run("Gemm", [state[0], values[last.input[1]], values[last.input[2]]], isa=isa, transB=int(transposed))
    np.testing.assert_allclose(logits, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", list(TYPES))
def test_matmul(dtype: type, isa: str) -> None:
    """Broadcast batches, vectors, computed and constant second operands."""
    rng = np.random.default_rng(seed_of(f"matmul {dtype.__name__}"))
    cases = [
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((3, 1, 2, 4), (2, 4, 5)),
        ((4,), (4,)),
        ((4,), (6, 4, 5)),
        ((6, 3, 4), (4,)),
        ((2, 1, 7, 33), (1, 5, 33, 19)),
        ((9, 70, 17), (9, 17, 65)),
        ((70, 17), (17, 65)),
        ((5,), (5, 5000)),
        ((3, 1, 5), (3, 5, 2100)),
        ((2, 0, 4), (4, 5)),
        ((2, 3, 0), (0, 5)),
        ((2, 1, 0), (2, 0, 5)),
        ((0, 3, 4), (1, 4, 5)),
    ]
    for left, right in cases:
        least = 0 if dtype in (np.uint32, np.uint64) else -9
        a, b = (whole(rng, dtype, shape, least, 9) for shape in (left, right))
        for constant in (False, True) if dtype != np.uint64 else (False,):
            results = [run("MatMul", [a, b], constant=constant, isa=isa, threads=threads)[0] for threads in (1, 3)]
            for result in results:
                assert_equal(result, np.matmul(a, b), f"{left} x {right}")


def test_integer_products_wrap(isa: str) -> None:
    """Beyond the type's range as NumPy's: modulo 2^32."""
    a = np.array([[2**31 - 1, 2], [-(2**31), 3]], np.int32)
    assert_equal(run("MatMul", [a, a], isa=isa)[0], np.matmul(a, a), "product")


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_gemm(dtype: type, isa: str) -> None:
    """All transpositions and forms of C, computed at run time."""
    rng = np.random.default_rng(seed_of("gemm"))
    m, k, n = 5, 17, 33
    for ta in (0, 1):
        for tb in (0, 1):
            for shape in [None, (), (1,), (n,), (m, 1), (1, n), (m, n)]:
                a = whole(rng, dtype, (k, m) if ta else (m, k))
                b = whole(rng, dtype, (n, k) if tb else (k, n))
                c = None if shape is None else whole(rng, dtype, shape)
                expected = 2 * ((a.T if ta else a) @ (b.T if tb else b)) + (0 if c is None else -3 * c)
                arrays = [a, b] if c is None else [a, b, c]
                (y,) = run("Gemm", arrays, isa=isa, transA=ta, transB=tb, alpha=2.0, beta=-3.0)
                assert_equal(y, expected.astype(dtype), f"{ta} {tb} {shape}")


@pytest.mark.parametrize("shape", [(6,), (4, 5), (2, 3, 70), (2, 3, 4, 5)])
def test_normalisations(shape: tuple[int, ...], isa: str, rng: np.random.Generator) -> None:
    """Every axis, scales of the rows' shape and others, all optional outputs."""
    x = floats(rng, *shape) + np.float32(0.5)
    wide = x.astype(np.float64)
    for axis in range(-len(shape), len(shape)):
        first = axis % len(shape)
        axes = tuple(range(first, len(shape)))
        mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
        scales = [shape[first:], (1,) * len(shape[first:]), shape[-1:], shape]
        for scale in (floats(rng, *s) for s in scales):
            bias = floats(rng, *shape[first:])
            y, found, inverse = run(
                "LayerNormalization", [x, scale, bias], outputs=3, isa=isa, threads=2, axis=axis, epsilon=0.01
            )
            assert_close(found, mean)
            assert_close(inverse, 1 / np.sqrt(variance + 0.01))
            assert_close(y, (wide - mean) / np.sqrt(variance + 0.01) * scale + bias)
            (y,) = run("RMSNormalization", [x, scale], isa=isa, axis=axis, epsilon=0.01)
            assert_close(y, wide / np.sqrt((wide**2).mean(axes, keepdims=True) + 0.01) * scale)
        total = np.exp(wide).sum(axis, keepdims=True)
        assert_close(run("LogSoftmax", [x], isa=isa, axis=axis)[0], wide - np.log(total))
        assert_close(
            run("LpNormalization", [x], isa=isa, axis=axis, p=1)[0], wide / np.abs(wide).sum(axis, keepdims=True)
        )
        assert_close(
            run("LpNormalization", [x], isa=isa, axis=axis)[0], wide / np.sqrt((wide**2).sum(axis, keepdims=True))
        )
        assert_close(
            run("MeanVarianceNormalization", [x], isa=isa, axes=[axis])[0],
            (wide - wide.mean(axis, keepdims=True)) / wide.std(axis, keepdims=True),
            1e-4,
        )
        highest = np.expand_dims(x.argmax(axis), axis)
        assert_close(
            run("Hardmax", [x], isa=isa, axis=axis)[0],
            np.arange(shape[axis]).reshape([-1 if i == first else 1 for i in range(len(shape))]) == highest,
        )


def test_channel_normalisations(isa: str, rng: np.random.Generator) -> None:
    """Instance and group normalisation."""
    x, scale, bias = floats(rng, 2, 6, 5, 7), floats(rng, 6), floats(rng, 6)
    wide = x.astype(np.float64)
    cases: list[tuple[str, int, dict[str, Any]]] = [
        ("InstanceNormalization", 6, {}),
        ("GroupNormalization", 3, {"num_groups": 3}),
    ]
    for op, groups, attributes in cases:
        rows = wide.reshape(2, groups, -1)
        rows = (rows - rows.mean(-1, keepdims=True)) / np.sqrt(rows.var(-1, keepdims=True) + 1e-5)
        expected = rows.reshape(x.shape) * scale.reshape(6, 1, 1) + bias.reshape(6, 1, 1)
        assert_close(run(op, [x, scale, bias], isa=isa, threads=2, **attributes)[0], expected)


def test_empty_arrays(isa: str) -> None:
    """Nothing is computed, and no size is multiplied that does not count."""
    none = np.zeros((3, 0, 5), np.float32)
    channels = np.zeros(0, np.float32)
    assert run("GroupNormalization", [none, channels, channels], isa=isa, num_groups=1 << 62)[0].shape == none.shape
    assert run("InstanceNormalization", [none, channels, channels], isa=isa)[0].shape == none.shape
    for op in ("LogSoftmax", "Hardmax", "LpNormalization"):
        for axis in range(3):
            assert run(op, [none], isa=isa, axis=axis)[0].shape == none.shape
    assert run("MeanVarianceNormalization", [none], isa=isa, axes=[1])[0].shape == none.shape
    y, mean, inverse = run("LayerNormalization", [none, none[0]], outputs=3, isa=isa, axis=1)
    assert (y.shape, mean.shape, inverse.shape) == ((3, 0, 5), (3, 1, 1), (3, 1, 1))


X, W, R = (np.zeros(shape, np.float32) for shape in ((3, 2, 4), (1, 15, 4), (1, 15, 5)))
LSTM_WEIGHTS = [np.zeros((1, 20, 4), np.float32), np.zeros((1, 20, 5), np.float32)]
M = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("GRU", [X, W, R[:, :14]], {}, "R has shape [1, 14, 5]; it must be [1, 15, 5]"),
        ("GRU", [X, W[:, :, :3], R], {}, "W has shape [1, 15, 3]; it must be [1, 15, 4]"),
        ("GRU", [X[0], W, R], {}, "a tensor of rank 3 is needed"),
        ("GRU", [X, W, R], {"direction": "bidirectional"}, "it must be [2, 15, 4]"),
        ("GRU", [X, W, R], {"direction": "sideways"}, "allowed are forward, reverse, bidirectional"),
        ("GRU", [X, W, R], {"layout": 2}, "allowed are 0 and 1"),
        ("GRU", [X, W, R], {"hidden_size": 6}, "hidden_size is 6; R [1, 15, 5] says 5"),
        ("GRU", [X, W, R], {"activations": "Sigmoid"}, "2 are needed"),
        ("GRU", [X, W, R], {"activations": "Sigmoid,Tan"}, "unknown activation tan"),
        ("GRU", [X, W, R], {"clip": -1.0}, "clip"),
        ("LSTM", [X, *LSTM_WEIGHTS], {"cell_clip": -1.0}, "cell_clip"),
        ("GRU", [X, W, R], {"dynamic_quantization": 2}, "dynamic_quantization is 2; allowed are 0 and 1"),
        ("GRU", [X, W, R], {"input_forget": 1}, "unknown attribute input_forget"),
        ("GRU", [X, W, R, M], {}, "B has shape [2, 3]; it must be [1, 30]"),
        ("GRU", [X, W, R, None, np.zeros(2, np.int64)], {}, "input 4 (i4) is i64; supported: i32"),
        ("GRU", [X, W, R, None, np.zeros(3, np.int32)], {}, "sequence_lens has shape [3]; it must be [2]"),
        ("GRU", [X, W, R, None, None, M], {}, "initial_h has shape [2, 3]; it must be [1, 2, 5]"),
        ("GRU", [X, W[:, :0], R[:, :0, :0]], {}, "at least one input and one hidden element"),
        ("MatMul", [M, M], {}, "the inner sizes must be equal"),
        ("MatMul", [M[0, 0], M], {}, "at least rank 1 is needed"),
        ("MatMul", [M, M.astype(np.int32)], {}, "the type of input 0"),
        (
            "MatMul",
            [np.zeros((3, 2, 2), np.float32), np.zeros((2, 2, 2), np.float32)],
            {},
            "cannot be broadcast together",
        ),
        ("Gemm", [M, M], {}, "the inner sizes must be equal"),
        ("Gemm", [M, M.T, M], {}, "cannot be broadcast together"),
        ("Gemm", [M[:1], M.T, M.T[:2, :2]], {}, "it must broadcast to [1, 2]"),
        ("Gemm", [M.astype(np.int32), M.T.astype(np.int32)], {"alpha": 0.5}, "it must be a whole number"),
        ("LayerNormalization", [M, M], {"axis": 2}, "axis 2 of a tensor of rank 2"),
        ("LayerNormalization", [M, np.zeros(2, np.float32)], {}, "roadcast"),
        ("LayerNormalization", [M, M], {"stash_type": 10}, "only 1 is supported"),
        ("RMSNormalization", [M, np.zeros((1, 1, 3), np.float32)], {}, "it must broadcast to [2, 3]"),
        ("GroupNormalization", [M, M[0], M[0]], {"num_groups": 2}, "it must divide the channels"),
        ("GroupNormalization", [M, M[0], M[0]], {}, "num_groups is 0"),
        ("InstanceNormalization", [M, M[0], M], {}, "one element per channel (3) is needed"),
        ("MeanVarianceNormalization", [M], {}, "axis 2 of a tensor of rank 2"),
        ("MeanVarianceNormalization", [M], {"axes": [0, -2]}, "is there twice"),
        ("LpNormalization", [M], {"p": 3}, "allowed are 1 and 2"),
        ("Hardmax", [M], {"axis": -3}, "axis -3"),
    ],
)
def test_refusals(op: str, inputs: list[Array | None], attributes: dict[str, Any], message: str) -> None:
    """What does not fit is named, with what would."""
    with pytest.raises(bittern.Error) as caught:
        run(op, inputs, **attributes)
    assert message in str(caught.value)


def test_sizes_without_memory_are_refused() -> None:
    """Shapes that no machine holds end in an error, before anything is taken."""
    nodes: list[tuple[str, list[str], str]] = [("MatMul", ["a", "b"], "p"), ("Softmax", ["p"], "y")]
    graph = {
        "name": "huge",
        "inputs": [
            {"name": name, "dtype": "f32", "shape": [f"{name}0", f"{name}1", f"{name}2"]} for name in ("a", "b")
        ],
        "outputs": [{"name": "y", "dtype": "f32"}],
        "constants": {},
        "nodes": [{"name": y, "op": op, "inputs": x, "outputs": [y], "attributes": {}} for op, x, y in nodes],
        "metadata": {},
    }
    model = bittern.load(assemble(graph, {}))
    for a, b in [
        ((1 << 42, 1, 1), (1, 1, 1)),
        ((1, 1, 1), (1 << 42, 1, 1)),
        ((1, 4, 1), (1, 1, 1 << 42)),
        ((1 << 30, 4, 1), (1, 1, 1 << 30)),
        ((1 << 20, 4, 1), (1 << 20, 1, 1 << 20)),
    ]:
        with pytest.raises(bittern.ResourceError):
            model.plan_for({"a": a, "b": b})
