"""Layers that an ONNX model writes out in integers or thresholds, joined to layers between quantisers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Codebook, Dense, Encoding, Pow2, Signs, Ternary
from bittern.graph import Node
from bittern.importers.onnx_codes import affine, packed
from bittern.network import Network, drop_unread, unique

LAYERS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
READERS = ("Conv", "Gemm", "MatMul")  # what computes on codes
PASSED = ("MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze")  # what hands codes on to them
MOST_THRESHOLDS = 255


def with_quantisers(network: Network) -> Network:
    """The same network, in place, in the form that integer kernels are found by.

    DynamicQuantizeLinear, ConvInteger or MatMulInteger, Cast and the products with both scales, as ONNX Runtime's
    dynamic quantisation writes them, become DequantizeLinear and the layer with encoded weights. MultiThreshold before
    layers of whole-number weights becomes counts and the numbers that they stand for: the same float32 numbers.
    """
    _Rewriter(network).run()
    return network


class _Rewriter:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.constants = network.constants
        self.taken = {name for node in network.nodes for name in (*node.inputs, *node.outputs)} | set(self.constants)
        self.taken |= {info.name for info in network.inputs}
        self.names = {node.name for node in network.nodes}
        self.decoded: dict[tuple[str, ...], str] = {}
        self.behind: dict[int, list[Node]] = {}  # new nodes, by the identity of the one they follow
        self.whole: dict[str, bool] = {}  # whether a layer's weights are whole numbers

    def run(self) -> None:
        ops = {node.op for node in self.network.nodes}
        changed = False
        if ops & set(LAYERS):
            changed = self._join_layers()
        if "MultiThreshold" in ops:
            changed = self._split_thresholds() or changed
        if changed:
            drop_unread(self.network)

    def _index(self) -> None:
        self.producer = {name: node for node in self.network.nodes for name in node.outputs}
        self.uses = Counter(name for node in self.network.nodes for name in node.inputs)
        self.uses.update(info.name for info in self.network.outputs)
        self.readers: dict[str, list[Node]] = {}
        for node in self.network.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def _value(self, like: str) -> str:
        name = unique(like, self.taken)
        self.taken.add(name)
        return name

    def _node(self, name: str, op: str, inputs: list[str], output: str, **attributes: Any) -> Node:
        name = unique(name, self.names)
        self.names.add(name)
        return Node(name, op, inputs, [output], attributes)

    def _constant(self, like: str, value: Encoding | NDArray[Any]) -> str:
        name = self._value(like)
        self.constants[name] = value if isinstance(value, Encoding) else Dense(value)
        return name

    def _array(self, name: str) -> NDArray[Any] | None:
        return self.constants[name].decode() if name in self.constants else None

    # Dynamic quantisation

    def _join_layers(self) -> bool:
        self._index()
        nodes: list[Node] = []
        for node in self.network.nodes:
            nodes += self._joined(node) or [node]
        changed = len(nodes) != len(self.network.nodes) or nodes != self.network.nodes
        self.network.nodes = nodes
        return changed

    def _sole(self, name: str, *ops: str) -> Node | None:
        """The node that computes a value which one node reads."""
        found = self.producer.get(name)
        return found if found is not None and found.op in ops and self.uses[name] == 1 else None

    def _joined(self, scaled: Node) -> list[Node] | None:
        """What a product of an integer layer's result with its scales becomes; None if it is another product."""
        if scaled.op != "Mul":
            return None
        for side in (0, 1):
            cast = self._sole(scaled.inputs[side], "Cast")
            layer = None if cast is None or cast.attributes.get("to") != "f32" else self._sole(cast.inputs[0], *LAYERS)
            scales = self._scales(scaled.inputs[1 - side])
            if layer is None or scales is None or layer.inputs[1] not in self.constants:
                continue
            x_scale, w_scale = scales
            weights = self._weights(layer, w_scale)
            if weights is None or not self._is_scale_of(layer, x_scale):
                continue
            inputs = [layer.inputs[0], x_scale, *layer.inputs[2:3]]
            nodes, key = [], tuple(inputs)
            if key not in self.decoded:
                self.decoded[key] = self._value(f"{layer.inputs[0]}.real")
                sources = inputs if inputs[-1] else inputs[:-1]
                nodes.append(self._node(f"{layer.name}.decode", "DequantizeLinear", sources, self.decoded[key]))
            target = self._constant(f"{layer.inputs[1]}.real", weights)
            real = self._node(layer.name, LAYERS[layer.op], [self.decoded[key], target], scaled.outputs[0])
            real.attributes = dict(layer.attributes)
            return [*nodes, real]
        return None

    def _scales(self, name: str) -> tuple[str, NDArray[np.float32]] | None:
        """The scale of the codes, by name, and that of the weights, whose product a value is."""
        product = self.producer.get(name)
        if product is None or product.op != "Mul":
            return None
        for side in (0, 1):
            array = self._array(product.inputs[1 - side])
            if array is not None and array.dtype == np.float32 and product.inputs[side] not in self.constants:
                return product.inputs[side], array
        return None

    def _is_scale_of(self, layer: Node, scale: str) -> bool:
        """Whether DynamicQuantizeLinear makes the layer's input, with this scale and the layer's zero point."""
        made = self.producer.get(layer.inputs[0])
        zero = layer.inputs[2:3]
        return (
            made is not None and made.op == "DynamicQuantizeLinear" and made.outputs == [layer.inputs[0], scale, *zero]
        )

    def _weights(self, layer: Node, scale: NDArray[np.float32]) -> Affine | None:
        """The layer's weights with their scale and zero points; None if they have no such form."""
        codes = self._array(layer.inputs[1])
        zero = self._array(layer.inputs[3]) if len(layer.inputs) > 3 else None
        if codes is None or (zero is None and len(layer.inputs) > 3 and layer.inputs[3]):
            return None
        conv = layer.op == "ConvInteger"
        if not conv and codes.ndim != 2:
            return None
        axis = 0 if conv else 1
        channels = codes.shape[axis]
        if scale.size > 1:
            own = (channels, *[1] * (codes.ndim - 2)) if conv else (channels,)
            if scale.shape[-len(own) :] != own or scale.size != channels or scale.ndim > codes.ndim:
                return None
        if zero is not None and zero.size not in (1, channels):
            return None
        many = scale.size > 1 or (zero is not None and zero.size > 1)
        shape = (channels,) if many else ()
        spread = [
            None
            if given is None
            else np.ascontiguousarray(np.broadcast_to(given.reshape(-1 if many and given.size > 1 else ()), shape))
            for given in (scale, zero)
        ]
        assert spread[0] is not None
        return affine(packed(codes), spread[0], spread[1], axis)

    # Thresholds

    def _split_thresholds(self) -> bool:
        # The index stays true throughout: values keep their names and readers, and nodes get others in front of them.
        self._index()
        for node in self.network.nodes:
            if node.op != "MultiThreshold":
                continue
            value = node.outputs[0]
            grid = self._grid(node)
            layers, leading = self._layers_behind(value)
            if grid is None or not layers:
                continue
            scale = self._constant(f"{value}.scale", grid[0])
            zero = self._constant(f"{value}.zero", grid[1])
            one = self._constant(f"{value}.one", np.array(1, np.float32))
            none = self._constant(f"{value}.none", np.array(0, np.uint8))
            self._quantise(node, [one, none], [scale, zero])
            kept = {key: value for key, value in node.attributes.items() if key not in ("out_scale", "out_bias")}
            node.attributes = kept
            for handing in leading:
                self._quantise(handing, [scale, zero], [scale, zero])
            for layer in layers:
                self._encode(layer.inputs[1])
        nodes = [new for node in self.network.nodes for new in (node, *self.behind.get(id(node), ()))]
        self.network.nodes = nodes
        return bool(self.behind)

    def _grid(self, node: Node) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
        """Scale and zero point by which DequantizeLinear makes the operator's very numbers of counts."""
        table = self._array(node.inputs[1])
        given: list[Any] = [node.attributes.get("out_scale", 1.0), node.attributes.get("out_bias", 0.0)]
        scale, bias = np.float32(given[0]), np.float32(given[1])
        if table is None or table.shape[-1] > MOST_THRESHOLDS or not (np.isfinite(bias) and 0 < scale < np.inf):
            return None
        zero = np.rint(-np.float64(bias) / np.float64(scale))
        if not 0 <= zero <= 255:
            return None
        counts = np.arange(table.shape[-1] + 1, dtype=np.float32)
        if not np.array_equal(counts * scale + bias, (counts - np.float32(zero)) * scale):
            return None
        return np.array(scale), np.array(zero, np.uint8)

    def _layers_behind(self, value: str) -> tuple[list[Node], list[Node]]:
        """Layers of whole-number weights that read a value or what hands it on, and the nodes that hand it to them."""
        found: list[Node] = []
        giver: dict[str, tuple[str, Node]] = {}  # of each value handed on: what it was before, and by which node
        reached: set[str] = set()
        ahead = [value]
        while ahead:
            value = ahead.pop()
            for node in self.readers.get(value, []):
                if node.op in READERS and node.inputs[0] == value and self._is_whole(node.inputs[1]):
                    found.append(node)
                    reached.add(value)
                elif self._hands_on(node, value) and node.outputs[0] not in giver:
                    giver[node.outputs[0]] = (value, node)
                    ahead.append(node.outputs[0])
        leading: dict[str, Node] = {}
        for value in reached:
            while value in giver and value not in leading:
                before, leading[value] = giver[value]
                value = before
        return found, [node for output, (_, node) in giver.items() if output in leading]

    @staticmethod
    def _hands_on(node: Node, value: str) -> bool:
        return node.op in PASSED and node.inputs[0] == value and len(node.outputs) == 1

    def _quantise(self, node: Node, to: list[str], back: list[str]) -> None:
        """A node's result in codes, and the numbers of those codes under its name."""
        value = node.outputs[0]
        real, codes = self._value(f"{value}.real"), self._value(f"{value}.codes")
        node.outputs[0] = real
        self.behind[id(node)] = [
            self._node(f"{node.name}.quantise", "QuantizeLinear", [real, *to], codes),
            self._node(f"{node.name}.decode", "DequantizeLinear", [codes, *back], value),
        ]

    def _is_whole(self, name: str) -> bool:
        if name not in self.whole:
            tree = self.constants.get(name)
            encoded = isinstance(tree, (Affine, Signs, Ternary, Codebook, Pow2))
            self.whole[name] = encoded or (tree is not None and self._whole_numbers(tree) is not None)
        return self.whole[name]

    def _whole_numbers(self, tree: Encoding) -> NDArray[np.int8] | None:
        """Floats that are whole numbers of 8 bits. -0.0 is none: its sign would be lost."""
        array = tree.decode() if isinstance(tree, Dense) else np.zeros(0)
        if array.dtype != np.float32 or array.size == 0:
            return None
        whole = np.clip(np.nan_to_num(np.rint(array)), -128, 127).astype(np.int8)
        same = np.array_equal(whole.astype(np.float32).view(np.uint32), array.view(np.uint32))
        return whole if same else None

    def _encode(self, name: str) -> None:
        """Whole numbers in float32 as such, for all who read them."""
        whole = self._whole_numbers(self.constants[name])
        if whole is not None:
            self.constants[name] = affine(packed(whole), np.array(1, np.float32), None)
