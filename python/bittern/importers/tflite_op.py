"""An operator of a TensorFlow Lite graph with what its translation may ask and do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Dense, Encoding, Packed
from bittern.errors import InputError
from bittern.importers.onnx_steps import Unsupported
from bittern.importers.tflite_file import Operator, Quantization, Tensor
from bittern.shape_rules.view import Shape

if TYPE_CHECKING:
    from bittern.importers.tflite import Importer

FILE, NCHW = "", "nchw"
"""Layouts of a value: as in the file, or (four dimensions only) with the channels before the pixels."""
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
AXES_IN_NCHW = (0, 2, 3, 1)
"""Where a dimension of the file stands in NCHW."""
TYPES = ("f32", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "bool")
"""Element types of computed values."""
RANGES = {"i8": (-128, 127), "u8": (0, 255), "i16": (-32768, 32767)}
"""Types of quantized values."""
_CODES = {"i4": (4, True), "i8": (8, True), "u8": (8, False), "i16": (16, True), "i32": (32, True)}
# Fused activations by number: bounds; 4 is tanh.
_ACTIVATIONS: dict[int, tuple[float | None, float | None]] = {
    0: (None, None),
    1: (0.0, None),
    2: (-1.0, 1.0),
    3: (0.0, 6.0),
    4: (None, None),
}


class Op:
    """An operator with what its translation may ask and do."""

    def __init__(self, importer: Importer, operator: Operator) -> None:
        self.importer, self.operator, self.kind = importer, operator, operator.kind
        self.base = importer.label(operator).split(";")[0]
        self.used_base = False

    # Questions

    def option(self, name: str, default: Any = 0) -> Any:
        return self.operator.options.get(name, default)

    def positive(self, name: str, default: int = 0) -> int:
        """An option that must be at least 1."""
        value = int(self.option(name, default))
        if value < 1:
            raise InputError(f"option {name}", f"is {value}, expected at least 1")
        return value

    def has(self, k: int) -> bool:
        return k < len(self.operator.inputs) and self.operator.inputs[k] >= 0

    def index(self, k: int) -> int:
        if not self.has(k):
            raise InputError(f"input {k}", "is missing")
        return self.operator.inputs[k]

    def tensor(self, k: int) -> Tensor:
        return self.importer.constants.get(self.index(k), self.importer.file.tensors[self.index(k)])

    def output(self, k: int = 0) -> Tensor:
        return self.importer.file.tensors[self.operator.outputs[k]]

    def is_constant(self, k: int) -> bool:
        return self.index(k) in self.importer.constants

    def shape(self, k: int) -> Shape:
        """The shape of an input in the file's order."""
        shape = self.importer.shape(self.index(k))
        if shape is None:
            raise Unsupported(f"{self.kind} of a value with an unknown number of dimensions is not supported")
        return shape

    def rank(self, k: int) -> int:
        return len(self.shape(k))

    def axis(self, value: int, rank: int) -> int:
        """A dimension, counted from the end if negative."""
        if not -rank <= value < rank:
            raise InputError("axis", f"is {value}, the value has {rank} dimensions")
        return value % rank

    def data(self, k: int, what: str) -> NDArray[Any]:
        """The elements of an input that must be a constant."""
        array = self.tensor(k).data
        if array is None:
            raise Unsupported(f"{self.kind} with {what} computed at run time is not supported")
        return array

    def integers(self, k: int, what: str) -> list[int]:
        array = self.data(k, what)
        if array.dtype.kind not in "iu":
            raise InputError(what, f"is of type {self.tensor(k).dtype}, expected integers")
        return [int(value) for value in array.reshape(-1)]

    def layout(self, k: int = 0) -> str:
        return FILE if self.is_constant(k) else self.importer.layout(self.index(k))

    def is_quantized(self, k: int = 0) -> bool:
        return is_quantized(self.tensor(k))

    def keeps_scale(self, inputs: Sequence[int] = (0,)) -> bool:
        """Whether these inputs and all outputs have the same scale and zero point: codes may move as they are."""
        first = _scale(self.tensor(inputs[0]))
        others = [_scale(self.tensor(k)) for k in inputs]
        return all(other == first for other in [*others, *(_scale(self.output(k)) for k in range(self.outputs))])

    @property
    def outputs(self) -> int:
        return len(self.operator.outputs)

    def numbers(self, k: int, what: str) -> NDArray[np.float32]:
        """The elements of a constant as numbers."""
        self.data(k, what)
        tensor = self.tensor(k)
        decoded = encoding_of(tensor, True, tensor.shape, tuple(range(len(tensor.shape)))).decode()
        return decoded.astype(np.float32)

    # Values

    def real(self, k: int, layout: str = FILE, rank: int = 0) -> str:
        """An input as numbers; a constant with leading dimensions up to ``rank``."""
        return self._input(k, True, layout, rank)

    def plain(self, k: int, layout: str = FILE) -> str:
        """An input as the file has it: codes if it is quantized."""
        return self._input(k, False, layout, 0)

    def _input(self, k: int, numbers: bool, layout: str, rank: int) -> str:
        index = self.index(k)
        if index not in self.importer.constants:
            if not self.importer.exists(index):
                raise Unsupported(f"{self.kind} of a variable tensor is not supported")
            return self.importer.value(index, numbers, layout)
        tensor = self.tensor(k)
        array = tensor.data
        assert array is not None
        shape = (1,) * (rank - array.ndim) + array.shape
        if layout and len(shape) != 4:
            raise Unsupported(f"{self.kind} with a constant of {array.ndim} dimensions here is not supported")
        return self.constant_name(self.importer, index, numbers, shape, TO_NCHW if layout else None)

    def weight(self, k: int, perm: Sequence[int], shape: tuple[int, ...] | None = None) -> str:
        """A weight with its dimensions in another order; from a constant, or computed."""
        if self.is_constant(k):
            return self.constant_name(self.importer, self.index(k), True, shape or self.tensor(k).shape, perm)
        value = self.real(k)
        if shape is not None:
            value = self.emit("Reshape", [value, self.int64("shape", shape)])
        return self.emit("Transpose", [value], perm=list(perm))

    @staticmethod
    def constant_name(
        importer: Importer,
        index: int,
        numbers: bool = False,
        shape: tuple[int, ...] | None = None,
        perm: Sequence[int] | None = None,
    ) -> str:
        """The name of a constant of the file, reshaped by ones, its dimensions in the order ``perm``."""
        tensor = importer.constants[index]
        shape = tensor.shape if shape is None else shape
        order = tuple(perm) if perm is not None else tuple(range(len(shape)))
        roles = ["codes"] if not numbers and is_quantized(tensor) else []
        if shape != tensor.shape:
            roles.append("x".join(map(str, shape)))
        if order != tuple(range(len(shape))):
            roles.append("".join(map(str, order)))
        return importer.constant(index, ".".join(roles), lambda: encoding_of(tensor, numbers, shape, order))

    def int64(self, role: str, values: Sequence[int] | int) -> str:
        """A constant of integers that an operator takes as input."""
        return self.array(role, np.asarray(values, dtype=np.int64))

    def array(self, role: str, array: NDArray[Any]) -> str:
        return self.importer.add_constant(f"{self.base}.{role}", array)

    def emit(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """A node with one output; the last node of an operator gets the operator's name as its output."""
        return self.emit_many(op, inputs, 1, **attributes)[0]

    def emit_many(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        # The first node that computes something has the name of the layer.
        name = f"{self.base}.{op.lower()}" if self.used_base or op in ("Transpose", "Reshape") else self.base
        self.used_base = self.used_base or name == self.base
        outputs = [self.importer.new(f"{name}.{i}" if count > 1 else f"{self.base}.{op.lower()}") for i in range(count)]
        self.importer.append(op, list(inputs), outputs, name, attributes)
        return outputs

    def result(self, value: str, k: int = 0, layout: str = FILE, numbers: bool = True) -> None:
        """Make a value of this operator its output; numbers become codes where the output has codes."""
        importer, index = self.importer, self.operator.outputs[k]
        value = self.coded(value, k) if numbers else value
        name = importer.form_name(index, False, layout)
        producer = next((node for node in importer.pending if value in node.outputs), None)
        if producer is None or value in importer.formed:
            importer.append("Identity", [value], [name], f"{self.base}.identity")
        else:
            producer.outputs[producer.outputs.index(value)] = name
            for node in importer.pending:
                node.inputs = [name if given == value else given for given in node.inputs]
        importer.add_form(index, not is_quantized(self.output(k)), layout, name)

    def coded(self, value: str, k: int = 0) -> str:
        """Numbers as codes of an output, if it has codes."""
        if not is_quantized(self.output(k)):
            return value
        name = self.importer.new(f"{self.base}.codes")
        inputs = [value, *self.importer.scale_of(self.operator.outputs[k])]
        self.importer.append("QuantizeLinear", inputs, [name], f"{self.base}.quantize", self.rounding())
        return name

    def decoded(self, value: str, k: int) -> str:
        """Codes of an input, moved, as numbers."""
        if not self.is_quantized(k):
            return value
        name = self.importer.new(f"{self.base}.float")
        inputs = [value, *self.importer.scale_of(self.index(k))]
        self.importer.append("DequantizeLinear", inputs, [name], f"{self.base}.dequantize")
        return name

    def rounding(self) -> dict[str, Any]:
        """The attributes of the QuantizeLinear at this operator's end: it rounds as TensorFlow Lite does it."""
        inputs = (k for k in range(len(self.operator.inputs)) if self.has(k))
        return {"requantize": "tflite"} if any(self.is_quantized(k) for k in inputs) else {}

    def activated(self, value: str) -> str:
        """A value with the activation that is fused into this operator."""
        activation, tensor = self.option("FusedActivationFunction"), self.output()
        if activation not in _ACTIVATIONS:
            raise Unsupported(f"{self.kind} with fused activation {activation} is not supported (supported: 0 to 4)")
        low, high = _ACTIVATIONS[activation]
        if activation == 4:
            return self.emit("Tanh", [value])
        if is_quantized(tensor) and tensor.quantization is not None:
            # Saturation does it already where the bound is beyond the codes.
            scale, point = float(tensor.quantization.scale[0]) or 1.0, int(tensor.quantization.zero_point[0])
            least, most = RANGES[tensor.dtype]
            low = None if low is None or low / scale + point <= least else low
            high = None if high is None or high / scale + point >= most else high
        return self.bounded(value, low, high)

    def bounded(self, value: str, low: float | None, high: float | None) -> str:
        if low is None and high is None:
            return value
        if low == 0 and high is None:
            return self.emit("Relu", [value])
        ends = [("min", low), ("max", high)]
        inputs = ["" if end is None else self.array(role, np.asarray(end, np.float32)) for role, end in ends]
        return self.emit("Clip", [value, *inputs] if inputs[1] else [value, inputs[0]])


def is_quantized(tensor: Tensor) -> bool:
    """Whether a tensor's elements are codes that stand for numbers."""
    return tensor.quantization is not None and tensor.dtype in RANGES


def _scale(tensor: Tensor) -> Quantization | None:
    return tensor.quantization if is_quantized(tensor) else None


def encoding_of(tensor: Tensor, numbers: bool, shape: tuple[int, ...], order: tuple[int, ...]) -> Encoding:
    """The encoding of a constant: affine for integers with a scale if ``numbers`` are wanted, else the elements."""
    assert tensor.data is not None
    array = np.array(tensor.data.reshape(shape).transpose(order), order="C")
    given = tensor.quantization
    if numbers and given is not None and tensor.dtype in _CODES:
        axis = None if given.axis is None else order.index(given.axis + len(shape) - tensor.data.ndim)
        return affine(array, tensor.dtype, given.scale, given.zero_point, axis)
    if tensor.dtype not in TYPES and tensor.dtype != "f16":
        raise Unsupported(f"a constant of type {tensor.dtype} is not supported")
    return Dense(array)


def affine(
    codes: NDArray[Any], dtype: str, scale: NDArray[np.float32], zero_point: NDArray[np.int64], axis: int | None
) -> Affine:
    """Codes of this type with their scales along ``axis`` (None: one for all)."""
    bits, signed = _CODES[dtype]
    shape = () if axis is None else (-1,)
    points = Dense(zero_point.astype(np.int32).reshape(shape)) if np.any(zero_point) else None
    scales = Dense(scale.astype(np.float32).reshape(shape))
    held = Dense(codes) if bits >= 32 else Packed.pack(codes, bits, signed=signed)
    return Affine(held, scales, points, axis)
