"""Operators over windows of maps of any number of dimensions, by their definitions: one output after the other."""

import itertools
from typing import Any, Literal

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide
from tests.reference.windows import Axis, axes

EVERY: Any = slice(None)


def place(*index: Any) -> Any:
    """An index of slices and numbers."""
    return index


def windows(x: Array, kernel: tuple[int, ...], attributes: Attributes) -> tuple[list[Axis], list[tuple[int, ...]]]:
    """The axes of a sliding window, and the positions of all outputs."""
    found = axes(x.shape[2:], kernel, attributes)
    return found, list(itertools.product(*(range(axis.out) for axis in found)))


def taps(found: list[Axis], out: tuple[int, ...]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The taps of one output that lie in the input, each with its position there."""
    each = [
        [(tap, at) for tap, at in enumerate(axis.taps(o)) if 0 <= at < axis.size]
        for axis, o in zip(found, out, strict=True)
    ]
    return [(tuple(t for t, _ in pairs), tuple(p for _, p in pairs)) for pairs in itertools.product(*each)]


def conv(x: Array, w: Array, bias: Array | None, attributes: Attributes) -> Array:
    """Convolution of N, C, sizes with O, C/group, kernel."""
    groups = attributes.get("group", 1)
    found, outputs = windows(x, w.shape[2:], attributes)
    share, per_group = w.shape[0] // groups, w.shape[1]
    y = np.zeros((x.shape[0], w.shape[0], *(axis.out for axis in found)))
    for out in outputs:
        for tap, at in taps(found, out):
            for g in range(groups):
                rows = slice(g * share, (g + 1) * share)
                source = wide(x[place(EVERY, slice(g * per_group, (g + 1) * per_group), *at)])
                y[place(EVERY, rows, *out)] += source @ wide(w[place(rows, EVERY, *tap)]).T
    return narrow(y if bias is None else y + wide(bias).reshape(1, -1, *[1] * len(found)))


def conv_transpose(x: Array, w: Array, bias: Array | None, attributes: Attributes) -> Array:
    """Every input adds its products with all taps to the outputs it reaches; then pads are cut off."""
    rank, groups = x.ndim - 2, attributes.get("group", 1)
    strides, dilations = attributes.get("strides", [1] * rank), attributes.get("dilations", [1] * rank)
    pads, extra = attributes.get("pads", [0] * 2 * rank), attributes.get("output_padding", [0] * rank)
    covered = [
        strides[i] * (x.shape[2 + i] - 1) + dilations[i] * (w.shape[2 + i] - 1) + 1 + extra[i] for i in range(rank)
    ]
    share, per_group = w.shape[1], x.shape[1] // groups
    y = np.zeros((x.shape[0], share * groups, *covered))
    for tap in itertools.product(*(range(k) for k in w.shape[2:])):
        for at in itertools.product(*(range(size) for size in x.shape[2:])):
            out = tuple(at[i] * strides[i] + tap[i] * dilations[i] for i in range(rank))
            for g in range(groups):
                rows = slice(g * per_group, (g + 1) * per_group)
                columns = slice(g * share, (g + 1) * share)
                y[place(EVERY, columns, *out)] += wide(x[place(EVERY, rows, *at)]) @ wide(w[place(rows, EVERY, *tap)])
    cut = tuple(slice(pads[i], covered[i] - pads[rank + i]) for i in range(rank))
    y = y[place(EVERY, EVERY, *cut)]
    return narrow(y if bias is None else y + wide(bias).reshape(1, -1, *[1] * rank))


def max_pool(x: Array, attributes: Attributes) -> tuple[Array, Array]:
    """Maxima, and where the first of them stands in the flat input (column-major within a map for storage_order 1)."""
    found, outputs = windows(x, tuple(attributes["kernel_shape"]), attributes)
    order: Literal["C", "F"] = "F" if attributes.get("storage_order", 0) else "C"
    shape = (*x.shape[:2], *(axis.out for axis in found))
    y, indices = np.zeros(shape, x.dtype), np.zeros(shape, np.int64)
    for plane in itertools.product(range(x.shape[0]), range(x.shape[1])):
        start = (plane[0] * x.shape[1] + plane[1]) * int(np.prod(x.shape[2:]))
        for out in outputs:
            inside = [at for _, at in taps(found, out)]
            best = max(inside, key=lambda at: x[place(*plane, *at)])
            y[place(*plane, *out)] = x[place(*plane, *best)]
            indices[place(*plane, *out)] = start + np.ravel_multi_index(best, x.shape[2:], order=order)
    return y, indices


def mean_pool(x: Array, attributes: Attributes) -> Array:
    """Means over the elements inside the input, or inside its padding too."""
    found, outputs = windows(x, tuple(attributes["kernel_shape"]), attributes)
    y = np.zeros((*x.shape[:2], *(axis.out for axis in found)))
    for out in outputs:
        inside = [at for _, at in taps(found, out)]
        total = np.sum([wide(x[place(EVERY, EVERY, *at)]) for at in inside], axis=0)
        count = len(inside)
        if attributes.get("count_include_pad", 0):
            count = 1
            for axis, o in zip(found, out, strict=True):
                count *= sum(-axis.begin <= at < axis.size + axis.end for at in axis.taps(o))
        y[place(EVERY, EVERY, *out)] = total / count
    return narrow(y)


def lp_pool(x: Array, attributes: Attributes) -> Array:
    """The p-norm of each window."""
    found, outputs = windows(x, tuple(attributes["kernel_shape"]), attributes)
    p = attributes.get("p", 2)
    y = np.zeros((*x.shape[:2], *(axis.out for axis in found)))
    for out in outputs:
        powers = [np.abs(wide(x[place(EVERY, EVERY, *at)])) ** p for _, at in taps(found, out)]
        y[place(EVERY, EVERY, *out)] = np.sum(powers, axis=0) ** (1 / p)
    return narrow(y)


def local_response(x: Array, attributes: Attributes) -> Array:
    """LRN across channels."""
    size = attributes["size"]
    squares, sums = wide(x) ** 2, np.zeros(x.shape)
    for c in range(x.shape[1]):
        sums[:, c] = squares[:, max(0, c - (size - 1) // 2) : c + size // 2 + 1].sum(axis=1)
    scale = attributes.get("bias", 1.0) + attributes.get("alpha", 1e-4) / size * sums
    return narrow(wide(x) / scale ** attributes.get("beta", 0.75))
