"""Which channels of which values belong together, so that one cannot go without the others.

Every channel of every value is an element; elements are joined where an operator ties them (arXiv 1608.08710 for
residual sums), and whole values are pinned where an operator is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.graph import Node
from bittern.network import Network
from bittern.shapes import infer_shapes

Ids = NDArray[np.int64]

# Each output element depends on the one input element at its place.
UNARY = (
    *(
        "Relu",
        "LeakyRelu",
        "Clip",
        "Sigmoid",
        "Tanh",
        "Elu",
        "Celu",
        "Selu",
        "HardSigmoid",
        "HardSwish",
        "Mish",
        "Gelu",
    ),
    *("Softplus", "Softsign", "Swish", "ThresholdedRelu", "Shrink", "Erf", "Abs", "Neg", "Exp", "Sqrt", "Identity"),
    *("Dropout", "Sign", "Floor", "Ceil", "Round", "Reciprocal", "Log"),
)
PER_CHANNEL = ("BatchNormalization", "InstanceNormalization")
POOLS = ("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Mean", "Sum", "PRelu")
REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Channels:
    """The channels of a value: their axis, and an element for each."""

    axis: int
    ids: Ids


@dataclass(frozen=True)
class Flow:
    """Where the order of a value's channels comes from: ``kind``, the values, and numbers that the kind needs."""

    kind: str  # fresh, same, shuffle, concat, flatten, depthwise, split
    sources: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()


