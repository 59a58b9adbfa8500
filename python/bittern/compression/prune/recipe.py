"""The recipe that prunes, alone or before weights are quantised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from bittern.compression.prune.floats import FloatMethod
from bittern.compression.prune.methods import METHODS
from bittern.compression.prune.patterns import pattern_of
from bittern.compression.prune.pruning import Pruning
from bittern.compression.quantize.methods import METHODS as QUANTISERS
from bittern.compression.quantize.recipe import QUANTISATION_RECIPES, SHARED, Quantization, Settings
from bittern.errors import InputError

OWN = ("pattern", "sparsity", "per_layer", "normalise", "method", "policy", "machine", "slow_layers")
OF_METHODS = tuple(sorted({item.name for method in METHODS.values() for item in fields(method)}))  # type: ignore[arg-type]
ONLY_QUANTISED = ("activations", "calibration_method", "calibration_percentile", "reconstruct")


def prune_recipe(given: Mapping[str, Any]) -> Quantization:
    """The recipe with a user's options; those it does not know go to the recipe named by ``quantize``.

    Raises InputError that names what is allowed.
    """
    options = dict(given)
    quantise = options.pop("quantize", None)
    own = {key: options.pop(key) for key in OWN if key in options}
    if "pattern" in own:
        own["pattern"] = pattern_of(own["pattern"])
    of_method = {key: options.pop(key) for key in OF_METHODS if key in options}
    pruning = Pruning(**own, options=of_method)
    if quantise is None:
        shared = [key for key in SHARED if key not in ONLY_QUANTISED]
        if unknown := sorted(set(options) - set(shared)):
            allowed = ", ".join([*OWN, *OF_METHODS, *shared, "quantize (and what that takes)"])
            raise InputError("prune", f"unknown option {unknown[0]!r}", f"use {allowed}")
        settings = replace(Settings(), **{SHARED[key]: value for key, value in options.items()})
        return Quantization("prune", FloatMethod(), settings, pruning)
    if quantise in QUANTISATION_RECIPES:
        made = QUANTISATION_RECIPES[quantise].with_options(quantise, options)
    elif quantise in QUANTISERS:
        made = QUANTISATION_RECIPES["quantize"].with_options("prune", {**options, "method": quantise})
    else:
        names = dict.fromkeys((*QUANTISATION_RECIPES, *QUANTISERS))
        raise InputError("quantize", f"is {quantise!r}", f"use one of {', '.join(names)}")
    if not made.method.has_zero:
        remedy = "pruned weights need one: use another, e.g. int8, codebook4 or ternary"
        raise InputError("quantize", f"is {quantise!r}, whose values have no zero", remedy)
    return replace(made, name="prune", pruning=pruning)
