"""The networks with most weights zero: files that any engine reads, and bittern's sparse encoding of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import onnx
from bittern.encodings import Bitmap, Dense, Sparse
from numpy.typing import NDArray

_WORTHWHILE = 0.7
"""Weights with more than this share of them not zero stay dense."""


def prune(source: Path, target: Path, sparsity: float) -> Path:
    """Write ``source`` to ``target`` with so large a share of the weights of its convolutions zero.

    All but the first convolution and depthwise ones, which nobody prunes. Places are drawn uniformly, seeded; the other
    weights grow so that the size of activations stays level.
    """
    rng = np.random.default_rng(0)
    model = onnx.load(str(source))
    initializers = {each.name: each for each in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    for node in convolutions[1:]:
        stored = initializers[node.input[1]]
        weights = onnx.numpy_helper.to_array(stored)
        if weights.shape[1] > 1:
            pruned = _pruned(weights, sparsity, rng)
            stored.CopyFrom(onnx.numpy_helper.from_array(pruned, stored.name))
    onnx.save(model, str(target))
    return target


def _pruned(weights: NDArray[Any], sparsity: float, rng: np.random.Generator) -> NDArray[np.float32]:
    kept = round((1 - sparsity) * weights.size)
    mask = np.zeros(weights.size, np.bool_)
    mask[rng.permutation(weights.size)[:kept]] = True
    return np.where(mask.reshape(weights.shape), weights / math.sqrt(1 - sparsity), 0).astype(np.float32)


def convert(source: Path) -> bittern.Network:
    """The network of an ONNX file with pruned weights as a bitmap and the values that are left."""
    network = bittern.convert(source)
    for name, stored in network.constants.items():
        if isinstance(stored, Dense) and stored.is_real and len(stored.shape) == 4:
            values = stored.decode()
            mask = values != 0
            if mask.mean() <= _WORTHWHILE:
                network.constants[name] = Sparse(Bitmap.of(mask), Dense(values[mask]), values.shape)
    return network
