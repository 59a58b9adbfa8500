"""Import of ONNX networks with quantisers: constants become encodings, results agree with ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Dense, Packed
from bittern.importers import convert

from tests.quantized_models import decibels, quantized_model
from tests.reference.arrays import Array

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
helper, TensorProto = onnx.helper, onnx.TensorProto
UINT4, INT4 = 21, 22  # of TensorProto, from onnx 1.16 on


def tensor(name: str, array: Array, kind: int | None = None) -> Any:
    """An initializer, of a type that NumPy does not have if ``kind`` says so."""
    if kind is None:
        return onnx.numpy_helper.from_array(array, name)
    if kind not in TensorProto.DataType.values():
        pytest.skip("this release of onnx has no types of 4 bits")
    return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())


def scalar(name: str, value: float, kind: Any = np.float32) -> Any:
    """A constant number."""
    return tensor(name, np.array(value, kind))


def model_of(
    nodes: Sequence[Any], inputs: Mapping[str, Sequence[int | str]], tensors: Sequence[Any], opset: int = 21
) -> Any:
    """A model with the output y."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(list(nodes), "made", infos, [onnx.ValueInfoProto(name="y")], list(tensors))
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    """A node without a name."""
    return helper.make_node(op, list(inputs), [output], **attributes)


def onnx_runtime(model: Any, feeds: Mapping[str, Array], rewritten: bool = False) -> Array:
    """What ONNX Runtime gives; its own rewriting of quantised networks is left out unless asked for."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not rewritten:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, dict(feeds))[0]
    return result


KINDS: dict[str, tuple[Any, ...]] = {
    "int8": (None, np.int8, 8, -128, 127),
    "uint8": (None, np.uint8, 8, 0, 255),
    "int16": (None, np.int16, 16, -32768, 32767),
    "uint16": (None, np.uint16, 16, 0, 65535),
    "int4": (INT4, np.int8, 4, -8, 7),
    "uint4": (UINT4, np.uint8, 4, 0, 15),
}


@pytest.mark.parametrize("grid", ["tensor", "axis", "block"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_become_affine_encodings(kind: str, grid: str, rng: np.random.Generator) -> None:
    """The layer reads the constant's codes; nothing dequantises it at run time."""
    number, dtype, bits, low, high = KINDS[kind]
    codes = rng.integers(low, high + 1, (6, 5)).astype(dtype)
    grids: dict[str, tuple[Any, dict[str, Any]]] = {
        "tensor": ((), {}),
        "axis": ((5,), {"axis": 1}),
        "block": ((3, 5), {"axis": 0, "block_size": 2}),
    }
    shape, attributes = grids[grid]
    scale = rng.uniform(0.01, 0.1, shape).astype(np.float32)
    zero = rng.integers(low, high + 1, shape).astype(dtype)
    model = model_of(
        [node("DequantizeLinear", ["w", "s", "z"], "real", **attributes), node("MatMul", ["x", "real"], "y")],
        {"x": ("N", 6)},
        [tensor("w", codes, number), tensor("s", scale), tensor("z", zero, number)],
    )
    net = convert(model)
    assert [n.op for n in net.nodes] == ["MatMul"]
    tree = net.constants["real"]
    assert isinstance(tree, Affine) and isinstance(tree.codes, Packed)
    assert tree.codes.bits == bits and np.array_equal(tree.codes.decode(), codes)
    assert (tree.axis, tree.group) == (attributes.get("axis"), attributes.get("block_size"))
    x = rng.standard_normal((3, 6)).astype(np.float32)
    expected = onnx_runtime(model, {"x": x})
    assert np.allclose(bittern.load(net).run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_biases_of_32_bits(rng: np.random.Generator) -> None:
    codes, scale = rng.integers(-(2**20), 2**20, 4).astype(np.int32), rng.uniform(1e-4, 1e-3, 4).astype(np.float32)
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    model = model_of(
        [node("DequantizeLinear", ["b", "s"], "bias", axis=0), node("Gemm", ["x", "w", "bias"], "y", transB=1)],
        {"x": ("N", 3)},
        [tensor("b", codes), tensor("s", scale), tensor("w", weight)],
        opset=13,
    )
    net = convert(model)
    tree = net.constants["bias"]
    assert isinstance(tree, Affine) and isinstance(tree.codes, Dense) and tree.codes.leaf.dtype == np.int32
    assert np.array_equal(tree.decode(), codes.astype(np.float32) * scale)
    x = rng.standard_normal((2, 3)).astype(np.float32)
    assert np.allclose(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("opset", [10, 13, 21])
def test_quantised_constants_are_folded(opset: int, rng: np.random.Generator) -> None:
    """QuantizeLinear of a float constant, DequantizeLinear behind it, and Transpose: one encoding."""
    weight = rng.standard_normal((5, 6)).astype(np.float32)
    weight[0, :3] = (0.5 * 0.1, 1.5 * 0.1, 99)
    axis: dict[str, Any] = {"axis": 0} if opset >= 13 else {}
    scale = np.full(5 if axis else (), 0.1, np.float32)
    zero = np.full(scale.shape, 2, np.int8)
    model = model_of(
        [
            node("QuantizeLinear", ["w", "s", "z"], "codes", **axis),
            node("DequantizeLinear", ["codes", "s", "z"], "real", **axis),
            node("Transpose", ["real"], "turned", perm=[1, 0]),
            node("MatMul", ["x", "turned"], "y"),
        ],
        {"x": ("N", 6)},
        [tensor("w", weight), tensor("s", scale), tensor("z", zero)],
        opset=opset,
    )
    net = convert(model)
    assert [n.op for n in net.nodes] == ["MatMul"] and list(net.constants) == ["turned"]
    tree = net.constants["turned"]
    assert isinstance(tree, Affine) and tree.axis == (1 if axis else None)
    x = np.eye(6, dtype=np.float32)
    assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


def test_activations_keep_their_quantisers(rng: np.random.Generator) -> None:
    """Codes of 4 bits live in bytes; ONNX Runtime gives the same numbers."""
    model = model_of(
        [
            node("QuantizeLinear", ["x", "s", "z"], "codes"),
            node("DequantizeLinear", ["codes", "s", "z"], "y"),
        ],
        {"x": ("N", 3)},
        [
            tensor("s", np.array([0.1, 0.2, 0.3], np.float32)),
            tensor("z", np.array([1, 2, 15], np.uint8), UINT4),
        ],
    )
    net = convert(model)
    assert [(n.op, n.attributes) for n in net.nodes] == [
        ("QuantizeLinear", {"bits": 4}),
        ("DequantizeLinear", {"bits": 4}),
    ]
    x = rng.uniform(-5, 5, (50, 3)).astype(np.float32)
    assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


@pytest.mark.parametrize("constant", ["codes", "numbers"])
@pytest.mark.parametrize(("bits", "narrow"), [(3, 0), (3, 1), (7, 0), (8, 1)])
def test_clipped_codes_have_fewer_bits(bits: int, narrow: int, constant: str, rng: np.random.Generator) -> None:
    """Quantise, clip, dequantise: how Brevitas writes codes of fewer than 8 bits, of weights and of activations."""
    low, high = narrow - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    weight = rng.uniform(-200, 200, (5, 4)).astype(np.float32) if constant == "numbers" else None
    codes = rng.integers(-128, 128, (5, 4)).astype(np.int8)
    tensors = [scalar("s", 0.5), scalar("z", 0, np.int8), scalar("low", low, np.int8), scalar("high", high, np.int8)]
    tensors.append(tensor("w", codes if weight is None else weight))
    nodes = [] if weight is None else [node("QuantizeLinear", ["w", "s", "z"], "wq")]
    nodes += [
        node("Clip", ["w" if weight is None else "wq", "low", "high"], "wc"),
        node("DequantizeLinear", ["wc", "s", "z"], "real"),
        node("QuantizeLinear", ["x", "s", "z"], "xq"),
        node("Clip", ["xq", "low", "high"], "xc"),
        node("DequantizeLinear", ["xc", "s", "z"], "xr"),
        node("MatMul", ["xr", "real"], "y"),
    ]
    model = model_of(nodes, {"x": ("N", 5)}, tensors, opset=13)
    net = convert(model)
    assert [n.op for n in net.nodes] == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    assert net.nodes[0].attributes == {"bits": bits, "narrow": narrow}
    assert net.constants["real"].describe() == f"affine(packed({bits}))"
    x = rng.uniform(-90, 90, (6, 5)).astype(np.float32)
    assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


def test_other_clips_stay() -> None:
    """Codes that somebody else reads too, or limits of no number of bits."""
    for last, high in (("xc", 5), ("xq", 7)):
        nodes = [
            node("QuantizeLinear", ["x", "s", "z"], "xq"),
            node("Clip", ["xq", "low", "high"], "xc"),
            node("DequantizeLinear", ["xc", "s", "z"], "a"),
            node("DequantizeLinear", [last, "s", "z"], "b"),
            node("Sub", ["a", "b"], "y"),
        ]
        tensors = [scalar("s", 0.5), scalar("z", 0, np.int8), scalar("low", -8, np.int8), scalar("high", high, np.int8)]
        model = model_of(nodes, {"x": (64,)}, tensors, opset=13)
        net = convert(model)
        assert "Clip" in [n.op for n in net.nodes]
        x = np.linspace(-30, 30, 64, dtype=np.float32)
        assert np.array_equal(bittern.load(net).run({"x": x})["y"], onnx_runtime(model, {"x": x}))


@pytest.mark.parametrize(
    ("op", "attributes", "scale", "zero", "problem"),
    [
        ("DequantizeLinear", {}, np.float16, (np.int8, None), "scale of type float16"),
        ("DequantizeLinear", {}, np.float32, (np.float32, TensorProto.FLOAT8E4M3FN), "codes of type float8_e4m3fn"),
        ("QuantizeLinear", {"output_dtype": 17}, np.float32, None, "output_dtype float8e4m3fn"),
        ("DequantizeLinear", {"output_dtype": 10}, np.float32, (np.int8, None), "output_dtype float16"),
    ],
)
def test_what_is_not_supported_is_named(op: str, attributes: Any, scale: Any, zero: Any, problem: str) -> None:
    tensors = [tensor("s", np.ones((), scale))]
    if zero is not None:
        tensors.append(tensor("z", np.zeros((), zero[0]), zero[1]))
    model = model_of([node(op, ["x", *(t.name for t in tensors)], "y", **attributes)], {"x": ("N", 3)}, tensors, 23)
    with pytest.raises(bittern.UnsupportedError, match=problem):
        convert(model)


def test_scales_that_do_not_fit_are_told() -> None:
    model = model_of(
        [node("DequantizeLinear", ["w", "s"], "real", axis=1), node("MatMul", ["x", "real"], "y")],
        {"x": ("N", 6)},
        [tensor("w", np.zeros((6, 5), np.int8)), tensor("s", np.ones(4, np.float32))],
    )
    with pytest.raises(bittern.FormatError, match=r"its scale has shape \[4\] for a tensor \[6, 5\]"):
        convert(model)


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(
    ("activations", "weights"),
    [("QUInt8", "QInt8"), ("QInt8", "QInt8"), ("QUInt8", "QUInt8"), ("QInt16", "QInt8"), ("QUInt16", "QInt4")],
)
def test_a_quantised_network(form: str, activations: str, weights: str, shared_data: Path, tmp_path: Path) -> None:
    """ResNet-8 as ONNX Runtime's tool quantises it.

    Between the quantisers numbers are float32: in ONNX Runtime's QDQ form as well, in another order of summation, while
    its QLinear operators sum in integers. Where a sum lies at a tie, codes differ by a step, and what follows differs a
    little. So results are near each other, not equal.
    """
    if form == "QOperator" and activations.endswith("16"):
        return  # there are no such operators
    images = np.load(shared_data / "mlperf_tiny/expected_resnet8_cifar10.npz")["input_float"].astype(np.float32)
    path = quantized_model(
        shared_data / "mlperf_tiny/resnet8_cifar10_float.onnx",
        tmp_path / "quantised.onnx",
        [{"input": image[None]} for image in images[:8]],
        form=form,
        activations=activations,
        weights=weights,
    )
    net = convert(path)
    layers = [n for n in net.nodes if n.op in ("Conv", "Gemm")]
    assert len(layers) == 10
    for layer in layers:
        weight, bias = net.constants[layer.inputs[1]], net.constants[layer.inputs[2]]
        assert weight.describe() == f"affine(packed({weights[-1]}))" and bias.describe() == "affine(dense(i32))"
    expected = onnx_runtime(onnx.load(path), {"input": images})
    logits = bittern.load(net).run({"input": images})["output"]
    assert decibels(logits, expected) > 25
    assert np.array_equal(logits.argmax(1), expected.argmax(1))
    exported = net.to_onnx()
    for rewritten in (False, True):
        assert decibels(logits, onnx_runtime(exported, {"input": images}, rewritten)) > 25
    again = convert(exported)
    for name, tree in net.constants.items():
        assert again.constants[name].describe() == tree.describe()
        assert np.array_equal(again.constants[name].decode(), tree.decode())
    assert [n.op for n in again.nodes] == [n.op for n in net.nodes]
    assert decibels(bittern.load(again).run({"input": images})["output"], logits) > 100


def microsoft_model(node_: Any, tensors: Sequence[Any], inputs: Mapping[str, tuple[Any, Any]]) -> Any:
    """One node, codes in and out."""
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
        for name, (dtype, shape) in inputs.items()
    ]
    graph = helper.make_graph([node_], "made", infos, [onnx.ValueInfoProto(name="y")], list(tensors))
    kind = TensorProto.INT8 if np.dtype(next(iter(inputs.values()))[0]) == np.int8 else TensorProto.UINT8
    graph.output[0].type.tensor_type.elem_type = kind
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


PARAMETERS = {"xs": 0.05, "xz": 3, "ys": 0.11, "yz": 5, "zs": 0.07, "zz": 2}
OPERATORS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "QLinearAdd": (["x", "xs", "xz", "w", "ys", "yz", "zs", "zz"], {}),
    "QLinearMul": (["x", "xs", "xz", "w", "ys", "yz", "zs", "zz"], {}),
    "QLinearConcat": (["zs", "zz", "x", "xs", "xz", "w", "ys", "yz"], {"axis": 1}),
    "QLinearLeakyRelu": (["x", "xs", "xz", "ys", "yz"], {"alpha": 0.1}),
    "QLinearSigmoid": (["x", "xs", "xz", "ys", "yz"], {}),
    "QLinearAveragePool": (["x", "xs", "xz", "ys", "yz"], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    "QLinearGlobalAveragePool": (["x", "xs", "xz", "ys", "yz"], {}),
    "QLinearSoftmax": (["x", "xs", "xz", "ys", "yz"], {"axis": 1, "opset": 9}),
    "QLinearWhere": (["c", "x", "xs", "xz", "w", "ys", "yz", "zs", "zz"], {}),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("op", OPERATORS)
def test_operators_on_codes(op: str, dtype: Any, rng: np.random.Generator) -> None:
    """Within one step of ONNX Runtime, which rounds some of them by tables and others in fixed point."""
    names, attributes = OPERATORS[op]
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    shape = (2, 3, 4, 5)
    x, w = (rng.integers(low, high + 1, shape).astype(dtype) for _ in range(2))
    tensors = [
        scalar(name, value, np.float32 if name[1] == "s" else dtype)
        for name, value in PARAMETERS.items()
        if name in names
    ]
    feeds = {name: array for name, array in (("x", x), ("w", w)) if name in names}
    if "c" in names:
        tensors.append(tensor("c", rng.random(shape) < 0.5))
    model = microsoft_model(
        helper.make_node(op, names, ["y"], domain="com.microsoft", **attributes),
        tensors,
        {name: (dtype, array.shape) for name, array in feeds.items()},
    )
    expected = onnx_runtime(model, feeds)
    result = bittern.load(convert(model)).run(feeds)["y"]
    assert result.dtype == expected.dtype and result.shape == expected.shape
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
    assert np.mean(result != expected) < 0.05


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_qlinear_conv(constant: bool, per_channel: bool, rng: np.random.Generator) -> None:
    """Weights and bias keep their codes where they are constants; computed ones are dequantised. All sums are exact."""
    x = rng.integers(0, 256, (2, 4, 6, 6)).astype(np.uint8)
    w = rng.integers(-127, 128, (3, 4, 3, 3)).astype(np.int8)
    bias = rng.integers(-2000, 2000, 3).astype(np.int32)
    scale = np.array([0.5, 0.25, 0.125] if per_channel else 0.25, np.float32)
    inputs = {"x": (np.uint8, x.shape)} | ({} if constant else {"w": (np.int8, w.shape), "b": (np.int32, (3,))})
    tensors = [scalar("xs", 0.5), scalar("xz", 7, np.uint8), tensor("ws", scale), scalar("ys", 64.0)]
    tensors += [tensor("wz", np.zeros(scale.shape, np.int8)), scalar("yz", 128, np.uint8)]
    tensors += [tensor("w", w), tensor("b", bias)] if constant else []
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"]
    model = microsoft_model(node("QLinearConv", names, "y", pads=[1, 0, 1, 1], strides=[2, 1]), tensors, inputs)
    net = convert(model)
    if constant:
        assert [n.op for n in net.nodes] == ["DequantizeLinear", "Conv", "QuantizeLinear"]
        kinds = [net.constants[name].describe() for name in net.nodes[1].inputs[1:]]
        assert kinds == ["affine(packed(8))", "affine(dense(i32))"]
    feeds: dict[str, Array] = {"x": x} if constant else {"x": x, "w": w, "b": bias}
    if constant:
        assert np.array_equal(bittern.load(net).run(feeds)["y"], onnx_runtime(model, feeds))
    else:  # ONNX Runtime wants constants there
        fixed = microsoft_model(model.graph.node[0], [*tensors, tensor("w", w), tensor("b", bias)], {"x": inputs["x"]})
        assert np.array_equal(bittern.load(net).run(feeds)["y"], onnx_runtime(fixed, {"x": x}))


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("in_codes", [True, False])
def test_qgemm(transposed: int, in_codes: bool, rng: np.random.Generator) -> None:
    a, b = rng.integers(0, 256, (3, 5)).astype(np.uint8), rng.integers(-127, 128, (5, 4)).astype(np.int8)
    tensors = [scalar("as", 0.5), scalar("az", 7, np.uint8), scalar("bs", 0.25), scalar("bz", 0, np.int8)]
    tensors += [tensor("b", b.T.copy() if transposed else b), tensor("c", rng.integers(-99, 99, 4).astype(np.int32))]
    names = ["x", "as", "az", "b", "bs", "bz", "c"]
    if in_codes:
        tensors += [scalar("ys", 16.0), scalar("yz", 100, np.uint8)]
        names += ["ys", "yz"]
    gemm = helper.make_node("QGemm", names, ["y"], domain="com.microsoft", transB=transposed)
    model = microsoft_model(gemm, tensors, {"x": (np.uint8, (3, 5))})
    if not in_codes:
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    result = bittern.load(convert(model)).run({"x": a})["y"]
    assert np.array_equal(result, onnx_runtime(model, {"x": a}))


def test_dynamically_quantised_layers_run_on_integers(shared_data: Path, tmp_path: Path) -> None:
    """DynamicQuantizeLinear, MatMulInteger and what stands around them: joined, and the results are right."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    path = tmp_path / "dynamic.onnx"
    quantization.quantize_dynamic(str(shared_data / "mlperf_tiny/ad01_toycar_float.onnx"), str(path))
    net = convert(path)
    assert "DynamicQuantizeLinear" in {n.op for n in net.nodes} and "MatMulInteger" not in {n.op for n in net.nodes}
    model = bittern.load(net)
    products = [layer for layer in model.plan_for({model.inputs[0].name: (8, 640)}).layers if layer.op == "MatMul"]
    assert products and all("_u8" in layer.kernel for layer in products)
    x = np.load(shared_data / "mlperf_tiny/expected_ad01_toycar.npz")["input_float"][:8].astype(np.float32)
    (result,) = model.run({model.inputs[0].name: x}).values()
    expected = onnx_runtime(onnx.load(path), {model.inputs[0].name: x})
    assert decibels(result, expected) > 60


@pytest.mark.parametrize(
    ("op", "domain", "problem"),
    [
        ("QLinearResize", "com.microsoft", "operator QLinearResize of domain 'com.microsoft' is not supported"),
        ("XnorPopcountMatMul", "finn.custom_op.general", "operator XnorPopcountMatMul of domain"),
    ],
)
def test_operators_of_other_domains_are_named(op: str, domain: str, problem: str) -> None:
    model = microsoft_model(helper.make_node(op, ["x"], ["y"], domain=domain), [], {"x": (np.uint8, (3,))})
    with pytest.raises(bittern.UnsupportedError, match=problem):
        convert(model)


def test_codes_of_4_bits_are_not_computed_with() -> None:
    """Arithmetic on them wraps at 4 bits, which bytes do not."""
    model = model_of(
        [node("Add", ["w", "w"], "sum"), node("DequantizeLinear", ["sum", "s"], "y")],
        {},
        [tensor("w", np.array([7, 3], np.int8), INT4), scalar("s", 0.5)],
    )
    with pytest.raises(bittern.UnsupportedError, match="operator Add on codes of 4 bits is not supported"):
        convert(model)


@pytest.mark.parametrize(
    ("op", "domain", "inputs", "attributes"),
    [
        ("QuantizeLinear", "", ["x"], {}),
        ("DequantizeLinear", "", ["w"], {}),
        ("DequantizeLinear", "", ["w", "s"], {"axis": "one"}),
        ("DequantizeLinear", "", ["w", "s"], {"axis": 7}),
        ("DequantizeLinear", "", ["w", "s"], {"block_size": -3}),
        ("DequantizeLinear", "", ["w", "s"], {"output_dtype": 99}),
        ("QLinearConv", "", ["x", "s", "s", "w"], {}),
        ("QLinearMatMul", "", [], {}),
        ("QLinearAdd", "com.microsoft", ["x", "s"], {}),
        ("QGemm", "com.microsoft", ["x", "s", "", "w", "s", ""], {}),
        ("QLinearConcat", "com.microsoft", ["s", "s", "x", "s"], {}),
        ("Quant", "onnx.brevitas", ["x", "s"], {}),
        ("Quant", "onnx.brevitas", ["w", "s", "s", "t"], {}),
        ("Quant", "onnx.brevitas", ["w", "s", "s", "s"], {"signed": 1.5}),
        ("BipolarQuant", "onnx.brevitas", [], {}),
        ("Trunc", "qonnx.custom_op.general", ["w", "", "s", "s", "s"], {}),
        ("Trunc", "qonnx.custom_op.general", ["w", "s"], {}),
        ("MultiThreshold", "qonnx.custom_op.general", ["x"], {}),
        ("Transpose", "", [], {}),
    ],
)
def test_damaged_nodes_are_told(op: str, domain: str, inputs: list[str], attributes: dict[str, Any]) -> None:
    """An error of the package that names the node, not a traceback."""
    damaged = helper.make_node(op, inputs, ["y"], name="the node", domain=domain, **attributes)
    tensors = [tensor("w", np.zeros((2, 3), np.int8)), tensor("s", np.full(2, 0.5, np.float32))]
    tensors.append(tensor("t", np.array(["text"], object)))
    model = model_of([damaged], {"x": (2, 3)}, tensors)
    model.opset_import.append(helper.make_opsetid(domain or "other", 1))
    with pytest.raises((bittern.FormatError, bittern.UnsupportedError)):
        convert(model)
