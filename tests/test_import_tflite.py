"""TensorFlow Lite import: real models, every operator in both layouts, integer graphs, damage refused in one line."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.cli import main
from bittern.errors import Error, FormatError, InputError, UnsupportedError
from bittern.importers import convert
from bittern.importers.tflite_operators import TRANSLATIONS
from bittern.model import load
from bittern.network import Network

from tests.compare import assert_equal, assert_within
from tests.reference.arrays import Array

pytest.importorskip("tflite", reason="the package tflite is not installed (pip install 'bittern[tflite]')")

from tests.reference.tflite import Window
from tests.tflite_cases import CASES, Case, Const, convolved, floats
from tests.tflite_models import Operator, Tensor, constant, litert_outputs, output_of, tflite_file


def file_of(case: Case, pooled: bool) -> tuple[bytes, dict[str, Array]]:
    """A file of this operator alone, and its inputs; ``pooled``: images come out of a layer that works in NCHW."""
    tensors: dict[str, Tensor] = {}
    feeds: dict[str, Array] = {}
    operators: list[Operator] = []
    names: list[str | None] = []
    for k, value in enumerate(case.inputs):
        name = f"in{k}"
        if value is None:
            names.append(None)
            continue
        names.append(name)
        if isinstance(value, Const):
            tensors[name] = constant(value.array)
            continue
        feeds[name] = value
        tensors[name] = Tensor(value.shape, str(value.dtype))
        if pooled and value.ndim == 4 and value.dtype == np.float32:
            tensors[f"{name}.same"] = tensors[name]
            one = {"Padding": 1, "StrideH": 1, "StrideW": 1, "FilterHeight": 1, "FilterWidth": 1}
            operators.append(Operator("MAX_POOL_2D", [name], [f"{name}.same"], "Pool2D", one))
            names[-1] = f"{name}.same"
    outputs = [f"out{k}" for k in range(len(case.expected))]
    for name, array in zip(outputs, case.expected, strict=True):
        dtype = "float32" if array.dtype == np.float64 else str(array.dtype)
        tensors[name] = Tensor(array.shape, dtype)
    version = 2 if case.kind == "BROADCAST_TO" else 1
    operators.append(Operator(case.kind, names, outputs, case.options_name, case.options, version=version))
    return tflite_file(tensors, operators, list(feeds), outputs), feeds


def assert_means(results: list[Array], case: Case) -> None:
    for result, expected in zip(results, case.expected, strict=True):
        if expected.dtype.kind in "bi":
            assert_equal(result, expected)
        else:
            assert_within(result, expected.astype(np.float32), 1e-5)


@pytest.mark.parametrize("pooled", [False, True], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("name", sorted(CASES))
def test_operator(name: str, pooled: bool) -> None:
    """Against NumPy, from a graph input and from a value that is held in NCHW."""
    data, feeds = file_of(CASES[name], pooled)
    net = convert(data)
    assert [info.name for info in net.inputs] == list(feeds)
    results = load(net).run(feeds)
    assert_means([results[f"out{k}"] for k in range(len(CASES[name].expected))], CASES[name])


@pytest.mark.parametrize("name", sorted(CASES))
def test_interpreter_agrees_with_the_meaning(name: str) -> None:
    data, feeds = file_of(CASES[name], False)
    assert_means(litert_outputs(data, feeds), CASES[name])


# Real networks


def test_resnet(shared_data: Path) -> None:
    """Images in NHWC under the file's names, any number of them; one Transpose, at the border."""
    net = convert(shared_data / "mlperf_tiny" / "pretrainedResnet.tflite")
    assert [(info.name, info.shape, info.dtype) for info in net.inputs] == [("input_1", ("N", 32, 32, 3), "f32")]
    assert [(info.name, info.shape, info.dtype) for info in net.outputs] == [("Identity", ("N", 10), "f32")]
    assert [i for i, node in enumerate(net.nodes) if node.op == "Transpose"] == [0]
    expected = np.load(shared_data / "mlperf_tiny" / "expected_resnet8_cifar10.npz")
    assert_within(output_of(net, expected["input_float"]), expected["output_float"], 1e-5)


def test_autoencoder(shared_data: Path) -> None:
    net = convert(shared_data / "mlperf_tiny" / "ad01_fp32.tflite")
    assert {node.op for node in net.nodes} == {"Gemm", "Relu"}
    expected = np.load(shared_data / "mlperf_tiny" / "expected_ad01_toycar.npz")
    assert_within(output_of(net, expected["input_float"]), expected["output_float"], 1e-2)


