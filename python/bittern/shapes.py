"""Shapes and element types of all values of a network, as far as sizes and symbols tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bittern.container import LEAF_TYPES
from bittern.graph import Node, ValueInfo
from bittern.operators import OPERATORS
from bittern.shape_rules import shapes_of
from bittern.shape_rules.view import Dim, NodeView, Shape

if TYPE_CHECKING:
    from bittern.network import Network

Hint = Callable[[str], Sequence[Dim | None] | None]


def infer_shapes(network: Network) -> dict[str, ValueInfo]:
    """Shape and element type of every value. A size that cannot be known gets a symbol of its own; the shape of a value
    of which not even the number of dimensions is known is None.

    Raises InputError that names the node whose inputs do not fit.
    """
    return Shapes(network).update()


class Shapes:
    """The values of a network that may still grow. ``hint`` tells shapes that the rules here do not know."""

    def __init__(self, network: Network, hint: Hint = lambda name: None) -> None:
        self._network, self._hint = network, hint
        self._values: dict[str, ValueInfo] = {}
        self._constants = self._nodes = 0

    def update(self) -> dict[str, ValueInfo]:
        """All values, those included that were added since the last call. Raises InputError."""
        network = self._network
        self._values.update({info.name: info for info in network.inputs})
        if self._constants != len(network.constants):
            self._constants = len(network.constants)
            for name, tree in network.constants.items():
                if name not in self._values:
                    dtype = "f32" if tree.is_real else LEAF_TYPES[next(tree.leaves()).dtype.str].lower()
                    self._values[name] = ValueInfo(name, tree.shape, dtype)
        while self._nodes < len(network.nodes):
            self._add(network.nodes[self._nodes])
            self._nodes += 1
        return self._values

    def _add(self, node: Node) -> None:
        inputs = [self._values[name] if name else None for name in node.inputs]
        shapes = shapes_of(
            NodeView(node, self._network.constants), [None if info is None else info.shape for info in inputs]
        )
        types = OPERATORS[node.op].types
        for index, output in enumerate(node.outputs):
            shape = self._refined(output, shapes[index] if index < len(shapes) else None)
            kind = types[min(index, len(types) - 1)]
            self._values[output] = ValueInfo(output, shape, _dtype(node, kind, inputs))

    def _refined(self, name: str, shape: Shape | None) -> Shape | None:
        """What the hint says where a rule knew nothing, or made up a symbol."""
        if shape is not None and not any(size == made_up(name, axis) for axis, size in enumerate(shape)):
            return shape
        hint = self._hint(name)
        if hint is None:
            return shape
        if shape is None:
            return tuple(made_up(name, axis) if size is None else size for axis, size in enumerate(hint))
        if len(hint) != len(shape):
            return shape
        return tuple(
            size if other is None or size != made_up(name, axis) else other
            for axis, (size, other) in enumerate(zip(shape, hint, strict=True))
        )


def made_up(name: str, axis: int) -> str:
    """The symbol for a size of which nothing is known."""
    return f"{name}_{axis}"


def _dtype(node: Node, kinds: str, inputs: Sequence[ValueInfo | None]) -> str:
    """An element type as the table of operators tells it."""
    for kind in kinds.split("/"):
        if kind.startswith("="):
            given = node.attributes.get(kind[1:])
            if isinstance(given, str):
                return given
        elif not kind.isdigit():
            return kind
        else:
            info = inputs[int(kind)] if int(kind) < len(inputs) else None
            if info is not None:
                return info.dtype
    return "f32"
