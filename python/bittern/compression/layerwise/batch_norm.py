"""Batch normalisation in a compressed network: statistics measured again, constants as powers of two, folding.

A layer whose weights lost bits gives other means and variances than those that training left in the normalisation
behind it; measuring them again, in the compressed network, mends much of the harm (binary networks: all of it).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.executor import Feeds, Values, run_node
from bittern.compression.layerwise.grid import Floats
from bittern.compression.layerwise.prepare import rebuilt
from bittern.encodings import Affine, Codebook, Dense, Encoding, Pow2, Signs, Sum, Ternary
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network, unique

MODES = ("fold", "recalibrate", "shift")
CHUNK = 64  # samples that go through the network together
LARGEST_TABLE = 4  # entries for which a table for each channel is still smaller than a normalisation

Moments = tuple[Floats, Floats]
"""Mean and variance of each channel."""


def nearest_power(numbers: Floats | float) -> Floats:
    """AP2: the sign times the power of two nearest in its exponent, ``2 ** rint(log2 |x|)``; 0 for 0 (Hubara et al.,
    arXiv 1602.02830).
    """
    given = np.asarray(numbers, dtype=np.float64)
    magnitude = np.abs(given)
    exponent = np.rint(np.log2(magnitude, out=np.zeros_like(magnitude), where=magnitude > 0))
    return np.where(magnitude > 0, np.copysign(np.ldexp(1.0, exponent.astype(np.int64)), given), 0.0)


@dataclass
class Statistics:
    """Sums over all the values of a channel, sample after sample; ``shift``: squares as shift-based normalisation has
    them, ``c * AP2(c)`` of the distance ``c`` from the mean so far.
    """

    shift: bool = False
    count: int = 0
    total: Floats = field(default_factory=lambda: np.zeros(1))
    squares: Floats = field(default_factory=lambda: np.zeros(1))  # of the distances from the mean

    def add(self, arrays: list[NDArray[Any]]) -> None:
        """Values ``[N, C, ...]`` of some samples. Raises InputError if they are not finite."""
        rows = [np.moveaxis(array, 1, 0).reshape(array.shape[1], -1).astype(np.float64) for array in arrays]
        values = np.concatenate(rows, axis=1)
        if not np.isfinite(values).all():
            raise InputError("calibration", "gives values that are not finite", "leave those samples out")
        if not values.shape[1]:
            return
        before = self.count
        old_mean = self.total / max(before, 1)
        self.count += values.shape[1]
        self.total = self.total + values.sum(axis=1)
        mean = self.total / self.count
        if self.shift:
            apart = values - mean[:, np.newaxis]
            self.squares = self.squares + np.sum(apart * nearest_power(apart), axis=1)
            return
        own = values.mean(axis=1)
        between = np.square(own - old_mean) * before * values.shape[1] / self.count
        self.squares = self.squares + np.sum(np.square(values - own[:, np.newaxis]), axis=1) + between

    def moments(self) -> Moments | None:
        """Mean and variance (of the population) of each channel; None before any value."""
        if not self.count:
            return None
        return np.asarray(self.total / self.count), np.asarray(self.squares / self.count)


def constants_of(node: Node, constants: dict[str, Any], moments: Moments | None, shift: bool) -> dict[int, Floats]:
    """New constants of a BatchNormalization by the index of the input, for these moments (None: those it has).

    With ``shift`` scale and reciprocal deviation are powers of two, the latter as a variance for an epsilon of 0.
    """
    found: dict[int, Floats] = {}
    if moments is not None:
        found[3], found[4] = moments
    if shift:
        variance = found[4] if 4 in found else constants[node.inputs[4]].decode().astype(np.float64)
        found[1] = nearest_power(constants[node.inputs[1]].decode())
        found[4] = np.square(1 / nearest_power(1 / np.sqrt(np.maximum(variance + epsilon_of(node), 1e-30))))
    return found


def epsilon_of(node: Node) -> float:
    """What a BatchNormalization adds to the variance."""
    epsilon = node.attributes.get("epsilon", 1e-5)
    return float(epsilon) if isinstance(epsilon, (int, float)) else 1e-5


def is_known(node: Node, network: Network) -> bool:
    """Whether the node is a BatchNormalization of computed values with known constants."""
    known = all(name in network.constants for name in node.inputs[1:5])
    return node.op == "BatchNormalization" and known and node.inputs[0] not in network.constants


def recalibrated(network: Network, samples: list[Feeds], shift: bool = False) -> Network:
    """A copy whose batch normalisations have the means and variances that the samples give, each measured behind those
    before it; without samples the constants stay, and only ``shift`` changes them.

    Samples go through in chunks of 64; a normalisation uses what all chunks so far have given. Raises InputError for
    values that are not finite.
    """
    found: dict[str, Statistics] = {node.name: Statistics(shift) for node in network.nodes if is_known(node, network)}
    constants: dict[str, Any] = dict(network.constants)
    for start in range(0, len(samples), CHUNK):
        values = Values(network, samples[start : start + CHUNK])
        for node in network.nodes:
            if node.name in found:
                found[node.name].add(values[node.inputs[0]])
                run_changed(node, constants, found[node.name].moments(), shift, values)
            else:
                run_node(node, constants, values)
            values.done(node)
    taken = set(constants) | {name for node in network.nodes for name in node.outputs}
    taken |= {info.name for info in network.inputs}
    nodes = []
    for node in network.nodes:
        if node.name in found:
            node, named = changed(node, constants, found[node.name].moments(), shift, taken)
            constants.update(named)
        nodes.append(node)
    return _with_remarks(rebuilt(network, nodes, constants), network)


def run_changed(node: Node, constants: dict[str, Any], moments: Moments | None, shift: bool, values: Values) -> None:
    """Run a BatchNormalization as it would be with these moments."""
    other, named = changed(node, constants, moments, shift, set(constants))
    run_node(other, {**constants, **named}, values)


def changed(
    node: Node, constants: dict[str, Any], moments: Moments | None, shift: bool, taken: set[str]
) -> tuple[Node, dict[str, Encoding]]:
    """A BatchNormalization with these moments, and the constants that it needs, under new names."""
    inputs, attributes = list(node.inputs), dict(node.attributes)
    named: dict[str, Encoding] = {}
    for index, value in constants_of(node, constants, moments, shift).items():
        inputs[index] = unique(f"{node.inputs[index]}_measured", taken)
        taken.add(inputs[index])
        named[inputs[index]] = Dense(value.astype(np.float32))
    if shift:
        attributes["epsilon"] = 0.0
    return Node(node.name, node.op, inputs, list(node.outputs), attributes), named


def folded(network: Network) -> Network:
    """A copy in which a BatchNormalization right behind a Conv or Gemm is part of the layer's scales and bias, wherever
    the encoding of the weight takes a factor for each channel.
    """
    constants: dict[str, Any] = dict(network.constants)
    nodes = [
        Node(node.name, node.op, list(node.inputs), list(node.outputs), dict(node.attributes)) for node in network.nodes
    ]
    uses = Counter(name for node in nodes for name in node.inputs)
    uses.update(info.name for info in network.outputs)
    taken = set(constants) | {name for node in nodes for name in node.outputs} | {info.name for info in network.inputs}
    producers = {node.outputs[0]: node for node in nodes if node.op in ("Conv", "Gemm")}
    kept = []
    for node in nodes:
        layer = producers.get(node.inputs[0]) if is_known(node, network) else None
        if layer is not None and uses[layer.outputs[0]] == 1 and _fold(layer, node, constants, uses, taken):
            layer.outputs[0] = node.outputs[0]
            continue
        kept.append(node)
    return _with_remarks(rebuilt(network, kept, constants), network)


def _with_remarks(made: Network, network: Network) -> Network:
    made._remarks = list(network._remarks)
    return made


def _fold(layer: Node, norm: Node, constants: dict[str, Any], uses: Counter[str], taken: set[str]) -> bool:
    """Whether the factors and offsets of ``norm`` are now part of the layer."""
    weight = constants.get(layer.inputs[1])
    given = layer.inputs[2] if len(layer.inputs) > 2 else ""
    if weight is None or (given and given not in constants):
        return False
    plain = all(layer.attributes.get(key, 1.0) == 1.0 for key in ("alpha", "beta"))
    axis = 0 if layer.op == "Conv" or layer.attributes.get("transB", 0) else 1
    gamma, beta, mean, variance = (constants[name].decode().astype(np.float64) for name in norm.inputs[1:5])
    bias = constants[given].decode().astype(np.float64) if given else np.zeros(gamma.size)
    if not plain or len(weight.shape) <= axis or weight.shape[axis] != gamma.size or bias.shape != gamma.shape:
        return False
    factor = gamma / np.sqrt(variance + epsilon_of(norm))
    tree = scaled(weight, factor, axis)
    if tree is None:
        return False
    for index, name, value in (
        (1, layer.inputs[1], tree),
        (2, given or f"{layer.name}.bias", Dense(((bias - mean) * factor + beta).astype(np.float32))),
    ):
        if uses[name] != 1:
            uses[name] -= 1
            name = unique(name, taken)
            taken.add(name)
            uses[name] = 1
        constants[name] = value
        layer.inputs[index : index + 1] = [name]
    return True


def scaled(tree: Encoding, factor: Floats, axis: int) -> Encoding | None:
    """``tree`` times a factor for each index of ``axis``, codes as they are; None if its form has no room for them."""
    if tree.order:
        return None
    if isinstance(tree, Dense):
        return Dense(_times(tree, factor, axis, len(tree.shape))) if tree.leaf.dtype == np.float32 else None
    if isinstance(tree, Sum):
        parts = [scaled(part, factor, axis) for part in tree.parts]
        return Sum(tuple(part for part in parts if part is not None)) if None not in parts else None
    if not isinstance(tree, (Affine, Codebook, Pow2, Signs, Ternary)) or tree.axis not in (None, axis):
        return None
    if isinstance(tree, Codebook):
        small = tree.axis is not None or tree.table.shape[0] <= LARGEST_TABLE
        table = np.atleast_2d(tree.table.decode().astype(np.float64)) * factor[:, np.newaxis]
        return Codebook(tree.codes, Dense(table.astype(np.float32)), axis) if small else None
    if isinstance(tree, Ternary):
        positive, negative = (Dense(_times(part, factor, 0, 1)) for part in (tree.positive, tree.negative))
        return Ternary(tree.codes, positive, negative, axis)
    scale = Dense(_times(tree.scale, factor, 0, 1)) if len(tree.scale.shape) < 2 else None
    if scale is None:
        return None
    if isinstance(tree, Signs):
        return Signs(tree.codes, scale, axis)
    if isinstance(tree, Pow2):
        return Pow2(tree.codes, scale, tree.terms, tree.bits, axis)
    zero = tree.zero_point
    if zero is not None and not zero.shape:
        zero = Dense(np.repeat(zero.decode().reshape(1), factor.size))
    return Affine(tree.codes, scale, zero, axis) if tree.group is None else None


def _times(parameter: Encoding, factor: Floats, axis: int, rank: int) -> NDArray[np.float32]:
    """A parameter of the whole tensor or of each channel, times the factors."""
    shape = [-1 if i == axis else 1 for i in range(rank)]
    return np.asarray(parameter.decode().astype(np.float64) * factor.reshape(shape), np.float32)
