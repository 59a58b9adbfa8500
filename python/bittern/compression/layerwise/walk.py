"""Layer after layer through the network: each is quantised for the inputs that the layers before it now give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.batch_norm import Statistics as NormStatistics
from bittern.compression.layerwise.batch_norm import is_known, run_changed
from bittern.compression.layerwise.executor import Feeds, Values, run_node
from bittern.compression.layerwise.grid import Codes, Floats, Grid, Kept, Layout, WeightMethod
from bittern.compression.layerwise.inputs import input_vectors, recurrent_vectors
from bittern.compression.layerwise.prepare import LAYERS
from bittern.compression.layerwise.reconstruct import compensated, validated_target
from bittern.compression.layerwise.weights import Placement, groups_of
from bittern.compression.sparse import smallest_form
from bittern.encodings import Encoding
from bittern.errors import InputError
from bittern.graph import Node
from bittern.network import Network

RECURRENT = ("LSTM", "GRU", "RNN")
Step = Callable[[str], None]
Cut = Callable[[Floats, Floats, "Floats | None"], tuple[Floats, NDArray[np.bool_]]]
"""From rows, their target and the Hessian of their inputs to pruned rows, and which elements are left."""
Rounding = Callable[[Floats, Grid, Floats], Codes]
"""From rows, their grid and the Hessian of their inputs to codes, as ``compensated`` and ``learned`` do."""


class ValueRounder(Protocol):
    """What quantises activations."""

    def round(self, array: NDArray[Any]) -> NDArray[Any]:
        """The values that are left."""


class Pruner(Protocol):
    """What prunes weights on a walk. ``learns``: by what their inputs are; ``left``: why it lets weights alone."""

    @property
    def learns(self) -> bool: ...
    @property
    def left(self) -> Mapping[str, str]: ...
    def cut(self, name: str, layout: Layout, groups: int) -> Cut:
        """How to prune this weight of a layer in ``groups``."""


class Pruning(Protocol):
    """Pruning as a part of a recipe: of filters before the walk, of weights on it."""

    def reduced(self, network: Network) -> Network:
        """A prepared network without the filters that go; the network itself where none do."""

    def pruner(self, network: Network, placement: Placement, samples: list[Feeds], given: bool) -> Pruner:
        """What to do with each weight; ``given``: whether the samples are a user's calibration data."""


@dataclass
class Rounded:
    """A weight on its grid, and what that cost: signal to noise of the weight and of its layer's output, in dB."""

    grid: Grid
    codes: Codes
    layout: Layout
    weight_db: float
    output_db: float | None = None
    kept: NDArray[np.bool_] | None = None  # what pruning left, [channels, n]; None: nothing was pruned

    def decoded(self) -> NDArray[np.float32]:
        """The values that the codes stand for, in the weight's shape."""
        return self.layout.tensor(self.grid.values(self.codes)).astype(np.float32)

    def encoding(self) -> Encoding:
        """The tree for the file."""
        tree = self.grid.encoding(self.codes, self.layout)
        return tree if self.kept is None else smallest_form(tree)


