"""Lossy compression: recipes that give the weights of a network smaller encodings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bittern.errors import InputError
from bittern.importers import convert
from bittern.network import Network

if TYPE_CHECKING:
    from onnx import ModelProto


def compress(
    source: str | os.PathLike[str] | bytes | ModelProto | Network,
    *,
    recipe: str = "deep-compression",
    calibration: Any = None,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Network:
    """Compress the weights of convolutions, matrix products and recurrent layers; the source stays as it is.

    Recipes:

    * ``"deep-compression"`` (Han, Mao, Dally, arXiv 1510.00149): pruning by magnitude, a codebook by k-means, relative
      indices, entropy codes. Options: ``density`` (share of weights to keep, one number or ``{name: number}`` by weight
      or node; default: keep the zeros that are there and prune nothing), ``bits`` of a code (2 to 8, default 8; a layer
      that has no more than ``2**bits - 1`` distinct non-zero values is kept exactly), ``index_bits`` of a gap (2 to 8,
      default 4; None: the best per layer).
    * ``"float16"``: weights as 16-bit floats. No options.

    Neither recipe looks at activations, so ``calibration`` is accepted and not used; the summary says so.
    ``progress(done, total, name)`` is called after each weight. The result's ``summary()`` has the error of each.
    The same input and options give the same file. Raises InputError for a wrong option, and what ``convert`` raises.
    """
    # Importing the package for a run alone should not cost what compressing needs.
    from bittern.compression.recipes import RECIPES

    if recipe not in RECIPES:
        raise InputError("recipe", f"is {recipe!r}", f"use one of {', '.join(sorted(RECIPES))}")
    made = RECIPES[recipe](options)
    network = convert(source)
    result = made.run(network, progress)
    if calibration is not None:
        result._remarks.append(f"calibration data is not used by recipe {recipe}")
    return result
