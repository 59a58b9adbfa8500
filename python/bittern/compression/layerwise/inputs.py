"""The input vectors of a layer's weight: rows of a matrix, one column per element that meets an output channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bittern.graph import Node

MOST_VECTORS = 8192  # of a layer, or eight times the columns if that is more; others are thinned out evenly


def input_vectors(node: Node, weight_shape: tuple[int, ...], x: NDArray[Any], samples: int = 1) -> NDArray[np.float32]:
    """``[groups, vectors, n]`` for a Conv, Gemm or MatMul, ``n`` as the columns of its weight's rows.

    ``samples`` that come one by one share the limit of vectors.
    """
    columns = math.prod(weight_shape[1:]) if node.op == "Conv" else x.shape[-1]
    most = -(-max(MOST_VECTORS, 8 * columns) // samples)
    if node.op == "Conv":
        return _windows(node, weight_shape, x, most)
    flat = x.reshape(-1, x.shape[-1])
    return _thin(flat, most)[np.newaxis].astype(np.float32)


def recurrent_vectors(weight_index: int, node: Node, arrays: NDArray[Any], samples: int = 1) -> NDArray[np.float32]:
    """``[1, vectors, n]`` for a weight of an LSTM, GRU or RNN: ``arrays`` is its input X for W (input 1), its output Y
    for R (input 2), whose states are what R meets one step later.

    The columns of the directions follow each other; what one direction meets is zero in those of the others.
    """
    directions = 2 if node.attributes.get("direction") == "bidirectional" else 1
    if weight_index == 1:
        parts = [arrays.reshape(-1, arrays.shape[-1])] * directions
    else:
        axis = 2 if node.attributes.get("layout", 0) else 1
        parts = [arrays.take(d, axis=axis).reshape(-1, arrays.shape[-1]) for d in range(directions)]
    width = parts[0].shape[1]
    most = -(-max(MOST_VECTORS, 8 * width) // samples)
    thinned = [_thin(part, most) for part in parts]
    found = np.zeros((1, sum(part.shape[0] for part in thinned), width * directions), dtype=np.float32)
    row = 0
    for d, part in enumerate(thinned):
        found[0, row : row + part.shape[0], d * width : (d + 1) * width] = part
        row += part.shape[0]
    return found


def _thin(vectors: NDArray[Any], most: int) -> NDArray[Any]:
    step = -(-vectors.shape[0] // most)
    return vectors[::step] if step > 1 else vectors


def _windows(node: Node, weight_shape: tuple[int, ...], x: NDArray[Any], most: int) -> NDArray[np.float32]:
    kernel = weight_shape[2:]
    rank = len(kernel)
    strides = _ints(node, "strides", [1] * rank)
    dilations = _ints(node, "dilations", [1] * rank)
    groups = _ints(node, "group", [1])[0]
    begin, end = conv_pads(node, x.shape[2:], kernel, strides, dilations)
    padded = np.pad(x, [(0, 0), (0, 0), *zip(begin, end, strict=True)])
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    every: tuple[Any, ...] = (slice(None), slice(None))
    places: tuple[Any, ...] = tuple(slice(None, None, step) for step in strides)
    taps: tuple[Any, ...] = tuple(slice(None, None, step) for step in dilations)
    view = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))[every + places + taps]
    # [N, C, out..., kernel...] -> [N, out..., C, kernel...]
    view = np.moveaxis(view, 1, 1 + rank)
    spatial = view.shape[: 1 + rank]
    count = math.prod(spatial)
    step = max(1, -(-count // most))
    taken = view[np.unravel_index(np.arange(0, count, step), spatial)].reshape(
        -1, groups, weight_shape[1] * math.prod(kernel)
    )
    return np.ascontiguousarray(taken.transpose(1, 0, 2), dtype=np.float32)


def conv_pads(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial dimension, automatic padding worked out."""
    rank = len(kernel)
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = _ints(node, "pads", [0] * (2 * rank))
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    begin, end = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        smaller = total // 2
        begin.append(smaller if mode == "SAME_UPPER" else total - smaller)
        end.append(total - begin[-1])
    return begin, end


def _ints(node: Node, name: str, default: list[int]) -> list[int]:
    value = node.attributes.get(name, default)
    return [int(item) for item in value] if isinstance(value, list) else [int(value)]
