"""The operators of a network: their inputs and attributes, with ONNX names and meaning (opset 17)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bittern.container import is_text

Attribute = int | float | str | list[int] | list[float]

# An attribute that is left out means this: a value, a list of ones or zeros of any length, or nothing in particular.
_ONES = ("ones",)
_ZEROS = ("zeros",)


@dataclass(frozen=True)
class Operator:
    """How many inputs an operator takes, and which attributes: name -> (type, default or None)."""

    least: int
    most: int | None  # None: any number
    attributes: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    constant: tuple[int, ...] = ()  # inputs that must be constants
    weight: int | None = None  # the input that compression is about
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # the values that are supported


_WINDOW: dict[str, tuple[str, Any]] = {
    "auto_pad": ("string", "NOTSET"),
    "kernel_shape": ("ints", None),
    "pads": ("ints", _ZEROS),
    "strides": ("ints", _ONES),
}
_DILATIONS: dict[str, tuple[str, Any]] = {"dilations": ("ints", _ONES)}
_CEIL: dict[str, tuple[str, Any]] = {"ceil_mode": ("int", 0)}
_AUTO_PAD = {"auto_pad": ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")}

OPERATORS: dict[str, Operator] = {
    "Add": Operator(2, 2),
    "AveragePool": Operator(1, 1, {**_WINDOW, **_CEIL, "count_include_pad": ("int", 0)}, only=_AUTO_PAD),
    "BatchNormalization": Operator(
        5,
        5,
        {"epsilon": ("float", 1e-5), "momentum": ("float", 0.9), "training_mode": ("int", 0)},
        constant=(1, 2, 3, 4),
        only={"training_mode": (0,)},
    ),
    "Clip": Operator(1, 3, constant=(1, 2)),
    "Concat": Operator(1, None, {"axis": ("int", None)}),
    "Conv": Operator(2, 3, {**_WINDOW, **_DILATIONS, "group": ("int", 1)}, constant=(1, 2), weight=1, only=_AUTO_PAD),
    "Div": Operator(2, 2),
    "Dropout": Operator(1, 1),
    "Flatten": Operator(1, 1, {"axis": ("int", 1)}),
    "Gemm": Operator(
        2,
        3,
        {"alpha": ("float", 1.0), "beta": ("float", 1.0), "transA": ("int", 0), "transB": ("int", 0)},
        constant=(1,),
        weight=1,
    ),
    "GlobalAveragePool": Operator(1, 1),
    "GlobalMaxPool": Operator(1, 1),
    "Identity": Operator(1, 1),
    "LRN": Operator(
        1, 1, {"alpha": ("float", 1e-4), "beta": ("float", 0.75), "bias": ("float", 1.0), "size": ("int", None)}
    ),
    "LeakyRelu": Operator(1, 1, {"alpha": ("float", 0.01)}),
    "MatMul": Operator(2, 2, constant=(1,), weight=1),
    "MaxPool": Operator(
        1, 1, {**_WINDOW, **_CEIL, **_DILATIONS, "storage_order": ("int", 0)}, only={**_AUTO_PAD, "storage_order": (0,)}
    ),
    "Mul": Operator(2, 2),
    "Relu": Operator(1, 1),
    "Reshape": Operator(2, 2, {"allowzero": ("int", 0)}, constant=(1,), only={"allowzero": (0,)}),
    "Sigmoid": Operator(1, 1),
    "Softmax": Operator(1, 1, {"axis": ("int", -1)}),
    "Squeeze": Operator(2, 2, constant=(1,)),
    "Sub": Operator(2, 2),
    "Tanh": Operator(1, 1),
    "Transpose": Operator(1, 1, {"perm": ("ints", None)}),
    "Unsqueeze": Operator(2, 2, constant=(1,)),
}
_REQUIRED = {
    "AveragePool": ("kernel_shape",),
    "Concat": ("axis",),
    "LRN": ("size",),
    "MaxPool": ("kernel_shape",),
}


def supported() -> str:
    """The names of all operators, for messages."""
    return ", ".join(sorted(OPERATORS))


def check_attributes(op: str, attributes: Mapping[str, Attribute]) -> list[str]:
    """What is wrong with the attributes of a known operator, one sentence each."""
    known = OPERATORS[op].attributes
    only = OPERATORS[op].only
    problems = [f"attribute {name} of {op} is missing" for name in _REQUIRED.get(op, ()) if name not in attributes]
    for name, value in attributes.items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            problems.append(f"attribute {name!r} of {op} is not supported (supported: {allowed})")
        elif not _is_of_type(known[name][0], value):
            problems.append(f"attribute {name} of {op} is {value!r}, expected {_EXPECTED[known[name][0]]}")
        elif name in only and value not in only[name]:
            allowed = ", ".join(repr(choice) for choice in only[name])
            problems.append(f"attribute {name} of {op} is {value!r}, supported: {allowed}")
    return problems


_EXPECTED = {"int": "an integer", "float": "a finite number", "string": "a text", "ints": "a list of integers"}


def _is_of_type(kind: str, value: object) -> bool:
    if kind == "int":
        return _is_integer(value)
    if kind == "float":
        return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
    if kind == "string":
        return isinstance(value, str) and is_text(value)
    return isinstance(value, list) and all(_is_integer(item) for item in value)


def _is_integer(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def significant(op: str, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """The attributes without those that equal their default; numbers in the type that the operator gives them."""
    kept: dict[str, Attribute] = {}
    for name, value in attributes.items():
        kind, default = OPERATORS[op].attributes[name]
        if kind == "float" and isinstance(value, int):
            value = float(value)
        if default in (_ONES, _ZEROS):
            if isinstance(value, list) and all(item == int(default is _ONES) for item in value):
                continue
        elif default is not None and value == default:
            continue
        kept[name] = value
    return kept
