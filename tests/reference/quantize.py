"""Numbers to codes and back, one element at a time in float32, as docs/numerics.md states it."""

from typing import Any

import numpy as np

from tests.reference.arrays import Array, Attributes

_RANGES: dict[str, tuple[int, int]] = {
    "uint16": (0, 2**16 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
}
_TYPES = {"u8": "uint8", "i8": "int8", "u16": "uint16", "i16": "int16", "i32": "int32"}


def code_range(dtype: str, bits: int = 8, narrow: int = 0) -> tuple[int, int]:
    """The lowest and the highest code of a NumPy type that holds ``bits`` bits."""
    if dtype in _RANGES:
        return _RANGES[dtype]
    return (0, 2**bits - 1) if dtype == "uint8" else (narrow - 2 ** (bits - 1), 2 ** (bits - 1) - 1)


def _parameter(value: Array, index: tuple[int, ...], attributes: Attributes) -> Any:
    """The scale or zero point of the element at an index."""
    block, axis = attributes.get("block_size", 0), attributes.get("axis", 1)
    if value.size == 1 and not block:
        return value.reshape(-1)[0]
    if block:
        axis %= len(index)
        position = (*index[:axis], index[axis] // block, *index[axis + 1 :])
        return value[position]
    return value[index[axis]]


def quantize_linear(inputs: list[Array | None], attributes: Attributes) -> Array:
    """saturate(round half to even(x / scale) + zero point); NaN becomes the lowest code."""
    x, scale, zero = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    assert x is not None and scale is not None and x.dtype == scale.dtype == np.float32
    dtype = _TYPES[attributes.get("output_dtype", "u8")] if zero is None else str(zero.dtype)
    low, high = code_range(dtype, attributes.get("bits", 8), attributes.get("narrow", 0))
    y = np.zeros(x.shape, dtype)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*x.shape):
            ratio = np.float32(x[index] / _parameter(scale, index, attributes))
            if np.isnan(ratio):
                y[index] = low
                continue
            ratio = min(max(float(ratio), -1e12), 1e12)  # infinity is no integer
            code = round(ratio) + (0 if zero is None else int(_parameter(zero, index, attributes)))
            y[index] = min(max(code, low), high)
    return y


def dequantize_linear(inputs: list[Array | None], attributes: Attributes) -> Array:
    """float32(code - zero point) * scale."""
    x, scale, zero = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    assert x is not None and scale is not None and scale.dtype == np.float32
    y = np.zeros(x.shape, np.float32)
    with np.errstate(all="ignore"):
        for index in np.ndindex(*x.shape):
            difference = int(x[index]) - (0 if zero is None else int(_parameter(zero, index, attributes)))
            y[index] = np.float32(difference) * _parameter(scale, index, attributes)
    return y
