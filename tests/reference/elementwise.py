"""Element-wise operators with NumPy's (ONNX's multidirectional) broadcasting."""

from collections.abc import Callable

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide

Operator = Callable[[list[Array | None], Attributes], Array]


def binary(function: Callable[[Array, Array], Array]) -> Operator:
    """An operator of two arrays: computed in float64 and rounded once."""

    def operator(inputs: list[Array | None], attributes: Attributes) -> Array:
        a, b = inputs
        assert a is not None and b is not None and not attributes
        with np.errstate(all="ignore"):
            return narrow(function(wide(a), wide(b)))

    return operator


add = binary(lambda a, b: a + b)
sub = binary(lambda a, b: a - b)
mul = binary(lambda a, b: a * b)
div = binary(lambda a, b: a / b)


def only(inputs: list[Array | None]) -> Array:
    """The first input, which must be there."""
    assert inputs[0] is not None
    return inputs[0]


def relu(inputs: list[Array | None], attributes: Attributes) -> Array:
    """max(x, 0)."""
    assert not attributes
    return narrow(np.maximum(only(inputs), np.float32(0)))


def leaky_relu(inputs: list[Array | None], attributes: Attributes) -> Array:
    """x where x >= 0, alpha * x elsewhere; alpha is a float32 number."""
    x = wide(only(inputs))
    alpha = float(np.float32(attributes.get("alpha", 0.01)))
    return narrow(np.where(x < 0, alpha * x, x))


def clip(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Limits given as the optional scalar inputs 1 and 2."""
    assert not attributes
    x = only(inputs)
    low = inputs[1] if len(inputs) > 1 else None
    high = inputs[2] if len(inputs) > 2 else None
    if low is not None:
        x = np.maximum(x, low.reshape(()))
    if high is not None:
        x = np.minimum(x, high.reshape(()))
    return narrow(x)


def sigmoid(inputs: list[Array | None], attributes: Attributes) -> Array:
    """1 / (1 + exp(-x)), in the form that cannot overflow."""
    assert not attributes
    x = wide(only(inputs))
    small = np.exp(-np.abs(x))
    return narrow(np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small)))


def tanh(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The hyperbolic tangent."""
    assert not attributes
    return narrow(np.tanh(wide(only(inputs))))
