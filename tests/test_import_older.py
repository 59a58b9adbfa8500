"""Older forms of operators, functions, and constants in odd places: the engine agrees with the model's own oracle."""

from collections.abc import Mapping, Sequence
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.errors import FormatError, UnsupportedError

from tests.compare import assert_within
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx.reference import ReferenceEvaluator  # noqa: E402

helper, TENSOR = onnx.helper, onnx.TensorProto


def model_of(
    nodes: Sequence[Any],
    feeds: Mapping[str, Array],
    opset: int,
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    functions: Sequence[Any] = (),
) -> Any:
    """A model whose inputs are like the arrays, with a free first dimension."""
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    infos = []
    for name, array in feeds.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        infos.append(helper.make_tensor_value_info(name, kind, ["N", *array.shape[1:]] if array.ndim else []))
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "older", infos, results, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def assert_agrees(model: Any, feeds: Mapping[str, Array], reference: bool = False) -> bittern.Network:
    """The engine gives what ONNX Runtime, or the reference evaluator, gives on the model itself."""
    names = [info.name for info in model.graph.output]
    if reference:
        expected = ReferenceEvaluator(model).run(names, dict(feeds))
    else:
        onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        expected = session.run(names, dict(feeds))
    network = bittern.convert(model)
    loaded = bittern.load(network)
    for results in (loaded.run(dict(feeds)), bittern.load(bittern.convert(network.to_onnx())).run(dict(feeds))):
        for name, wanted in zip(names, expected, strict=True):
            assert_within(results[name], wanted, 1e-5 if wanted.dtype.kind == "f" else 0.0, name)
    return network


def floats(*shape: int) -> Array:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "y", **attributes: Any) -> Any:
    """A node without a name."""
    return helper.make_node(op, list(inputs), [outputs] if isinstance(outputs, str) else list(outputs), **attributes)


FORMS: list[tuple[int, Any, dict[str, Array]]] = [
    (7, node("Slice", ["x"], starts=[1, -3], ends=[3, 9], axes=[1, 3]), {}),
    (7, node("Slice", ["x"], starts=[0, 1], ends=[2, 3]), {}),
    (10, node("Slice", ["x", "a", "b"]), {"a": np.array([1, 0]), "b": np.array([9, 2])}),
    (7, node("Pad", ["x"], pads=[0, 0, 1, 2, 0, 0, 2, 1], value=0.5), {}),
    (7, node("Pad", ["x"], pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"), {}),
    (7, node("Split", ["x"], ["y", "z"], axis=1), {}),
    (11, node("Split", ["x"], ["y", "z"], axis=-1, split=[1, 5]), {}),
    (13, node("Split", ["x"], ["y", "z"], axis=3), {}),
    (7, node("ReduceMean", ["x"], axes=[2, 3]), {}),
    (11, node("ReduceSum", ["x"], axes=[-1], keepdims=0), {}),
    (12, node("ReduceMax", ["x"]), {}),
    (13, node("ReduceL2", ["x"], axes=[1], keepdims=0), {}),
    (13, node("ReduceSum", ["x", "a"]), {"a": np.array([1])}),
    (7, node("Upsample", ["x"], scales=[1.0, 1.0, 2.0, 3.0]), {}),
    (9, node("Upsample", ["x", "s"], mode="nearest"), {"s": np.array([1, 1, 2, 2], np.float32)}),
    (9, node("Upsample", ["x", "s"], mode="linear"), {"s": np.array([1, 1, 2, 2], np.float32)}),
    (10, node("Resize", ["x", "s"], mode="nearest"), {"s": np.array([1, 1, 2, 3], np.float32)}),
    (
        11,
        node("Resize", ["x", "r", "s"], mode="linear", coordinate_transformation_mode="align_corners"),
        {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 1.5], np.float32)},
    ),
    (
        11,
        node("Resize", ["x", "r", "e", "t"], mode="nearest", nearest_mode="floor"),
        {"r": np.zeros(0, np.float32), "e": np.zeros(0, np.float32), "t": np.array([2, 4, 5, 12])},
    ),
    (7, node("TopK", ["x"], ["y", "z"], k=2, axis=1), {}),
    (10, node("TopK", ["x", "k"], ["y", "z"], axis=3), {"k": np.array([3])}),
    (11, node("LogSoftmax", ["x"], axis=1), {}),
    (7, node("LogSoftmax", ["x"], axis=3), {}),
    (11, node("Hardmax", ["x"], axis=2), {}),
    (10, node("Scatter", ["x", "i", "u"], axis=1), {"i": np.array([[[[2]], [[0]]]]), "u": floats(1, 2, 1, 1)}),
    (7, node("Cast", ["x"], to=TENSOR.INT32), {}),
    (9, node("ConstantOfShape", ["d"]), {"d": np.array([2, 3])}),
    (9, node("EyeLike", ["m"], dtype=TENSOR.INT64, k=1), {"m": np.zeros((3, 4), np.int32)}),
    (12, node("Dropout", ["x"], ["y", "z"]), {}),
    (10, node("Dropout", ["x"], ratio=0.7), {}),
    (7, node("LSTM", ["q", "w", "r"], ["", "y", "z"], hidden_size=2, activations=["Sigmoid", "Tanh", "Relu"]), {}),
    (14, node("GRU", ["q", "g", "h"], ["y"], hidden_size=2, linear_before_reset=1), {}),
]
RECURRENT = {"w": floats(1, 8, 5), "r": floats(1, 8, 2), "g": floats(1, 6, 5), "h": floats(1, 6, 2)}


