"""BatchNormalization (inference) and Softmax."""

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
