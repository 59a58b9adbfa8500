"""How much a network's output suffers when one layer alone is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bittern.compression.layerwise.calibration import Feeds, samples_of
from bittern.compression.layerwise.grid import Layout
from bittern.compression.layerwise.walk import decibels, same_top
from bittern.compression.layerwise.weights import find_weights, groups_of
from bittern.compression.prune.magnitude import MagnitudeMethod
from bittern.compression.prune.method import Layer
from bittern.compression.prune.patterns import Pattern, pattern_of
from bittern.compression.prune.targets import checked_sparsity
from bittern.encodings import Dense
from bittern.errors import InputError
from bittern.importers import convert
from bittern.model import load
from bittern.network import Network
from bittern.report.table import table

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Point:
    """One layer pruned to one sparsity: signal to noise of the outputs in dB, and the share of equal first answers
    (None where no output has several elements).
    """

    weight: str
    sparsity: float
    sqnr_db: float
    agreement: float | None


@dataclass(frozen=True)
class Sensitivity:
    """The points of a scan. ``str()`` is a table, a line per layer."""

    points: tuple[Point, ...]
    samples: int

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """(sparsity, noise power over signal power) of each layer, rising in sparsity."""
        found: dict[str, list[tuple[float, float]]] = {}
        for point in self.points:
            noise = 0.0 if np.isposinf(point.sqnr_db) else float(10 ** (-point.sqnr_db / 10))
            found.setdefault(point.weight, []).append((point.sparsity, noise if np.isfinite(noise) else 1e9))
        return {name: sorted(points) for name, points in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data; an infinite ratio is null."""
        points = [
            {**asdict(point), "sqnr_db": point.sqnr_db if np.isfinite(point.sqnr_db) else None} for point in self.points
        ]
        return {"samples": self.samples, "points": points}

    def __str__(self) -> str:
        sparsities = sorted({point.sparsity for point in self.points})
        cells: dict[str, dict[float, str]] = {}
        for point in self.points:
            shown = "exact" if np.isposinf(point.sqnr_db) else f"{point.sqnr_db:.1f} dB"
            if point.agreement is not None:
                shown += f" {100 * point.agreement:.0f} %"
            cells.setdefault(point.weight, {})[point.sparsity] = shown
        rows = [[name, *(found.get(sparsity, "") for sparsity in sparsities)] for name, found in cells.items()]
        return table(("weight", *(f"{sparsity:g}" for sparsity in sparsities)), rows, "l" + "r" * len(sparsities))


def scan(
    network: Network,
    layers: Mapping[str, tuple[Layout, int]],
    samples: Sequence[Feeds],
    pattern: Pattern,
    sparsities: Sequence[float] = SPARSITIES,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune each of ``layers`` (layout, groups) alone by magnitude and run the samples."""
    exact = _outputs(network, samples)
    points: list[Point] = []
    for done, (name, (layout, groups)) in enumerate(layers.items(), 1):
        weight = network.constants[name].decode()
        rows = layout.rows(weight).astype(np.float64)
        layer = Layer(rows, rows, pattern, pattern.cells(layout, groups))
        for sparsity in sparsities:
            pruned, _ = MagnitudeMethod().prune(layer, 1 - sparsity)
            changed = network.copy()
            changed.constants[name] = Dense(layout.tensor(pruned).astype(np.float32))
            rough = _outputs(changed, samples)
            same, count = 0, 0
            for before, after in zip(exact.values(), rough.values(), strict=True):
                if before[0].ndim >= 2 and before[0].shape[-1] > 1:
                    equal, total = same_top(before, after)
                    same, count = same + equal, count + total
            everything = [array for arrays in exact.values() for array in arrays]
            found = [array for arrays in rough.values() for array in arrays]
            quality = decibels(everything, found)
            points.append(Point(name, float(sparsity), quality, same / count if count else None))
        if progress is not None:
            progress(done, len(layers), name)
    return Sensitivity(tuple(points), len(samples))


def _outputs(network: Network, samples: Sequence[Feeds]) -> dict[str, list[Any]]:
    model = load(network)
    names = [info.name for info in network.outputs if info.dtype == "f32"]
    runs = [model.run(sample) for sample in samples]
    return {name: [run[name] for run in runs] for name in names}


def prune_sensitivity(
    source: Any,
    calibration: Any,
    *,
    sparsities: Sequence[float] = SPARSITIES,
    pattern: str = "unstructured",
    samples: int = 8,
    progress: Progress | None = None,
) -> Sensitivity:
    """Prune each layer of a network (or what ``convert`` reads) alone, by magnitude, and compare the outputs.

    ``calibration`` as for ``compress``, of which at most ``samples`` are used, evenly chosen. Takes as many runs of the
    network as layers times sparsities times samples. Raises InputError for a wrong option or data.
    """
    rule = pattern_of(pattern)
    if rule.sparsity is not None:
        raise InputError(
            "pattern", f"is {pattern}, which has one sparsity", "use one that takes any, as unstructured or 1x4"
        )
    if not sparsities:
        raise InputError("sparsities", "is empty", "give some, e.g. (0.5, 0.8)")
    shares = [checked_sparsity("sparsities", share) for share in sparsities]
    network = convert(source)
    feeds = samples_of(network, calibration)
    placement = find_weights(network)
    layers = {
        name: (layout, groups_of(network, name)) for name, layout in placement.weights.items() if not rule.unfit(layout)
    }
    few = feeds[:: -(-len(feeds) // max(samples, 1))]
    return scan(network, layers, few, rule, sorted(set(shares)), progress)