@pytest.mark.parametrize(("opset", "made", "constants"), FORMS, ids=lambda part: getattr(part, "op_type", None))
def test_older_forms(opset: int, made: Any, constants: dict[str, Array]) -> None:
    feeds = {"x": floats(2, 4, 5, 6), "q": floats(3, 2, 5)}
    used = {name: array for name, array in feeds.items() if name in made.input}
    used |= {} if used else {"x": feeds["x"]}
    extra = {name: array for name, array in RECURRENT.items() if name in made.input}
    nodes = [made] if set(made.input) & set(feeds) else [made, node("Relu", ["x"], "spare")]
    assert_agrees(model_of(nodes, used, opset, {**constants, **extra}, [name for name in made.output if name]), used)


def test_batch_normalization_of_every_element() -> None:
    """`spatial` 0: a mean and a variance of its own for every element, the batch apart."""
    x = floats(3, 4, 5)
    scale, shift, mean, variance = floats(4, 5), floats(5, 4).T.copy(), floats(1, 4, 5)[0], np.abs(floats(2, 4, 5)[0])
    constants = dict(zip("sbmv", (scale, shift, mean, variance), strict=True))
    model = model_of([node("BatchNormalization", ["x", *"sbmv"], epsilon=1e-3, spatial=0)], {"x": x}, 7, constants)
    result = bittern.load(bittern.convert(model)).run({"x": x})["y"]
    assert_within(result, (x - mean) / np.sqrt(variance + np.float32(1e-3)) * scale + shift, 1e-5)


def test_group_normalization_per_group() -> None:
    constants = {"s": floats(2), "b": floats(1, 2)[0]}
    x = floats(3, 6, 4)
    made = node("GroupNormalization", ["x", "s", "b"], num_groups=2)
    network = bittern.convert(model_of([made], {"x": x}, 18, constants))
    groups = x.reshape(3, 2, 12)
    normal = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 1e-5)
    expected = normal * constants["s"][:, None] + constants["b"][:, None]
    assert_within(bittern.load(network).run({"x": x})["y"], expected.reshape(x.shape).astype(np.float32), 1e-5)


def test_constants_as_outputs() -> None:
    """Initializers and Constant nodes that are outputs, and used by nodes as well."""
    nodes = [
        node("Constant", [], "five", value_float=5.0),
        node("Add", ["x", "five"], "sum"),
        node("Mul", ["sum", "w"], "y"),
        node("Identity", ["w"], "again"),
    ]
    feeds = {"x": floats(2, 3)}
    network = assert_agrees(model_of(nodes, feeds, 13, {"w": floats(3)}, ["y", "five", "w", "again"]), feeds)
    assert [info.shape for info in network.outputs] == [("N", 3), (), (3,), (3,)]


def test_functions_are_inlined() -> None:
    body = [node("Mul", ["a", "a"], "square"), node("Add", ["square", "b"], "c")]
    function = helper.make_function("local", "SquareAdd", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    nodes = [
        node("SquareAdd", ["x", "x"], "h", domain="local"),
        node("SquareAdd", ["h", "x"], "y", domain="local"),
    ]
    feeds = {"x": floats(2, 3)}
    network = assert_agrees(model_of(nodes, feeds, 17, functions=[function]), feeds)
    assert [n.op for n in network.nodes] == ["Mul", "Add", "Mul", "Add"]


def test_operators_that_others_define() -> None:
    feeds = {name: floats(2, 3, 8) for name in "qkv"}
    made = node("Attention", [*"qkv"], q_num_heads=2, kv_num_heads=2)
    network = assert_agrees(model_of([made, node("Relu", ["y"], "z")], feeds, 23, outputs=["z"]), feeds, reference=True)
    assert "Attention" not in {n.op for n in network.nodes} and "Softmax" in {n.op for n in network.nodes}
    with pytest.raises(UnsupportedError, match="operator AffineGrid is not supported"):
        size = {"size": np.array([1, 1, 4, 4])}
        bittern.convert(model_of([node("AffineGrid", ["x", "size"])], {"x": floats(1, 2, 3)}, 20, size))


def test_inputs_that_are_refused() -> None:
    model = model_of([node("Relu", ["x"])], {"x": floats(2)}, 17)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedError, match="an input without a shape"):
        bittern.convert(model)
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(model.graph.input[0].type))
    with pytest.raises(UnsupportedError, match="input of type sequence_type"):
        bittern.convert(model)
    constants = {"c": np.ones((1,) * 9, np.float32)}
    large = model_of([node("Add", ["x", "c"])], {"x": np.ones((1,) * 10, np.float32)}, 17, constants)
    with pytest.raises(UnsupportedError, match=r"an input of 10 dimensions.*a constant of 9 dimensions"):
        bittern.convert(large)
    missing = model_of([node("Relu", ["ghost"])], {"x": floats(2)}, 17)
    with pytest.raises(FormatError, match="ghost"):
        bittern.convert(missing)


def test_hints_give_shapes_where_rules_do_not() -> None:
    """A shape computed by nodes: the package onnx follows it."""
    nodes = [
        node("Shape", ["x"], "dims"),
        node("Gather", ["dims", "first"], "batch"),
        node("Concat", ["batch", "rest"], "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
    ]
    constants = {"first": np.array([0]), "rest": np.array([2, 6])}
    feeds = {"x": floats(3, 12)}
    network = assert_agrees(model_of(nodes, feeds, 17, constants), feeds)
    assert network.outputs[0].shape == ("N", 2, 6)