@dataclass
class Walked:
    """What a walk found: weights, corrected biases by the output of their layer, and the outputs of both networks."""

    weights: dict[str, Rounded] = field(default_factory=dict)
    biases: dict[str, Floats] = field(default_factory=dict)
    outputs: dict[str, tuple[list[NDArray[Any]], list[NDArray[Any]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Statistics:
    """Sums over a layer's inputs, ``[groups, n, n]``, for either half of the samples: of ``x x^T`` in the quantised
    network, and of ``x_original x^T``.
    """

    hessians: tuple[Floats, Floats]
    crosses: tuple[Floats, Floats]

    @property
    def finite(self) -> bool:
        return all(bool(np.isfinite(sums).all()) for sums in (*self.hessians, *self.crosses))


def decibels(reference: Any, found: Any) -> float:
    """10 log10 of the power of the signal over that of the error: infinite for equal arrays, NaN if not finite."""
    signal = noise = 0.0
    for exact, rough in zip(reference, found, strict=True):
        wide = np.asarray(exact, np.float64)
        signal += float(np.sum(np.square(wide)))
        with np.errstate(invalid="ignore"):
            noise += float(np.sum(np.square(np.asarray(rough, np.float64) - wide)))
    if not np.isfinite(signal) or not np.isfinite(noise):
        return float("nan")
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else -float("inf")


def round_weight(
    weight: NDArray[Any],
    layout: Layout,
    method: WeightMethod,
    statistics: Statistics | None = None,
    cut: Cut | None = None,
    rounding: Rounding = compensated,
) -> Rounded:
    """One weight on a grid of the method; with statistics of its inputs, ``rounding`` keeps the output's error small.

    ``cut`` prunes it first; what it drops stays zero.
    """
    rows = layout.rows(weight).astype(np.float64)
    if not np.isfinite(rows).all():
        raise InputError("weight", "holds values that are not finite", "train it again, or leave this layer out")
    hessian: Floats | None = None
    importance: Floats | None = None
    target, kept = rows, None
    if statistics is not None and statistics.finite:
        hessian = statistics.hessians[0] + statistics.hessians[1]
        target = validated_target(rows, statistics.hessians, statistics.crosses)
        diagonal = np.diagonal(hessian, axis1=1, axis2=2)
        importance = np.repeat(diagonal, layout.channels // hessian.shape[0], axis=0)
    if cut is not None:
        target, kept = cut(rows, target, hessian)
    grid = method.fit(target, layout, importance)
    choices = grid if kept is None or kept.all() else Kept(grid, kept)
    codes = choices.nearest(target) if hessian is None or method.exact else rounding(target, choices, hessian)
    return Rounded(grid, codes, layout, decibels([rows], [grid.values(codes)]), kept=kept)


@dataclass(frozen=True)
class Plan:
    """What to do on the walk."""

    method: WeightMethod
    placement: Placement
    quantisers: Mapping[str, ValueRounder]
    reconstruct: bool = False
    rounding: Rounding = compensated
    correct_bias: bool = True
    pruner: Pruner | None = None
    norms: str = "fold"  # else batch normalisations are measured again on the way: "recalibrate" or "shift"

    def cut(self, network: Network, name: str) -> Cut | None:
        """What prunes this weight; None if nothing does."""
        layout = self.placement.weights[name]
        return None if self.pruner is None else self.pruner.cut(name, layout, groups_of(network, name))


def walk(network: Network, plan: Plan, samples: list[Feeds], step: Step) -> Walked:
    """Quantise a prepared network node by node; ``step(weight)`` is called after each weight."""
    made = Walked()
    exact, rough = Values(network, samples), Values(network, samples)
    _quantise_values(rough, [info.name for info in network.inputs], plan)
    constants: dict[str, Encoding | NDArray[Any]] = dict(network.constants)
    # A normalisation that is measured takes away what a bias could correct.
    again = plan.norms != "fold"
    measured = {node.inputs[0] for node in network.nodes if again and is_known(node, network)}
    for node in network.nodes:
        run_node(node, network.constants, exact)
        for name in node.inputs:
            if name in plan.placement.weights and name not in made.weights:
                statistics = _statistics(name, node, network, exact, rough) if plan.reconstruct else None
                try:
                    weight = network.constants[name].decode()
                    layout = plan.placement.weights[name]
                    method, cut = plan.method.named(name), plan.cut(network, name)
                    made.weights[name] = round_weight(weight, layout, method, statistics, cut, plan.rounding)
                except InputError as error:
                    raise InputError(f"weight {name!r}", error.problem, error.remedy) from None
                constants[name] = made.weights[name].decoded()
                step(name)
        if plan.norms != "fold" and is_known(node, network):
            _measure(node, constants, rough, plan.norms == "shift")
        else:
            run_node(node, constants, rough)
        weight_of = next((name for name in node.inputs if name in made.weights), None)
        if weight_of is not None:
            if plan.correct_bias and node.op in LAYERS and node.op != "MatMul" and node.outputs[0] not in measured:
                _correct(node, network, exact, rough, made)
            quality = decibels(exact[node.outputs[0]], rough[node.outputs[0]])
            made.weights[weight_of].output_db = None if np.isnan(quality) or quality == -np.inf else quality
        _quantise_values(rough, node.outputs, plan)
        exact.done(node)
        rough.done(node)
    for info in network.outputs:
        made.outputs[info.name] = (exact[info.name], rough[info.name])
    return made


def _measure(node: Node, constants: dict[str, Any], rough: Values, shift: bool) -> None:
    statistics = NormStatistics(shift)
    statistics.add(rough[node.inputs[0]])
    run_changed(node, constants, statistics.moments(), shift, rough)


def _quantise_values(values: Values, names: list[str], plan: Plan) -> None:
    for name in names:
        if name in plan.quantisers:
            values[name] = [plan.quantisers[name].round(array) for array in values[name]]


def _statistics(name: str, node: Node, network: Network, exact: Values, rough: Values) -> Statistics | None:
    """Those of what the weight ``name`` meets; None where that is not known."""
    source = _meets(name, node, network)
    if not source:
        return None
    # The states that a recurrent weight meets are known from the original alone.
    arrays = exact[source] if source in node.outputs else rough[source]
    index, shape = node.inputs.index(name), network.constants[name].shape

    def vectors_of(array: NDArray[Any]) -> NDArray[np.float32]:
        if node.op in RECURRENT:
            return recurrent_vectors(index, node, array, len(arrays))
        return input_vectors(node, shape, array, len(arrays))

    hessians: list[Any] = [0.0, 0.0]
    crosses: list[Any] = [0.0, 0.0]
    for number, (x, original) in enumerate(zip(arrays, exact[source], strict=True)):
        vectors = vectors_of(x)
        before = vectors if x is original else vectors_of(original)
        with np.errstate(invalid="ignore", over="ignore"):  # what overflows is not used
            hessians[number % 2] = hessians[number % 2] + (vectors.transpose(0, 2, 1) @ vectors).astype(np.float64)
            crosses[number % 2] = crosses[number % 2] + (before.transpose(0, 2, 1) @ vectors).astype(np.float64)
    nothing = np.zeros_like(hessians[0])
    halves = [(pair[0], nothing if len(arrays) == 1 else pair[1]) for pair in (hessians, crosses)]
    return Statistics(*halves)


def importance_of(name: str, node: Node, network: Network, exact: Values, layout: Layout) -> Floats | None:
    """What an error of each element of a weight ``[channels, n]`` costs: the square of the inputs it meets, summed.

    None where that is not known or not finite.
    """
    statistics = _statistics(name, node, network, exact, exact)
    if statistics is None or not statistics.finite:
        return None
    hessian = statistics.hessians[0] + statistics.hessians[1]
    diagonal: Floats = np.diagonal(hessian, axis1=1, axis2=2)
    return np.repeat(diagonal, layout.channels // hessian.shape[0], axis=0)


def _meets(name: str, node: Node, network: Network) -> str:
    """The value whose elements the weight is multiplied with; empty if that is not one."""
    if node.op in RECURRENT:
        value = node.inputs[0] if node.inputs[1] == name else node.outputs[0]
    else:
        rank = len(network.constants[name].shape)
        plain = node.op == "Conv" or (rank == 2 and not node.attributes.get("transA", 0))
        value = node.inputs[0] if node.op in LAYERS and plain else ""
    return "" if value in network.constants else value


def _correct(node: Node, network: Network, exact: Values, rough: Values, made: Walked) -> None:
    """Move the mean error of the output, channel by channel, into the bias, as far as the samples agree on it."""
    name = node.outputs[0]
    axis = 1 if node.op == "Conv" else -1
    means = []
    for before, after in zip(exact[name], rough[name], strict=True):
        with np.errstate(invalid="ignore"):
            difference = np.moveaxis(before.astype(np.float64) - after, axis, 0)
        means.append(difference.reshape(difference.shape[0], -1).mean(axis=1))
    if not np.isfinite(means).all():
        return
    shift = _agreed(np.array(means))
    given = node.inputs[2] if len(node.inputs) > 2 else ""
    if given and (given not in network.constants or network.constants[given].shape[-1:] != shift.shape):
        return
    if given and network.constants[given].size != shift.size:
        return
    bias = network.constants[given].decode().reshape(-1).astype(np.float64) if given else 0.0
    made.biases[name] = bias + shift
    shape = [-1 if i == axis % rough[name][0].ndim else 1 for i in range(rough[name][0].ndim)]
    rough[name] = [after + shift.astype(np.float32).reshape(shape) for after in rough[name]]


def _agreed(means: Floats) -> Floats:
    """The mean over samples ``[samples, channels]``, made smaller the more it may be chance."""
    mean: Floats = means.mean(axis=0)
    if means.shape[0] < 2:
        return mean
    chance = means.var(axis=0, ddof=1) / means.shape[0]
    square = np.square(mean)
    share = np.clip(1 - np.divide(chance, square, out=np.ones_like(square), where=square > 0), 0.0, 1.0)
    return np.asarray(mean * share)


def same_top(exact: list[NDArray[Any]], rough: list[NDArray[Any]]) -> tuple[int, int]:
    """In how many rows along the last axis the same element is the greatest, and how many rows there are."""
    pairs = [(a.argmax(axis=-1), b.argmax(axis=-1)) for a, b in zip(exact, rough, strict=True)]
    return sum(int(np.count_nonzero(a == b)) for a, b in pairs), sum(a.size for a, _ in pairs)
