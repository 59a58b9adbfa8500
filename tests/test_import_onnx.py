"""ONNX import: real models, old operator sets, everything unsupported in one message; oracle is onnxruntime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.errors import FormatError, InputError, UnsupportedError
from bittern.importers import convert
from bittern.importers.onnx import NEWEST, OLDEST
from bittern.network import Network

from tests.compare import assert_same_bits, assert_within
from tests.reference import load_file, run
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, FLOAT = onnx.helper, onnx.TensorProto.FLOAT


def model_of(
    nodes: Sequence[Any],
    inputs: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    listed: bool = False,
) -> Any:
    """A model; ``listed`` repeats the constants as inputs, as files of IR version 3 do."""
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    infos = [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()]
    if listed:
        infos += [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors]
    results = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "made", infos, results, tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("other", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=3 if listed else 8)


def assert_agrees(model: Any, feeds: Mapping[str, Array], bound: float = 1e-5) -> Network:
    """Import the model and compare the reference's results for the file with onnxruntime's for the model."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net = convert(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results = run(load_file(net.to_bytes()), dict(feeds))
    for name, expected in zip(names, session.run(names, dict(feeds)), strict=True):
        assert_within(results[name], expected, bound, name)
    return net


def floats(*shape: int) -> Array:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: Sequence[str], output: str = "y", **attributes: Any) -> Any:
    """A node without a name."""
    return helper.make_node(op, list(inputs), [output], **attributes)


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet_dc/squeezenet_dc.onnx",
        "mlperf_tiny/resnet8_cifar10_float.onnx",
        "mlperf_tiny/ad01_toycar_float.onnx",
        "ultraface/version-slim-320_simplified.onnx",
    ],
)
def test_real_models_keep_every_weight(shared_data: Path, name: str) -> None:
    path = shared_data / name
    model = onnx.load(path)
    net = convert(path)
    data = net.to_bytes()
    assert data == convert(path.read_bytes()).to_bytes() == convert(model).to_bytes()
    used = {name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        assert (tensor.name in net.constants) == (tensor.name in used)
        if tensor.name in net.constants:
            assert_same_bits(net.constants[tensor.name].decode(), onnx.numpy_helper.to_array(tensor), tensor.name)
    assert [node.op for node in net.nodes] == [node.op_type for node in model.graph.node]
    assert [info.name for info in net.outputs] == [info.name for info in model.graph.output]


def test_symbols_and_node_names(shared_data: Path) -> None:
    net = convert(shared_data / "mlperf_tiny" / "resnet8_cifar10_float.onnx")
    assert net.inputs[0].shape == ("N", 32, 32, 3)
    assert all(info.shape == ("N", 10) for info in net.outputs)
    assert [node.name for node in net.nodes[:3]] == ["Transpose_0", "conv_2d_0", "Relu_2"]


def test_unnamed_sizes_and_duplicate_names() -> None:
    nodes = [node("Relu", ["x"], "a", name="r"), node("Relu", ["a"], "b", name="r"), node("Add", ["b", "b"])]
    net = convert(model_of(nodes, {"x": [None, 3, "x_0"]}))
    assert net.inputs[0].shape == ("x_0_2", 3, "x_0")
    assert net.outputs[0].shape == ("x_0_2", 3, "x_0")
    assert [n.name for n in net.nodes] == ["r", "r_2", "Add_2"]


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 17, 21])
def test_softmax_of_every_opset(opset: int) -> None:
    x = floats(2, 3, 4, 5)
    for axis in (1, 2, 3):
        assert_agrees(model_of([node("Softmax", ["x"], axis=axis)], {"x": ["N", 3, 4, 5]}, opset=opset), {"x": x})
    assert_agrees(model_of([node("Softmax", ["x"])], {"x": ["N", 3, 4, 5]}, opset=opset), {"x": x})
    # Only one of the joined dimensions is wider than one: a plain softmax.
    net = assert_agrees(
        model_of([node("Softmax", ["x"], axis=1)], {"x": ["N", 7, 1, 1]}, opset=opset), {"x": floats(2, 7, 1, 1)}
    )
    assert [n.op for n in net.nodes] == ["Softmax"]


