"""Layers of TensorFlow Lite that have weights or windows: convolution, pooling, matrix products, LSTM, resizing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bittern.errors import InputError
from bittern.importers.onnx_steps import Unsupported
from bittern.importers.tflite_op import NCHW, Op, affine, encoding_of, is_quantized

_PADDING = ("SAME_UPPER", "VALID")


def _window(op: Op) -> dict[str, Any]:
    """Strides and padding; dilations where the operator has them."""
    padding = op.option("Padding")
    if padding not in (0, 1):
        raise InputError("option Padding", f"is {padding}, expected 0 (SAME) or 1 (VALID)")
    attributes: dict[str, Any] = {
        "auto_pad": _PADDING[padding],
        "strides": [op.positive("StrideH"), op.positive("StrideW")],
    }
    dilations = [op.positive("DilationHFactor", 1), op.positive("DilationWFactor", 1)]
    return attributes | ({"dilations": dilations} if dilations != [1, 1] else {})


def _unpadded(op: Op) -> tuple[str, dict[str, Any]]:
    """A convolution's input and window; zeros that a PAD puts around an image become the window's own."""
    window = _window(op)
    source = op.importer.padded.get(op.index(0))
    if source is None or window["auto_pad"] != "VALID":
        return op.real(0, NCHW), window
    del window["auto_pad"]
    return op.importer.value(source[0], True, NCHW), {**window, "pads": source[1]}


def _weight_shape(op: Op, rank: int) -> tuple[int, ...]:
    shape = op.tensor(1).shape
    if len(shape) != rank or 0 in shape:
        raise InputError("weight", f"has shape {list(shape)}, expected {rank} sizes of at least 1")
    return shape


def _bias(op: Op, k: int = 2, x: int = 0, weight: int = 1) -> list[str]:
    """The bias, if there is one: integers of a quantized layer have the product of the scales."""
    if not op.has(k):
        return []
    bias, left, right = op.tensor(k), op.tensor(x).quantization, op.tensor(weight).quantization
    codes = bias.data
    if codes is None or bias.dtype not in ("i32", "i64"):
        return [op.real(k)]
    if left is None or right is None or left.axis is not None:
        raise InputError("bias", f"has type {bias.dtype}, but the layer is not quantized")
    if np.any(np.abs(codes.astype(np.float64)) >= 2**31):
        raise Unsupported(f"{op.kind} with a bias beyond 32 bits is not supported")
    with np.errstate(over="ignore"):
        scale = left.scale[0] * right.scale
    if not np.isfinite(scale).all():
        raise InputError("bias", "the product of the scales of input and weight is not finite")
    axis = 0 if scale.size > 1 else None
    if codes.ndim != 1 or (axis == 0 and scale.size != codes.size):
        raise InputError("bias", f"has shape {list(codes.shape)}, the weight has {scale.size} scales")
    narrow, zero = codes.astype(np.int32), np.zeros(scale.size, np.int64)
    # Layers may share the codes, but each has scales of its own.
    role = f"bias.{op.index(x)}.{op.index(weight)}"
    name = f"{op.base}.bias"
    return [op.importer.constant(op.index(k), role, lambda: affine(narrow, "i32", scale, zero, axis), name)]


def conv_2d(op: Op) -> None:
    shape = _weight_shape(op, 4)
    channels = op.shape(0)[3] if op.rank(0) == 4 else None
    if not isinstance(channels, int) or channels % shape[3]:
        raise InputError("input", f"has shape {list(op.shape(0))}, the weight has shape {list(shape)}")
    x, window = _unpadded(op)
    attributes = {**window, "kernel_shape": list(shape[1:3])}
    if channels != shape[3]:
        attributes["group"] = channels // shape[3]
    inputs = [x, op.weight(1, (0, 3, 1, 2)), *_bias(op)]
    op.result(op.activated(op.emit("Conv", inputs, **attributes)), layout=NCHW)


def depthwise_conv_2d(op: Op) -> None:
    shape = _weight_shape(op, 4)
    channels = op.shape(0)[3] if op.rank(0) == 4 else None
    if not isinstance(channels, int) or not channels or shape[0] != 1 or shape[3] % channels:
        raise InputError("input", f"has shape {list(op.shape(0))}, the weight has shape {list(shape)}")
    x, window = _unpadded(op)
    attributes = {**window, "kernel_shape": list(shape[1:3]), "group": channels}
    inputs = [x, op.weight(1, (3, 0, 1, 2)), *_bias(op)]
    op.result(op.activated(op.emit("Conv", inputs, **attributes)), layout=NCHW)


def transpose_conv(op: Op) -> None:
    """Inputs: the shape of the output, the weight (OHWI), the values, a bias."""
    shape = _weight_shape(op, 4)
    window = _window(op)
    target, x = op.integers(0, "the output's shape"), op.shape(2)
    if len(target) != 4 or len(x) != 4:
        raise InputError("output shape", f"is {target} for an input of shape {list(x)}")
    pads, more = [[0, 0], [0, 0]], [0, 0]
    for side in (0, 1):
        size = x[1 + side]
        if not isinstance(size, int):
            raise Unsupported("TRANSPOSE_CONV of an image of unknown size is not supported")
        full = (size - 1) * window["strides"][side] + shape[1 + side]
        cut = full - target[1 + side]
        more[side] = max(0, -cut)
        pads[0][side], pads[1][side] = max(0, cut) // 2, max(0, cut) - max(0, cut) // 2
    attributes: dict[str, Any] = {
        "kernel_shape": list(shape[1:3]),
        "strides": window["strides"],
        "pads": pads[0] + pads[1],
    }
    if any(more):
        attributes["output_padding"] = more
    inputs = [op.real(2, NCHW), op.weight(1, (3, 0, 1, 2)), *_bias(op, 3, 2, 1)]
    op.result(op.activated(op.emit("ConvTranspose", inputs, **attributes)), layout=NCHW)


def pool(name: str) -> Any:
    def translate(op: Op) -> None:
        attributes = {**_window(op), "kernel_shape": [op.positive("FilterHeight"), op.positive("FilterWidth")]}
        # The greatest of numbers has the greatest code.
        codes = name == "MaxPool" and op.tensor(0).dtype in ("i8", "u8") and op.keeps_scale()
        if codes and not op.option("FusedActivationFunction"):
            op.result(op.emit(name, [op.plain(0, NCHW)], **attributes), layout=NCHW, numbers=False)
        else:
            op.result(op.activated(op.emit(name, [op.real(0, NCHW)], **attributes)), layout=NCHW)

    return translate


def fully_connected(op: Op) -> None:
    if op.option("WeightsFormat"):
        raise Unsupported("FULLY_CONNECTED with shuffled weights is not supported")
    rows, columns = _weight_shape(op, 2)
    shape = op.shape(0)
    weight = ""
    if (source := _flattened(op)) is not None:
        # The map as it is held, and the weight's columns in its order, in place of turning the map.
        pixels = op.importer.value(source, False, NCHW)
        x = op.decoded(op.emit("Reshape", [pixels, op.int64("rows", [-1, columns])]), 0)
        weight = _reordered(op, source)
    elif len(shape) == 2 and shape[1] == columns:
        x = op.real(0)
    else:
        x = op.decoded(op.emit("Reshape", [op.plain(0), op.int64("rows", [-1, columns])]), 0)
    value = op.activated(op.emit("Gemm", [x, weight or op.weight(1, (0, 1)), *_bias(op)], transB=1))
    if not op.option("KeepNumDims", False) or len(shape) == 2:
        op.result(value)
        return
    # The engine's Gemm is of matrices: the leading dimensions come back behind it.
    lead = [size if isinstance(size, int) else -1 for size in shape[:-1]]
    if lead.count(-1) > 1:
        raise Unsupported("FULLY_CONNECTED that keeps several free dimensions is not supported")
    op.result(op.emit("Reshape", [op.coded(value), op.int64("shape", [*lead, rows])]), numbers=False)


def _flattened(op: Op) -> int | None:
    """The map whose elements, flattened, are the input, if the weight's columns can follow another order."""
    source, scale = op.importer.flattened.get(op.index(0)), op.tensor(1).quantization
    if source is None or not op.is_constant(1) or (scale is not None and scale.axis == 1):
        return None
    pixels = np.prod([int(size) for size in (op.importer.shape(source) or ())[1:]])
    return source if pixels == op.tensor(1).shape[1] else None


