"""Recipes that quantise: options to a plan, the plan to a network with a report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bittern.compression.layerwise.batch_norm import MODES, folded, recalibrated
from bittern.compression.layerwise.calibration import Feeds, samples_of
from bittern.compression.layerwise.grid import WeightMethod
from bittern.compression.layerwise.learned import learned
from bittern.compression.layerwise.options import number_in, one_of, whole_in
from bittern.compression.layerwise.prepare import prepare
from bittern.compression.layerwise.reconstruct import compensated
from bittern.compression.layerwise.walk import (
    Plan,
    Pruner,
    Pruning,
    Rounded,
    Walked,
    decibels,
    round_weight,
    same_top,
    walk,
)
from bittern.compression.layerwise.weights import Placement, check_names, find_weights, groups_of
from bittern.compression.quantize.dynamic import is_whole, quantise_on_the_fly
from bittern.compression.quantize.methods import METHODS
from bittern.compression.quantize.placement import place_activations
from bittern.compression.quantize.qdq import Builder
from bittern.compression.quantize.ranges import METHODS as RANGES
from bittern.compression.quantize.ranges import Observer, Quantiser
from bittern.compression.quantize.shared import shared_grid
from bittern.encodings import Encoding
from bittern.errors import Error, InputError
from bittern.model import load
from bittern.network import Network

Progress = Callable[[int, int, str], None]

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
KERNELS = ("all", "spatial", "pointwise")
LEARNED = "learned"
ACTIVATIONS = (None, "dynamic", *(f"u{bits}" for bits in range(2, 9)))


@dataclass(frozen=True)
class Settings:
    """What all methods share; see ``bittern.compress`` for the meaning of each."""

    activations: str | None = None
    calibration_method: str = "minmax"
    percentile: float = 99.99
    reconstruct: bool | str | None = None  # None: where calibration data is given; "learned": by learned rounding
    bias_correction: bool | None = None  # None: where calibration data is given
    samples: int = 32
    exclude: Collection[str] = ()
    first_layer: bool = True
    last_layer: bool = True
    batch_norm: str = "fold"
    kernels: str = "all"

    def __post_init__(self) -> None:
        one_of("activations", self.activations, ACTIVATIONS)
        one_of("calibration_method", self.calibration_method, RANGES)
        number_in("calibration_percentile", self.percentile, 50, 100)
        whole_in("samples", self.samples, 1, 2**31)
        one_of("batch_norm", self.batch_norm, MODES)
        one_of("kernels", self.kernels, KERNELS)
        for key in ("first_layer", "last_layer"):
            one_of(key, getattr(self, key), (True, False))
        one_of("reconstruct", self.reconstruct, (True, False, None, LEARNED))
        one_of("bias_correction", self.bias_correction, (True, False, None))
        if isinstance(self.exclude, str) or not all(isinstance(name, str) for name in self.exclude):
            raise InputError("exclude", f"is {self.exclude!r}", "give a list of names of weights or nodes")


SHARED = {
    field.name if field.name != "percentile" else "calibration_percentile": field.name for field in fields(Settings)
}


@dataclass(frozen=True)
class Recipe:
    """A method and its options by name, and settings; ``method`` and all options may be overridden."""

    method: str
    options: Mapping[str, Any]
    settings: Settings

    def with_options(self, recipe: str, given: Mapping[str, Any]) -> Quantization:
        """The recipe with a user's options. Raises InputError that names those that are allowed."""
        name = given.get("method", self.method)
        if name not in METHODS:
            raise InputError("method", f"is {name!r}", f"use one of {', '.join(METHODS)}")
        own = {field.name for field in fields(METHODS[name])}  # type: ignore[arg-type]
        allowed = ["method", *sorted(own | set(SHARED))]
        if unknown := sorted(set(given) - set(allowed)):
            raise InputError(recipe, f"unknown option {unknown[0]!r}", f"method {name} takes {', '.join(allowed)}")
        defaults = self.options if name == self.method else {}
        method = METHODS[name](**{**defaults, **{key: value for key, value in given.items() if key in own}})
        settings = replace(self.settings, **{SHARED[key]: value for key, value in given.items() if key in SHARED})
        return Quantization(recipe, method, settings)