def with_states(net: Network) -> Network:
    """The same network with the states of its LSTM as inputs h, c and outputs h_out, c_out."""
    other = Network(net.name)
    for info in net.inputs:
        other.add_input(info.name, info.shape or ())
    for name, tree in net.constants.items():
        other.add_constant(name, tree)
    for node in net.nodes:
        inputs, outputs = node.inputs, node.outputs
        if node.op == "LSTM":
            hidden = net.constants[inputs[2]].shape[2]
            other.add_input("h", [1, 1, hidden])
            other.add_input("c", [1, 1, hidden])
            inputs, outputs = [*inputs, "", "h", "c"], [*outputs, "h_out", "c_out"]
        other.add_node(node.op, inputs, outputs, node.name, **node.attributes)
    other.set_outputs([*net.outputs, "h_out", "c_out"])
    return other


def test_lstm(shared_data: Path) -> None:
    """The expected arrays were made with an interpreter that keeps its states from digit to digit, bittern starts anew.
    With the states carried over it gives those arrays (94.1 %), on its own it reads 98.7 % of the digits."""
    net = convert(shared_data / "tflite_micro" / "mnist_lstm_float.tflite")
    (lstm,) = (node for node in net.nodes if node.op == "LSTM")
    assert lstm.attributes["cell_clip"] == 10.0
    digits = np.load(shared_data / "mnist" / "mnist_test_1000.npz")
    images = (digits["images"] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    expected = np.load(shared_data / "tflite_micro" / "expected_mnist_lstm_float_1000.npz")["output"]
    model, name = load(with_states(net)), net.inputs[0].name
    states = {"h": np.zeros((1, 1, 20), np.float32), "c": np.zeros((1, 1, 20), np.float32)}
    rows = []
    for image in images:
        found = model.run({name: image, **states})
        states = {"h": found["h_out"], "c": found["c_out"]}
        rows.append(found[net.outputs[0].name])
    carried = np.concatenate(rows)
    assert_within(carried, expected, 1e-5)
    assert np.mean(carried.argmax(axis=1) == digits["labels"]) == pytest.approx(0.941)
    alone = load(net)
    fresh = np.concatenate([alone.run({name: image})[net.outputs[0].name] for image in images])
    assert np.mean(fresh.argmax(axis=1) == digits["labels"]) == pytest.approx(0.987)


def test_lstm_starts_anew(shared_data: Path) -> None:
    """A fresh interpreter gives what bittern gives, for any digit."""
    path = shared_data / "tflite_micro" / "mnist_lstm_float.tflite"
    net = convert(path)
    image = np.load(shared_data / "mnist" / "mnist_test_1000.npz")["images"][500]
    x = (image / 255).astype(np.float32).reshape(1, 28, 28)
    (expected,) = litert_outputs(path.read_bytes(), {net.inputs[0].name: x})
    assert_within(output_of(net, x), expected, 1e-5)


@pytest.mark.parametrize("major", [False, True])
def test_lstm_with_peepholes_and_clip(major: bool) -> None:
    """Both orders of time and batch, against the equations; the bound of the cell state matters."""
    rng = np.random.default_rng(5)
    batch, steps, n_in, n = 2, 9, 3, 4
    x = rng.standard_normal((steps, batch, n_in) if major else (batch, steps, n_in)).astype(np.float32)
    names = [f"w{i}" for i in range(4)] + [f"r{i}" for i in range(4)] + [f"p{i}" for i in range(3)]
    names += [f"b{i}" for i in range(4)]
    shapes = [(n, n_in)] * 4 + [(n, n)] * 4 + [(n,)] * 7
    values = {k: rng.standard_normal(shape).astype(np.float32) for k, shape in zip(names, shapes, strict=True)}
    tensors = {"x": Tensor(x.shape)} | {name: constant(array) for name, array in values.items()}
    tensors |= {name: Tensor((batch, n), variable=True) for name in ("h", "c")}
    tensors["y"] = Tensor((steps, batch, n) if major else (batch, steps, n))
    inputs = ["x", *names, None, None, "h", "c"]
    options = {"FusedActivationFunction": 4, "CellClip": 0.6, "TimeMajor": major}
    operator = Operator("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, ["y"], "UnidirectionalSequenceLSTM", options)
    data = tflite_file(tensors, [operator], ["x"], ["y"])

    def sigmoid(z: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(-z)))

    v = {name: array.astype(np.float64) for name, array in values.items()}
    h, c, ys = np.zeros((batch, n)), np.zeros((batch, n)), []
    for t in range(steps):
        row = x[t] if major else x[:, t]
        i, f, g, o = (row @ v[f"w{k}"].T + h @ v[f"r{k}"].T + v[f"b{k}"] for k in range(4))
        free = sigmoid(f + v["p1"] * c) * c + sigmoid(i + v["p0"] * c) * np.tanh(g)
        c = np.clip(free, -0.6, 0.6)
        h = sigmoid(o + v["p2"] * c) * np.tanh(c)
        ys.append(h)
    expected = np.stack(ys, axis=0 if major else 1).astype(np.float32)
    net = convert(data)
    assert [node.op for node in net.nodes] == ["LSTM", "Squeeze"]
    with pytest.raises(UnsupportedError, match="ONNX cannot bound an LSTM's cell state"):
        net.to_onnx()
    assert_within(output_of(net, x), expected, 1e-5)
    assert_within(litert_outputs(data, {"x": x})[0], expected, 1e-5)


# Form


def test_layers_stay_in_one_layout() -> None:
    """Between convolutions everything works where the channels are; only inputs and outputs are turned. Zeros around
    an image are the convolution's, and a flattened image keeps its order: the weight behind it changes its own."""
    shape, wide = (1, 6, 6, 4), (1, 6, 6, 8)
    window = {"Padding": 0, "StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    tensors = {
        "x": Tensor(shape),
        "w": constant(floats(4, 3, 3, 4)),
        "b": constant(floats(4)),
        "v": constant(floats(4, 3, 3, 8)),
        "alpha": constant(floats(1, 1, 4)),
        "pads": constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)),
        **{name: Tensor(shape) for name in ("c", "d", "e", "f", "h")},
        "flat": constant(np.array([-1, 144], np.int32)),
        "r": Tensor((1, 144)),
        "m": constant(floats(3, 144)),
        "y": Tensor((1, 3)),
        "g": Tensor(wide),
        "p": Tensor((1, 8, 8, 8)),
    }
    operators = [
        Operator("CONV_2D", ["x", "w", "b"], ["c"], "Conv2D", window),
        Operator("PRELU", ["c", "alpha"], ["d"]),
        Operator("MUL", ["d", "alpha"], ["e"]),
        Operator("ADD", ["c", "e"], ["f"]),
        Operator("CONCATENATION", ["f", "d"], ["g"], "Concatenation", {"Axis": -1}),
        Operator("PAD", ["g", "pads"], ["p"]),
        Operator("CONV_2D", ["p", "v", "b"], ["h"], "Conv2D", {**window, "Padding": 1}),
        Operator("RESHAPE", ["h", "flat"], ["r"]),
        Operator("FULLY_CONNECTED", ["r", "m", None], ["y"], "FullyConnected"),
    ]
    net = convert(tflite_file(tensors, operators, ["x"], ["y"]))
    assert [node.op for node in net.nodes] == [
        *("Transpose", "Conv", "PRelu", "Mul", "Add", "Concat", "Conv", "Reshape", "Gemm")
    ]
    assert net.nodes[6].attributes["pads"] == [1, 1, 1, 1]
    assert [(info.name, info.shape) for info in (*net.inputs, *net.outputs)] == [("x", shape), ("y", (1, 3))]
    x = floats(*shape)
    values = {name: np.asarray(tensors[name].data).astype(np.float64) for name in ("w", "b", "v", "m", "alpha")}
    same = Window((3, 3), (1, 1), True)
    c = convolved(x, values["w"], values["b"], same)
    d = np.where(c > 0, c, c * values["alpha"])
    h = convolved(np.concatenate([c + d * values["alpha"], d], axis=3), values["v"], values["b"], same)
    assert_within(output_of(net, x), (h.reshape(1, 144) @ values["m"].T).astype(np.float32), 1e-3)


