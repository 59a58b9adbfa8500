"""What a node of an ONNX model is translated from and to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from bittern.encodings import Encoding
from bittern.errors import InputError

if TYPE_CHECKING:
    from onnx import NodeProto

# onnx.TensorProto.DataType by number: what the engine computes with, and names of the rest for messages.
TYPES = {1: "f32", 2: "u8", 3: "i8", 4: "u16", 5: "i16", 6: "i32", 7: "i64", 9: "bool", 12: "u32", 13: "u64"}


class Unsupported(Exception):
    """Why a node cannot be translated."""


@dataclass(frozen=True)
class Context:
    """A node of a model, with what its translation may look at. Outputs that nobody wants are cut or ``""``."""

    op: str
    name: str
    domain: str  # "" for ONNX's own
    opset: int
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    constant: Callable[[str], NDArray[Any] | None]
    encoding: Callable[[str], Encoding | None]  # of a constant; None if nodes compute the value
    bits: Callable[[str], int]  # of the codes of a value
    dtype: Callable[[str], str | None]  # None: not known
    shape: Callable[[str], tuple[int | str, ...] | None]  # None: not known
    new: Callable[[str], str]  # a name like this one that no value has

    def without(self, *names: str) -> dict[str, Any]:
        """The attributes but these."""
        return {name: value for name, value in self.attributes.items() if name not in names}

    def number(self, name: str, default: int | float) -> Any:
        """An attribute of the type of its default. Raises InputError."""
        value = self.attributes.get(name, default)
        if type(value) is not type(default):
            raise InputError(f"node {self.name!r}", f"attribute {name} of {self.op} is {value!r}, expected a number")
        return value

    def needs(self, inputs: int) -> None:
        """Raises InputError if there are fewer inputs, or one of them is left out."""
        found = [name for name in self.inputs[:inputs] if name]
        if len(found) < inputs:
            raise InputError(
                f"node {self.name!r}", f"{self.op} takes {inputs} inputs or more, {len(found)} of them are there"
            )

    def step(self, **changes: Any) -> Step:
        """This node itself, with changes."""
        same = {"op": self.op, "name": self.name, "inputs": self.inputs, "outputs": self.outputs}
        return Step(**{**same, "attributes": self.attributes, **changes})


@dataclass(frozen=True)
class Step:
    """A node of the network that is built, with the constants that it brings along.

    ``Constant`` is none: its outputs are among the constants.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: Mapping[str, NDArray[Any] | Encoding] = field(default_factory=dict)


def type_name(number: Any, what: str) -> str:
    """The name of an element type. Raises Unsupported for one that the engine does not compute with."""
    if number in TYPES:
        return TYPES[number]
    import onnx

    known = number in onnx.TensorProto.DataType.values()
    found = onnx.TensorProto.DataType.Name(number).lower() if known else f"type {number}"
    raise Unsupported(f"{what} {found} is not supported (supported: {', '.join(sorted(TYPES.values()))})")


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The attributes as Python values; texts are decoded."""
    import onnx

    out: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif not isinstance(value, (int, float, onnx.TensorProto)):
            several = isinstance(value, Sequence)
            value = [_text(item) for item in value] if several else _Other(attribute.type)
        out[attribute.name] = value
    return out


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class _Other:
    """An attribute of a kind that no supported operator takes, shown by its type."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"an attribute of type {self.kind}"
