"""A node as the rules of shapes see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from bittern.encodings import Encoding
from bittern.errors import InputError
from bittern.graph import Node

Dim = int | str
Shape = tuple[Dim, ...]
Result = Shape | list[Shape | None] | None  # of the first output, or of several; None: not known


class NodeView:
    """A node with what its shapes may depend on."""

    def __init__(self, node: Node, constants: Mapping[str, Encoding]) -> None:
        self.node, self._constants = node, constants

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.node.attributes.get(name, default)

    def fresh(self, axis: int, output: int = 0) -> str:
        """A symbol for a size that cannot be known."""
        return f"{self.node.outputs[output]}_{axis}"

    def given(self, index: int) -> bool:
        """True unless this input is left out."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def numbers(self, index: int) -> list[float] | None:
        """The elements of a constant input; None if it is none or left out."""
        tree = self._constants.get(self.node.inputs[index]) if self.given(index) else None
        return None if tree is None else np.asarray(tree.decode()).reshape(-1).tolist()

    def integers(self, index: int) -> list[int] | None:
        """The elements of a constant input as integers."""
        numbers = self.numbers(index)
        return None if numbers is None else [int(number) for number in numbers]

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from 0."""
        if not -rank <= axis < rank:
            self.refuse(f"axis {axis} is outside a tensor of {rank} dimensions")
        return axis % rank

    def rank(self, shape: Shape, rank: int) -> None:
        """Refuse a tensor of another number of dimensions."""
        if len(shape) != rank:
            self.refuse(f"needs {rank} dimensions, found shape {list(shape)}")

    def refuse(self, problem: str) -> NoReturn:
        """Say what does not fit."""
        raise InputError(f"node {self.node.name!r} ({self.node.op})", problem)


def broadcast(view: NodeView, inputs: list[Shape]) -> Shape:
    """The shape of inputs broadcast together. Raises InputError."""
    rank = max(len(shape) for shape in inputs)
    padded = [(1,) * (rank - len(shape)) + shape for shape in inputs]
    out: list[Dim] = []
    for axis, sizes in enumerate(zip(*padded, strict=True)):
        different = {size for size in sizes if size != 1}
        numbers = {size for size in different if isinstance(size, int)}
        if len(numbers) > 1:
            view.refuse(f"shapes {' and '.join(str(list(shape)) for shape in inputs)} do not broadcast")
        if numbers:  # a symbol beside it can only stand for the same number, or for 1
            out.extend(numbers)
        elif len(different) == 1:
            out.extend(different)
        else:
            out.append(view.fresh(axis) if different else 1)
    return tuple(out)