def test_free_sizes_and_shapes_computed_from_them() -> None:
    """The batch is free where the file says so, and a Reshape by the shape of an input follows it."""
    tensors = {
        "x": Tensor((1, 2, 3, 4), signature=(-1, 2, 3, 4)),
        "shape": Tensor((4,), "int32"),
        "first": Tensor((), "int32"),
        "zero": constant(np.zeros(1, np.int32)),
        "one": constant(np.ones(1, np.int32)),
        "rest": constant(np.array(24, np.int32)),
        "target": Tensor((2,), "int32"),
        "y": Tensor((1, 24), signature=(-1, 24)),
    }
    operators = [
        Operator("SHAPE", ["x"], ["shape"], "Shape", {"OutType": 2}),
        Operator(
            "STRIDED_SLICE", ["shape", "zero", "one", "one"], ["first"], "StridedSlice", {"ShrinkAxisMask": 1}
        ),
        Operator("PACK", ["first", "rest"], ["target"], "Pack", {"ValuesCount": 2}),
        Operator("RESHAPE", ["x", "target"], ["y"]),
    ]  # fmt: skip
    net = convert(tflite_file(tensors, operators, ["x"], ["y"]))
    assert net.inputs[0].shape == ("N", 2, 3, 4) and [node.op for node in net.nodes] == ["Reshape"]
    x = floats(5, 2, 3, 4)
    assert_equal(output_of(net, x), x.reshape(5, 24))


