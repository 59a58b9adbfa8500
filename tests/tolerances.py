"""How far a result may be from the reference: one named bound per scheme, and why.

The reference computes in float64 and rounds once. An engine in float32 sums K products in an order of its own, with or
without fused multiplication. Every rounding adds at most UNIT times the magnitude of what is rounded, so the error of a
dot product is at most about K * UNIT * sum |w| |x|, whatever the order. Integer-valued data are exact in float32 while
the sums stay below 2**24: there the bound is zero, which is what most kernel cases use.
"""

import numpy as np

from tests.reference.arrays import Array

UNIT = 2.0**-24
"""Half a unit in the last place of float32, relative."""

TINY = 2.0**-126
"""Smallest normal float32: `run` sets flush-to-zero, so each rounding may lose this much."""

EPILOGUE_STEPS = 8
"""Roundings beside the K products: bias, residual, activation, final store, second-order terms."""

FOLDED_BATCH_NORM_STEPS = 8
"""Roundings of a folded batch normalisation: sqrt, division, product with the weight, folded bias."""

ACTIVATION_ABSOLUTE = 2.0**-21
"""Sigmoid and Tanh, whose values stay within 1: four units in the last place of 1 for a polynomial exponential."""

EXP_RELATIVE = 2.0**-21
"""Relative error of the exponential: four units in the last place."""

NETWORK_RELATIVE = 2e-5
"""Small networks of several layers, relative to the largest magnitude of the output: the worst-case bound multiplies
from layer to layer, the error does not."""

SQUEEZENET = 1e-4
RESNET8 = 1e-5
AUTOENCODER = 1e-2
FACE_DETECTOR = 1e-4
KEYWORDS = 1e-4
NOISE_SUPPRESSOR = 1e-4
"""Stated with the expected outputs of these networks (absolute)."""


def dot_bound(products: int, magnitude: Array) -> Array:
    """Largest error of sums of `products` products whose absolute values add up to `magnitude`."""
    steps = products + EPILOGUE_STEPS
    bound: Array = steps * (UNIT * np.abs(magnitude.astype(np.float64)) + TINY)
    return bound


def softmax_bound(x: Array, y: Array, axis: int) -> Array:
    """Largest error of softmax: rounding of x - max, two exponentials' errors, the sum's n roundings, a division."""
    wide = x.astype(np.float64)
    distance = wide.max(axis=axis, keepdims=True) - wide
    relative = (x.shape[axis] + EPILOGUE_STEPS + distance) * UNIT + 2 * EXP_RELATIVE
    bound: Array = y.astype(np.float64) * relative + 2 * TINY
    return bound


def network_bound(expected: Array) -> Array:
    """Largest error of a small network's output."""
    largest = float(np.abs(expected).max()) if expected.size else 0.0
    return np.full(expected.shape, NETWORK_RELATIVE * max(largest, 1e-3))
