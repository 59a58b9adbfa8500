"""Operators that move and select elements: any type, refusals, indices beyond bounds, shapes from values."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest

from tests.compare import assert_within
from tests.rawfile import Node, declared, raw_file
from tests.reference.arrays import Array

Operands = Sequence[Array | None]
FLAT: dict[str, Any] = {"axis": 0}
HUGE = 2**62


def one(
    op: str,
    operands: Operands,
    attributes: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = ("f32",),
    constants: bool = False,
    isa: str | None = None,
    threads: int = 1,
) -> list[Array]:
    """The outputs of one node; its operands are inputs of the network, or all but the first are constants."""
    names = ["" if array is None else f"x{i}" for i, array in enumerate(operands)]
    arrays = {name: array for name, array in zip(names, operands, strict=True) if array is not None}
    fixed = {name: array for name, array in arrays.items() if constants and name != "x0"}
    feeds = {name: array for name, array in arrays.items() if name not in fixed}
    results = {f"y{i}": dtype for i, dtype in enumerate(outputs)}
    types = {name: declared(array) for name, array in feeds.items()}
    file = raw_file(types, fixed, [(op, names, list(results), attributes or {})], results)
    given = bittern.load(file, isa=isa, threads=threads).run(feeds)
    return [given[name] for name in results]


def i64(*values: int) -> Array:
    """A list of integers."""
    return np.array(values, np.int64)


def counted(*shape: int, dtype: str = "int32") -> Array:
    """0, 1, 2, ... in a shape."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


X = counted(2, 3, 4)
TRUTH = np.array([[True, False, True], [False, True, True]])
ROWS = np.array([[2, 0, 1, 2]], np.int64)
ADDED = counted(1, 4)

