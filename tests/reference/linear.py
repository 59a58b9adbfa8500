"""Gemm and MatMul."""

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide


def gemm(inputs: list[Array | None], attributes: Attributes) -> Array:
    """alpha * A' * B' + beta * C, C broadcast to the result."""
    assert inputs[0] is not None and inputs[1] is not None
    a, b = wide(inputs[0]), wide(inputs[1])
    c = inputs[2] if len(inputs) > 2 else None
    if attributes.get("transA", 0):
        a = a.T
    if attributes.get("transB", 0):
        b = b.T
    # Attributes are float32 numbers in ONNX.
    result = float(np.float32(attributes.get("alpha", 1.0))) * (a @ b)
    if c is not None:
        result = result + float(np.float32(attributes.get("beta", 1.0))) * wide(c)
    return narrow(result)


def matmul(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Matrix product over the last two axes, NumPy's broadcasting before them."""
    assert inputs[0] is not None and inputs[1] is not None and not attributes
    return narrow(np.matmul(wide(inputs[0]), wide(inputs[1])))