def _reordered(op: Op, source: int) -> str:
    """The weight with columns for channels, then pixels."""
    tensor = op.tensor(1)
    pixels = [int(size) for size in (op.importer.shape(source) or ())[1:]]
    assert tensor.data is not None
    data = tensor.data.reshape(-1, *pixels).transpose(0, 3, 1, 2).reshape(tensor.shape)
    role = f"channels first {pixels}"
    return op.importer.constant(
        op.index(1), role, lambda: encoding_of(replace(tensor, data=data), True, tensor.shape, (0, 1))
    )


def batch_matmul(op: Op) -> None:
    sides = []
    for k, flag in ((0, "AdjX"), (1, "AdjY")):
        rank = op.rank(k)
        value = op.real(k)
        if op.option(flag, False):
            if rank < 2:
                raise InputError(f"input {k}", f"has {rank} dimensions, expected at least 2")
            value = op.emit("Transpose", [value], perm=[*range(rank - 2), rank - 1, rank - 2])
        sides.append(value)
    op.result(op.emit("MatMul", sides))


def resize(mode: str) -> Any:
    def translate(op: Op) -> None:
        size = op.integers(1, "a size")
        if len(size) != 2 or min(size) < 1 or op.rank(0) != 4:
            raise InputError("size", f"is {size} for an input of shape {list(op.shape(0))}")
        corners, half = op.option("AlignCorners", False), op.option("HalfPixelCenters", False)
        place = "align_corners" if corners else "half_pixel" if half else "asymmetric"
        attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": place, "axes": [2, 3]}
        if mode == "nearest":
            # Halves go up where the file rounds, else it cuts; with half pixels the half is in the coordinate.
            attributes["nearest_mode"] = "round_prefer_ceil" if corners or half else "floor"
        codes = mode == "nearest" and op.keeps_scale()
        x = op.plain(0, NCHW) if codes else op.real(0, NCHW)
        value = op.emit("Resize", [x, "", "", op.int64("size", size)], **attributes)
        op.result(value, layout=NCHW, numbers=not codes)

    return translate


