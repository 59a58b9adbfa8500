"""Channels taken out of a network: of the weights that make them, of those that read them, and of all in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.prepare import rebuilt
from bittern.compression.prune.coupling import LAYERS, PER_CHANNEL, Couplings, Ids, positions
from bittern.compression.sparse import smallest_form
from bittern.encodings import Dense, Encoding
from bittern.errors import InputError, UnsupportedError
from bittern.graph import Node
from bittern.network import Network, unique
from bittern.shapes import infer_shapes


def remove_channels(network: Network, keep: Mapping[str, Sequence[int]]) -> Network:
    """A copy of ``network`` in which the values named keep only these channels, in their order of before.

    ``keep``: by name of a value (the output of a layer, or one behind it), the numbers of its channels that stay. What
    goes with them goes everywhere: biases, normalisation, factors; the channels of values that are added to it, or
    concatenated, or that a depthwise convolution makes of it; and what later layers have for them. Changed weights
    become dense.

    Where the weights and biases of the removed channels were zero, and what stands between maps zero to zero (as Relu
    does, Sigmoid does not), the outputs stay the same but for rounding. Raises InputError for a name or number that is
    not there, for channels of inputs and outputs of the network, and where two values of ``keep`` that go together
    differ; UnsupportedError where a node stands in the way, by name.
    """
    couplings = Couplings(network)
    return without(couplings, removed_by(couplings, keep))


def removed_by(couplings: Couplings, keep: Mapping[str, Sequence[int]]) -> set[int]:
    """The representatives of what goes. Raises InputError."""
    removed: set[int] = set()
    stay: dict[int, tuple[str, int]] = {}
    gone: dict[int, tuple[str, int]] = {}
    for name, wanted in keep.items():
        place = f"channels of {name!r}"
        if name not in couplings.of:
            values = [value for value, flow in couplings.flow.items() if flow.kind == "fresh"]
            why = (
                "has no channels that can be followed" if name in couplings.shapes else "is not a value of the network"
            )
            raise InputError(place, why, f"name the output of a layer: {', '.join(values[:20])}")
        roots = couplings.roots(name).tolist()
        listed = {int(index) for index in wanted}
        if not listed or min(listed) < 0 or max(listed) >= len(roots):
            raise InputError(place, f"are {sorted(listed)}", f"give at least one of 0 to {len(roots) - 1}")
        for index, root in enumerate(roots):
            (stay if index in listed else gone)[root] = (name, index)
            if root in stay and root in gone:
                (kept, number), (other, lost) = stay[root], gone[root]
                text = f"keep channel {number}, which goes with channel {lost} of {other!r}, and that is not kept"
                raise InputError(f"channels of {kept!r}", text, "give both the same, or name only one of them")
            if index not in listed:
                removed.add(root)
    return removed


def without(couplings: Couplings, removed: set[int]) -> Network:
    """The network without the elements that these represent. Raises InputError or UnsupportedError."""
    pins = couplings.pins()
    for root in sorted(removed):
        if root in pins:
            name, reason = pins[root]
            kind = InputError if reason.startswith("it is an ") else UnsupportedError
            raise kind(f"channels of {name!r}", f"cannot be removed: {reason}", "keep all channels of this value")
    return _Surgery(couplings, removed).run()


class _Surgery:
    """One pass over the nodes, which gives each what is left of its constants."""

    def __init__(self, couplings: Couplings, removed: set[int]) -> None:
        self._couplings, self._removed = couplings, removed
        self._network = couplings.network
        self._constants: dict[str, Encoding] = dict(self._network.constants)
        self._taken = set(self._constants) | {name for node in self._network.nodes for name in node.outputs}
        self._taken |= {info.name for info in self._network.inputs}
        self._made: dict[tuple[str, tuple[Any, ...]], str] = {}
        self._left: dict[str, Ids] = {}  # by value, the channels that stay

    def run(self) -> Network:
        for info in self._network.inputs:
            self._follow(info.name, None)
        nodes = []
        for node in self._network.nodes:
            copy = Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes))
            for name in node.outputs:
                self._follow(name, node)
            for other, names in self._couplings.equal:
                if other is node:
                    self._agree(node, names)
            self._rewrite(copy)
            nodes.append(copy)
        renamed = {new: old for (old, _), new in self._made.items()}
        made = rebuilt(self._network, nodes, old_names(nodes, self._constants, renamed))
        made._remarks = list(self._network._remarks)
        infer_shapes(made)
        return made

    def _follow(self, name: str, node: Node | None) -> None:
        if name not in self._couplings.of:
            return
        found = positions(self._couplings, name, self._removed, self._left)
        if isinstance(found, str):
            place = f"node {node.name!r}" if node is not None else f"value {name!r}"
            raise UnsupportedError(place, found, "remove as many channels of each group")
        if not found.size:
            raise InputError(f"channels of {name!r}", "would all be removed", "keep at least one")
        self._left[name] = found

    def _agree(self, node: Node, names: Sequence[str]) -> None:
        for name in names[1:]:
            if not np.array_equal(self._left[names[0]], self._left[name]):
                text = f"its inputs {names[0]!r} and {name!r} have their channels in different orders afterwards"
                raise UnsupportedError(
                    f"node {node.name!r} ({node.op})", text, "remove the same channels of each group"
                )

    # Constants

    def _changed(self, name: str) -> bool:
        return name in self._left and self._left[name].size < self._couplings.of[name].ids.size

    def _put(self, node: Node, index: int, array: NDArray[Any], key: tuple[Any, ...]) -> None:
        """A constant in place of an input; one made of the same constant in the same way is shared."""
        old = node.inputs[index]
        if (old, key) not in self._made:
            name = unique(old, self._taken)
            self._taken.add(name)
            self._constants[name] = smallest_form(Dense(np.ascontiguousarray(array)))
            self._made[old, key] = name
        node.inputs[index] = self._made[old, key]

    def _take(self, node: Node, index: int, axis: int, places: Ids) -> None:
        """Some entries along an axis of a constant input."""
        array = self._constants[node.inputs[index]].decode()
        self._put(node, index, array.take(places, axis=axis), ("take", axis, places.tobytes()))

    def _rewrite(self, node: Node) -> None:
        out = node.outputs[0]
        if node.op in LAYERS:
            if self._changed(out) or self._changed(node.inputs[0]):
                self._layer(node)
        elif node.op in ("Reshape", "Split"):
            self._sizes(node)
        elif not self._changed(out):
            return
        elif node.op in PER_CHANNEL:
            for index in range(1, len(node.inputs)):
                self._take(node, index, 0, self._left[out])
        else:
            self._broadcast(node)

    def _broadcast(self, node: Node) -> None:
        """Constants of arithmetic that have an entry per channel."""
        out = node.outputs[0]
        position = self._couplings.of[out].axis - len(self._couplings.shapes[out].shape or ())
        count = self._couplings.of[out].ids.size
        if node.op in ("Concat", "Transpose", "Pad", "Resize", "Clip", "Dropout", "Squeeze", "Unsqueeze", "Flatten"):
            return
        for index, name in enumerate(node.inputs):
            tree = self._constants.get(name)
            if tree is not None and len(tree.shape) >= -position and tree.shape[position] == count > 1:
                self._take(node, index, len(tree.shape) + position, self._left[out])

    def _layer(self, node: Node) -> None:
        x, out = node.inputs[0], node.outputs[0]
        shape = self._couplings.weight(node)
        if shape is None:
            return
        kept_out = self._left[out]
        kept_in = self._left.get(x)
        flow = self._couplings.flow[out]
        groups = int(node.attributes.get("group", 1)) if node.op in ("Conv", "ConvTranspose") else 1  # type: ignore[arg-type]
        weight = self._constants[node.inputs[1]].decode()
        rows_out = node.op == "Conv" or (node.op == "Gemm" and bool(node.attributes.get("transB", 0)))
        if flow.kind == "depthwise":
            weight = weight[kept_out]
            node.attributes["group"] = int(kept_out.size // flow.numbers[0])
        elif groups > 1:
            weight = self._grouped(node, weight, kept_out, kept_in, groups)
        else:
            weight = weight.take(kept_out, axis=0 if rows_out else 1)
            if kept_in is not None and self._couplings.of[x].ids.size == shape[1 if rows_out else 0]:
                weight = weight.take(kept_in, axis=1 if rows_out else 0)
        sides = b"" if kept_in is None else kept_in.tobytes()
        self._put(node, 1, weight, ("layer", kept_out.tobytes(), sides, groups, rows_out))
        if len(node.inputs) > 2 and node.inputs[2] in self._constants:
            bias = self._constants[node.inputs[2]]
            if bias.shape and bias.shape[-1] == self._couplings.of[out].ids.size:
                self._take(node, 2, len(bias.shape) - 1, kept_out)

    def _grouped(self, node: Node, weight: NDArray[Any], out: Ids, into: Ids | None, groups: int) -> NDArray[Any]:
        """A weight of several groups, of each of which as much must stay."""
        each_out, each_in = weight.shape[0] // groups, weight.shape[1]
        into = np.arange(groups * each_in) if into is None else into
        for what, places, each in (("outputs", out, each_out), ("inputs", into, each_in)):
            counts = np.bincount(places // each, minlength=groups)
            if np.any(np.diff(places // each) < 0) or np.any(counts != counts[0]) or not counts[0]:
                text = f"its {groups} groups keep {', '.join(map(str, counts))} {what}"
                raise UnsupportedError(f"node {node.name!r} ({node.op})", text, "keep as many of each group")
        local = (into % each_in).reshape(groups, -1)
        return np.stack([weight[row][local[row // each_out]] for row in out.tolist()])

    def _sizes(self, node: Node) -> None:
        """Sizes that a constant input gives."""
        index = 1
        name = node.inputs[index] if len(node.inputs) > index else ""
        if node.op == "Split":
            axis = self._couplings.of[node.outputs[0]].axis if node.outputs[0] in self._left else -1
            fresh = self._couplings.flow.get(node.outputs[0])
            if axis < 0 or fresh is None or fresh.kind != "split" or not self._changed(node.inputs[0]):
                return
            sizes = np.array([self._left[output].size for output in node.outputs], np.int64)
            if name in self._constants:
                self._put(node, 1, sizes, ("sizes", sizes.tobytes()))
            elif np.any(sizes != -(-sizes.sum() // sizes.size)):
                text = f"splits evenly, and {', '.join(map(str, sizes))} channels are left of its parts"
                raise UnsupportedError(f"node {node.name!r} (Split)", text, "keep as many of each part")
            return
        out = node.outputs[0]
        flow = self._couplings.flow.get(out)
        if flow is None or not any(self._changed(source) for source in flow.sources) or name not in self._constants:
            if flow is not None and any(self._changed(source) for source in flow.sources):
                raise UnsupportedError(
                    f"node {node.name!r} (Reshape)", "its shape is not constant", "keep all channels"
                )
            return
        shape = self._constants[name].decode().astype(np.int64)
        if flow.kind == "inside":  # the first Reshape of a shuffle
            groups, axis = flow.numbers
            shape[axis + 1] = -1 if shape[axis + 1] == -1 else self._left[flow.sources[0]].size // groups
        else:
            axis = self._couplings.of[out].axis
            if shape[axis] > 0:
                shape[axis] = self._left[out].size
        self._put(node, 1, shape, ("shape", shape.tobytes()))


def old_names(nodes: list[Node], constants: dict[str, Encoding], renamed: Mapping[str, str]) -> dict[str, Encoding]:
    """The constants of nodes; new ones take the name of those they replace where nobody else has it. Changes nodes."""
    used = {name for node in nodes for name in node.inputs}
    free = Counter(old for old in renamed.values() if old not in used)
    back = {new: old for new, old in renamed.items() if new in used and free[old] == 1}
    for node in nodes:
        node.inputs = [back.get(name, name) for name in node.inputs]
    return {
        back.get(name, name): tree for name, tree in constants.items() if name in back or name not in set(back.values())
    }


def readers(couplings: Couplings) -> Iterable[tuple[Node, str, int]]:
    """Layers without groups that read a value with channels: the node, the value, and the axis of its weight that
    counts them.
    """
    for node in couplings.network.nodes:
        x = node.inputs[0] if node.inputs else ""
        shape = couplings.weight(node) if node.op in LAYERS and x in couplings.of else None
        if shape is None or node.attributes.get("group", 1) != 1:
            continue
        rows_out = node.op == "Conv" or (node.op == "Gemm" and bool(node.attributes.get("transB", 0)))
        axis = 1 if rows_out else 0
        if len(shape) > axis and shape[axis] == couplings.of[x].ids.size:
            yield node, x, axis