def test_softmax_over_several_free_sizes() -> None:
    """The sizes come at run time: they are measured, and restored afterwards."""
    net = convert(model_of([node("Softmax", ["x"], axis=1)], {"x": ["N", "C", 4]}, opset=11))
    assert [n.op for n in net.nodes] == ["Shape", "Flatten", "Softmax", "Reshape"]
    assert net.outputs[0].shape is not None and len(net.outputs[0].shape) == 3


@pytest.mark.parametrize("opset", [7, 9, 11, 13])
def test_attributes_that_became_inputs(opset: int) -> None:
    x = floats(2, 1, 3, 1)
    axes = {"axes": np.array([1, 3], np.int64)}
    if opset < 13:
        assert_agrees(model_of([node("Squeeze", ["x"], axes=[1, 3])], {"x": ["N", 1, 3, 1]}, opset=opset), {"x": x})
        assert_agrees(model_of([node("Unsqueeze", ["x"], axes=[0, 2])], {"x": ["N", 1, 3, 1]}, opset=opset), {"x": x})
    else:
        assert_agrees(model_of([node("Squeeze", ["x", "axes"])], {"x": ["N", 1, 3, 1]}, axes, opset=opset), {"x": x})
    assert_agrees(model_of([node("Squeeze", ["x"])], {"x": [2, 1, 3, 1]}, opset=opset), {"x": x})
    if opset < 11:
        assert_agrees(model_of([node("Clip", ["x"], min=-0.5, max=0.25)], {"x": ["N", 1, 3, 1]}, opset=opset), {"x": x})
        assert_agrees(model_of([node("Clip", ["x"], max=0.25)], {"x": ["N", 1, 3, 1]}, opset=opset), {"x": x})
        assert_agrees(model_of([node("Clip", ["x"])], {"x": ["N", 1, 3, 1]}, opset=opset), {"x": x})
    else:
        low = {"low": np.float32(-0.5)}
        assert_agrees(model_of([node("Clip", ["x", "low"])], {"x": ["N", 1, 3, 1]}, low, opset=opset), {"x": x})
        assert_agrees(model_of([node("Clip", ["x", "", "low"])], {"x": ["N", 1, 3, 1]}, low, opset=opset), {"x": x})


def test_squeeze_without_axes_of_free_sizes() -> None:
    """How many dimensions are left depends on N: the shape of the output is not known."""
    net = convert(model_of([node("Squeeze", ["x"])], {"x": ["N", 1]}))
    assert net.outputs[0].shape is None
    assert Network.load(net.to_bytes()).outputs == net.outputs


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization_and_dropout(opset: int) -> None:
    constants = {name: np.abs(floats(3)) + 1 for name in ("s", "b", "m", "v")}
    nodes = [
        node("BatchNormalization", ["x", "s", "b", "m", "v"], "n", epsilon=1e-3, momentum=0.8),
        helper.make_node("Dropout", ["n"], ["d", "unused_mask"]),
        node("LeakyRelu", ["d"], alpha=0.3),
    ]
    net = assert_agrees(model_of(nodes, {"x": ["N", 3, 2, 2]}, constants, opset=opset), {"x": floats(4, 3, 2, 2)})
    assert [n.op for n in net.nodes] == ["BatchNormalization", "Dropout", "LeakyRelu"]


def test_training_forms_are_refused() -> None:
    constants = {name: np.ones(3, np.float32) for name in ("s", "b", "m", "v")} | {"yes": np.array(True)}
    inputs = ["x", "s", "b", "m", "v"]
    cases = [
        (15, node("BatchNormalization", inputs, training_mode=1), "training_mode"),
        (12, node("Dropout", ["x", "", "yes"]), "training mode"),
        (12, helper.make_node("BatchNormalization", inputs, ["o", "y"]), "training mode"),
    ]
    for opset, made, problem in cases:
        with pytest.raises(UnsupportedError, match=problem):
            convert(model_of([made], {"x": ["N", 3, 2, 2]}, constants, opset=opset))


