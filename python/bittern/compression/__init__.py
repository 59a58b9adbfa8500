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
      default None: the best per layer).
    * ``"float16"``: weights as 16-bit floats. No options.

    * ``"int8"``: 8-bit weights, a scale per output channel, and 8-bit activations (QuantizeLinear, DequantizeLinear).
    * ``"int4"``, ``"codebook4"``, ``"ternary"``, ``"shift"``, ``"quantize"``: weights of 4 bits with even levels, of 4
      bits with a codebook, of three values, of sums of two powers of two; the last is 8 bits, a start for others.
      Activations stay float32 unless ``activations="u8"``.

    * ``"local-binary"`` (Juefei-Xu et al., arXiv 1608.06049): convolutions of several places become fixed random
      filters of -1, 0 and +1, which a seed stands for, a Relu, and a 1x1 convolution fitted to ``calibration``.
      Options: ``filters`` for each input channel (default 4), ``density`` (0.5), ``seed``, ``ridge``, ``bits`` (32 or
      16), ``samples``, ``exclude``, ``first_layer`` (False).

    * ``"prune"``: zeros in place of the weights that matter least. Options: ``sparsity`` (share removed, 0 to below 1);
      ``pattern``: "unstructured", "2:4" (or other N:M along the input channels), "1x4" (or other blocks, output by
      input channels), "row-balanced" or "row-balanced:BANKS", "filters" (whole output channels, taken out of the
      graph); ``per_layer``: "uniform", "global" (one threshold; ``normalise=True``: in standard deviations of the
      layer), "sensitivity" (from a scan with the calibration data), or ``{name or pattern: sparsity}``; ``method``:
      "magnitude" (``norm`` "l1" or "l2" of blocks), or "reconstruct" (``rounds``, ``refit``), the default where
      calibration data is given: second-order pruning, made good by what stays; ``policy`` "independent" or "greedy" of
      filters; ``machine`` (measured ``flops``, ``bandwidth``, ``alpha``, ``beta``) and ``slow_layers`` ("dense" or
      "sparser"): layers that would not be faster as sparse ones (arXiv 1608.01409); ``quantize``: one of the other
      recipes or methods, for weights (and activations) of few bits, with its options: zeros stay zeros.

    * ``"winograd"`` (arXiv 1802.06367): convolutions of 3x3 with stride 1 and without groups get their weights in
      Winograd's domain, pruned there (operator WinogradConv, without the ReLU of the paper, which needs training).
      Options: ``density`` (share kept, default 0.3; one number or ``{name: number}``, then of these layers alone),
      ``m`` (tiles of 2x2 or 4x4 outputs, default 2), ``exclude``, ``first_layer`` (False).

    The recipes ``int8`` to ``quantize`` take options: ``method`` (affine, balanced, binary, cells, codebook, dorefa,
    entropy, fixed-point, linear, log, loss-aware, residual, separable, shift, ternary) and what it takes (``bits``,
    ``per_channel``, ``group``, ``symmetric``, ``scale``, ``levels``, ``centre`` ...); ``activations`` (``"u8"``, fewer
    bits down to ``"u2"``, or None);
    ``calibration_method`` for their ranges (``"minmax"``, ``"percentile"`` with ``calibration_percentile``, ``"mse"``);
    ``reconstruct``: errors of rounding are made good by the other weights of the layer, for the inputs that the layers
    before it, already quantised, give ("learned": which go up and which down is found by gradient descent, arXiv
    2004.10568); ``bias_correction``: the mean error of a layer's output goes into its bias (both by default where
    calibration data is given, but ``int8`` does not reconstruct); ``samples``: the most that these two look at (default
    32); ``exclude``: names of weights or nodes left alone; ``first_layer`` and ``last_layer``: False leaves it alone;
    ``kernels``: "all", "spatial" (convolutions of several places alone) or "pointwise" (all but
    those); ``batch_norm``: "fold" (default: the statistics that training left), "recalibrate" (means and
    variances measured again in the compressed network, over all calibration samples) or "shift" (likewise, with scale
    and reciprocal deviation rounded to powers of two).

    ``calibration``: arrays by input name, the first dimension counting samples (for recurrent layers it may be time: an
    array is one sample); an .npz file of such; an array for an only input; a list of dicts; images (files, or uint8
    arrays) for a network with preprocessing. None: ranges come from random inputs, which the summary says. The other
    recipes do not look at it.
    ``progress(done, total, name)`` is called after each weight. The result's ``summary()`` has the error of each.
    The same input and options give the same file (with ``reconstruct``, on the same machine). Raises InputError for a
    wrong option, and what ``convert`` raises.
    """
    # Importing the package for a run alone should not cost what compressing needs.
    from bittern.compression.recipes import RECIPES

    if recipe not in RECIPES:
        raise InputError("recipe", f"is {recipe!r}", f"use one of {', '.join(sorted(RECIPES))}")
    made = RECIPES[recipe](options)
    network = convert(source)
    return made.run(network, progress, calibration)
