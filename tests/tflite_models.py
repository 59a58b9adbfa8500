"""Small TensorFlow Lite files, written with the schema of the package tflite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from bittern.model import load
from bittern.network import Network

from tests.reference.arrays import Array

tflite = pytest.importorskip("tflite", reason="the package tflite is not installed (pip install 'bittern[tflite]')")
flatbuffers = pytest.importorskip("flatbuffers", reason="the package flatbuffers is not installed")

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}


@dataclass(frozen=True)
class Tensor:
    """A tensor: a constant if it has data."""

    shape: Sequence[int]
    dtype: str = "float32"
    data: Array | bytes | None = None
    scale: Sequence[float] = ()
    zero: Sequence[int] = ()
    axis: int = 0
    signature: Sequence[int] = ()
    variable: bool = False
    buffer: int | None = None  # in place of its own
    code: int | None = None  # in place of the type's


@dataclass(frozen=True)
class Operator:
    """An operator: tensors by name, None for one that is left out."""

    kind: str
    inputs: Sequence[str | None]
    outputs: Sequence[str]
    options_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: str = ""
    version: int = 1


def constant(array: Array, **more: Any) -> Tensor:
    """A constant of these elements."""
    return Tensor(array.shape, str(array.dtype), array, **more)


class _Writer:
    def __init__(self) -> None:
        self.b = flatbuffers.Builder(1024)

    def table(self, table: str, **fields: Any) -> int:
        """A table of scalars and of what was written before; None is left out."""
        getattr(tflite, f"{table}Start")(self.b)
        for name, value in fields.items():
            if value is not None:
                getattr(tflite, f"{table}Add{name}")(self.b, value)
        return int(getattr(tflite, f"{table}End")(self.b))

    def numbers(self, values: Any, dtype: str) -> int | None:
        """A vector of numbers; None if there are none."""
        array = np.asarray(values, dtype)
        return int(self.b.CreateNumpyVector(array)) if array.size else None

    def offsets(self, values: Sequence[int]) -> int:
        """A vector of tables."""
        self.b.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.b.PrependUOffsetTRelative(value)
        return int(self.b.EndVector())

    def options(self, operator: Operator) -> tuple[int, int]:
        """Number and table of an operator's options."""
        given = {
            name: self.numbers(value, "int32") if isinstance(value, (list, tuple)) else value
            for name, value in operator.options.items()
        }
        kind = getattr(tflite.BuiltinOptions, f"{operator.options_name}Options")
        return kind, self.table(f"{operator.options_name}Options", **given)


def tflite_file(
    tensors: Mapping[str, Tensor],
    operators: Sequence[Operator],
    inputs: Sequence[str],
    outputs: Sequence[str],
    version: int = 3,
) -> bytes:
    """The bytes of a file."""
    w = _Writer()
    index = {name: i for i, name in enumerate(tensors)}
    buffers, rows = [w.table("Buffer")], []
    for name, tensor in tensors.items():
        number = 0
        if tensor.data is not None:
            raw = tensor.data if isinstance(tensor.data, bytes) else tensor.data.tobytes()
            number = len(buffers)
            buffers.append(w.table("Buffer", Data=w.numbers(np.frombuffer(raw, np.uint8), "uint8")))
        quantization = None
        if tensor.scale:
            scale = w.numbers(tensor.scale, "float32")
            zero = w.numbers(tensor.zero or [0] * len(tensor.scale), "int64")
            quantization = w.table(
                "QuantizationParameters", Scale=scale, ZeroPoint=zero, QuantizedDimension=tensor.axis
            )
        rows.append(
            w.table(
                "Tensor",
                Name=w.b.CreateString(name),
                Shape=w.numbers(tensor.shape, "int32"),
                ShapeSignature=w.numbers(tensor.signature, "int32"),
                Type=TYPES[tensor.dtype] if tensor.code is None else tensor.code,
                Buffer=number if tensor.buffer is None else tensor.buffer,
                Quantization=quantization,
                IsVariable=tensor.variable,
            )
        )  # fmt: skip
    codes, steps = [], []
    for operator in operators:
        kind = getattr(tflite.BuiltinOperator, operator.kind) if isinstance(operator.kind, str) else operator.kind
        custom = w.b.CreateString(operator.custom) if operator.custom else None
        codes.append(
            w.table(
                "OperatorCode",
                DeprecatedBuiltinCode=min(kind, 127),
                BuiltinCode=kind,
                Version=operator.version,
                CustomCode=custom,
            )
        )
        options = w.options(operator) if operator.options_name else (None, None)
        steps.append(
            w.table(
                "Operator",
                OpcodeIndex=len(codes) - 1,
                Inputs=w.numbers([-1 if name is None else index[name] for name in operator.inputs], "int32"),
                Outputs=w.numbers([index[name] for name in operator.outputs], "int32"),
                BuiltinOptionsType=options[0],
                BuiltinOptions=options[1],
            )
        )  # fmt: skip
    graph = w.table(
        "SubGraph",
        Tensors=w.offsets(rows),
        Inputs=w.numbers([index[name] for name in inputs], "int32"),
        Outputs=w.numbers([index[name] for name in outputs], "int32"),
        Operators=w.offsets(steps),
        Name=w.b.CreateString("made"),
    )  # fmt: skip
    model = w.table(
        "Model",
        Version=version,
        OperatorCodes=w.offsets(codes),
        Subgraphs=w.offsets([graph]),
        Buffers=w.offsets(buffers),
    )  # fmt: skip
    w.b.Finish(model, b"TFL3")
    return bytes(w.b.Output())


def output_of(net: Network, x: Array) -> Array:
    """The only output of a network for its only input."""
    (given,), (wanted,) = net.inputs, net.outputs
    return load(net).run({given.name: x})[wanted.name]


def litert_outputs(data: bytes, feeds: Mapping[str, Array]) -> list[Array]:
    """What the LiteRT interpreter gives, from a fresh state; skips the test where it is not installed."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
    runner = interpreter.Interpreter(model_content=data, num_threads=1)
    runner.allocate_tensors()
    for info in runner.get_input_details():
        runner.set_tensor(info["index"], feeds[info["name"]])
    runner.invoke()
    return [np.array(runner.get_tensor(info["index"])) for info in runner.get_output_details()]
