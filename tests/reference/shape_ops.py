"""Operators that only move or rename elements."""

import math

import numpy as np

from tests.reference.arrays import Array, Attributes


def first(inputs: list[Array | None]) -> Array:
    """The first input, which must be there."""
    assert inputs[0] is not None
    return inputs[0]


def identity(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The input; also Dropout at inference."""
    return first(inputs)


def concat(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The inputs one after the other along an axis."""
    parts = [value for value in inputs if value is not None]
    return np.concatenate(parts, axis=attributes["axis"])


def flatten(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Two dimensions: those before the axis, and the rest."""
    x = first(inputs)
    axis = attributes.get("axis", 1)
    if axis < 0:
        axis += x.ndim
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def reshape(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The shape of input 1: 0 keeps a size, -1 is what remains."""
    x, target = first(inputs), inputs[1]
    assert target is not None and attributes.get("allowzero", 0) == 0
    sizes = [int(x.shape[i]) if size == 0 else int(size) for i, size in enumerate(target)]
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = x.size // known if known else 0
    return x.reshape(sizes)


def transpose(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Axes in the order of perm; reversed by default."""
    x = first(inputs)
    return np.asarray(x.transpose(attributes.get("perm", list(reversed(range(x.ndim))))), order="C")


def pad(inputs: list[Array | None], attributes: Attributes) -> Array:
    """A border of one number: input 1 has how wide it is before each axis, then behind each, input 2 the number."""
    x, widths = first(inputs), inputs[1]
    assert widths is not None and attributes.get("mode", "constant") == "constant"
    number = inputs[2] if len(inputs) > 2 and inputs[2] is not None else np.zeros((), x.dtype)
    return np.pad(x, widths.reshape(2, -1).T, constant_values=number.reshape(()))


def squeeze(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Axes of size 1 removed: those of input 1, or all."""
    x = first(inputs)
    axes = inputs[1] if len(inputs) > 1 else None
    chosen = None if axes is None else tuple(int(axis) for axis in axes)
    return np.squeeze(x, axis=chosen)


def unsqueeze(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Axes of size 1 put in where input 1 says, counted in the result."""
    x, axes = first(inputs), inputs[1]
    assert axes is not None
    return np.expand_dims(x, tuple(int(axis) for axis in axes))
