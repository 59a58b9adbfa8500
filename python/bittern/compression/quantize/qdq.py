"""The result as a graph: quantisers around what runs in integers, weights and biases in their encodings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.prepare import rebuilt
from bittern.compression.layerwise.walk import Rounded
from bittern.compression.layerwise.weights import Placement
from bittern.compression.quantize.affine import AffineGrid
from bittern.compression.quantize.placement import removable_clamps
from bittern.compression.quantize.ranges import Quantiser
from bittern.encodings import Affine, Dense, Encoding
from bittern.graph import Node
from bittern.network import Network, unique

LARGEST_BIAS = 2**30  # leaves room for the products in a 32-bit sum


class Builder:
    """A prepared network with its values quantised and its constants replaced."""

    def __init__(self, network: Network, placement: Placement, quantisers: Mapping[str, Quantiser]) -> None:
        self._network, self._placement, self._quantisers = network, placement, quantisers
        self._taken = {name for node in network.nodes for name in (*node.outputs, *node.inputs)}
        self._taken |= {info.name for info in network.inputs} | set(network.constants)
        self._node_names = {node.name for node in network.nodes}
        self._constants: dict[str, Encoding] = dict(network.constants)
        self._parameters: dict[tuple[bytes, int], tuple[str, str]] = {}
        self._renamed: dict[str, str] = {}
        self._nodes: list[Node] = []

    def build(
        self,
        encodings: Mapping[str, Encoding],
        weights: Mapping[str, Rounded],
        biases: Mapping[str, NDArray[np.float64]],
    ) -> Network:
        """The finished network; ``biases`` are by the output of their layer."""
        self._constants.update(encodings)
        clamps = {
            name: node for name, node in removable_clamps(self._network, self._placement).items() if self._absorbs(node)
        }
        fused = {node.inputs[0] for node in clamps.values()}
        for info in self._network.inputs:
            if info.name in self._quantisers:
                self._renamed[info.name] = self._name(f"{info.name}_dequantized")
                self._quantise(info.name, info.name, self._renamed[info.name])
        for node in self._network.nodes:
            if node.outputs[0] in clamps:
                raw = self._renamed.get(node.inputs[0], node.inputs[0])
                self._quantise(node.outputs[0], raw, node.outputs[0])
                continue
            layer = Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes))
            self._set_bias(layer, weights, biases)
            layer.inputs = [self._renamed.get(name, name) for name in layer.inputs]
            wrapped = [name for name in node.outputs if name in self._quantisers and name not in fused]
            layer.outputs = [self._name(f"{name}_real") if name in wrapped else name for name in node.outputs]
            self._nodes.append(layer)
            for name, raw in zip(node.outputs, layer.outputs, strict=True):
                if name in wrapped:
                    self._quantise(name, raw, name)
        return rebuilt(self._network, self._nodes, self._constants)

    def _name(self, wanted: str) -> str:
        name = unique(wanted, self._taken)
        self._taken.add(name)
        return name

    def _absorbs(self, clamp: Node) -> bool:
        """Whether the quantiser saturates wherever the clamp would."""
        quantiser = self._quantisers[clamp.outputs[0]]
        low: float | None = 0.0
        high: float | None = None
        if clamp.op == "Clip":
            low, high = (self._number(clamp, index) for index in (1, 2))
            if any(name and name not in self._network.constants for name in clamp.inputs[1:]):
                return False
        lowest = low is None or np.rint(np.float32(low) / quantiser.scale) + quantiser.zero <= 0
        highest = high is None or np.rint(np.float32(high) / quantiser.scale) + quantiser.zero >= quantiser.most
        return bool(lowest and highest)

    def _number(self, node: Node, index: int) -> float | None:
        name = node.inputs[index] if index < len(node.inputs) else ""
        tree = self._network.constants.get(name)
        return None if tree is None else float(tree.decode().reshape(-1)[0])

    def _quantise(self, value: str, source: str, target: str) -> None:
        """``source`` to codes and back to ``target``, as the quantiser of ``value`` says."""
        quantiser = self._quantisers[value]
        key = (quantiser.scale.tobytes(), quantiser.zero)
        if key not in self._parameters:
            names = self._name(f"{value}_scale"), self._name(f"{value}_zero_point")
            self._constants[names[0]] = Dense(np.array(quantiser.scale, np.float32))
            self._constants[names[1]] = Dense(np.array(quantiser.zero, np.uint8))
            self._parameters[key] = names
        codes = self._name(f"{value}_quantized")
        attributes = {"bits": quantiser.bits} if quantiser.bits != 8 else {}
        for op, ends in (("QuantizeLinear", (source, codes)), ("DequantizeLinear", (codes, target))):
            name = unique(f"{value}_{op}", self._node_names)
            self._node_names.add(name)
            self._nodes.append(Node(name, op, [ends[0], *self._parameters[key]], [ends[1]], dict(attributes)))

    def _set_bias(self, layer: Node, weights: Mapping[str, Rounded], biases: Mapping[str, NDArray[np.float64]]) -> None:
        name = layer.inputs[2] if len(layer.inputs) > 2 else ""
        found = next((weights[weight] for weight in layer.inputs[1:2] if weight in weights), None)
        corrected = layer.outputs[0] in biases
        if found is None or layer.op not in ("Conv", "Gemm") or (not name and not corrected):
            return
        given = self._network.constants.get(name)
        if not corrected and given is None:
            return
        if given is not None and given.shape[-1:] != (given.size,):
            return  # not one number per channel
        bias = biases[layer.outputs[0]] if given is None or corrected else given.decode().astype(np.float64)
        encoding = self._integer_bias(layer, found, bias.reshape(-1))
        if encoding is None and not corrected:
            return
        made = self._name(
            f"{name or layer.name + '.bias'}_quantized" if encoding else f"{name or layer.name}_corrected"
        )
        self._constants[made] = encoding or Dense(bias.astype(np.float32))
        layer.inputs[2:3] = [made]

    def _integer_bias(self, layer: Node, weight: Rounded, bias: NDArray[np.float64]) -> Encoding | None:
        """The bias in steps of input scale times weight scale; None where there are none such."""
        quantiser = self._quantisers.get(layer.inputs[0])
        grid = weight.grid
        if quantiser is None or not isinstance(grid, AffineGrid) or grid.group is not None:
            return None
        if bias.size != weight.layout.channels:
            return None
        scale = (grid.scale.reshape(-1) * quantiser.scale).astype(np.float32)
        steps = bias / scale
        if not np.isfinite(steps).all() or np.abs(steps).max(initial=0.0) > LARGEST_BIAS:
            return None
        codes = Dense(np.rint(steps).astype(np.int32))
        if scale.size == 1 and bias.size != 1:
            return Affine(codes, Dense(scale.reshape(())))
        return Affine(codes, Dense(scale), axis=0)
