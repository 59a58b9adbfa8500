"""Numbers to codes and back, one element at a time in float32, as docs/numerics.md states it."""

import decimal
from typing import Any

import numpy as np

from tests.reference.arrays import Array, Attributes
from tests.reference.conv import conv

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


MODES = {
    "ROUND": decimal.ROUND_HALF_EVEN,
    "CEIL": decimal.ROUND_CEILING,
    "FLOOR": decimal.ROUND_FLOOR,
    "UP": decimal.ROUND_UP,
    "DOWN": decimal.ROUND_DOWN,
    "HALF_UP": decimal.ROUND_HALF_UP,
    "HALF_DOWN": decimal.ROUND_HALF_DOWN,
}


def rounded(x: Array, mode: str) -> Array:
    """Every element to a whole number, in decimal arithmetic."""
    one = decimal.Decimal(1)
    with decimal.localcontext() as context:
        context.prec = 400
        whole = [float(decimal.Decimal(float(v)).quantize(one, MODES[mode])) for v in x.reshape(-1)]
    return np.array(whole, np.float32).reshape(x.shape)


def _limits(bits: float, attributes: Attributes) -> tuple[float, float]:
    signed, narrow = attributes.get("signed", 1), attributes.get("narrow", 0)
    if signed:
        return narrow - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def quant(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Divide, shift, limit, round, and back. One signed bit stands for -1 and 1."""
    x, scale, zero, bits = inputs
    assert x is not None and scale is not None and zero is not None and bits is not None
    code = x / scale + zero
    assert code.dtype == np.float32
    if float(bits.reshape(())) == 1 and attributes.get("signed", 1):
        code = np.where(code >= 0, np.float32(1), np.float32(-1))
    else:
        low, high = _limits(float(bits.reshape(())), attributes)
        limited = np.where(np.isnan(code), np.float32(low), np.clip(code, np.float32(low), np.float32(high)))
        code = rounded(limited, attributes.get("rounding_mode", "ROUND"))
    return np.asarray((code - zero) * scale, np.float32)


def bipolar_quant(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The scale with the sign of the number; zero counts as positive."""
    x, scale = inputs
    assert x is not None and scale is not None and not attributes
    return np.asarray(np.where(x >= 0, np.float32(1), np.float32(-1)) * scale, np.float32)


def trunc(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Codes cut to fewer bits; with six inputs the result has a scale of its own, and limits."""
    x, scale, zero = inputs[:3]
    assert x is not None and scale is not None and zero is not None
    mode = attributes.get("rounding_mode", "FLOOR")
    code = rounded(x / scale + zero, "ROUND")
    bits = [float(array.reshape(())) for array in inputs[3:] if array is not None and array.size == 1]
    if len(inputs) == 5:
        return np.asarray((rounded(code / np.float32(2 ** (bits[0] - bits[1])), mode) - zero) * scale, np.float32)
    out_scale = inputs[4]
    assert out_scale is not None
    ratio = np.exp2(np.rint(np.log2(out_scale / scale)))
    low, high = _limits(bits[-1], attributes)
    limited = np.clip(code / ratio, np.float32(low), np.float32(high))
    return np.asarray((rounded(limited, mode) - zero / ratio) * out_scale, np.float32)


def multi_threshold(inputs: list[Array | None], attributes: Attributes) -> Array:
    """out_scale * (thresholds of the channel that the number reaches) + out_bias."""
    x, thresholds = inputs
    assert x is not None and thresholds is not None
    layout = attributes.get("data_layout", "NCHW")
    second = (layout == "NCHW" and x.ndim in (2, 4)) or (layout == "NCW" and x.ndim > 1)
    axis = 1 if second else x.ndim - 1
    counts = np.sum(np.moveaxis(x, axis, -1)[..., None] >= thresholds, axis=-1)
    factor, bias = np.float32(attributes.get("out_scale", 1)), np.float32(attributes.get("out_bias", 0))
    return np.moveaxis(factor * counts.astype(np.float32) + bias, -1, axis)


def conv_integer(inputs: list[Array | None], attributes: Attributes) -> Array:
    """Convolution of codes less their zero points, in 1-D and 2-D; sums stay below 2^24."""
    x, w = inputs[0], inputs[1]
    zeros = [*inputs[2:], None, None][:2]
    assert x is not None and w is not None
    x = x.astype(np.float64) - (0 if zeros[0] is None else zeros[0].reshape(()).astype(np.float64))
    shape = (-1,) + (1,) * (w.ndim - 1)
    w = w.astype(np.float64) - (0 if zeros[1] is None else zeros[1].astype(np.float64).reshape(shape))
    assert x.ndim in (3, 4)
    if x.ndim == 4:
        return conv([x, w], attributes).astype(np.int32)
    flat: dict[str, Any] = {
        name: [1, *attributes[name]] for name in ("kernel_shape", "strides", "dilations") if name in attributes
    }
    if "pads" in attributes:
        flat["pads"] = [0, attributes["pads"][0], 0, attributes["pads"][1]]
    return conv([x[:, :, None], w[:, :, None]], {**attributes, **flat})[:, :, 0].astype(np.int32)


def matmul_integer(inputs: list[Array | None], attributes: Attributes) -> Array:
    """The product of matrices of codes less their zero points."""
    a, b = inputs[0], inputs[1]
    zeros = [*inputs[2:], None, None][:2]
    assert a is not None and b is not None and not attributes
    rows = zeros[0]
    if rows is not None and rows.ndim == 1 and a.ndim > 1:
        rows = rows[:, None]
    wide_a = a.astype(np.int64) - (0 if rows is None else rows.astype(np.int64))
    wide_b = b.astype(np.int64) - (0 if zeros[1] is None else zeros[1].astype(np.int64))
    return (wide_a @ wide_b).astype(np.int32)
