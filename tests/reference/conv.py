"""Conv: a sum over taps of shifted, strided input times one weight matrix per tap and group."""

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide
from tests.reference.windows import axes


def conv(inputs: list[Array | None], attributes: Attributes) -> Array:
    """2-D convolution of N,C,H,W with O,C/group,kh,kw."""
    x, w = inputs[0], inputs[1]
    assert x is not None and w is not None
    return narrow(sums(x, w, inputs[2] if len(inputs) > 2 else None, attributes))


def sums(x: Array, w: Array, bias: Array | None, attributes: Attributes) -> Array:
    """The same in float64: exact where all numbers are whole and no sum reaches 2**53."""
    groups = attributes.get("group", 1)
    batch, channels, height, width = x.shape
    filters, per_group, kernel_h, kernel_w = w.shape
    assert channels == per_group * groups and filters % groups == 0
    assert tuple(attributes.get("kernel_shape", (kernel_h, kernel_w))) == (kernel_h, kernel_w)
    rows, columns = axes((height, width), (kernel_h, kernel_w), attributes)

    padded = np.zeros((batch, channels, height + rows.begin + rows.end, width + columns.begin + columns.end))
    padded[:, :, rows.begin : rows.begin + height, columns.begin : columns.begin + width] = wide(x)
    result = np.zeros((batch, filters, rows.out, columns.out))
    if result.size == 0:
        return result
    weights = wide(w)
    share = filters // groups
    for group in range(groups):
        source = padded[:, group * per_group : (group + 1) * per_group]
        target = slice(group * share, (group + 1) * share)
        for r in range(kernel_h):
            for s in range(kernel_w):
                top, left = r * rows.dilation, s * columns.dilation
                patch = source[
                    :,
                    :,
                    top : top + (rows.out - 1) * rows.stride + 1 : rows.stride,
                    left : left + (columns.out - 1) * columns.stride + 1 : columns.stride,
                ]
                product = np.tensordot(weights[target, :, r, s], patch, axes=([1], [1]))
                result[:, target] += product.transpose(1, 0, 2, 3)
    if bias is not None:
        result += wide(bias).reshape(1, filters, 1, 1)
    return result
