"""Binary networks in float form: weights of -1 and +1, and comparisons that make activations of two levels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Dense, Encoding, Packed, Signs
from bittern.graph import Node
from bittern.network import Network, drop_unread, unique
from bittern.shapes import infer_shapes

LAYERS = ("Conv", "Gemm", "MatMul")
PASSED = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad")  # what hands two levels on to them
LEAST_ELEMENTS = 64  # of weights: below, the header outweighs what is saved
_AFFINE = ("Mul", "Add", "Sub", "Div")

Reals = NDArray[np.float32]


def encode_signs(network: Network) -> None:
    """Give weights that are plus or minus one number, of the tensor or of each output channel, a bit each, in place.

    Comparisons with constants that make two levels for layers with such weights, or whole numbers, become
    MultiThreshold nodes with one threshold: ``Greater`` or ``GreaterOrEqual`` (or ``Less`` of a constant) with Cast and
    scalings or Where behind it, and ``Sign(Sign(x) + c)``. Sums of such levels count, too: residual levels (arXiv
    1711.01243). All values stay the same float32 numbers.
    """
    found = {node.inputs[1] for node in network.nodes if node.op in LAYERS and _encode_weight(network, node)}
    if found:
        _Comparisons(network, found).run()


def _encode_weight(network: Network, node: Node) -> bool:
    """Give a layer's weight a bit for each element if it can; true if it has, or is made of whole numbers."""
    name = node.inputs[1]
    tree = network.constants.get(name)
    if not isinstance(tree, Dense) or tree.bf16 or tree.leaf.dtype != np.float32 or tree.order:
        return isinstance(tree, Signs)
    axis = 0 if node.op == "Conv" or node.attributes.get("transB", 0) else tree.leaf.ndim - 1
    network.constants[name] = sign_form(tree.leaf, axis) or tree
    return isinstance(network.constants[name], Signs) or _are_small_integers(tree.leaf)


def _are_small_integers(weight: Reals) -> bool:
    with np.errstate(all="ignore"):
        return bool(weight.size and np.abs(weight).max() < 128 and np.array_equal(np.rint(weight), weight))


def sign_form(weight: Reals, axis: int) -> Encoding | None:
    """The bits of a weight whose elements are plus or minus one number, or one of each index of ``axis``; else None."""
    if weight.size < LEAST_ELEMENTS or weight.ndim < 2:
        return None
    size = np.abs(weight)
    scale = size.max(axis=tuple(d for d in range(weight.ndim) if d != axis), keepdims=True)
    if not (
        np.isfinite(scale).all() and (scale > 0).all() and np.array_equal(size, np.broadcast_to(scale, size.shape))
    ):
        return None
    positive = weight > 0
    if positive.all() or not positive.any():  # a mean, not a binary weight
        return None
    one = bool((scale == scale.flat[0]).all())
    numbers = Dense(np.array(scale.flat[0]) if one else scale.reshape(-1).copy())
    return Signs(Packed.pack(positive.astype(np.uint8), 1), numbers, None if one else axis)


