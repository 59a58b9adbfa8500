"""The networks with most weights zero: files that any engine reads, and bittern's sparse encoding of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import onnx
from bittern.encodings import Affine, Bitmap, Dense, Sparse
from numpy.typing import NDArray

_WORTHWHILE = 0.7
"""Weights with more than this share of them not zero stay dense."""


def prune(source: Path, target: Path, sparsity: float, together: int = 1) -> Path:
    """Write ``source`` to ``target`` with so large a share of the weights of its convolutions zero.

    All but the first convolution and depthwise ones, which nobody prunes. Places are drawn uniformly, seeded, for
    ``together`` neighbouring input channels at a time; the other weights grow so that the size of activations stays
    level.
    """
    rng = np.random.default_rng(0)
    model = onnx.load(str(source))
    initializers = {each.name: each for each in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions[1:]:
        stored = initializers[node.input[1]]
        weights = onnx.numpy_helper.to_array(stored)
        if weights.shape[1] > 1:
            pruned = _pruned(weights, sparsity, together, rng)
            stored.CopyFrom(onnx.numpy_helper.from_array(pruned, stored.name))
    onnx.save(model, str(target))
    return target


def _pruned(weights: NDArray[Any], sparsity: float, together: int, rng: np.random.Generator) -> NDArray[np.float32]:
    outputs, inputs, *window = weights.shape
    cells = (outputs, math.ceil(inputs / together), *window)
    mask = np.zeros(math.prod(cells), np.bool_)
    mask[rng.permutation(mask.size)[: round((1 - sparsity) * mask.size)]] = True
    kept = np.repeat(mask.reshape(cells), together, axis=1)[:, :inputs]
    return np.where(kept, weights / math.sqrt(1 - sparsity), 0).astype(np.float32)


def convert(source: Path) -> bittern.Network:
    """The network of an ONNX file with pruned weights as a bitmap and the values, or 8-bit codes, that are left."""
    network = bittern.convert(source)
    for name, stored in network.constants.items():
        if isinstance(stored, Affine) and stored.zero_point is None and len(stored.shape) == 4:
            codes = stored.codes.decode()
            mask = codes != 0
            if mask.mean() <= _WORTHWHILE and codes.dtype == np.int8:
                sparse = Sparse(Bitmap.of(mask), Dense(codes[mask]), codes.shape)
                network.constants[name] = replace(stored, codes=sparse)
        if isinstance(stored, Dense) and stored.is_real and len(stored.shape) == 4:
            values = stored.decode()
            mask = values != 0
            if mask.mean() <= _WORTHWHILE:
                network.constants[name] = Sparse(Bitmap.of(mask), Dense(values[mask]), values.shape)
    return network