CASES: dict[str, tuple[str, Operands, dict[str, Any], list[Array]]] = {
    "Concat": ("Concat", [X, X[:, :1]], {"axis": 1}, [np.concatenate([X, X[:, :1]], 1)]),
    "Concat of booleans": ("Concat", [TRUTH, TRUTH], {"axis": -1}, [np.concatenate([TRUTH, TRUTH], 1)]),
    "Transpose": ("Transpose", [X], {"perm": [2, 0, 1]}, [X.transpose(2, 0, 1)]),
    "Transpose of bytes": ("Transpose", [X.astype(np.uint8)], {}, [X.astype(np.uint8).T]),
    "Reshape": ("Reshape", [X, i64(0, -1)], {}, [X.reshape(2, 12)]),
    "Squeeze": ("Squeeze", [X[:1], i64(0)], {}, [X[0]]),
    "Unsqueeze": ("Unsqueeze", [X, i64(-1)], {}, [X[..., None]]),
    "Identity": ("Identity", [TRUTH], {}, [TRUTH]),
    "Dropout": ("Dropout", [X, np.array([0.5], np.float32), np.array(False)], {}, [X, np.ones(X.shape, np.bool_)]),
    "Shape": ("Shape", [X], {"start": 1, "end": -1}, [i64(3)]),
    "Size": ("Size", [X], {}, [np.array(24, np.int64)]),
    "Split": ("Split", [X, i64(1, 0, 3)], {"axis": 2}, [X[..., :1], X[..., 1:1], X[..., 1:]]),
    "Split into equal parts": ("Split", [X], {"axis": 2, "num_outputs": 3}, [X[..., :2], X[..., 2:], X[..., 4:]]),
    "Slice": ("Slice", [X, i64(-1, 1), i64(-HUGE, HUGE), i64(2, 1), i64(-2, 2)], {}, [X[:, 1::2, ::-2]]),
    "Slice of a scalar": ("Slice", [np.array(7), i64(), i64()], {}, [np.array(7)]),
    "Pad": (
        "Pad",
        [X, i64(1, -1, 0, 2), np.array(9, np.int32), i64(1, 2)],
        {},
        [np.pad(X[..., 1:], ((0, 0), (1, 0), (0, 2)), constant_values=9)],
    ),
    "Pad by reflection": ("Pad", [counted(3), i64(5, 4)], {"mode": "reflect"}, [np.pad(counted(3), (5, 4), "reflect")]),
    "Pad around": ("Pad", [counted(3), i64(5, 4)], {"mode": "wrap"}, [np.pad(counted(3), (5, 4), "wrap")]),
    "Pad with the edge": (
        "Pad",
        [X, i64(0, 0, 1, 0, 0, 1)],
        {"mode": "edge"},
        [np.pad(X, ((0, 0), (0, 0), (1, 1)), "edge")],
    ),
    "Expand": ("Expand", [X[:, :1], i64(2, 1, 3, 1)], {}, [np.broadcast_to(X[:, :1], (2, 2, 3, 4))]),
    "Tile": ("Tile", [X, i64(1, 2, 0)], {}, [np.tile(X, (1, 2, 0))]),
    "Tile of booleans": ("Tile", [TRUTH, i64(2, 3)], {}, [np.tile(TRUTH, (2, 3))]),
    "Gather": ("Gather", [X, np.array([[2, -1]], np.int32)], {"axis": 1}, [X[:, [[2, -1]]]]),
    "GatherElements": ("GatherElements", [X[0], ROWS], FLAT, [np.take_along_axis(X[0], ROWS, 0)]),
    "GatherND": ("GatherND", [X, np.array([[-1], [0]], np.int64)], {"batch_dims": 1}, [X[[0, 1], [-1, 0]]]),
    "ScatterElements": (
        "ScatterElements",
        [X[0], np.array([[1, 1]]), np.array([[7, 5]], np.int32)],
        {"axis": 1},
        [np.array([[0, 5, 2, 3], *X[0, 1:]], np.int32)],
    ),
    "ScatterElements adding": (
        "ScatterElements",
        [X[0], ROWS * 0, ADDED],
        {"reduction": "add"},
        [np.concatenate([X[0, :1] + ADDED, X[0, 1:]])],
    ),
    "ScatterND": ("ScatterND", [X[0], np.array([[-1]]), X[0, :1]], {}, [X[0][[0, 1, 0]]]),
    "ScatterND of the larger": (
        "ScatterND",
        [X[0], np.array([[1], [1]]), X[0, ::2]],
        {"reduction": "max"},
        [X[0][[0, 2, 2]]],
    ),
    "OneHot": (
        "OneHot",
        [np.array([1.0, -1, 3, np.nan], np.float32), np.array(3), np.array([5, 6], np.int16)],
        {},
        [np.array([[5, 6, 5], [5, 5, 6], [5, 5, 5], [5, 5, 5]], np.int16)],
    ),
    "DepthToSpace": (
        "DepthToSpace",
        [counted(1, 4, 1, 2)],
        {"blocksize": 2},
        [counted(1, 4, 1, 2)[0, [[0, 1], [2, 3]], 0].transpose(0, 2, 1).reshape(1, 1, 2, 4)],
    ),
    "SpaceToDepth": ("SpaceToDepth", [counted(1, 1, 2, 2)], {"blocksize": 2}, [counted(1, 4, 1, 1)]),
    "ConstantOfShape": ("ConstantOfShape", [i64(2, 3), np.array([True])], {}, [np.ones((2, 3), np.bool_)]),
    "ConstantOfShape of a scalar": ("ConstantOfShape", [i64(), np.array([4], np.uint8)], {}, [np.array(4, np.uint8)]),
    "Range": ("Range", [np.array(5), np.array(-4), np.array(-3)], {}, [i64(5, 2, -1)]),
    "Range of everything": (
        "Range",
        [np.array(-(2**63)), np.array(2**63 - 1), np.array(HUGE)],
        {},
        [i64(-(2**63), -HUGE, 0, HUGE)],
    ),
    "EyeLike": ("EyeLike", [TRUTH], {"dtype": "u16", "k": 1}, [np.eye(2, 3, 1, np.uint16)]),
    "Trilu": ("Trilu", [X, np.array(-1)], {"upper": 0}, [np.tril(X, -1)]),
    "Trilu far away": ("Trilu", [X, np.array(2**63 - 1)], {}, [np.zeros_like(X)]),
    "ReverseSequence": (
        "ReverseSequence",
        [X[0], i64(3, 1, 0, 2)],
        {},
        [np.array([[8, 1, 2, 7], [4, 5, 6, 3], [0, 9, 10, 11]], np.int32)],
    ),
    "Compress": ("Compress", [X, np.array([False, True])], {"axis": 2}, [X[..., 1:2]]),
    "Compress all": ("Compress", [X, np.array([True, False, True])], {}, [np.array([0, 2], np.int32)]),
    "NonZero": ("NonZero", [TRUTH], {}, [np.array(np.nonzero(TRUTH), np.int64)]),
    "Resize": (
        "Resize",
        [counted(1, 1, 2, 2), None, np.array([1, 1, 2, 2], np.float32)],
        {},
        [counted(1, 1, 2, 2).repeat(2, 2).repeat(2, 3)],
    ),
}