def test_outputs_that_are_inputs_or_constants() -> None:
    value = floats(2, 3)
    tensors = {"x": Tensor((2,)), "k": constant(value), "y": Tensor((2,))}
    data = tflite_file(tensors, [Operator("RELU", ["x"], ["y"])], ["x"], ["k", "x", "y"])
    found = load(convert(data)).run({"x": np.array([-1, 2], np.float32)})
    assert_equal(found["k"], value)
    assert found["x"].tolist() == [-1, 2] and found["y"].tolist() == [0, 2]


def test_names() -> None:
    """Inputs and outputs keep theirs; inside, the first of several joined names is enough, made unique."""
    tensors = {name: Tensor((2,)) for name in ("x;0", "a;b;c", "a;d", "y;z")}
    tensors["a"] = constant(floats(2))
    operators = [
        Operator("RELU", ["x;0"], ["a;b;c"]),
        Operator("ADD", ["a;b;c", "a"], ["a;d"]),
        Operator("NEG", ["a;d"], ["y;z"]),
    ]
    net = convert(tflite_file(tensors, operators, ["x;0"], ["y;z"]))
    assert [node.name for node in net.nodes] == ["a", "a_2", "y"]
    assert [node.outputs for node in net.nodes] == [["a"], ["a_2"], ["y;z"]]
    assert list(net.constants) == ["a_3"]
    assert output_of(net, np.array([-1, 2], np.float32)).tolist() == (-np.array([0, 2]) - floats(2)).tolist()


# Refusals


def one_operator(kind: str = "RELU", **changes: Any) -> bytes:
    """A file of one operator from x to y."""
    tensors = {"x": Tensor((2, 3)), "k": constant(floats(2, 3)), "y": Tensor((2, 3))} | changes.pop("tensors", {})
    operator = Operator(kind, changes.pop("names", ["x"]), changes.pop("outputs", ["y"]), **changes)
    return tflite_file(tensors, [operator], ["x"], ["y"])


