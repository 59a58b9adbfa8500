"""TensorFlow Lite import: real models, every operator in both layouts, integer graphs, damage refused in one line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.errors import Error, FormatError, InputError, UnsupportedError
from bittern.importers import convert
from bittern.model import load
from bittern.network import Network

from tests.compare import assert_equal, assert_within
from tests.reference.arrays import Array

pytest.importorskip("tflite", reason="the package tflite is not installed (pip install 'bittern[tflite]')")

from tests.tflite_cases import CASES, IMAGE, Case, Const, floats
from tests.tflite_models import Operator, Tensor, constant, litert_outputs, tflite_file


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