@pytest.mark.parametrize("opset", [7, 11, 17, 22])
def test_convolution_pooling_and_gemm(opset: int) -> None:
    constants = {"w": floats(4, 3, 3, 3), "b": floats(4), "fc": floats(5, 16), "c": floats(5)}
    nodes = [
        node("Conv", ["x", "w", "b"], "a", strides=[2, 2], pads=[1, 0, 1, 2]),
        node("AveragePool", ["a"], "p", kernel_shape=[2, 2], strides=[2, 1], count_include_pad=1, pads=[0, 0, 1, 0]),
        node("MaxPool", ["p"], "m", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        node("GlobalAveragePool", ["m"], "g"),
        node("Flatten", ["m"], "f"),
        node("Gemm", ["f", "fc", "c"], "y", transB=1, alpha=0.5, beta=2.0),
        node("GlobalMaxPool", ["m"], "z"),
    ]
    model = model_of(nodes, {"x": ["N", 3, 8, 5]}, constants, ["y", "g", "z"], opset)
    x = floats(2, 3, 8, 5)
    shape = agree_shape(model, x)
    assert shape["y"] == ("N", 5)


def agree_shape(model: Any, x: Array) -> dict[str, tuple[int | str, ...] | None]:
    """The output shapes of a model that agrees with onnxruntime."""
    return {info.name: info.shape for info in assert_agrees(model, {"x": x}).outputs}


def test_constants_by_any_way() -> None:
    """Constant nodes, Identity of an initializer, initializers that are listed as inputs, unused ones."""
    constants = {"w": floats(3, 4), "unused": floats(2), "shape": np.array([0, 2, 2], np.int64)}
    nodes = [
        node("Constant", [], "five", value_float=5.0),
        node("Constant", [], "row", value=onnx.numpy_helper.from_array(floats(4), "row")),
        node("Identity", ["w"], "w2"),
        node("Identity", ["w2"], "w3"),
        node("MatMul", ["x", "w3"], "m"),
        node("Add", ["m", "row"], "a"),
        node("Mul", ["a", "five"], "p"),
        node("Reshape", ["p", "shape"], "r"),
        node("Identity", ["r"]),
    ]
    for listed in (False, True):
        net = assert_agrees(model_of(nodes, {"x": ["N", 3]}, constants, opset=13, listed=listed), {"x": floats(2, 3)})
        assert sorted(net.constants) == ["five", "row", "shape", "w"]
        assert [info.name for info in net.inputs] == ["x"]
    assert net.outputs[0].shape == ("N", 2, 2)


def test_everything_unsupported_is_listed() -> None:
    nodes = [
        node("Det", ["x"], "a", name="first"),
        node("Det", ["a"], "b", name="second"),
        node("Fancy", ["b"], "c", domain="other"),
        node("Reshape", ["c", "shape"], "d"),
        node("Gelu", ["d"], "e", approximate="cubic"),
        node("Conv", ["e", "w"], "f"),
        node("Cast", ["x"], "h", to=onnx.TensorProto.DOUBLE),
        node("BitShift", ["x", "x"], "g", name="no direction"),
    ]
    constants = {"shape": np.array([1, 1, 4, 4, 4, 4], np.int64), "w": floats(3, 1, 2, 2, 2, 2)}
    with pytest.raises(UnsupportedError) as caught:
        convert(model_of(nodes, {"x": [4, 4]}, constants, ["f", "g"], opset=19))
    message = str(caught.value)
    for words in (
        "operator Det is not supported ('first', 'second')",
        "Fancy of domain 'other'",
        "approximate of Gelu is 'cubic', supported: 'none', 'tanh'",
        "Conv in 4 dimensions is not supported (supported: 1 to 3)",
        "Cast to double is not supported",
        "attribute direction of BitShift is missing ('no direction')",
        "operators are supported, the README lists them",
    ):
        assert words in message
    assert "\n" not in message


def test_types_that_are_not_supported() -> None:
    half = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, [1])
    output = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [1])
    graph = helper.make_graph([node("Relu", ["x"])], "half", [half], [output])
    with pytest.raises(UnsupportedError, match="float16"):
        convert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    for array in (floats(3).astype(np.float64), floats(3).astype(np.float16), np.arange(3, dtype=np.uint64)):
        with pytest.raises(UnsupportedError, match=str(array.dtype)):
            convert(model_of([node("Add", ["x", "c"])], {"x": [3]}, {"c": array}))


