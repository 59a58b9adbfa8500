"""Networks: built, checked, saved, loaded, summarised; shapes of operators."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.encodings import Codebook, Dense, Packed
from bittern.errors import FormatError, InputError, UnsupportedError
from bittern.network import Network, ValueInfo
from bittern.operators import OPERATORS
from bittern.shapes import infer_shapes

from tests.compare import assert_equal

Shape = tuple[int | str, ...]


def small() -> Network:
    """A convolution, batch normalisation and a fully connected layer."""
    rng = np.random.default_rng(5)
    net = Network("small")
    net.add_input("image", ["N", 2, 6, 6])
    net.add_constant("w", rng.standard_normal((4, 2, 3, 3)).astype(np.float32))
    for name in ("scale", "shift", "mean", "variance"):
        net.add_constant(name, np.ones(4, np.float32))
    net.add_constant(
        "fc", Codebook(Packed.pack(rng.integers(0, 4, (5, 144)), 2), Dense(np.array([0, 1, 2, 3], np.float32)))
    )
    net.add_node("Conv", ["image", "w"], ["c"], "conv", pads=[1, 1, 1, 1], strides=(1, 1))
    net.add_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"], epsilon=1e-3)
    net.add_node("Flatten", ["n"], ["f"])
    net.add_node("Gemm", ["f", "fc"], ["scores"], transB=1, alpha=np.float32(0.5))
    net.set_outputs(["scores"])
    net.metadata["labels"] = '["a"]'
    return net


def test_round_trip(tmp_path: Path) -> None:
    net = small()
    path = tmp_path / "small.bittern"
    net.save(path)
    data = path.read_bytes()
    assert data == net.to_bytes() == small().to_bytes()
    for source in (path, str(path), data):
        again = Network.load(source)
        assert again.to_bytes() == data
        assert (again.name, again.inputs, again.outputs) == (net.name, net.inputs, net.outputs)
        assert again.metadata == net.metadata
        assert [(n.name, n.op, n.inputs, n.outputs) for n in again.nodes] == [
            (n.name, n.op, n.inputs, n.outputs) for n in net.nodes
        ]
        for name, tree in net.constants.items():
            assert_equal(again.constants[name].decode(), tree.decode(), name)
    assert [node.name for node in net.nodes] == ["conv", "BatchNormalization_1", "Flatten_2", "Gemm_3"]


def test_defaults_are_not_written() -> None:
    net = Network.load(small().to_bytes())
    assert net.nodes[0].attributes == {"pads": [1, 1, 1, 1]}
    assert net.nodes[3].attributes == {"transB": 1, "alpha": 0.5}


def test_shared_leaves_are_stored_once_and_equal_ones_are_not_merged() -> None:
    table = Dense(np.arange(4, dtype=np.float32))
    codes = np.arange(16).reshape(4, 4) % 4

    def network(*tables: Dense) -> Network:
        net = Network("shared")
        net.add_input("x", [1, 4])
        for index, one in enumerate(tables):
            net.add_constant(f"w{index}", Codebook(Packed.pack(codes, 2), one))
            net.add_node("MatMul", [f"y{index - 1}" if index else "x", f"w{index}"], [f"y{index}"])
        net.set_outputs([f"y{len(tables) - 1}"])
        return net

    shared, equal = network(table, table), network(table, Dense(np.arange(4, dtype=np.float32)))
    assert shared.summary().bytes == equal.summary().bytes - 16
    assert b"w0.table" in shared.to_bytes() and b"w1.table" not in shared.to_bytes()
    assert b"w1.table" in equal.to_bytes()
    again = Network.load(shared.to_bytes())
    assert again.to_bytes() == shared.to_bytes()
    assert again.summary().bytes == shared.summary().bytes


def test_names_that_collide_with_leaf_names() -> None:
    net = Network("collide")
    net.add_input("x", [1, 4])
    net.add_constant("w.table", np.ones((4, 4), np.float32))
    net.add_constant("__metadata__", np.ones((4, 4), np.float32))
    net.add_constant("w", Codebook(Packed.pack(np.ones((4, 4), int), 1), Dense(np.array([0, 2], np.float32))))
    net.add_node("MatMul", ["x", "w"], ["y"])
    net.add_node("MatMul", ["y", "w.table"], ["z"])
    net.add_node("MatMul", ["z", "__metadata__"], ["out"])
    net.set_outputs(["out"])
    again = Network.load(net.to_bytes())
    for name, tree in net.constants.items():
        assert_equal(again.constants[name].decode(), tree.decode(), name)


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        (lambda net: net.add_input("w", [1]), InputError, "'w': exists already"),
        (lambda net: net.add_input("", [1]), InputError, "non-empty"),
        (lambda net: net.add_input("x", [-1]), InputError, "-1"),
        (lambda net: net.add_input("x", ["N", 2.5]), InputError, "2.5"),
        (lambda net: net.add_input("x", [1], "f8"), InputError, "'f8'"),
        (lambda net: net.add_constant("c", np.zeros(2)), InputError, "F64.*astype"),
        (lambda net: net.add_constant("fc", np.float32(0)), InputError, "exists already"),
        (lambda net: net.add_constant("p", Packed.pack(np.ones(3, int), 1)), InputError, "yields integers"),
        (lambda net: net.add_node("Relu", ["ghost"], ["r"]), InputError, "'ghost' is not defined"),
        (lambda net: net.add_node("Relu", ["c"], ["c"]), InputError, "exists already"),
        (lambda net: net.add_node("Relu", ["c"], ["r"], "conv"), InputError, "no other node"),
        (lambda net: net.add_node("Relu", "c", ["r"]), InputError, "single name"),
        (lambda net: net.add_node("Add", ["c"], ["r"]), InputError, "2 inputs, found 1"),
        (lambda net: net.add_node("Add", ["c", ""], ["r"]), InputError, "cannot be left out"),
        (lambda net: net.add_node("Relu", ["c"], ["r", "s"]), InputError, "1 output"),
        (lambda net: net.add_node("Loop", ["c"], ["r"]), UnsupportedError, "'Loop' is not supported.*README"),
        (lambda net: net.add_node("Relu", ["c"], ["r"], slope=1), UnsupportedError, "'slope'"),
        (lambda net: net.add_node("Softmax", ["c"], ["r"], axis=1.5), UnsupportedError, "expected an integer"),
        (lambda net: net.add_node("LeakyRelu", ["c"], ["r"], alpha=float("nan")), UnsupportedError, "finite"),
        (lambda net: net.add_node("MaxPool", ["c"], ["r"]), UnsupportedError, "kernel_shape"),
        (lambda net: net.set_outputs(["ghost"]), InputError, "'ghost'"),
        (lambda net: net.set_outputs("scores"), InputError, "single name"),
    ],
)
def test_mistakes_are_named(change: Callable[[Network], Any], error: type[Exception], problem: str) -> None:
    net = small()
    before = net.to_bytes()
    with pytest.raises(error, match=problem):
        change(net)
    assert net.to_bytes() == before, "a refused change leaves no trace"


def test_all_problems_are_reported_together() -> None:
    net = small()
    net.nodes[0].inputs[1] = "ghost"
    net.nodes[1].op = "Magic"
    net.outputs = [ValueInfo("phantom", ("N",))]
    net.metadata["n"] = 3  # type: ignore[assignment]
    with pytest.raises(InputError) as caught:
        net.to_bytes()
    for word in ("ghost", "Magic", "phantom", "'n'"):
        assert word in str(caught.value)


def test_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.bittern"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="No space left"):
        small().save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.bittern"]


def test_sources_that_are_no_file(tmp_path: Path) -> None:
    for source in (tmp_path / "absent", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            Network.load(source)
    with pytest.raises(InputError, match="found int"):
        Network.load(3)  # type: ignore[arg-type]
    with pytest.raises(FormatError):
        Network.load(b"")


def test_copy_is_independent() -> None:
    net = small()
    other = net.copy()
    other.nodes[0].attributes["strides"] = [2, 2]
    other.add_node("Relu", ["scores"], ["more"])
    other.metadata.clear()
    assert net.to_bytes() == small().to_bytes()


def test_summary() -> None:
    net = small()
    summary = net.summary()
    rows = {row.name: row for row in summary.rows}
    assert list(rows) == ["w", "scale", "shift", "mean", "variance", "fc"]
    assert rows["fc"].encoding == "codebook(packed(2))"
    assert rows["fc"].bytes == 180 + 16 and rows["fc"].bytes_dense == 2880
    assert rows["fc"].error is None and rows["fc"].is_weight
    assert rows["scale"].op == "BatchNormalization" and not rows["scale"].is_weight
    assert summary.totals["bytes"] == sum(row.bytes for row in summary.rows)
    assert summary.file_bytes == len(net.to_bytes())
    text = str(summary)
    assert "codebook(packed(2))" in text and "4 other constants" in text
    assert summary.to_json()["rows"][0]["name"] == "w"


def shape_of(op: str, shapes: list[Shape], constants: dict[int, Any] | None = None, **attributes: Any) -> Shape:
    """The inferred shape of one node; inputs in ``constants`` are constants of this shape or value."""
    net = Network("one")
    names = []
    for index, shape in enumerate(shapes):
        names.append(f"x{index}")
        if constants and index in constants:
            net.add_constant(names[-1], constants[index])
        else:
            net.add_input(names[-1], shape)
    net.add_node(op, names, ["y"], **attributes)
    inferred = infer_shapes(net)["y"].shape
    assert inferred is not None
    return inferred


def weight(*shape: int) -> dict[int, Any]:
    """A constant second input."""
    return {1: np.zeros(shape, np.float32)}


def ints(*values: int) -> dict[int, Any]:
    """A constant second input of integers."""
    return {1: np.array(values, np.int64)}


@pytest.mark.parametrize(
    ("op", "shape", "constants", "attributes", "expected"),
    [
        ("Conv", ("N", 3, 9, "W"), weight(8, 3, 3, 3), {"strides": [2, 1], "pads": [0, 1, 0, 1]}, ("N", 8, 4, "W")),
        ("Conv", (1, 4, 9, 9), weight(8, 2, 3, 3), {"group": 2, "dilations": [2, 2]}, (1, 8, 5, 5)),
        ("Conv", (1, 3, 9, 8), weight(8, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (1, 8, 5, 4)),
        ("Conv", (1, 3, 9, 8), weight(8, 3, 3, 3), {"auto_pad": "VALID"}, (1, 8, 7, 6)),
        ("MaxPool", (1, 3, 5, 6), None, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, (1, 3, 3, 3)),
        ("MaxPool", (1, 3, 4, 4), None, {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}, (1, 3, 2, 2)),
        ("AveragePool", ("N", 3, 4, 4), None, {"kernel_shape": [4, 4]}, ("N", 3, 1, 1)),
        ("GlobalMaxPool", ("N", 3, "H", "W"), None, {}, ("N", 3, 1, 1)),
        ("Gemm", ("N", 6), weight(4, 6), {"transB": 1}, ("N", 4)),
        ("MatMul", (2, "T", 6), weight(6, 4), {}, (2, "T", 4)),
        ("Flatten", ("N", 2, 3, 4), None, {}, ("N", 24)),
        ("Flatten", (5, 2, 3), None, {"axis": -1}, (10, 3)),
        ("Flatten", (5, 2, 3), None, {"axis": 0}, (1, 30)),
        ("Reshape", ("N", 2, 3, 4), ints(0, -1), {}, ("N", 24)),
        ("Reshape", ("N", 2, 3), ints(-1, 6), {}, ("N", 6)),
        ("Reshape", (4, 6), ints(2, -1, 3), {}, (2, 4, 3)),
        ("Transpose", ("N", 2, 3), None, {}, (3, 2, "N")),
        ("Transpose", ("N", 2, 3), None, {"perm": [0, 2, 1]}, ("N", 3, 2)),
        ("Squeeze", ("N", 1, 3, 1), ints(-1, 1), {}, ("N", 3)),
        ("Unsqueeze", ("N", 3), ints(0, -1), {}, (1, "N", 3, 1)),
        ("Add", ("N", 3, 1), weight(4), {}, ("N", 3, 4)),
        ("Mul", ("N", 1), weight(1, 5), {}, ("N", 5)),
        ("Sub", ("N", 4), weight(4), {}, ("N", 4)),
        ("Div", (1, 1), weight(1), {}, (1, 1)),
        ("Softmax", ("N", 4), None, {}, ("N", 4)),
    ],
)
def test_shapes(op: str, shape: Shape, constants: Any, attributes: dict[str, Any], expected: Shape) -> None:
    shapes: list[Shape] = [shape, ()] if constants else [shape]
    assert shape_of(op, shapes, constants, **attributes) == expected


def test_unknown_sizes_get_symbols_of_their_own() -> None:
    shape = shape_of("Conv", [("N", 3, "H", "W"), ()], weight(8, 3, 3, 3), strides=[2, 2])
    assert shape[:2] == ("N", 8) and len({*shape}) == 4 and all(isinstance(size, str) for size in shape[2:])
    assert shape_of("Concat", [("N", 3), ("N", 4)], axis=1) == ("N", 7)
    assert isinstance(shape_of("Concat", [("N", 3), ("M", 3)], axis=0)[0], str)


@pytest.mark.parametrize(
    ("op", "shapes", "constants", "attributes", "problem"),
    [
        ("Conv", [(1, 3, 9, 9), ()], weight(8, 4, 3, 3), {}, "3 channels"),
        ("Conv", [(1, 3, 2, 2), ()], weight(8, 3, 3, 3), {}, "does not fit"),
        ("Conv", [(1, 3, 9), ()], weight(8, 3, 3, 3), {}, "3 dimensions"),
        ("Conv", [(1, 3), ()], weight(8, 3, 3, 3), {}, "4 dimensions"),
        ("Gemm", [(1, 5), ()], weight(4, 6), {"transB": 1}, "do not multiply"),
        ("MatMul", [(1, 5), ()], weight(6, 4), {}, "do not multiply"),
        ("Add", [(2, 3), (2, 4)], None, {}, "do not broadcast"),
        ("Reshape", [(2, 3), ()], ints(4, -1), {}, "cannot become"),
        ("Transpose", [(2, 3)], None, {"perm": [0, 0]}, "does not permute"),
        ("Squeeze", [(2, 3), ()], ints(0), {}, "not 1"),
        ("Concat", [(2, 3), (2,)], None, {"axis": 0}, "different numbers"),
        ("Concat", [(2, 3)], None, {"axis": 2}, "outside"),
    ],
)
def test_shapes_that_do_not_fit(
    op: str, shapes: list[Shape], constants: Any, attributes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=f"'{op}_0'.*{problem}"):
        shape_of(op, shapes, constants, **attributes)


def test_every_operator_has_a_shape() -> None:
    """Operators without a rule of their own keep the shape of their first input."""
    from bittern.shape_rules import RULES

    names = """
        Abs Acos Acosh Asin Asinh Atan Atanh BatchNormalization BipolarQuant BitwiseNot Cast CastLike Ceil Celu Clip
        Cos Cosh CumSum DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu GroupNormalization Hardmax
        HardSigmoid HardSwish Identity InstanceNormalization IsInf IsNaN LeakyRelu Log LogSoftmax LpNormalization
        LRN MeanVarianceNormalization Mish MultiThreshold Neg Not Quant QuantizeLinear Reciprocal Relu
        ReverseSequence RMSNormalization Round ScatterElements ScatterND Selu Shrink Sigmoid Sign Sin Sinh Softmax
        Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu Trilu Trunc
    """
    same = set(names.split())
    assert not set(RULES) & same
    assert set(RULES) | same == set(OPERATORS)


def test_types_and_several_outputs() -> None:
    """The element types and shapes of all outputs of operators that are not plain floats."""
    net = Network("types")
    net.add_input("x", ("N", 6))
    net.add_input("i", ("N", 6), "i32")
    net.add_input("any", (2,), "i64")
    for name, array in {"k": ints(2)[1], "one": np.ones(1, np.int32)}.items():
        net.add_constant(name, array)
    net.add_node("TopK", ["x", "k"], ["top", "where"])
    net.add_node("Split", ["i"], ["a", "b", "c", "d"], axis=1)
    net.add_node("Less", ["i", "i"], ["less"])
    net.add_node("Cast", ["x"], ["cast"], to="u8")
    net.add_node("CastLike", ["x", "i"], ["like"])
    net.add_node("Shape", ["x"], ["sizes"], start=1)
    net.add_node("ConstantOfShape", ["sizes", "one"], ["ones"])
    net.add_node("Reshape", ["x", "any"], ["two"])
    net.add_node("Squeeze", ["x", "any"], ["unknown"])
    net.add_node("Relu", ["unknown"], ["after"])
    net.add_node("Where", ["less", "i", "i"], ["chosen"])
    net.add_node("NonZero", ["x"], ["places"])
    net.add_node("Range", ["k", "k", "k"], ["range"])
    net.add_node("MaxPool", ["after"], ["pooled", "indices"], kernel_shape=[2])
    values = infer_shapes(net)
    expected: dict[str, tuple[Shape | None, str]] = {
        "top": (("N", 2), "f32"),
        "where": (("N", 2), "i64"),
        "a": (("N", 2), "i32"),
        "c": (("N", 2), "i32"),
        "d": (("N", 0), "i32"),
        "cast": (("N", 6), "u8"),
        "like": (("N", 6), "i32"),
        "sizes": ((1,), "i64"),
        "ones": (("ones_0",), "i32"),
        "two": (("two_0", "two_1"), "f32"),
        "unknown": (None, "f32"),
        "after": (None, "f32"),
        "chosen": (("N", 6), "i32"),
        "places": ((2, "places_1"), "i64"),
        "range": ((0,), "i64"),
        "pooled": (None, "f32"),
        "indices": (None, "i64"),
    }
    net.set_outputs(["unknown", "two"])
    assert net.outputs[0].shape is None
    for name, (shape, dtype) in expected.items():
        assert (values[name].shape, values[name].dtype) == (shape, dtype), name
    assert values["less"].dtype == "bool"
    read = Network.load(net.to_bytes())
    assert [info.shape for info in read.outputs] == [None, ("two_0", "two_1")]
    assert read.to_bytes() == net.to_bytes()


def test_number_of_outputs_is_checked() -> None:
    net = Network("outputs")
    net.add_input("x", (4,))
    net.add_constant("k", ints(2)[1])
    for op, inputs, outputs, problem in [
        ("Relu", ["x"], ["a", "b"], "Relu has 1 output, found 2"),
        ("TopK", ["x", "k"], ["a"], "TopK has 2 outputs, found 1"),
        ("Split", ["x"], [], "Split has 1 or more outputs, found 0"),
        ("LayerNormalization", ["x", "x"], [*"abcd"], "LayerNormalization has 1 to 3 outputs, found 4"),
    ]:
        with pytest.raises(InputError, match=problem):
            net.add_node(op, inputs, outputs)