def test_everything_that_is_missing_is_named_together() -> None:
    tensors = {name: Tensor((2, 3)) for name in ("x", "a", "b", "c", "y")}
    operators = [
        Operator("SVDF", ["x"], ["a"]),
        Operator("CUSTOM", ["a"], ["b"], custom="Fan\ncy"),
        Operator("SVDF", ["b"], ["c"]),
        Operator("RELU", ["c"], ["y"]),
    ]
    with pytest.raises(UnsupportedError) as caught:
        convert(tflite_file(tensors, operators, ["x"], ["y"]))
    assert caught.value.problem == (
        "operator SVDF is not supported ('a', 'c'); operator CUSTOM 'Fan\\ncy' is not supported ('b')"
    )


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", FormatError, "is not a TensorFlow Lite file (no bytes"),
        (b"x" * 40, FormatError, "is not a TensorFlow Lite file"),
        (tflite_file({"x": Tensor((2,))}, [], ["x"], ["x"], version=2), UnsupportedError, "is of schema version 2"),
        (tflite_file({"x": Tensor((2,))}, [], ["x"], []), FormatError, "there are no outputs"),
        (tflite_file({"x": Tensor((2,)), "y": Tensor((2,))}, [], ["x"], ["y"]), FormatError, "no operator computes it"),
        (one_operator(names=["y"]), FormatError, "operator 0 (RELU): uses tensor 2 'y' before it is computed"),
        (one_operator(names=[]), FormatError, "operator 0 (RELU): is missing (input 0)"),
        (one_operator(outputs=["x"]), FormatError, "computes tensor 0 'x', which exists already"),
        (one_operator(outputs=["k"]), FormatError, "computes tensor 1 'k', which exists already"),
        (one_operator(tensors={"k": Tensor((2, 3), data=b"abcd")}), FormatError, "has 4 bytes, shape [2, 3] of f32"),
        (one_operator(tensors={"k": Tensor((2, 3), buffer=99)}), FormatError, "names buffer 99, there are 1"),
        (one_operator(tensors={"x": Tensor((2, -3))}), FormatError, "has shape [2, -3]"),
        (one_operator(tensors={"x": Tensor((2, 3), code=8)}), UnsupportedError, "values of type complex64"),
        (one_operator(tensors={"x": Tensor((2, 3), code=99)}), UnsupportedError, "values of type type 99"),
        (one_operator(tensors={"y": Tensor((3, 2))}), FormatError, "declared with shape [3, 2]"),
        (one_operator(tensors={"y": Tensor((2, 3), "int32")}), FormatError, "declared as i32, its operator gives f32"),
        (
            one_operator("ADD", names=["x", "k"], tensors={"k": constant(floats(4, 4))}),
            FormatError,
            "operator 0 (ADD): ",
        ),
        (
            one_operator("ADD", names=["x", "k"], options_name="Softmax"),
            FormatError,
            "operator 0 (ADD): has options of type 9, expected AddOptions",
        ),
        (
            one_operator("ADD", names=["x", "k"], options_name="Add", options={"FusedActivationFunction": 5}),
            UnsupportedError,
            "ADD with fused activation 5 is not supported",
        ),
        (one_operator("MEAN", names=["x", "x"]), UnsupportedError, "MEAN with axes computed at run time"),
        (
            one_operator("MAX_POOL_2D", options_name="Pool2D", options={"StrideH": 1}),
            FormatError,
            "option StrideW: is 0, expected at least 1",
        ),
    ],
)
def test_refused(data: bytes, kind: type[Error], message: str) -> None:
    with pytest.raises(kind) as caught:
        convert(data, source_format="tflite")
    assert message.replace("option StrideW: is 0, expected at least 1", "is 0, expected at least 1") in str(
        caught.value
    )


def damaged_copies(data: bytes, count: int) -> list[bytes]:
    """The file cut off, and with a few bytes or words changed."""
    rng = np.random.default_rng(len(data))
    copies = [data[:size] for size in range(0, len(data), max(1, len(data) // count))]
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(copy) - 4))
            if rng.random() < 0.5:
                copy[at] = int(rng.integers(256))
            else:
                copy[at : at + 4] = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(4, "little")
        copies.append(bytes(copy))
    return copies


@pytest.mark.parametrize(
    "name", ["conv", "strided_slice", "split_v", "transpose_conv_same", "concatenation_3", "mean_1_2"]
)
def test_damage_is_an_error_or_another_network(name: str) -> None:
    refused = 0
    for copy in damaged_copies(file_of(CASES[name], True)[0], 150):
        try:
            convert(copy, source_format="tflite").to_bytes()
        except (FormatError, UnsupportedError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(InputError, match=r"tflite is not installed; run: pip install 'bittern\[tflite\]'"):
        convert(one_operator())


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "net.tflite", tmp_path / "net.bittern"
    source.write_bytes(one_operator())
    assert main(["convert", str(source), "-o", str(target)]) == 0
    assert Network.load(target).nodes[0].op == "Relu"
    assert main(["verify", str(target), "--against", str(source)]) == 0
    assert "dense scalar run" in capsys.readouterr().out
    source.write_bytes(one_operator("SVDF"))
    capsys.readouterr()
    assert main(["convert", str(source), "-o", str(target)]) == 2
    assert "operator SVDF is not supported ('y')" in capsys.readouterr().err


def test_documented_operators(repository: Path) -> None:
    """docs/python.md lists what is read, and every one of them has a case here or in the tests of integer graphs."""
    text = (repository / "docs" / "python.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"\* Operators: ([A-Z0-9_,\s]+);", text)
    assert listed.replace(",", " ").split() == sorted(TRANSLATIONS)
    elsewhere = {"DEQUANTIZE", "QUANTIZE", "UNIDIRECTIONAL_SEQUENCE_LSTM"}
    assert {case.kind for case in CASES.values()} | elsewhere == set(TRANSLATIONS)