def test_opsets_out_of_range() -> None:
    for opset in (OLDEST - 1, NEWEST + 1):
        with pytest.raises(UnsupportedError, match=f"opset {opset}"):
            convert(model_of([node("Add", ["x", "x"])], {"x": [1]}, opset=opset))


def test_older_models_of_operators_that_have_not_changed() -> None:
    model = model_of([node("Relu", ["x"])], {"x": [1]}, opset=OLDEST - 1)
    assert [n.op for n in convert(model).nodes] == ["Relu"]


def test_newest_opset_is_understood() -> None:
    """A new release of onnx must not change what the operators mean unnoticed."""
    assert onnx.defs.onnx_opset_version() <= NEWEST or not [
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if schema.since_version > NEWEST and schema.name in ("Conv", "Gemm", "MaxPool", "Softmax", "Clip")
    ]


def test_external_data(tmp_path: Path) -> None:
    model = model_of([node("Add", ["x", "c"])], {"x": [500]}, {"c": floats(500)})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert_same_bits(convert(path).constants["c"].decode(), floats(500))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match="external data"):
        convert(path)


def test_damaged_models(shared_data: Path, tmp_path: Path) -> None:
    data = (shared_data / "mlperf_tiny" / "ad01_toycar_float.onnx").read_bytes()
    for damaged in (b"", b"hello, world", data[: len(data) // 2], bytes(100)):
        path = tmp_path / "damaged.onnx"
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=r"damaged\.onnx"):
            convert(path)
    nodes = [node("Relu", ["ghost"], "a"), node("Relu", ["a"])]
    with pytest.raises(FormatError, match="'ghost'"):
        convert(model_of(nodes, {"x": [1]}))
    with pytest.raises(FormatError, match="do not multiply"):
        convert(model_of([node("MatMul", ["x", "w"])], {"x": [1, 4]}, {"w": floats(3, 3)}))
    with pytest.raises(FormatError, match="no node computes it"):
        convert(model_of([node("Relu", ["x"], "a")], {"x": [1]}))
    short = model_of([node("Add", ["x", "c"])], {"x": [3]}, {"c": floats(3)})
    short.graph.initializer[0].raw_data = b"123"
    with pytest.raises(FormatError, match="tensor 'c'"):
        convert(short)


def test_sources(tmp_path: Path) -> None:
    model = model_of([node("Relu", ["x"])], {"x": [1]})
    net = convert(model)
    path = tmp_path / "net.bittern"
    net.save(path)
    assert (
        convert(path).to_bytes() == convert(net).to_bytes() == convert(net.to_bytes()).to_bytes() == path.read_bytes()
    )
    odd = tmp_path / "model.data"
    odd.write_bytes(model.SerializeToString())
    assert convert(odd, source_format="onnx").to_bytes() == net.to_bytes()
    with pytest.raises(InputError, match=r"'\.data' tells no format"):
        convert(odd)
    with pytest.raises(InputError, match=r"'keras'.*onnx"):
        convert(odd, source_format="keras")
    with pytest.raises(InputError, match="cannot be read"):
        convert(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="found function"):
        convert(convert)


def test_metadata() -> None:
    model = model_of([node("Relu", ["x"])], {"x": [1]})
    net = convert(model, preprocess={"scale": 0.5, "resize": [8, 9]}, labels=["a", "é"])
    assert net.metadata == {"preprocess": '{"resize":[8,9],"scale":0.5}', "labels": '["a","é"]'}
    with pytest.raises(InputError, match="tint"):
        convert(model, preprocess={"tint": 1})
    wrong: list[Any] = [[], "abc", [1]]
    for labels in wrong:
        with pytest.raises(InputError, match="labels"):
            convert(model, labels=labels)
