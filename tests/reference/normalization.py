"""BatchNormalization (inference), LRN and Softmax."""

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide


def batch_normalization(inputs: list[Array | None], attributes: Attributes) -> Array:
    """(x - mean) / sqrt(var + epsilon) * scale + bias per channel (axis 1)."""
    x, scale, bias, mean, variance = (wide(value) for value in inputs if value is not None)
    assert attributes.get("training_mode", 0) == 0
    epsilon = float(np.float32(attributes.get("epsilon", 1e-5)))
    column = (1, -1) + (1,) * (x.ndim - 2)
    factor = scale / np.sqrt(variance + epsilon)
    return narrow((x - mean.reshape(column)) * factor.reshape(column) + bias.reshape(column))


def softmax(inputs: list[Array | None], attributes: Attributes) -> Array:
    """exp(x - max) / sum along one axis (the last by default)."""
    assert inputs[0] is not None
    x = wide(inputs[0])
    axis = attributes.get("axis", -1)
    if x.size == 0:
        return narrow(x)
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return narrow(powers / powers.sum(axis=axis, keepdims=True))


def lrn(inputs: list[Array | None], attributes: Attributes) -> Array:
    """x / (bias + alpha / size * sum of squares over the channels of the window) ** beta."""
    assert inputs[0] is not None
    x, size = wide(inputs[0]), int(attributes["size"])
    alpha, beta, bias = (
        float(np.float32(attributes.get(k, d))) for k, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    total = np.zeros_like(x)
    for channel in range(x.shape[1]):
        first, last = max(0, channel - (size - 1) // 2), min(x.shape[1], channel + size // 2 + 1)
        total[:, channel] = np.square(x[:, first:last]).sum(axis=1)
    return narrow(x / (bias + alpha / size * total) ** beta)
