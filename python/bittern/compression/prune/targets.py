"""How much of each layer stays: the same share, one threshold for all, what a user says, or by sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.layerwise.grid import Layout
from bittern.compression.prune.patterns import Pattern
from bittern.errors import InputError
from bittern.network import Network

LEAST_DENSITY = 0.01  # of a layer under one threshold for all: an empty layer cuts the network in two
DISTRIBUTIONS = ("uniform", "global", "sensitivity")


def checked_sparsity(place: str, value: Any) -> float:
    """A sparsity. Raises InputError that says what it may be."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise InputError(place, f"is {value!r}", "give the share of weights to remove, from 0 to below 1")
    return float(value)


def named(given: Mapping[str, Any], weights: Mapping[str, list[str]], place: str) -> dict[str, float]:
    """The sparsity of each weight (which these nodes use) that a key names, or a pattern as in ``fire*``; plain names
    go before patterns, earlier patterns before later ones. Raises InputError for a key that names nothing.
    """
    found: dict[str, float] = {}
    for plain in (True, False):
        for key, value in given.items():
            if any(mark in key for mark in "*?[") == plain:
                continue
            share = checked_sparsity(f"{place} of {key}", value)
            hits = [
                name
                for name, nodes in weights.items()
                if any(label == key if plain else fnmatchcase(label, key) for label in (name, *nodes))
            ]
            if not hits:
                raise InputError(
                    place,
                    f"no weight or node is named {key!r}",
                    f"use one of {', '.join(weights)}, or a pattern as in conv*",
                )
            for name in hits:
                found.setdefault(name, share)
    return found


def by_threshold(
    network: Network,
    layers: Mapping[str, tuple[Layout, int]],
    pattern: Pattern,
    sparsity: float,
    normalise: bool = False,
) -> tuple[dict[str, float], float]:
    """The density of each weight if all share one threshold, and the threshold; together they lose ``sparsity``.

    ``normalise``: magnitudes count in standard deviations of their layer, so that the threshold is the ``q`` of
    ``q * std`` (Han et al., arXiv 1506.02626). Tiles of a pattern go by their mean.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    for name, (layout, groups) in layers.items():
        rows = layout.rows(network.constants[name].decode()).astype(np.float64)
        spread = float(rows.std()) if normalise else 1.0
        scores[name] = pattern.cells(layout, groups).scores(np.abs(rows)).reshape(-1) / (spread or 1.0)
    every = np.concatenate([np.sort(found) for found in scores.values()])
    sizes = np.concatenate(
        [np.full(found.size, network.constants[name].size / found.size) for name, found in scores.items()]
    )
    order = np.argsort(every, kind="stable")
    gone = np.cumsum(sizes[order])
    place = int(np.searchsorted(gone, sparsity * gone[-1] * (1 + 1e-12), side="right"))
    limit = float(every[order[place - 1]]) if place else -1.0
    owner = np.repeat(np.arange(len(scores)), [found.size for found in scores.values()])
    lost = np.bincount(owner[order[:place]], minlength=len(scores))
    return {
        name: max(1 - lost[index] / found.size, LEAST_DENSITY) for index, (name, found) in enumerate(scores.items())
    }, max(limit, 0.0)


def by_curves(
    sizes: Mapping[str, int], curves: Mapping[str, list[tuple[float, float]]], sparsity: float
) -> dict[str, float]:
    """The sparsity of each layer that removes ``sparsity`` of all weights at the least sum of noise.

    ``curves``: points (sparsity, noise power) of each layer, measured alone; noise is taken to add up. The lower convex
    hull of each is followed from the least slope on. Raises InputError if the points do not reach as far.
    """
    pieces: list[tuple[float, int, str, float, float]] = []
    for name, points in curves.items():
        for number, ((s0, n0), (s1, n1)) in enumerate(_hull([(0.0, 0.0), *points])):
            pieces.append(((n1 - n0) / ((s1 - s0) * sizes[name]), number, name, s0, s1))
    pieces.sort()
    wanted = sparsity * sum(sizes.values())
    found = dict.fromkeys(sizes, 0.0)
    for _, _, name, begin, end in pieces:
        step = min((end - begin) * sizes[name], wanted)
        found[name] = begin + step / sizes[name]
        wanted -= step
        if wanted <= 0:
            return found
    if wanted > 1e-9 * sum(sizes.values()):
        raise InputError(
            "sparsity", f"is {sparsity:g}, more than the scanned sparsities allow", "ask for less, or scan higher ones"
        )
    return found


def _hull(points: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """The segments of the lower convex hull of points that begin at the origin."""
    hull: list[tuple[float, float]] = []
    for x, y in sorted(dict(sorted(points)).items()):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append((x, y))
    return list(pairwise(hull))


Scan = Callable[[], Mapping[str, list[tuple[float, float]]]]


def densities(
    network: Network,
    layers: Mapping[str, tuple[Layout, int]],
    users: Mapping[str, list[str]],
    pattern: Pattern,
    sparsity: float | None,
    per_layer: str | Mapping[str, float],
    normalise: bool,
    scan: Scan,
) -> tuple[dict[str, float], str]:
    """The density of each weight, and a remark. ``users``: the nodes of each; ``scan``: the curves of ``by_curves``."""
    share = sparsity if sparsity is not None else pattern.sparsity
    if isinstance(per_layer, Mapping):
        told = named(per_layer, users, "per_layer")
        fixed = pattern.sparsity
        if fixed is not None and (
            wrong := [name for name, value in told.items() if value and abs(value - fixed) > 1e-6]
        ):
            remedy = f"{pattern} removes {fixed:g}: give that, or 0 to leave a layer alone"
            raise InputError("per_layer", f"has {told[wrong[0]]:g} for {wrong[0]!r}", remedy)
        return {name: 1 - told.get(name, share or 0.0) for name in layers}, ""
    if share is None:
        raise InputError(
            "sparsity", "is missing", "give the share of weights to remove, e.g. sparsity=0.8 (0 to below 1)"
        )
    if not layers or per_layer == "uniform":
        return dict.fromkeys(layers, 1 - share), ""
    if pattern.sparsity is not None:
        raise InputError(
            "per_layer", f"is {per_layer!r}", f"{pattern} removes the same share of every layer: use uniform"
        )
    if per_layer == "global":
        found, limit = by_threshold(network, layers, pattern, share, normalise)
        unit = "standard deviations of the layer" if normalise else "in magnitude"
        return found, f"one threshold for all layers: {limit:.3g} {unit}"
    sizes = {name: network.constants[name].size for name in layers}
    return {name: 1 - lost for name, lost in by_curves(sizes, scan(), share).items()}, "sparsities by sensitivity"
