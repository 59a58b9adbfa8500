"""Pooling: one window after the other."""

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide
from tests.reference.windows import Axis, axes


def inside(axis: Axis, out: int) -> list[int]:
    """Positions of one window that lie in the input."""
    return [i for i in axis.taps(out) if 0 <= i < axis.size]


def counted(axis: Axis, out: int) -> int:
    """Positions of one window that lie in the input or its declared padding (not in the overhang of ceil_mode)."""
    return sum(-axis.begin <= i < axis.size + axis.end for i in axis.taps(out))


def geometry(x: Array, attributes: Attributes) -> tuple[Axis, Axis]:
    """Row and column axes of a pooling operator."""
    rows, columns = axes(x.shape[2:], tuple(attributes["kernel_shape"]), attributes)
    return rows, columns


def max_pool(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The largest element of each window; padding never wins."""
    x = inputs[0]
    assert x is not None and attributes.get("storage_order", 0) == 0
    rows, columns = geometry(x, attributes)
    result = np.full((*x.shape[:2], rows.out, columns.out), -np.inf)
    for i in range(rows.out):
        for j in range(columns.out):
            window = x[:, :, inside(rows, i)][:, :, :, inside(columns, j)]
            if window.size:
                result[:, :, i, j] = window.max(axis=(2, 3))
    return narrow(result)


def average_pool(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The mean of each window over the elements inside the input, or inside the padding too."""
    x = inputs[0]
    assert x is not None
    with_padding = bool(attributes.get("count_include_pad", 0))
    rows, columns = geometry(x, attributes)
    result = np.zeros((*x.shape[:2], rows.out, columns.out))
    for i in range(rows.out):
        for j in range(columns.out):
            window = wide(x[:, :, inside(rows, i)][:, :, :, inside(columns, j)])
            elements = window.shape[2] * window.shape[3]
            if with_padding:
                elements = counted(rows, i) * counted(columns, j)
            result[:, :, i, j] = window.sum(axis=(2, 3)) / elements
    return narrow(result)


def global_average_pool(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The mean over all spatial axes, kept with size 1."""
    x = inputs[0]
    assert x is not None and not attributes
    return narrow(wide(x).mean(axis=tuple(range(2, x.ndim)), keepdims=True))


def global_max_pool(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The largest element over all spatial axes, kept with size 1."""
    x = inputs[0]
    assert x is not None and not attributes
    return narrow(x.max(axis=tuple(range(2, x.ndim)), keepdims=True))