@pytest.mark.parametrize("constants", [False, True], ids=["inputs", "constants"])
@pytest.mark.parametrize("name", CASES)
def test_result(name: str, constants: bool, isa: str) -> None:
    op, operands, attributes, expected = CASES[name]
    outputs = [declared(array)[0] for array in expected]
    for result, wanted in zip(one(op, operands, attributes, outputs, constants, isa), expected, strict=True):
        assert_within(result, wanted, 0.0, name)


def test_resize_weighs_neighbours(isa: str) -> None:
    """Linear: halves between elements; the ends stay."""
    x = np.array([[0, 4, 2]], np.float32)
    given = one(
        "Resize",
        [x, None, None, i64(1, 5)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        isa=isa,
    )
    assert_within(given[0], np.array([[0, 2, 4, 3, 2]], np.float32), 0.0)


def test_resize_leaves_infinity_in_its_place() -> None:
    """An element without weight is not read."""
    x = np.array([1, np.inf, 2, 3], np.float32)
    given = one(
        "Resize", [x, None, None, i64(2)], {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    )
    assert_within(given[0], np.array([1, 3], np.float32), 0.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_large_arrays_are_shared_out(threads: int) -> None:
    """Every piece of the work is done, whatever the number of threads."""
    x = counted(70, 61, 53, dtype="int16")
    rows = np.arange(-61, 61, dtype=np.int64)
    for op, operands, attributes, expected in (
        ("Transpose", [x], {"perm": [2, 1, 0]}, x.T),
        ("Gather", [x, rows], {"axis": 1}, x[:, rows]),
        ("Tile", [x, i64(1, 2, 2)], {}, np.tile(x, (1, 2, 2))),
        ("Pad", [x, i64(3, 2, 1, 0, 1, 2)], {"mode": "reflect"}, np.pad(x, ((3, 0), (2, 1), (1, 2)), "reflect")),
    ):
        assert_within(one(op, operands, attributes, ["i16"], threads=threads)[0], expected, 0.0, op)


def test_indices_beyond_bounds_read_the_nearest_element() -> None:
    far = i64(5, -9, 2**63 - 1, -(2**63))
    nearest = [2, 0, 2, 0]
    x = counted(3, 4)
    assert_within(one("Gather", [x, far], outputs=["i32"])[0], x[nearest], 0.0)
    assert_within(one("GatherElements", [x, far[:, None]], outputs=["i32"])[0], x[nearest, :1], 0.0)
    assert_within(one("GatherND", [x, far[:, None]], outputs=["i32"])[0], x[nearest], 0.0)
    backwards = one("ReverseSequence", [x, far], outputs=["i32"])[0]
    assert_within(backwards, np.stack([x[::-1, 0], x[:, 1], x[::-1, 2], x[:, 3]], 1), 0.0)


def test_indices_beyond_bounds_write_nothing() -> None:
    x, updates = counted(3, 4), counted(4, 4) + 100
    far = i64(5, -9, -(2**63), 1)
    expected = x.copy()
    expected[1] = updates[3]
    assert_within(one("ScatterND", [x, far[:, None], updates], outputs=["i32"])[0], expected, 0.0)
    expected = x.copy()
    expected[1, 0] = updates[3, 0]
    assert_within(one("ScatterElements", [x, far[:, None], updates[:, :1]], outputs=["i32"])[0], expected, 0.0)


def test_sums_of_integers_wrap() -> None:
    x = np.array([100, -100, 3], np.int8)
    given = one("ScatterElements", [x, i64(0, 1, 2), np.array([100, 100, 3], np.int8)], {"reduction": "mul"}, ["i8"])
    assert_within(given[0], np.array([16, -16, 9], np.int8), 0.0)


REFUSED: dict[str, tuple[str, Operands, dict[str, Any], str]] = {
    "mixed types": ("Concat", [X, X.astype(np.int64)], {"axis": 0}, "same type"),
    "a permutation with an axis twice": ("Transpose", [X], {"perm": [0, 1, 1]}, "no permutation"),
    "training": ("Dropout", [X, np.array(0.5, np.float32), np.array(True)], {}, "training_mode"),
    "parts that do not add up": ("Split", [X, i64(2, 3)], {"axis": 2}, "add up"),
    "a negative part": ("Split", [X, i64(5, -1)], {"axis": 2}, "add up"),
    "parts of a scalar": ("Split", [np.array(1)], {}, "axis 0"),
    "as many parts as outputs": ("Split", [X], {"num_outputs": HUGE}, "num_outputs"),
    "a step of 0": ("Slice", [X, i64(0), i64(1), i64(0), i64(0)], {}, "step of 0"),
    "an axis sliced twice": ("Slice", [X, i64(0, 0), i64(1, 1), i64(0, -3)], {}, "twice"),
    "an axis out of range": ("Slice", [X, i64(0), i64(1), i64(3)], {}, "axis 3"),
    "more starts than ends": ("Slice", [X, i64(0, 1), i64(1)], {}, "2 starts"),
    "one pad for an axis": ("Pad", [X, i64(1, 1, 1)], {}, "3 pads"),
    "pads beyond any memory": ("Pad", [X, i64(HUGE, 0, 0, HUGE, 0, 0)], {}, "2^44"),
    "pads that cut too much": ("Pad", [X, i64(-2, 0, 0, -1, 0, 0)], {}, "cut more"),
    "nothing to reflect": ("Pad", [X[:, :0], i64(0, 1, 0, 0, 0, 0)], {"mode": "reflect"}, "needs elements"),
    "a padding mode": ("Pad", [X, i64(0, 0, 0, 0, 0, 0)], {"mode": "mirror"}, "allowed are constant"),
    "a padding value of another type": ("Pad", [X, i64(0, 0, 0, 0, 0, 0), np.array(0.0, np.float32)], {}, "same type"),
    "shapes that do not broadcast": ("Expand", [X, i64(2, 2, 4)], {}, "broadcast"),
    "a negative size": ("Expand", [X[:1], i64(-1, 3, 4)], {}, "negative"),
    "repeats for some axes": ("Tile", [X, i64(2, 2)], {}, "2 repeats"),
    "repeats beyond any memory": ("Tile", [X, i64(HUGE, HUGE, HUGE)], {}, "2^44"),
    "negative repeats": ("Tile", [X, i64(1, 1, -1)], {}, "negative"),
    "an axis to gather from": ("Gather", [X, i64(0)], {"axis": 3}, "axis 3"),
    "indices that are no integers": ("Gather", [X, np.zeros(1, np.float32)], {}, "i32, i64"),
    "indices into nothing": ("Gather", [X[:, :0], i64(0)], {"axis": 1}, "has none"),
    "indices of another rank": ("GatherElements", [X, i64(0)], {}, "indices [1]"),
    "more rows of indices than data": ("GatherElements", [X, np.zeros((2, 4, 4), np.int64)], {}, "may be larger"),
    "batches beyond the ranks": ("GatherND", [X, np.zeros((2, 1), np.int64)], {"batch_dims": 2}, "below both ranks"),
    "tuples longer than the data": ("GatherND", [X, np.zeros((2, 4), np.int64)], {}, "last size"),
    "batches of other sizes": ("GatherND", [X, np.zeros((3, 1), np.int64)], {"batch_dims": 1}, "equal"),
    "updates of another shape": ("ScatterElements", [X[0], ROWS, X[0]], {}, "same shape"),
    "updates of another size": ("ScatterND", [X, np.zeros((2, 1), np.int64), X[:1]], {}, "they must be [2, 3, 4]"),
    "a reduction": ("ScatterND", [X, np.zeros((2, 1), np.int64), X], {"reduction": "mean"}, "allowed are none"),
    "a negative depth": ("OneHot", [i64(1), np.array(-1), i64(0, 1)], {}, "depth"),
    "a depth that is no number": ("OneHot", [i64(1), np.array(np.nan, np.float32), i64(0, 1)], {}, "depth"),
    "a depth beyond any memory": ("OneHot", [counted(2, 3), np.array(2**44), i64(0, 1)], {}, "2^44"),
    "one value": ("OneHot", [i64(1), np.array(3), i64(0)], {}, "two are needed"),
    "blocks of nothing": ("DepthToSpace", [X[None]], {"blocksize": 0}, "blocksize 0"),
    "blocks beyond 64 bits": ("DepthToSpace", [X[None]], {"blocksize": 2**32}, "blocksize"),
    "channels that make no blocks": ("DepthToSpace", [X[None]], {"blocksize": 2}, "multiple of its square"),
    "a height that makes no blocks": ("SpaceToDepth", [X[None]], {"blocksize": 2}, "multiples"),
    "a shape beyond 64 bits": ("ConstantOfShape", [i64(HUGE, HUGE), i64(1)], {}, "2^44"),
    "a negative shape": ("ConstantOfShape", [i64(-1), i64(1)], {}, "negative"),
    "a delta of 0": ("Range", [np.array(0), np.array(1), np.array(0)], {}, "delta of 0"),
    "a range beyond any memory": ("Range", [np.array(-(2**63)), np.array(2**63 - 1), np.array(1)], {}, "2^44"),
    "a range without end": ("Range", [np.array([v], np.float32) for v in (0, np.inf, 1)], {}, "2^44"),
    "a range of no numbers": ("Range", [np.array([v], np.float32) for v in (0, 1, np.nan)], {}, "2^44"),
    "a type by name": ("EyeLike", [X[0]], {"dtype": "f64"}, "dtype f64"),
    "an identity of rank 3": ("EyeLike", [X], {}, "rank 2"),
    "a triangle of rank 1": ("Trilu", [X[0, 0]], {}, "rank 2"),
    "time along a later axis": ("ReverseSequence", [X, i64(1, 1)], {"time_axis": 2, "batch_axis": 0}, "time_axis 2"),
    "lengths for other batches": ("ReverseSequence", [X, i64(1, 1)], {}, "sequence_lens"),
    "a condition that is too long": ("Compress", [X, np.ones(4, np.bool_)], {"axis": 1}, "condition"),
    "neither scales nor sizes": ("Resize", [X], {}, "neither"),
    "scales and sizes": ("Resize", [X, None, np.array([1, 1, 1], np.float32), i64(2, 3, 4)], {}, "both"),
    "a scale of 0": ("Resize", [X, None, np.array([1, 1, 0], np.float32)], {}, "scale of 0"),
    "a scale that is no number": ("Resize", [X, None, np.array([1, 1, np.nan], np.float32)], {}, "scale of"),
    "scales beyond any memory": ("Resize", [X, None, np.array([1, 1, 1e30], np.float32)], {}, "2^44"),
    "a negative size to resize to": ("Resize", [X, None, None, i64(2, 3, -4)], {}, "sizes"),
    "nothing to resize": ("Resize", [X[:, :0], None, None, i64(2, 3, 4)], {}, "empty"),
    "weighed integers": ("Resize", [X, None, None, i64(2, 3, 4)], {"mode": "linear"}, "f32"),
    "a roi for some axes": (
        "Resize",
        [X, np.array([0, 1], np.float32), None, i64(2, 3, 4)],
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        "2 numbers in roi",
    ),
    "coordinates": ("Resize", [X, None, None, i64(2, 3, 4)], {"coordinate_transformation_mode": "half"}, "half_pixel"),
    "an axis resized twice": ("Resize", [X, None, None, i64(2, 2)], {"axes": [0, -3]}, "twice"),
}


@pytest.mark.parametrize("constants", [False, True], ids=["inputs", "constants"])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal(name: str, constants: bool) -> None:
    """An error that names the node, whether the operands are known at load or come with the first run."""
    op, operands, attributes, words = REFUSED[name]
    outputs = ["f32"] * (2 if op == "Split" else 1)
    with pytest.raises(bittern.Error) as caught:
        one(op, operands, attributes, outputs, constants)
    assert f"({op})" in str(caught.value)
    assert words in str(caught.value)


FLATTEN: list[Node] = [
    ("Shape", ["x"], ["shape"], {}),
    ("Gather", ["shape", "first"], ["batch"], {"axis": 0}),
    ("Concat", ["batch", "rest"], ["target"], {"axis": 0}),
    ("Reshape", ["x", "target"], ["flat"], {}),
    ("Relu", ["flat"], ["y"], {}),
]


def test_shapes_are_computed_when_a_plan_is_made(isa: str) -> None:
    """The usual flattening of any batch: no step of it runs."""
    file = raw_file({"x": ("f32", ["N", 2, 3])}, {"first": i64(0), "rest": i64(-1)}, FLATTEN, {"y": "f32"})
    model = bittern.load(file, isa=isa)
    for batch in (1, 4, 0, 2):
        x = np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3) - 2
        if batch == 0:
            with pytest.raises(bittern.InputError, match="does not divide"):  # -1 of nothing could be any size
                model(x)
            continue
        assert_within(model.run({"x": x})["y"], np.maximum(x.reshape(batch, 6), 0), 0.0)
        layers = model.plan_for({"x": (batch, 2, 3)}).layers
        assert [layer.op for layer in layers] == ["Reshape", "Relu"]


def test_values_that_follow_from_shapes_can_be_looked_at() -> None:
    file = raw_file(
        {"x": ("f32", ["N", 2, 3])}, {"first": i64(0), "rest": i64(-1)}, FLATTEN, {"target": "i64", "y": "f32"}
    )
    result = bittern.load(file).run({"x": np.ones((5, 2, 3), np.float32)}, taps=["shape"])
    assert_within(result["target"], i64(5, -1), 0.0)
    assert_within(result["shape"], i64(5, 2, 3), 0.0)


def test_an_input_decides_a_shape(isa: str) -> None:
    """Its elements change between runs, and so does the shape of the output."""
    file = raw_file(
        {"x": ("f32", ["N"]), "shape": ("i64", ["R"])}, {}, [("Reshape", ["x", "shape"], ["y"], {})], {"y": "f32"}
    )
    model = bittern.load(file, isa=isa)
    x = np.arange(12, dtype=np.float32)
    for shape in ([3, 4], [4, 3], [-1], [2, 3, 2], [3, 4]):
        assert_within(model.run({"x": x, "shape": i64(*shape)})["y"], x.reshape(shape), 0.0)
    with pytest.raises(bittern.InputError, match="divide"):
        model.run({"x": x, "shape": i64(5, -1)})
    assert_within(model.run({"x": x, "shape": i64(6, 2)})["y"], x.reshape(6, 2), 0.0)


def test_positions_from_shapes() -> None:
    """0, 1, 2, ... as long as the input; and selected elements of it."""
    nodes: list[Node] = [
        ("Shape", ["x"], ["shape"], {}),
        ("Gather", ["shape", "one"], ["length"], {}),
        ("Range", ["zero", "length", "two"], ["even"], {}),
        ("Gather", ["x", "even"], ["y"], {"axis": 1}),
    ]
    constants = {"one": np.array(1), "zero": np.array(0), "two": np.array(2)}
    model = bittern.load(raw_file({"x": ("i16", [2, "T"])}, constants, nodes, {"even": "i64", "y": "i16"}))
    for length in (5, 1, 0, 8):
        x = counted(2, length, dtype="int16")
        result = model.run({"x": x})
        assert_within(result["even"], np.arange(0, length, 2), 0.0)
        assert_within(result["y"], x[:, ::2], 0.0)


def test_true_elements_of_an_input_decide_a_shape() -> None:
    nodes: list[Node] = [
        ("NonZero", ["mask"], ["places"], {}),
        ("Transpose", ["places"], ["tuples"], {}),
        ("GatherND", ["x", "tuples"], ["y"], {}),
    ]
    model = bittern.load(raw_file({"x": ("f32", [2, 3]), "mask": ("bool", [2, 3])}, {}, nodes, {"y": "f32"}))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for mask in (TRUTH, ~TRUTH, np.zeros((2, 3), np.bool_)):
        assert_within(model.run({"x": x, "mask": mask})["y"], x[mask], 0.0)


def test_results_of_a_run_decide_no_shape() -> None:
    """What is known only after a layer has run cannot be a shape: said when the file is loaded."""
    nodes: list[Node] = [
        ("Relu", ["x"], ["r"], {}),
        ("NonZero", ["r"], ["y"], {}),
    ]
    file = raw_file({"x": ("f32", [2, 70000])}, {}, nodes, {"y": "i64"})
    with pytest.raises(bittern.Error) as caught:
        bittern.load(file).run({"x": np.ones((2, 70000), np.float32)})
    assert "decide shapes" in str(caught.value)


def test_an_input_that_decides_shapes_has_its_rank() -> None:
    """An array of any other rank is refused before anything is copied."""
    file = raw_file({"x": ("f32", (4,)), "s": ("i64", ("r",))}, {}, [("Reshape", ["x", "s"], ["y"], {})], {"y": "f32"})
    model = bittern.load(file)
    for rank in (0, 2, 9, 13, 30):
        with pytest.raises(bittern.InputError, match=f"input s: shape .* has rank {rank}; rank 1 is needed"):
            model.run({"x": np.zeros(4, np.float32), "s": np.ones((1,) * rank, np.int64)})


def test_tables_of_positions_count_as_memory() -> None:
    """Twelve tables of four million positions do not fit in 64 MiB; one plan that dies gives its share back."""
    size, count = 1 << 22, 12
    nodes = [("Pad", ["x", "p"], [f"y{i}"], {"mode": "reflect"}) for i in range(count)]
    nodes += [("Slice", [f"y{i}", "a", "b"], [f"z{i}"], {}) for i in range(count)]
    constants = {"p": i64(0, size), "a": i64(0), "b": i64(1)}
    file = raw_file({"x": ("u8", (3,))}, constants, nodes, {f"z{i}": "u8" for i in range(count)})
    with pytest.raises(bittern.ResourceError, match=r"node .* \(Pad\): needs"):
        bittern.load(file, memory_limit=64 << 20)


def test_costly_known_values_run_with_the_network() -> None:
    """A convolution whose operands follow from shapes is no work for planning: it takes its place in the plan."""
    pads = {"pads": [128, 128, 127, 127]}
    nodes = [("Shape", ["x"], ["s"], {}), ("ConstantOfShape", ["s", "v"], ["c"], {}), ("Conv", ["c", "c"], ["y"], pads)]
    file = raw_file({"x": ("u8", (1, 1, 256, 256))}, {"v": np.array([0.5], np.float32)}, nodes, {"y": "f32"})
    assert [layer.op for layer in bittern.load(file).plan.layers] == ["Conv"]


def test_a_second_output_may_be_added_to_a_convolution(isa: str) -> None:
    """The sum waits for both sides: one of them is no first output."""
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 4, 6, 6)).astype(np.float32), rng.standard_normal((4, 4, 1, 1)).astype(np.float32)
    nodes = [
        ("Conv", ["x", "w"], ["c"], {}),
        ("Concat", ["x", "x"], ["xx"], {"axis": 1}),
        ("Neg", ["xx"], ["e"], {}),
        ("Split", ["e", "s"], ["s0", "s1"], {"axis": 1}),
        ("Add", ["c", "s1"], ["y"], {}),
    ]
    model = bittern.load(raw_file({"x": ("f32", x.shape)}, {"w": w, "s": i64(4, 4)}, nodes, {"y": "f32"}), isa=isa)
    expected = np.einsum("oi,nihw->nohw", w[:, :, 0, 0].astype(np.float64), x) - x
    assert np.allclose(model.run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5)
