"""TensorFlow Lite files as plain tensors and operators: everything that meets the file's bytes, and checks them."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.errors import Error, FormatError, InputError, UnsupportedError
from bittern.network import read_source

IDENTIFIER = b"TFL3"
_REMEDY = "the file is cut off, damaged or another one"
# tflite.TensorType by number: our names; the rest has names for messages only.
TYPES = {0: "f32", 1: "f16", 2: "i32", 3: "u8", 4: "i64", 6: "bool", 7: "i16", 9: "i8", 10: "f64", 12: "u64",
         15: "u32", 16: "u16", 17: "i4"}  # fmt: skip
_NUMPY = {"f32": "<f4", "f16": "<f2", "f64": "<f8", "bool": "?", "i8": "i1", "u8": "u1", "i16": "<i2", "u16": "<u2",
          "i32": "<i4", "u32": "<u4", "i64": "<i8", "u64": "<u8"}  # fmt: skip
_WINDOW = "Padding StrideW StrideH"
# The options of operators that have some: the table of the schema, and what is read of it.
_OPTIONS = {
    "ADD": "Add FusedActivationFunction",
    "ARG_MAX": "ArgMax",
    "ARG_MIN": "ArgMin",
    "AVERAGE_POOL_2D": f"Pool2D {_WINDOW} FilterWidth FilterHeight FusedActivationFunction",
    "BATCH_MATMUL": "BatchMatMul AdjX AdjY",
    "CONCATENATION": "Concatenation Axis FusedActivationFunction",
    "CONV_2D": f"Conv2D {_WINDOW} DilationWFactor DilationHFactor FusedActivationFunction",
    "DEPTHWISE_CONV_2D": f"DepthwiseConv2D {_WINDOW} DepthMultiplier DilationWFactor DilationHFactor "
    "FusedActivationFunction",
    "DEPTH_TO_SPACE": "DepthToSpace BlockSize",
    "DIV": "Div FusedActivationFunction",
    "FULLY_CONNECTED": "FullyConnected FusedActivationFunction WeightsFormat KeepNumDims",
    "GATHER": "Gather Axis BatchDims",
    "GELU": "Gelu Approximate",
    "L2_NORMALIZATION": "L2Norm FusedActivationFunction",
    "LEAKY_RELU": "LeakyRelu Alpha",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalization Radius Bias Alpha Beta",
    "MAX_POOL_2D": f"Pool2D {_WINDOW} FilterWidth FilterHeight FusedActivationFunction",
    "MEAN": "Reducer KeepDims",
    "MIRROR_PAD": "MirrorPad Mode",
    "MUL": "Mul FusedActivationFunction",
    "PACK": "Pack Axis",
    "REDUCE_MAX": "Reducer KeepDims",
    "REDUCE_MIN": "Reducer KeepDims",
    "REDUCE_PROD": "Reducer KeepDims",
    "RESHAPE": "Reshape NewShapeAsNumpy",
    "RESIZE_BILINEAR": "ResizeBilinear AlignCorners HalfPixelCenters",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor AlignCorners HalfPixelCenters",
    "SOFTMAX": "Softmax Beta",
    "SPACE_TO_DEPTH": "SpaceToDepth BlockSize",
    "SQUEEZE": "Squeeze SqueezeDimsAsNumpy",
    "STRIDED_SLICE": "StridedSlice BeginMask EndMask EllipsisMask NewAxisMask ShrinkAxisMask Offset",
    "SUB": "Sub FusedActivationFunction",
    "SUM": "Reducer KeepDims",
    "TRANSPOSE_CONV": f"TransposeConv {_WINDOW} FusedActivationFunction",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM FusedActivationFunction CellClip ProjClip TimeMajor",
    "UNPACK": "Unpack Axis Num",
}


@dataclass(frozen=True)
class Quantization:
    """``real = scale * (code - zero_point)``: one of each, or one per entry of ``axis`` (None: per tensor)."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int | None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantization):
            return NotImplemented
        same = np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)
        return same and self.axis == other.axis

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph: ``signature`` is its shape with -1 for free sizes; ``data`` are a constant's elements."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    quantization: Quantization | None = None
    data: NDArray[Any] | None = None
    is_variable: bool = False