@dataclass(frozen=True)
class Quantization:
    """A recipe whose options are settled."""

    name: str
    method: Any
    settings: Settings
    pruning: Pruning | None = None

    def run(self, network: Network, progress: Progress | None = None, calibration: Any = None) -> Network:
        """A quantised copy of ``network``. Raises InputError for data that does not fit and weights that cannot be."""
        settings = self.settings
        static = settings.activations not in (None, "dynamic")
        if settings.activations and any(node.op in QUANTISERS for node in network.nodes):
            raise InputError("network", "its activations are quantised already", "start from the float network")
        given = calibration is not None
        if settings.batch_norm == "recalibrate" and not given:
            raise InputError("batch_norm", "needs calibration data", "give some, or leave batch_norm out")
        whole = prepare(network, fold_norms=settings.batch_norm == "fold")
        prepared = whole if self.pruning is None else self.pruning.reduced(whole)
        first, last = settings.first_layer, settings.last_layer
        placement = find_weights(prepared, settings.exclude, first, last, settings.kernels)
        check_names(prepared, "exclude", settings.exclude)
        rounding = learned if settings.reconstruct == LEARNED else compensated
        reconstruct = given if settings.reconstruct is None else bool(settings.reconstruct)
        correct = given if settings.bias_correction is None else settings.bias_correction
        done: list[str] = []

        def step(weight: str) -> None:
            done.append(weight)
            if progress is not None:
                progress(len(done), total, weight)

        quantisers: dict[str, Quantiser] = {}
        samples: list[Feeds] = []
        pruner: Pruner | None = None
        if static or reconstruct or correct or given:
            samples = samples_of(prepared, calibration)
        few = samples[:: -(-len(samples) // settings.samples)] if samples else []
        if self.pruning is not None:
            pruner = self.pruning.pruner(prepared, placement, few, given)
            reconstruct = pruner.learns or (reconstruct and not self.method.exact)
            if self.method.exact:
                for name in pruner.left:
                    del placement.weights[name]
        total = len(placement.weights)
        if static:
            place_activations(prepared, placement)
            quantisers = activation_quantisers(prepared, placement, samples, settings)
        few = samples[:: -(-len(samples) // settings.samples)] if samples else []
        method = self.method
        if getattr(method, "shared", False):
            method = shared_grid(method, prepared, placement, few)
        if samples:
            norms = settings.batch_norm if given else "fold"
            plan = Plan(method, placement, quantisers, reconstruct, rounding, correct, pruner, norms)
            walked = walk(prepared, plan, few, step)
            if prepared is not whole:
                _compare_with(whole, few, walked)
        else:
            walked = Walked(
                {name: _alone(prepared, name, placement, method, pruner, step) for name in placement.weights}
            )
        encodings = {name: rounded.encoding() for name, rounded in walked.weights.items()}
        kept = _kept(prepared, encodings, static)
        if pruner is not None:
            kept = {name: note for name, note in kept.items() if walked.weights[name].weight_db == np.inf}
        result = Builder(prepared, placement, quantisers).build(
            {name: tree for name, tree in encodings.items() if name not in kept},
            {name: rounded for name, rounded in walked.weights.items() if name not in kept},
            walked.biases,
        )
        if settings.batch_norm != "fold":
            result = folded(recalibrated(result, samples if given else [], settings.batch_norm == "shift"))
        if settings.activations == "dynamic":
            result, products, layers = quantise_on_the_fly(result, set(encodings) - set(kept))
            result._remarks.append(f"inputs of {products} products are quantised to 8 bits on the fly")
            if layers:
                result._remarks.append(
                    f"inputs and states of {layers} recurrent layers are quantised to 8 bits on the fly"
                )
        _report(result, network, walked, kept)
        if pruner is not None:
            result._notes.update(
                {name: note for name, note in pruner.left.items() if name not in result._notes and note}
            )
        result._remarks += prepared._remarks
        result._remarks += _remarks(samples, given, walked)
        if settings.batch_norm != "fold":
            result._remarks.append(_about_norms(result, prepared, len(samples) if given else 0, settings.batch_norm))
        return result


def _alone(
    network: Network,
    name: str,
    placement: Placement,
    method: WeightMethod,
    pruner: Pruner | None,
    step: Callable[[str], None],
) -> Rounded:
    """A weight without any data."""
    layout = placement.weights[name]
    cut = None if pruner is None else pruner.cut(name, layout, groups_of(network, name))
    try:
        rounded = round_weight(network.constants[name].decode(), layout, method.named(name), cut=cut)
    except Error as error:
        raise type(error)(f"weight {name!r}", error.problem, error.remedy) from None
    step(name)
    return rounded


def activation_quantisers(
    network: Network, placement: Placement, samples: list[Feeds], settings: Settings
) -> dict[str, Quantiser]:
    """The quantiser of every value, from its range over the samples; values with one root share one."""
    bits = int((settings.activations or "u8")[1:])
    observers = {name: Observer() for name in dict.fromkeys(placement.root.values())}
    model = load(network)
    taps = [name for name in observers if name not in {info.name for info in network.inputs}]
    for turn in range(1 if settings.calibration_method == "minmax" else 2):
        for sample in samples:
            values = {**sample, **model.run(sample, taps=taps)}
            for name, observer in observers.items():
                (observer.see_counts if turn else observer.see_range)(values[name])
    ranges = {
        name: seen.range(settings.calibration_method, settings.percentile, bits) for name, seen in observers.items()
    }
    _share(network, placement, ranges)
    return {name: Quantiser.of(*ranges[placement.root[name]], bits) for name in placement.values}


def _share(network: Network, placement: Placement, ranges: dict[str, tuple[float, float]]) -> None:
    """What is concatenated takes one scale, so that codes are only copied, where that costs at most a bit."""
    for node in network.nodes:
        if node.op != "Concat" or node.outputs[0] not in placement.root:
            continue
        target = placement.root[node.outputs[0]]
        roots = [placement.root[name] for name in node.inputs]
        low = min(0.0, *(ranges[root][0] for root in roots))
        high = max(0.0, *(ranges[root][1] for root in roots))
        ranges[target] = low, high
        for root in dict.fromkeys(roots):
            least, most = min(ranges[root][0], 0.0), max(ranges[root][1], 0.0)
            if 2 * (most - least) >= high - low and root != target:
                for name, its_root in placement.root.items():
                    if its_root == root:
                        placement.root[name] = target


def _compare_with(original: Network, samples: list[Feeds], walked: Walked) -> None:
    """Outputs of the original in place of those of a network that has lost filters."""
    model = load(original)
    runs = [model.run(sample) for sample in samples]
    for name, (_, rough) in walked.outputs.items():
        walked.outputs[name] = ([run[name] for run in runs], rough)


def _kept(network: Network, encodings: Mapping[str, Encoding], static: bool) -> dict[str, str]:
    """Weights whose present encoding is smaller and, where activations are quantised, whole numbers times scales."""
    return {
        name: "kept: the new encoding is not smaller"
        for name, tree in encodings.items()
        if tree.nbytes >= network.constants[name].nbytes and not (static and not is_whole(network.constants[name]))
    }


def _about_norms(result: Network, prepared: Network, count: int, mode: str) -> str:
    norms, left = (sum(node.op == "BatchNormalization" for node in one.nodes) for one in (prepared, result))
    done = [f"measured again on {count} samples"] if count else []
    done += ["rounded to powers of two"] if mode == "shift" else []
    return f"{norms} batch normalisations {' and '.join(done)}, {norms - left} of them folded into their layers"


def _report(result: Network, source: Network, walked: Walked, kept: Mapping[str, str]) -> None:
    for name, rounded in walked.weights.items():
        if name in kept:
            result._errors[name], result._notes[name] = 0.0, kept[name]
            continue
        result._errors[name] = _relative(rounded.weight_db)
        if rounded.output_db is not None:
            result._output_errors[name] = _relative(rounded.output_db)
        note = f"weight {_db(rounded.weight_db)}"
        result._notes[name] = note if rounded.output_db is None else f"{note}, output {_db(rounded.output_db)}"


def _relative(value: float) -> float:
    """The relative root mean square error that so many decibels are; 0 for what has no size to compare with."""
    return float(10 ** (-value / 20)) if abs(value) < float("inf") else 0.0


def _db(value: float) -> str:
    if value != value:
        return "not finite"
    return "exact" if value == float("inf") else f"{value:.1f} dB"


def _remarks(samples: list[Feeds], given: bool, walked: Walked) -> list[str]:
    if not samples:
        return []
    found = [f"calibrated on {len(samples)} samples"]
    if not given:
        found = [
            f"calibrated on {len(samples)} random samples: give calibration data, for ranges that real inputs have"
        ]
    for name, (exact, rough) in walked.outputs.items():
        if not exact or exact[0].dtype.kind != "f":
            continue
        text = f"output {name}: signal to noise {_db(decibels(exact, rough))}"
        if exact[0].ndim >= 2 and exact[0].shape[-1] > 1:
            same, count = same_top(exact, rough)
            text += f", the same greatest element in {same:,} of {count:,}"
        found.append(f"{text} ({len(exact)} samples)")
    return found


QUANTISATION_RECIPES: dict[str, Recipe] = {
    "int8": Recipe("affine", {"bits": 8, "scale": "minmax"}, Settings(activations="u8", reconstruct=False)),
    "int4": Recipe("affine", {"bits": 4}, Settings()),
    "codebook4": Recipe("codebook", {"bits": 4}, Settings()),
    "ternary": Recipe("ternary", {"per_channel": True}, Settings()),
    "shift": Recipe("shift", {"terms": 2, "bits": 4}, Settings()),
    "quantize": Recipe("affine", {"bits": 8}, Settings()),
}
