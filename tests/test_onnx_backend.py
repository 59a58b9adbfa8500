"""The node test cases of the package onnx: all that bittern is for pass, and the others are counted by reason."""

import json
from collections import Counter
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.errors import InputError, UnsupportedError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")

from bittern import onnx_backend  # noqa: E402

LEAST = 600
"""Cases that pass with any release of onnx that the package takes."""


@pytest.fixture(scope="module")
def cases() -> list[Any]:
    """All cases of the installed package."""
    return onnx_backend.node_cases()


@pytest.mark.parametrize("level", ["scalar", None], ids=["scalar", "default"])
def test_node_cases(cases: list[Any], level: str | None) -> None:
    results = onnx_backend.run_cases(cases, level)
    failed = [f"{result.name}: {result.reason}" for result in results if result.outcome == "failed"]
    counts = Counter(result.outcome for result in results)
    assert not failed, f"{len(failed)} of {len(results)} cases failed:\n" + "\n".join(failed)
    assert counts["passed"] >= LEAST, counts
    assert all(result.reason for result in results if result.outcome == "excluded")


def relu_case(cases: list[Any]) -> Any:
    """A copy of a case that others may change."""
    (case,) = (case for case in cases if case.name == "test_relu")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    return type(case)(**{**vars(case), "model": model})


def test_wrong_results_would_be_noticed(cases: list[Any]) -> None:
    case = relu_case(cases)
    assert onnx_backend.run_case(case).outcome == "passed"
    (inputs, (expected,)) = case.data_sets[0]
    wrong = expected.copy()
    wrong.flat[3] += np.float32(0.01)
    for changed, problem in [
        (wrong, "elements differ, first at"),
        (expected[:1], "has shape"),
        (expected.astype(np.float64), "is float32"),
    ]:
        case.data_sets = [(inputs, [changed])]
        result = onnx_backend.run_case(case)
        assert result.outcome == "failed" and problem in result.reason


def test_exclusions_are_computed_from_the_model(cases: list[Any]) -> None:
    reasons = {case.name: onnx_backend.exclusion(case.model) for case in cases}
    assert reasons["test_relu"] == ""
    for name, reason in {
        "test_cast_FLOAT_to_FLOAT16": "element type float16",
        "test_string_concat": "element type string",
        "test_if": "control flow",
        "test_identity_sequence": "values that are sequences",
        "test_batchnorm_example_training_mode": "training mode",
        "test_det_2d": "operator Det",
    }.items():
        assert reasons[name] == reason
    for name, reason in {
        "test_quantizelinear_e4m3fn": "element type float8e4m3fn",
        "test_dequantizelinear_float4e2m1": "element type float4e2m1",
        "test_cast_FLOAT_to_INT4": "element type int4",
        "test_qlinearmatmul_2D_int8_float16": "element type float16",
        "test_dequantizelinear_int4": "",
        "test_qlinearconv": "",
    }.items():
        assert reasons.get(name, reason) == reason, "older releases have not all of these"
    case = relu_case(cases)
    case.model.graph.node[0].op_type = "Det"
    assert onnx_backend.run_case(case).reason == "operator Det"


def test_backend_interface(cases: list[Any]) -> None:
    case = relu_case(cases)
    x = np.array([[-1.0, 2.0, -3.0]], np.float32)
    expected = np.maximum(x, 0)
    node = case.model.graph.node[0]
    assert onnx_backend.supports_device("CPU") and onnx_backend.supports_device("CPU:0")
    assert not onnx_backend.supports_device("CUDA")
    (result,) = onnx_backend.run_node(node, [x], opset_version=14)
    assert np.array_equal(result, expected)
    graph = onnx.helper.make_graph(
        [node],
        "relu",
        [onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, ["N", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)])
    prepared = onnx_backend.prepare(model, isa="scalar", threads=1)
    assert prepared.model.isa == "scalar"
    for inputs in ([x], x, {node.input[0]: x}):
        assert np.array_equal(prepared.run(inputs)[0], expected)
    assert np.array_equal(onnx_backend.run_model(model, [x])[0], expected)
    with pytest.raises(InputError, match="2 given"):
        prepared.run([x, x])
    with pytest.raises(InputError, match="0 given"):
        onnx_backend.run_node(node, [])
    with pytest.raises(UnsupportedError, match="CUDA"):
        onnx_backend.prepare(model, "CUDA")
    assert isinstance(prepared.model, bittern.Model)


def test_codes_of_4_bits() -> None:
    """They come in types of their own, and are bytes in bittern."""
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    half = np.array(0.5, np.float32)
    if not hasattr(onnx.TensorProto, "INT4"):
        pytest.skip("this release of onnx has no types of 4 bits")
    node = onnx.helper.make_node("DequantizeLinear", ["x", "s"], ["y"])
    (numbers,) = onnx_backend.run_node(node, [np.array([-8, 7], ml_dtypes.int4), half])
    assert np.array_equal(numbers, np.array([-4, 3.5], np.float32))
    node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    x = np.array([-9, 1, 2.6, 90], np.float32)
    (codes,) = onnx_backend.run_node(node, [x, half, np.array(1, ml_dtypes.uint4)])
    assert codes.dtype == np.uint8 and codes.tolist() == [0, 3, 6, 15]


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert onnx_backend.main(["--filter", "^test_relu$|^test_det_2d$", "--isa", "scalar"]) == 0
    out = capsys.readouterr().out
    assert "operator Det (such as test_det_2d)" in out and "1 passed, 0 failed, 1 excluded" in out
    assert onnx_backend.main(["--filter", "^test_relu$|^test_det_2d$", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["excluded"]) == (1, 1) and len(document["cases"]) == 2
    assert onnx_backend.main(["--filter", "^test_relu$|^test_det_2d$", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == ["test_det_2d: operator Det", "test_relu"]
    assert onnx_backend.main(["--filter", "("]) == 2
    assert onnx_backend.main(["--filter", "^test_relu$", "--isa", "avx1024"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2 and "regular expression" in captured.err and "avx1024" in captured.err