@dataclass(frozen=True)
class Operator:
    """An operator: its builtin name, or ``CUSTOM name``; tensors by number, -1 for an input that is left out."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """The first graph of a file."""

    name: str
    tensors: list[Tensor]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(source: str | os.PathLike[str] | bytes) -> tuple[File, str]:
    """The file and a name for messages.

    Raises InputError if the path cannot be read or the package ``tflite`` is missing, FormatError if the content is
    damaged, UnsupportedError for a version or tensor that is not known.
    """
    data, place = read_source(source)
    schema = _schema()
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        found = "no bytes" if not data else f"bytes 4 to 7 are {data[4:8]!r}"
        raise FormatError(place, f"is not a TensorFlow Lite file ({found}, expected {IDENTIFIER!r})", "check the path")
    return _Reader(schema, data, place).read(), place


def _schema() -> Any:
    try:
        import tflite
    except ImportError as error:
        package = error.name or "tflite"
        remedy = "run: pip install 'bittern[tflite]'"
        raise InputError("tflite", f"the package {package} is not installed", remedy) from None
    return tflite


class _Reader:
    """Walks the file; the schema's classes follow offsets unchecked, so whatever they trip over means damage."""

    def __init__(self, schema: Any, data: bytes, place: str) -> None:
        self.schema, self.data, self.place = schema, data, place
        self.budget = len(data)  # elements of vectors: offsets may make a small file of many
        kinds = vars(schema.BuiltinOperator)
        self.kinds = {code: name for name, code in kinds.items() if isinstance(code, int)}
        self.types = {code: name for name, code in vars(schema.TensorType).items() if isinstance(code, int)}

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Report damage inside as damage of this part of the file."""
        try:
            yield
        except Error:
            raise
        except (
            struct.error,
            ValueError,
            TypeError,
            IndexError,
            OverflowError,
            AttributeError,
            AssertionError,
        ) as error:
            problem = f"cannot be read ({(str(error).splitlines() or [''])[0][:200] or type(error).__name__})"
            raise FormatError(f"{self.place}: {where}", problem, _REMEDY) from None

    def damaged(self, where: str, problem: str) -> FormatError:
        return FormatError(f"{self.place}: {where}", problem, _REMEDY)

    def count(self, where: str, number: int) -> range:
        """All indices of a vector of this length."""
        self.budget -= number
        if number < 0 or self.budget < 0:
            raise self.damaged(where, f"says it has {number} elements, more than the file can hold")
        return range(number)

    def read(self) -> File:
        with self.at("header"):
            model = self.schema.Model.GetRootAs(self.data, 0)
            version = model.Version()
            if version != 3:
                raise UnsupportedError(self.place, f"is of schema version {version}, supported is 3")
            if model.SubgraphsLength() < 1:
                raise self.damaged("header", "there is no graph")
            graph = model.Subgraphs(0)
        with self.at("operator codes"):
            codes = [
                self._kind(model.OperatorCodes(i)) for i in self.count("operator codes", model.OperatorCodesLength())
            ]
        with self.at("tensors"):
            number = self.count("tensors", graph.TensorsLength())
        tensors = [self._tensor(model, graph, index) for index in number]
        with self.at("operators"):
            steps = self.count("operators", graph.OperatorsLength())
        operators = [self._operator(graph, index, codes, len(tensors)) for index in steps]
        with self.at("graph"):
            inputs = self._indices("inputs of the graph", graph.InputsAsNumpy(), len(tensors), 0)
            outputs = self._indices("outputs of the graph", graph.OutputsAsNumpy(), len(tensors), 0)
            name = _text(graph.Name())
        if not outputs:
            raise self.damaged("graph", "there are no outputs")
        return File(name, tensors, operators, inputs, outputs)

    def _kind(self, code: Any) -> str:
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        if self.kinds.get(number) == "CUSTOM":
            return f"CUSTOM {_text(code.CustomCode())!r}"
        return str(self.kinds.get(number, f"number {number}"))

    def _vector(self, where: str, values: Any) -> NDArray[Any]:
        """The elements of a vector; 0 is how the schema's classes say that there is none."""
        if isinstance(values, int):
            return np.zeros(0, np.int32)
        array = np.asarray(values)
        self.count(where, array.size)
        return array

    def _indices(self, where: str, values: Any, limit: int, least: int) -> tuple[int, ...]:
        indices = self._vector(where, values).tolist()
        for index in indices:
            if not least <= index < limit:
                raise self.damaged(where, f"names tensor {index}, there are {limit}")
        return tuple(int(index) for index in indices)

    # Tensors

    def _tensor(self, model: Any, graph: Any, index: int) -> Tensor:
        where = f"tensor {index}"
        with self.at(where):
            tensor = graph.Tensors(index)
            name = _text(tensor.Name())
            where = f"{where} {name!r}"
            shape = tuple(int(size) for size in self._vector(where, tensor.ShapeAsNumpy()))
            signature = tuple(int(size) for size in self._vector(where, tensor.ShapeSignatureAsNumpy())) or shape
            if any(size < 0 for size in shape) or any(size < -1 for size in signature) or len(signature) != len(shape):
                raise self.damaged(where, f"has shape {list(shape)} and shape signature {list(signature)}")
            dtype = TYPES.get(tensor.Type(), "")
            quantization = self._quantization(where, tensor, shape)
            elements = self._buffer(where, model, tensor.Buffer())
            if tensor.Sparsity() is not None:
                raise UnsupportedError(
                    f"{self.place}: {where}", "sparse tensors are not supported", "export it densely"
                )
            if not dtype:
                dtype = self.types.get(tensor.Type(), f"type {tensor.Type()}").lower()
            data = self._elements(where, dtype, shape, elements)
        return Tensor(index, name, dtype, shape, signature, quantization, data, bool(tensor.IsVariable()))

    def _quantization(self, where: str, tensor: Any, shape: tuple[int, ...]) -> Quantization | None:
        given = tensor.Quantization()
        if given is None or given.ScaleLength() == 0:
            return None
        scale = self._vector(where, given.ScaleAsNumpy()).astype(np.float32)
        zero_point = self._vector(where, given.ZeroPointAsNumpy()).astype(np.int64)
        zero_point = zero_point if zero_point.size else np.zeros(scale.size, np.int64)
        axis = given.QuantizedDimension() if scale.size > 1 else None
        if axis is not None and zero_point.size == 1:
            zero_point = np.repeat(zero_point, scale.size)
        if axis is not None and (not 0 <= axis < len(shape) or shape[axis] != scale.size):
            raise self.damaged(where, f"has {scale.size} scales along dimension {axis} of shape {list(shape)}")
        if zero_point.size != scale.size:
            raise self.damaged(where, f"has {scale.size} scales and {zero_point.size} zero points")
        if not np.isfinite(scale).all() or np.any(scale < 0) or np.any(np.abs(zero_point) >= 2**31):
            raise self.damaged(where, "has a scale that is negative or not finite, or a zero point beyond 32 bits")
        return Quantization(scale, zero_point, axis)

    def _buffer(self, where: str, model: Any, index: int) -> NDArray[np.uint8]:
        """The bytes of a buffer: inside the tables, or (in large files) behind them."""
        if not 0 <= index < model.BuffersLength():
            raise self.damaged(where, f"names buffer {index}, there are {model.BuffersLength()}")
        buffer = model.Buffers(index)
        if buffer is None:
            return np.zeros(0, np.uint8)
        offset, size = buffer.Offset(), buffer.Size()
        if offset > 1:
            if offset + size > len(self.data):
                raise self.damaged(where, f"has bytes {offset} to {offset + size}, the file has {len(self.data)}")
            return np.frombuffer(self.data, np.uint8, size, offset)
        data = buffer.DataAsNumpy()
        return np.zeros(0, np.uint8) if isinstance(data, int) else np.asarray(data, dtype=np.uint8)

    def _elements(self, where: str, dtype: str, shape: tuple[int, ...], raw: NDArray[np.uint8]) -> NDArray[Any] | None:
        """The elements of a constant; None for what the graph computes."""
        elements = math.prod(shape)
        if raw.size == 0 and elements:
            return None
        if dtype == "i4":
            if raw.size != (elements + 1) // 2:
                raise self.damaged(
                    where, f"has {raw.size} bytes, shape {list(shape)} of i4 takes {(elements + 1) // 2}"
                )
            halves = np.stack([raw << 4, raw], axis=1).view(np.int8) >> 4
            return np.ascontiguousarray(halves.reshape(-1)[:elements].reshape(shape))
        if dtype not in _NUMPY:
            raise UnsupportedError(
                f"{self.place}: {where}", f"is a constant of type {dtype}", f"supported: {', '.join(sorted(_NUMPY))}"
            )
        needed = elements * np.dtype(_NUMPY[dtype]).itemsize
        if raw.size != needed:
            raise self.damaged(where, f"has {raw.size} bytes, shape {list(shape)} of {dtype} takes {needed}")
        if dtype == "bool" and raw.size and raw.max() > 1:
            raise self.damaged(where, "holds a truth value above 1")
        # A copy: tables are not aligned, and the file's bytes may go.
        return np.frombuffer(raw.tobytes(), _NUMPY[dtype]).reshape(shape)

    # Operators

    def _operator(self, graph: Any, index: int, codes: list[str], tensors: int) -> Operator:
        where = f"operator {index}"
        with self.at(where):
            operator = graph.Operators(index)
            code = operator.OpcodeIndex()
            if not 0 <= code < len(codes):
                raise self.damaged(where, f"has operator code {code}, there are {len(codes)}")
            kind = codes[code]
            where = f"{where} ({kind})"
            inputs = self._indices(f"inputs of {where}", operator.InputsAsNumpy(), tensors, -1)
            outputs = self._indices(f"outputs of {where}", operator.OutputsAsNumpy(), tensors, 0)
            if not outputs:
                raise self.damaged(where, "has no output")
            return Operator(index, kind, inputs, outputs, self._options(where, operator, kind))

    def _options(self, where: str, operator: Any, kind: str) -> dict[str, Any]:
        """The options that this kind of operator reads; none if the file leaves them out."""
        if kind not in _OPTIONS:
            return {}
        name, *fields = _OPTIONS[kind].split()
        found, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
        if found == 0 or table is None:
            return {}
        if found != getattr(self.schema.BuiltinOptions, f"{name}Options"):
            raise self.damaged(where, f"has options of type {found}, expected {name}Options")
        options = getattr(self.schema, f"{name}Options")()
        options.Init(table.Bytes, table.Pos)
        read: dict[str, Any] = {}
        for option in fields:
            value = getattr(options, option)()
            if option.endswith("AsNumpy"):
                value = self._vector(where, value).tolist()
            elif isinstance(value, float) and not math.isfinite(value):
                raise self.damaged(where, f"option {option} is {value}")
            read[option.removesuffix("AsNumpy")] = value
        return read


def _text(raw: Any) -> str:
    """A name of the file; what is no UTF-8 is replaced, zero bytes are cut."""
    return "" if raw is None else bytes(raw).decode("utf-8", "replace").replace("\0", "")