# Inputs of UNIDIRECTIONAL_SEQUENCE_LSTM, gates in the order input, forget, cell, output.
_W, _R, _P, _B = range(1, 5), range(5, 9), range(9, 12), range(12, 16)
_PROJECTION, _STATES, _NORMS = (16, 17), (18, 19), range(20, 24)


def lstm(op: Op) -> None:
    """Every run starts from zero: states are not kept from one run to the next."""
    for what, extra in (("a projection", _PROJECTION), ("layer normalization", _NORMS)):
        if any(op.has(k) for k in extra):
            raise Unsupported(f"{op.kind} with {what} is not supported")
    if not op.has(_W[0]) or not op.has(_R[0]) or not op.has(_B[0]):
        raise Unsupported(f"{op.kind} with coupled input and forget gates is not supported")
    if any(op.has(k) and not op.tensor(k).is_variable for k in _STATES):
        raise Unsupported(f"{op.kind} with a given initial state is not supported")
    if op.option("FusedActivationFunction") != 4:
        raise Unsupported(f"{op.kind} with another activation than tanh is not supported")
    if op.is_quantized() or is_quantized(op.output()):
        raise Unsupported(f"{op.kind} of 8-bit values is not supported")
    order = (0, 3, 1, 2)  # i, o, f, c
    weights = [np.stack([op.numbers(_W[gate], "weights") for gate in order])]
    weights.append(np.stack([op.numbers(_R[gate], "weights") for gate in order]))
    bias = np.concatenate([op.numbers(_B[gate], "a bias") for gate in order])
    hidden = weights[1].shape[-1]
    inputs = [op.real(0)]
    for role, array in zip(("w", "r"), weights, strict=True):
        if array.ndim != 3 or array.shape[1] != hidden:
            raise InputError("weights", f"have shapes {[list(part.shape) for part in array]}")
        inputs.append(op.array(role, array.reshape(1, 4 * hidden, -1)))
    if bias.shape != (4 * hidden,):
        raise InputError("bias", f"has {bias.size} elements for {hidden} hidden ones")
    inputs.append(op.array("b", np.concatenate([bias, np.zeros_like(bias)])[None]))
    if any(op.has(k) for k in _P):
        peepholes = [op.numbers(_P[gate], "peepholes") if op.has(_P[gate]) else np.zeros(hidden) for gate in (0, 2, 1)]
        inputs += ["", "", "", op.array("p", np.concatenate(peepholes).astype(np.float32)[None])]
    major = bool(op.option("TimeMajor", False))
    attributes: dict[str, Any] = {"hidden_size": int(hidden)} | ({} if major else {"layout": 1})
    clip = float(op.option("CellClip", 0.0))
    if clip < 0:
        raise InputError("option CellClip", f"is {clip}, expected a positive number, or 0 for none")
    if clip:
        attributes["cell_clip"] = clip
    value = op.emit("LSTM", inputs, **attributes)
    op.result(op.emit("Squeeze", [value, op.int64("axes", [1 if major else 2])]))


LAYERS = {
    "AVERAGE_POOL_2D": pool("AveragePool"),
    "BATCH_MATMUL": batch_matmul,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "MAX_POOL_2D": pool("MaxPool"),
    "RESIZE_BILINEAR": resize("linear"),
    "RESIZE_NEAREST_NEIGHBOR": resize("nearest"),
    "TRANSPOSE_CONV": transpose_conv,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm,
}
"""Translations by name."""