class Couplings:
    """The elements of a network, joined. ``of``: the channels of each value that has some; ``flow`` and ``equal``: how
    orders follow from each other, and which values must agree on theirs.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shapes = infer_shapes(network)
        self.of: dict[str, Channels] = {}
        self.flow: dict[str, Flow] = {}
        self.equal: list[tuple[Node, tuple[str, ...]]] = []
        self.pinned: dict[str, str] = {}  # by value, why none of its channels may go
        self.grouped: set[str] = set()  # values that a convolution in groups reads or makes
        self._parent: list[int] = []
        self._users: dict[str, list[Node]] = {}
        for node in network.nodes:
            for name in dict.fromkeys(node.inputs):
                self._users.setdefault(name, []).append(node)
        for info in network.inputs:
            if self._rank(info.name) >= 2 and isinstance(self._dims(info.name)[1], int):
                self._fresh(info.name, 1, int(self._dims(info.name)[1]))
                self.pinned[info.name] = "it is an input of the network"
        for node in network.nodes:
            self._couple(node)
        for info in network.outputs:
            self.pinned.setdefault(info.name, "it is an output of the network")

    # What others ask

    def roots(self, name: str) -> Ids:
        """The representative of each channel of a value."""
        return np.array([self._find(int(element)) for element in self.of[name].ids], dtype=np.int64)

    def pins(self) -> dict[int, tuple[str, str]]:
        """By representative: a value that is pinned, and why."""
        found: dict[int, tuple[str, str]] = {}
        for name, reason in self.pinned.items():
            if name in self.of:
                for root in self.roots(name).tolist():
                    found.setdefault(root, (name, reason))
        return found

    def weight(self, node: Node) -> tuple[int, ...] | None:
        """The shape of a layer's constant weight; None if it has none."""
        name = node.inputs[1] if len(node.inputs) > 1 else ""
        return self.network.constants[name].shape if name in self.network.constants else None

    # Elements

    def _find(self, element: int) -> int:
        parent = self._parent
        while parent[element] != element:
            parent[element] = parent[parent[element]]
            element = parent[element]
        return element

    def _join(self, first: Ids, second: Ids) -> None:
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            x, y = self._find(a), self._find(b)
            self._parent[max(x, y)] = min(x, y)

    def _fresh(self, name: str, axis: int, count: int, flow: Flow | None = None) -> Ids:
        ids = np.arange(len(self._parent), len(self._parent) + count, dtype=np.int64)
        self._parent.extend(ids.tolist())
        self.of[name] = Channels(axis, ids)
        self.flow[name] = flow or Flow("fresh")
        return ids

    def _same(self, source: str, target: str, axis: int | None = None) -> None:
        if source in self.of:
            channels = self.of[source]
            self.of[target] = Channels(channels.axis if axis is None else axis, channels.ids)
            self.flow[target] = Flow("same", (source,))

    def _pin(self, node: Node, names: Sequence[str], why: str = "") -> None:
        for name in names:
            if name in self.of:
                reason = why or "through which channels cannot be followed"
                self.pinned.setdefault(name, f"it feeds node {node.name!r} ({node.op}), {reason}")

    def _dims(self, name: str) -> tuple[Any, ...]:
        return tuple(self.shapes[name].shape or ())

    def _rank(self, name: str) -> int:
        return len(self._dims(name))

    def _data(self, node: Node) -> list[str]:
        return [name for name in dict.fromkeys(node.inputs) if name and name not in self.network.constants]

    # Rules

    def _couple(self, node: Node) -> None:
        if node.op in LAYERS:
            self._layer(node)
        elif node.op in UNARY and len(self._data(node)) == 1:
            self._same(node.inputs[0], node.outputs[0])
            for name in node.outputs[1:]:
                self._same(node.inputs[0], name)
        elif node.op in (*PER_CHANNEL, *POOLS) and len(self._data(node)) == 1 and self._axis(node.inputs[0]) == 1:
            self._same(node.inputs[0], node.outputs[0])
        elif node.op in ARITHMETIC:
            self._arithmetic(node)
        elif node.op in REDUCTIONS:
            self._reduction(node)
        elif node.op in ("Concat", "Split"):
            self._concat(node) if node.op == "Concat" else self._split(node)
        elif node.op == "Transpose" and node.inputs[0] in self.of:
            rank = self._rank(node.inputs[0])
            perm = node.attributes.get("perm") or list(range(rank))[::-1]
            assert isinstance(perm, list)
            self._same(
                node.inputs[0], node.outputs[0], [int(axis) for axis in perm].index(self.of[node.inputs[0]].axis)
            )
        elif node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            self._reshape(node)
        elif node.op in ("Pad", "Resize"):
            self._spatial(node)
        elif node.outputs[0] not in self.of:  # a shuffle may have been here before
            self._pin(node, self._data(node))

    def _axis(self, name: str) -> int:
        return self.of[name].axis if name in self.of else -1

    def _layer(self, node: Node) -> None:
        x, shape = node.inputs[0], self.weight(node)
        out = node.outputs[0]
        if shape is None or len(shape) < 2 or x in self.network.constants:
            self._pin(node, self._data(node), "whose weight is not a constant matrix")
            return
        groups = int(node.attributes.get("group", 1)) if node.op in ("Conv", "ConvTranspose") else 1  # type: ignore[arg-type]
        rank = self._rank(x)
        wanted = 1 if node.op != "MatMul" else rank - 1
        plain = not node.attributes.get("transA", 0) and (node.op not in ("Gemm", "MatMul") or len(shape) == 2)
        if not plain or (node.op == "ConvTranspose" and groups > 1):
            self._pin(node, self._data(node))
            return
        transposed = node.op == "Gemm" and bool(node.attributes.get("transB", 0))
        count = shape[0] if node.op == "Conv" or transposed else shape[1]
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        ids = self._fresh(out, 1 if node.op != "MatMul" else self._rank(out) - 1, count)
        if bias and bias not in self.network.constants:
            self._pin(node, [bias])
            self.pinned[out] = f"node {node.name!r} adds a bias to it that is not constant"
        if x not in self.of:
            return
        if self.of[x].axis != wanted:
            self._pin(node, [x])
        elif groups > 1 and shape[1] == 1 and self.of[x].ids.size == groups:
            self._join(np.repeat(self.of[x].ids, count // groups), ids)
            self.flow[out] = Flow("depthwise", (x,), (count // groups,))
        elif groups > 1:
            self.grouped.update((x, out))

    def _arithmetic(self, node: Node) -> None:
        data = self._data(node)
        out, rank = node.outputs[0], self._rank(node.outputs[0])
        known = [name for name in data if name in self.of]
        wide = [name for name in known if self.of[name].ids.size > 1]
        places = {(self.of[name].axis - self._rank(name), self.of[name].ids.size) for name in wide}
        if not wide or len(places) > 1 or (node.op == "PRelu" and len(data) > 1):
            self._pin(node, known)
            return
        position, count = next(iter(places))
        for name in (*data, *(name for name in node.inputs if name in self.network.constants)):
            dims = self._dims(name)
            size = dims[position] if len(dims) >= -position else 1
            if name not in wide and size not in (1, count):
                self._pin(node, known)
                return
            if name not in wide and size == count != 1 and name not in self.network.constants:
                self._pin(node, known, f"whose other input {name!r} has channels that cannot be followed")
        for name in wide[1:]:
            self._join(self.of[wide[0]].ids, self.of[name].ids)
        if len(wide) > 1:
            self.equal.append((node, tuple(wide)))
        self._same(wide[0], out, rank + position)

    def _reduction(self, node: Node) -> None:
        x = node.inputs[0]
        axes = self._numbers(node, 1)
        if x not in self.of:
            return
        rank, axis = self._rank(x), self.of[x].axis
        gone = {int(a) % rank for a in axes} if axes is not None else set(range(rank))
        if axis in gone:
            self._pin(node, [x])
            return
        kept = bool(node.attributes.get("keepdims", 1))
        self._same(x, node.outputs[0], axis if kept else axis - sum(a < axis for a in gone))

    def _concat(self, node: Node) -> None:
        known = [name for name in node.inputs if name in self.of]
        axis = int(node.attributes["axis"]) % max(self._rank(node.outputs[0]), 1)  # type: ignore[arg-type]
        axes = {self.of[name].axis for name in known}
        if len(known) < len(node.inputs) or len(axes) != 1 or len(set(known)) < len(known):
            self._pin(node, known)
        elif axes == {axis}:
            ids = np.concatenate([self.of[name].ids for name in known])
            made = self._fresh(node.outputs[0], axis, ids.size, Flow("concat", tuple(known)))
            self._join(ids, made)
        else:
            for name in known[1:]:
                self._join(self.of[known[0]].ids, self.of[name].ids)
            self.equal.append((node, tuple(known)))
            self._same(known[0], node.outputs[0])

    def _split(self, node: Node) -> None:
        x = node.inputs[0]
        if x not in self.of:
            return
        axis = int(node.attributes.get("axis", 0)) % self._rank(x)  # type: ignore[arg-type]
        begin = 0
        for name in node.outputs:
            if axis != self.of[x].axis:
                self._same(x, name)
                continue
            size = self._dims(name)[axis]
            if not isinstance(size, int):
                self._pin(node, [x])
                return
            made = self._fresh(name, axis, size, Flow("split", (x,), (begin,)))
            self._join(self.of[x].ids[begin : begin + size], made)
            begin += size

    def _spatial(self, node: Node) -> None:
        x = node.inputs[0]
        if x not in self.of:
            return
        axis, rank = self.of[x].axis, self._rank(x)
        if node.op == "Pad":
            pads = self._numbers(node, 1)
            untouched = pads is not None and pads.size == 2 * rank and not pads[axis] and not pads[axis + rank]
        else:
            scales = self._numbers(node, 2)
            named = scales is None or scales.size != rank or bool(node.attributes.get("axes"))
            untouched = not named and scales is not None and bool(scales[axis] == 1)
        if untouched:
            self._same(x, node.outputs[0])
        else:
            self._pin(node, [x])

    def _numbers(self, node: Node, index: int) -> NDArray[Any] | None:
        """A constant input as a vector; None if it is not given or not constant."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        tree = self.network.constants.get(name)
        return tree.decode().reshape(-1) if tree is not None and tree.size else None

    def _reshape(self, node: Node) -> None:
        x, out = node.inputs[0], node.outputs[0]
        if x not in self.of or out in self.of:
            return
        before, after = self._dims(x), self._dims(out)
        axis = self.of[x].axis
        left, right = _product(before[:axis]), _product(before[axis + 1 :])
        for place, size in enumerate(after):
            if size == before[axis] and _product(after[:place]) == left and _product(after[place + 1 :]) == right:
                self._same(x, out, place)
                return
        for place, size in enumerate(after):
            for first in range(axis + 1):
                for last in range(axis, len(before)):
                    merged = before[first : last + 1]
                    if (
                        all(isinstance(part, int) for part in merged)
                        and size == math.prod(merged)
                        and _product(after[:place]) == _product(before[:first])
                        and _product(after[place + 1 :]) == _product(before[last + 1 :])
                    ):
                        outer, inner = math.prod(before[first:axis]), math.prod(before[axis + 1 : last + 1])
                        made = self._fresh(out, place, int(size), Flow("flatten", (x,), (outer, inner)))
                        self._join(np.tile(np.repeat(self.of[x].ids, inner), outer), made)
                        return
        if not self._shuffle(node, x, before, axis):
            self._pin(node, [x])

    def _shuffle(self, node: Node, x: str, before: tuple[Any, ...], axis: int) -> bool:
        """Whether node begins Reshape, Transpose, Reshape that exchange groups and channels in them."""
        swap, join = self._only_user(node.outputs[0], "Transpose"), None
        if swap is not None:
            join = self._only_user(swap.outputs[0], "Reshape")
        if swap is None or join is None or self._dims(join.outputs[0]) != before:
            return False
        split, count = self._dims(node.outputs[0]), before[axis]
        perm = list(range(len(split)))
        if len(split) != len(before) + 1:
            return False
        perm[axis], perm[axis + 1] = axis + 1, axis
        groups, each = split[axis : axis + 2]
        fits = isinstance(groups, int) and isinstance(each, int) and groups * each == count
        if not fits or split[:axis] + split[axis + 2 :] != before[:axis] + before[axis + 1 :]:
            return False
        if swap.attributes.get("perm") != perm:
            return False
        shuffled = self.of[x].ids.reshape(groups, each).T.reshape(-1)
        self.of[join.outputs[0]] = Channels(axis, shuffled)
        self.flow[join.outputs[0]] = Flow("shuffle", (x,), (groups,))
        self.flow[node.outputs[0]] = Flow("inside", (x,), (groups, axis))
        self.flow[swap.outputs[0]] = Flow("inside", (x,), (groups, axis))
        return True

    def _only_user(self, name: str, op: str) -> Node | None:
        users = self._users.get(name, [])
        outputs = {info.name for info in self.network.outputs}
        return users[0] if len(users) == 1 and users[0].op == op and name not in outputs else None


def _product(dims: Sequence[Any]) -> tuple[tuple[str, ...], int]:
    """Of symbols and sizes, comparable."""
    symbols = tuple(sorted(str(size) for size in dims if not isinstance(size, int)))
    return symbols, math.prod(size for size in dims if isinstance(size, int))


def positions(couplings: Couplings, name: str, removed: set[int], known: dict[str, Ids]) -> Ids | str:
    """The channels of a value that stay, as its numbers of before, in the order in which they now come; or why they
    cannot. ``known``: those of the values that it comes from.
    """
    flow = couplings.flow[name]
    sources = [known.get(source) for source in flow.sources]
    if flow.kind == "fresh" or any(source is None for source in sources):
        roots = couplings.roots(name)
        return np.flatnonzero([root not in removed for root in roots.tolist()])
    first = known[flow.sources[0]]
    if flow.kind == "same":
        return first
    if flow.kind == "concat":
        sizes = [couplings.of[source].ids.size for source in flow.sources]
        begins = np.cumsum([0, *sizes[:-1]])
        return np.concatenate([known[source] + begin for source, begin in zip(flow.sources, begins, strict=True)])
    if flow.kind == "depthwise":
        each = flow.numbers[0]
        return np.asarray((first[:, np.newaxis] * each + np.arange(each)).reshape(-1))
    if flow.kind == "flatten":
        outer, inner = flow.numbers
        count = couplings.of[flow.sources[0]].ids.size
        places = np.arange(outer)[:, np.newaxis, np.newaxis] * count + first[:, np.newaxis]
        return np.asarray((places * inner + np.arange(inner)).reshape(-1))
    if flow.kind == "split":
        begin, size = flow.numbers[0], couplings.of[name].ids.size
        inside = (first >= begin) & (first < begin + size)
        if np.any(np.diff(np.flatnonzero(inside)) != 1):
            return "a split takes channels that a shuffle has mixed"
        return np.asarray(first[inside] - begin)
    groups, count = flow.numbers[0], couplings.of[name].ids.size
    each = count // groups
    group = first // each
    counts = np.bincount(group, minlength=groups)
    if np.any(np.diff(group) < 0) or np.any(counts != counts[0]):
        return f"its {groups} groups keep {', '.join(map(str, counts))} channels, and a shuffle needs as many of each"
    return np.asarray((first % each * groups + group).reshape(groups, -1).T.reshape(-1))
