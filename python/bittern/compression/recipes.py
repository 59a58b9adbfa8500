"""Recipes: a method for every weight of a network, with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bittern.compression.deep_compression import DeepCompression
from bittern.compression.float16 import Float16
from bittern.compression.layerwise.weights import users_of
from bittern.compression.local_binary import local_binary_recipe
from bittern.compression.method import Compressed, Method
from bittern.compression.prune.recipe import prune_recipe
from bittern.compression.quantize.recipe import QUANTISATION_RECIPES
from bittern.compression.winograd import winograd_recipe
from bittern.errors import Error, InputError
from bittern.network import Network

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Recipe:
    """One method for all weights."""

    method: Method

    def run(self, network: Network, progress: Progress | None = None, calibration: Any = None) -> Network:
        """A compressed copy of ``network``. Raises InputError that names the weight which cannot be compressed."""
        result = network.copy()
        if calibration is not None:
            result._remarks.append("calibration data is not used by this recipe")
        weights = users_of(network)
        self.method.check_names(weights)
        for done, (name, users) in enumerate(weights.items(), 1):
            if network.constants[name].is_real:
                try:
                    weight = network.constants[name].decode()
                    made = self.method.compress(weight, name, users)
                except Error as error:
                    raise type(error)(f"weight {name!r}", error.problem, error.remedy) from None
                _adopt(result, name, weight, made)
            if progress is not None:
                progress(done, len(weights), name)
        return result


def _adopt(network: Network, name: str, weight: NDArray[Any], made: Compressed) -> None:
    """Put the new encoding in place unless the present one is smaller and says the same."""
    encoding = made.encoding
    present = network.constants[name]
    if encoding is not None:
        decoded = encoding.decode()
        if encoding.nbytes >= present.nbytes:
            network._errors[name] = 0.0
            network._notes[name] = "kept: the new encoding is not smaller"
            return
        network.constants[name] = encoding
        network._errors[name] = relative_error(weight, decoded)
    if made.note:
        network._notes[name] = made.note


def relative_error(original: NDArray[Any], decoded: NDArray[Any]) -> float:
    """``||decoded - original|| / ||original||``, in float64; 0.0 means bit for bit the same."""
    if original.tobytes() == decoded.tobytes():
        return 0.0
    reference = original.astype(np.float64)
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(decoded.astype(np.float64) - reference)) / norm if norm else 0.0


class Runnable(Protocol):
    """A recipe whose options are settled."""

    def run(self, network: Network, progress: Progress | None = None, calibration: Any = None) -> Network:
        """A compressed copy of ``network``."""


def _float16(options: Mapping[str, Any]) -> Recipe:
    if options:
        raise InputError("float16", f"unknown option {sorted(options)[0]!r}", "this recipe has no options")
    return Recipe(Float16())


def _deep_compression(options: Mapping[str, Any]) -> Recipe:
    known = ("density", "bits", "index_bits")
    if unknown := sorted(set(options) - set(known)):
        raise InputError("deep-compression", f"unknown option {unknown[0]!r}", f"use {', '.join(known)}")
    return Recipe(DeepCompression(**options))


RECIPES: dict[str, Callable[[Mapping[str, Any]], Runnable]] = {
    "deep-compression": _deep_compression,
    "float16": _float16,
    "local-binary": local_binary_recipe,
    "prune": prune_recipe,
    "winograd": winograd_recipe,
    **{name: partial(recipe.with_options, name) for name, recipe in QUANTISATION_RECIPES.items()},
}
