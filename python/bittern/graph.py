"""The parts of a graph, and what makes each of them valid."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bittern.container import is_text
from bittern.encodings import Dense, Encoding
from bittern.errors import InputError
from bittern.operators import OPERATORS, Attribute, check_attributes, supported
from bittern.values import DTYPES, ValueInfo


@dataclass
class Node:
    """One application of an operator; an omitted optional input is the empty string."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Attribute] = field(default_factory=dict)


def unsupported(node: Node) -> list[str]:
    """Why this node's operator or attributes cannot be served."""
    if node.op not in OPERATORS:
        return [f"operator {node.op!r} is not supported ({supported()})"]
    return check_attributes(node.op, node.attributes)


def joined(problems: Sequence[str], most: int = 10) -> str:
    """Problems in one line."""
    rest = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return "; ".join(problems[:most]) + rest


def node_problems(node: Node, known: Collection[str]) -> list[str]:
    """What is wrong with the names that a node uses."""
    shape = OPERATORS[node.op]
    problems = []
    if len(node.inputs) < shape.least or (shape.most is not None and len(node.inputs) > shape.most):
        most = "" if shape.most == shape.least else " or more" if shape.most is None else f" to {shape.most}"
        problems.append(f"{node.op} takes {shape.least}{most} inputs, found {len(node.inputs)}")
    for index, name in enumerate(node.inputs):
        if name == "":
            if index < shape.least or shape.most is None:
                problems.append(f"input {index} of {node.op} cannot be left out")
        elif name not in known:
            problems.append(f"input {name!r} is not defined before it is used")
    least, most_of = shape.least_outputs, shape.most_outputs
    if len(node.outputs) < least or (most_of is not None and len(node.outputs) > most_of):
        up_to = "" if most_of == least else " or more" if most_of is None else f" to {most_of}"
        word = "output" if most_of == 1 else "outputs"
        problems.append(f"{node.op} has {least}{up_to} {word}, found {len(node.outputs)}")
    return problems


def info_problems(info: ValueInfo) -> list[str]:
    """What is wrong with a value's type and shape."""
    problems = (
        [] if info.dtype in DTYPES else [f"element type {info.dtype!r} is unknown, known are {', '.join(DTYPES)}"]
    )
    for size in info.shape or ():
        if isinstance(size, str):
            if not size or not is_text(size):
                problems.append("a symbol for a dimension must be a non-empty text")
        elif type(size) is not int or not 0 <= size < 2**63:
            problems.append(f"dimension {size!r} is neither a size nor a symbol")
    return problems


def value_info(name: str, shape: Sequence[int | str] | None, dtype: str) -> ValueInfo:
    """A checked ValueInfo; ``shape`` None: not known. Raises InputError."""
    if isinstance(shape, str):
        raise InputError(f"value {name!r}", f"shape is {shape!r}, expected a list of dimensions")
    dimensions = None
    if shape is not None:
        dimensions = tuple(size if isinstance(size, (str, bool)) else _plain_size(name, size) for size in shape)
    info = ValueInfo(name, dimensions, dtype)
    if problems := info_problems(info):
        raise InputError(f"value {name!r}", "; ".join(problems))
    return info


def _plain_size(name: str, size: Any) -> int:
    try:
        return operator.index(size)
    except TypeError:
        raise InputError(f"value {name!r}", f"dimension {size!r} is neither a size nor a symbol") from None


def root_problem(encoding: Encoding) -> str:
    """Why this tree cannot be a constant; empty if it can."""
    if not isinstance(encoding, Encoding):
        return f"is {type(encoding).__name__}, expected an encoding"
    if not encoding.is_real and not isinstance(encoding, Dense):
        return f"{encoding.describe()} yields integers; a constant is real, or a dense leaf of integers"
    return ""


def plain_value(value: Any) -> Any:
    """NumPy numbers, arrays and tuples as plain Python."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    return int(value) if isinstance(value, bool) else value
