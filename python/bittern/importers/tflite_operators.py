"""Element-wise and reducing operators of TensorFlow Lite, and the list of all translations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bittern.errors import InputError
from bittern.importers.onnx_steps import Unsupported
from bittern.importers.tflite_layers import LAYERS
from bittern.importers.tflite_moves import MOVES, kept_layout, place
from bittern.importers.tflite_op import FILE, NCHW, Op

_UNARY = {"ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log",
          "HARD_SWISH": "HardSwish", "LOGICAL_NOT": "Not", "LOGISTIC": "Sigmoid", "NEG": "Neg", "RELU": "Relu",
          "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh"}  # fmt: skip
_BINARY = {"ADD": "Add", "DIV": "Div", "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual",
           "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "MAXIMUM": "Max",
           "MINIMUM": "Min", "MUL": "Mul", "POW": "Pow", "PRELU": "PRelu", "SUB": "Sub"}  # fmt: skip
_REDUCTIONS = {"MEAN": "ReduceMean", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin", "REDUCE_PROD": "ReduceProd",
               "SUM": "ReduceSum"}  # fmt: skip
_BOUNDS: dict[str, tuple[float, float | None]] = {
    "RELU6": (0.0, 6.0),
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def _layout(op: Op, inputs: Sequence[int]) -> tuple[str, int]:
    """The layout for values that broadcast: as they come, else as in the file; and the rank of the result."""
    ranks = [op.rank(k) for k in inputs]
    computed = [k for k in inputs if not op.is_constant(k)]
    whole = max(ranks) == 4 and all(op.rank(k) == 4 for k in computed)
    return (NCHW if whole and any(op.layout(k) for k in computed) else FILE), max(ranks)


def _operands(op: Op, inputs: Sequence[int]) -> tuple[list[str], str]:
    layout, rank = _layout(op, inputs)
    return [op.real(k, layout, rank if layout else 0) for k in inputs], layout


def unary(name: str) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        layout = op.layout(0)
        op.result(op.emit(name, [op.real(0, layout)]), layout=layout)

    return translate


def bounded(low: float, high: float | None) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        layout = op.layout(0)
        value = op.bounded(op.real(0, layout), low, high)
        op.result(value, layout=layout)

    return translate


def binary(name: str) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        values, layout = _operands(op, (0, 1))
        op.result(op.activated(op.emit(name, values)), layout=layout)

    return translate


def not_equal(op: Op) -> None:
    values, layout = _operands(op, (0, 1))
    op.result(op.emit("Not", [op.emit("Equal", values)]), layout=layout)


def squared_difference(op: Op) -> None:
    values, layout = _operands(op, (0, 1))
    difference = op.emit("Sub", values)
    op.result(op.emit("Mul", [difference, difference]), layout=layout)


def select(op: Op) -> None:
    values, layout = _operands(op, (0, 1, 2))
    if op.kind == "SELECT" and op.rank(0) not in (0, op.rank(1)):
        raise Unsupported("SELECT by rows is not supported")
    op.result(op.emit("Where", values), layout=layout)


def square(op: Op) -> None:
    layout = op.layout(0)
    value = op.real(0, layout)
    op.result(op.emit("Mul", [value, value]), layout=layout)


def rsqrt(op: Op) -> None:
    layout = op.layout(0)
    op.result(op.emit("Reciprocal", [op.emit("Sqrt", [op.real(0, layout)])]), layout=layout)


def leaky_relu(op: Op) -> None:
    layout = op.layout(0)
    op.result(op.emit("LeakyRelu", [op.real(0, layout)], alpha=float(op.option("Alpha", 0.0))), layout=layout)


def gelu(op: Op) -> None:
    layout = op.layout(0)
    form = {"approximate": "tanh"} if op.option("Approximate", False) else {}
    op.result(op.emit("Gelu", [op.real(0, layout)], **form), layout=layout)


def softmax(op: Op) -> None:
    layout, rank = op.layout(0), op.rank(0)
    value = op.real(0, layout)
    axis = place(rank - 1, layout)
    if op.kind == "LOG_SOFTMAX":
        op.result(op.emit("LogSoftmax", [value], axis=axis), layout=layout)
        return
    beta = float(op.option("Beta", 1.0))
    if beta != 1:
        value = op.emit("Mul", [value, op.array("beta", np.asarray(beta, np.float32))])
    op.result(op.emit("Softmax", [value], axis=axis), layout=layout)


def l2_normalization(op: Op) -> None:
    layout, rank = op.layout(0), op.rank(0)
    value = op.real(0, layout)
    total = op.emit("ReduceSumSquare", [value, op.int64("axes", [place(rank - 1, layout)])])
    least = op.emit("Max", [total, op.array("least", np.asarray(1e-6, np.float32))])
    op.result(op.activated(op.emit("Div", [value, op.emit("Sqrt", [least])])), layout=layout)


def local_response_normalization(op: Op) -> None:
    """Alpha stands before a plain sum here, before a mean in ONNX."""
    size = 2 * int(op.option("Radius")) + 1
    numbers = {name: float(op.option(name.title(), 0.0)) for name in ("alpha", "beta", "bias")}
    numbers["alpha"] *= size
    if size < 1 or op.rank(0) != 4:
        raise InputError("option Radius", f"is {size // 2} for {op.rank(0)} dimensions")
    op.result(op.emit("LRN", [op.real(0, NCHW)], size=size, **numbers), layout=NCHW)


def reduction(name: str) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        rank = op.rank(0)
        axes = sorted({op.axis(axis, rank) for axis in op.integers(1, "axes")})
        keep = bool(op.option("KeepDims", False))
        if not axes:
            op.result(op.emit("Identity", [op.real(0, op.layout(0))]), layout=op.layout(0))
            return
        layout = op.layout(0) if keep else kept_layout(op, 0, axes)
        value = op.real(0, layout)
        if layout and name == "ReduceMean" and axes == [1, 2]:
            value = op.emit("GlobalAveragePool", [value])
            if not keep:
                value = op.emit("Squeeze", [value, op.int64("axes", [2, 3])])
        else:
            where = op.int64("axes", [place(axis, layout) for axis in axes])
            value = op.emit(name, [value, where], keepdims=int(keep))
        op.result(value, layout=layout if keep else FILE)

    return translate


def arg(name: str) -> Callable[[Op], None]:
    def translate(op: Op) -> None:
        (axis,) = op.integers(1, "an axis") or [0]
        axis = op.axis(axis, op.rank(0))
        layout = kept_layout(op, 0, [axis])
        value = op.emit(name, [op.real(0, layout)], axis=place(axis, layout), keepdims=0)
        op.result(value if op.output().dtype == "i64" else op.emit("Cast", [value], to=op.output().dtype))

    return translate


TRANSLATIONS: dict[str, Callable[[Op], None]] = {
    **{kind: unary(name) for kind, name in _UNARY.items()},
    **{kind: binary(name) for kind, name in _BINARY.items()},
    **{kind: reduction(name) for kind, name in _REDUCTIONS.items()},
    **{kind: bounded(low, high) for kind, (low, high) in _BOUNDS.items()},
    **MOVES,
    **LAYERS,
    "ARG_MAX": arg("ArgMax"),
    "ARG_MIN": arg("ArgMin"),
    "GELU": gelu,
    "L2_NORMALIZATION": l2_normalization,
    "LEAKY_RELU": leaky_relu,
    "LOCAL_RESPONSE_NORMALIZATION": local_response_normalization,
    "LOG_SOFTMAX": softmax,
    "NOT_EQUAL": not_equal,
    "RSQRT": rsqrt,
    "SELECT": select,
    "SELECT_V2": select,
    "SOFTMAX": softmax,
    "SQUARE": square,
    "SQUARED_DIFFERENCE": squared_difference,
}
"""What each operator of TensorFlow Lite becomes."""
