"""WinogradConv: convolution by weights given for transformed tiles, F(2x2, 3x3) and F(4x4, 3x3)."""

import numpy as np

from tests.reference.arrays import Array, Attributes, narrow, wide
from tests.reference.windows import axes

_INPUT = {
    2: [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
    4: [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
}
_OUTPUT = {
    2: [[1, 1, 1, 0], [0, 1, -1, -1]],
    4: [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
}
_KERNEL = {
    2: np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    4: np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
}


def transformed_weights(w: Array, m: int) -> Array:
    """``G w G^T``, float32: the weights of the WinogradConv that equals the Conv of 3x3 weights."""
    return narrow(np.einsum("ia,ocab,jb->ocij", _KERNEL[m], wide(w), _KERNEL[m]))


def winograd_conv(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Of N,C,H,W with K,C,m+2,m+2, a bias or none."""
    x, q = inputs[0], inputs[1]
    assert x is not None and q is not None
    y, _ = sums(x, q, inputs[2] if len(inputs) > 2 else None, attributes)
    return narrow(y)


def sums(x: Array, q: Array, bias: Array | None, attributes: Attributes) -> tuple[Array, Array]:
    """The same in float64, tile after tile; and what its terms add up to without their signs, transforms included."""
    m = attributes.get("m", 2)
    rows, columns = axes(x.shape[2:], (3, 3), attributes)
    down, across = -(-rows.out // m), -(-columns.out // m)
    grid = np.zeros((*x.shape[:2], down * m + 2, across * m + 2))
    # What tiles have beyond the padded map is zero.
    grid[:, :, rows.begin : rows.begin + x.shape[2], columns.begin : columns.begin + x.shape[3]] = wide(x)
    before, behind = np.array(_INPUT[m], np.float64), np.array(_OUTPUT[m], np.float64)
    y = np.zeros((x.shape[0], q.shape[0], down * m, across * m))
    magnitude = np.zeros_like(y)
    for i in range(down):
        for j in range(across):
            tile = grid[:, :, i * m : i * m + m + 2, j * m : j * m + m + 2]
            v = before @ tile @ before.T
            if attributes.get("relu", 0):
                v = np.maximum(v, 0)
            to = (slice(None), slice(None), slice(i * m, i * m + m), slice(j * m, j * m + m))
            y[to] = behind @ np.einsum("nctu,kctu->nktu", v, wide(q)) @ behind.T
            large = np.abs(before) @ np.abs(tile) @ np.abs(before).T
            magnitude[to] = np.abs(behind) @ np.einsum("nctu,kctu->nktu", large, np.abs(wide(q))) @ np.abs(behind).T
    if bias is not None:
        y += wide(bias).reshape(1, -1, 1, 1)
        magnitude += np.abs(wide(bias)).reshape(1, -1, 1, 1)
    return y[:, :, : rows.out, : columns.out], magnitude[:, :, : rows.out, : columns.out]