class _Comparisons:
    def __init__(self, network: Network, weights: set[str]) -> None:
        self.network = network
        self.weights = weights
        self.taken = {name for node in network.nodes for name in (*node.inputs, *node.outputs)} | set(network.constants)
        self.taken |= {info.name for info in network.inputs}
        self.producer = {name: node for node in network.nodes for name in node.outputs}
        self.uses = Counter(name for node in network.nodes for name in node.inputs)
        self.uses.update(info.name for info in network.outputs)
        self.readers: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def run(self) -> None:
        self.shapes = infer_shapes(self.network)
        replaced: dict[str, Node] = {}
        for node in self.network.nodes:
            if len(node.outputs) == 1 and self._feeds_layers(node.outputs[0]):
                step = self._step(node)
                if step is not None:
                    replaced[node.outputs[0]] = step
        if replaced:
            self.network.nodes = [replaced.get(node.outputs[0], node) for node in self.network.nodes]
            drop_unread(self.network)

    def _feeds_layers(self, value: str) -> bool:
        ahead, seen = [value], {value}
        while ahead:
            for node in self.readers.get(value := ahead.pop(), []):
                added = node.op in ("Add", "Mul") or (node.op == "Sub" and node.inputs[1] == value)
                if not node.outputs or not (added or node.inputs[0] == value):
                    continue
                if node.op in LAYERS and node.inputs[1] in self.weights:
                    return True
                if (added or node.op in PASSED) and node.outputs[0] not in seen:
                    ahead.append(node.outputs[0])
                    seen.add(node.outputs[0])
        return False

    def _array(self, name: str) -> NDArray[Any] | None:
        tree = self.network.constants.get(name)
        return tree.decode() if tree is not None else None

    def _scalar(self, name: str) -> np.float32 | None:
        array = self._array(name)
        return array.reshape(-1)[0] if array is not None and array.dtype == np.float32 and array.size == 1 else None

    def _maker(self, name: str, *ops: str) -> Node | None:
        """The node that computes a value for one reader."""
        node = self.producer.get(name)
        return node if node is not None and node.op in ops and self.uses[name] == 1 else None

    def _step(self, node: Node) -> Node | None:
        """One threshold in the place of a node and those before it; None if it is no such step."""
        if node.op == "Sign":
            return self._sign(node)
        if node.op == "Where":
            compare = self._maker(node.inputs[0], *_COMPARES)
            high, low = self._scalar(node.inputs[1]), self._scalar(node.inputs[2])
            return None if compare is None or high is None or low is None else self._threshold(node, compare, low, high)
        scalings: list[tuple[str, np.float32, bool]] = []
        at: Node | None = node
        while at is not None and at.op in _AFFINE:
            sides = [self._scalar(name) for name in at.inputs]
            if (sides[0] is None) == (sides[1] is None):
                return None
            first = sides[0] is None
            number = sides[1] if first else sides[0]
            assert number is not None
            scalings.append((at.op, number, first))
            at = self._maker(at.inputs[0 if first else 1], "Cast", *_AFFINE)
        if at is None or at.op != "Cast" or at.attributes.get("to") != "f32":
            return None
        compare = self._maker(at.inputs[0], *_COMPARES)
        if compare is None:
            return None
        levels = np.array([0, 1], np.float32)
        with np.errstate(all="ignore"):
            for op, number, first in reversed(scalings):
                levels = _OPERATIONS[op](levels, number) if first else _OPERATIONS[op](number, levels)
        return self._threshold(node, compare, levels[0], levels[1])

    def _sign(self, node: Node) -> Node | None:
        """Sign(Sign(x) + c): zero gets the sign of a small constant."""
        shifted = self._maker(node.inputs[0], "Add")
        if shifted is None:
            return None
        for side in (0, 1):
            inner, number = self._maker(shifted.inputs[side], "Sign"), self._scalar(shifted.inputs[1 - side])
            if inner is not None and number is not None and 0 < abs(number) < 1 and self._keeps_shape(inner, node):
                least = np.float32(0) if number > 0 else _above(np.zeros((), np.float32))
                return self._node(node, inner.inputs[0], np.reshape(least, (1, 1)), -1.0, 2.0, "NCHW")
        return None

    def _keeps_shape(self, first: Node, last: Node) -> bool:
        before, after = self.shapes.get(first.inputs[0]), self.shapes.get(last.outputs[0])
        return before is not None and after is not None and before.shape is not None and before.shape == after.shape

    def _threshold(self, node: Node, compare: Node, low: np.float32, high: np.float32) -> Node | None:
        reverse = compare.op in ("Less", "LessOrEqual")  # a constant that is less than x
        x, bound = compare.inputs[::-1] if reverse else compare.inputs
        array = self._array(bound)
        if array is None or array.dtype != np.float32 or np.isnan(array).any() or x in self.network.constants:
            return None
        least = _above(array) if compare.op in ("Greater", "Less") else array
        scale = high - low
        if not (np.isfinite(scale) and scale != 0 and low + scale == high) or np.isposinf(least).any():
            return None
        # The bound must not make the result larger than x, nor of higher rank.
        before, after = self.shapes.get(x), self.shapes.get(node.outputs[0])
        if before is None or after is None or before.shape is None or before.shape != after.shape:
            return None
        rank, shape = len(before.shape), (1,) * (len(before.shape) - array.ndim) + array.shape
        wide = [d for d, size in enumerate(shape) if size != 1]
        if rank < 2 or len(shape) != rank or len(wide) > 1 or any(shape[d] != before.shape[d] for d in wide):
            return None
        # One for each element of the second dimension, of the last, or one for all.
        axis = wide[0] if wide else 1
        layout = {2: "NCHW", 3: "NCW", 4: "NCHW"}.get(rank, "") if axis == 1 else "NHWC" if axis == rank - 1 else ""
        if not layout:
            return None
        table = least.reshape(-1, 1)
        return self._node(node, x, table, float(low), float(scale), layout)

    def _node(self, node: Node, x: str, table: Reals, low: float, scale: float, layout: str) -> Node:
        name = unique(f"{node.outputs[0]}.threshold", self.taken)
        self.taken.add(name)
        self.network.constants[name] = Dense(np.ascontiguousarray(table, np.float32))
        attributes: dict[str, Any] = {"out_scale": scale, "out_bias": low, "data_layout": layout}
        return Node(node.name, "MultiThreshold", [x, name], list(node.outputs), attributes)


def _above(array: Reals) -> Reals:
    """The next greater numbers that are no subnormals, which the engine takes for zero."""
    least, tiny = np.nextafter(array, np.float32(np.inf)), np.finfo(np.float32).tiny
    above: Reals = np.where(
        (least > 0) & (least < tiny), tiny, np.where((least < 0) & (least > -tiny), np.float32(0), least)
    )
    return above


_COMPARES = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")
_OPERATIONS: dict[str, Any] = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract, "Div": np.divide}
