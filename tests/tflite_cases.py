"""Operators of TensorFlow Lite on small arrays, with what each means in NumPy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.reference.arrays import Array
from tests.reference.tflite import Window, windows

RELU, RELU6 = 1, 3
SAME, VALID = 0, 1


@dataclass(frozen=True)
class Const:
    """An input that is a constant of the file."""

    array: Array


@dataclass(frozen=True)
class Case:
    """One operator: arrays it is fed with, constants, None for what is left out; its options; its outputs."""

    kind: str
    inputs: Sequence[Array | Const | None]
    expected: Sequence[Array]
    options_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def floats(*shape: int) -> Array:
    """Normal numbers, the same for the same shape."""
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def ints(*values: Any) -> Const:
    """A constant of int32."""
    return Const(np.array(values, np.int32))


IMAGE = floats(2, 6, 5, 4)


def convolved(x: Array, weight: Array, bias: Array, window: Window) -> Array:
    """A convolution of an image in NHWC, weight OHWI, in float64; grouped if the weight has fewer channels."""
    group = x.shape[3] // weight.shape[3]
    parts = []
    for g in range(group):
        c, o = weight.shape[3], weight.shape[0] // group
        patches, _ = windows(x[..., g * c : (g + 1) * c].astype(np.float64), window, 0)
        parts.append(np.einsum("nhwijc,oijc->nhwo", patches, weight[g * o : (g + 1) * o].astype(np.float64)))
    return np.concatenate(parts, axis=3) + bias


def _depthwise(x: Array, weight: Array, bias: Array, window: Window) -> Array:
    patches, _ = windows(x.astype(np.float64), window, 0)
    each = weight.shape[3] // x.shape[3]
    return np.asarray(np.einsum("nhwijc,ijc->nhwc", np.repeat(patches, each, axis=5), weight[0]) + bias)


def _transposed(x: Array, weight: Array, bias: Array, stride: int, same: bool) -> Array:
    n, h, w, _ = x.shape
    o, rows, columns, _ = weight.shape
    full = np.zeros((n, (h - 1) * stride + rows, (w - 1) * stride + columns, o))
    for i in range(h):
        for j in range(w):
            part = np.einsum("nc,oabc->nabo", x[:, i, j].astype(np.float64), weight)
            full[:, i * stride : i * stride + rows, j * stride : j * stride + columns] += part
    if not same:
        return full + bias
    cut = [max(0, full.shape[1 + side] - x.shape[1 + side] * stride) // 2 for side in (0, 1)]
    return full[:, cut[0] :, cut[1] :][:, : h * stride, : w * stride] + bias


def _resized(x: Array, size: tuple[int, int], corners: bool, half: bool, nearest: bool) -> Array:
    for side in (0, 1):
        old, new = x.shape[1 + side], size[side]
        scale = (old - 1) / (new - 1) if corners and new > 1 else old / new
        at = np.arange(new, dtype=np.float64)
        if nearest:
            place = (at + 0.5) * scale if half else at * scale
            index = np.minimum(np.floor(place + 0.5) if corners else np.floor(place), old - 1).astype(int)
            x = np.take(x, index, axis=1 + side)
            continue
        place = np.clip((at + 0.5) * scale - 0.5 if half else at * scale, 0, None)
        low = np.minimum(np.floor(place), old - 1).astype(int)
        high = np.minimum(low + 1, old - 1)
        part = (place - low).reshape([-1 if axis == 1 + side else 1 for axis in range(4)])
        x = np.take(x, low, axis=1 + side) * (1 - part) + np.take(x, high, axis=1 + side) * part
    return x


def _softmax(x: Array, beta: float = 1.0) -> Array:
    e = np.exp(beta * (x - x.max(axis=-1, keepdims=True)).astype(np.float64))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _local_response(x: Array, radius: int, bias: float, alpha: float, beta: float) -> Array:
    squares = [np.square(x[..., max(0, c - radius) : c + radius + 1]).sum(axis=-1) for c in range(x.shape[-1])]
    return np.asarray(x / (bias + alpha * np.stack(squares, axis=-1)) ** beta)


def _to_batch(x: Array, block: tuple[int, int], pads: Sequence[tuple[int, int]]) -> Array:
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    parts = [x[:, i :: block[0], j :: block[1]] for i in range(block[0]) for j in range(block[1])]
    return np.concatenate(parts, axis=0)


def _pools() -> dict[str, Case]:
    window = Window((3, 2), (2, 1), True)
    options = {"Padding": SAME, "StrideH": 2, "StrideW": 1, "FilterHeight": 3, "FilterWidth": 2}
    most, _ = windows(IMAGE, window, -1000)
    total, inside = windows(IMAGE.astype(np.float64), window, 0)
    mean = total.sum(axis=(3, 4)) / inside.sum(axis=(2, 3))[None, :, :, None]
    cut, _ = windows(IMAGE, Window((2, 2), (2, 2), False), 0)
    valid = {"Padding": VALID, "StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    valid_relu = valid | {"FusedActivationFunction": RELU}
    return {
        "max_pool": Case("MAX_POOL_2D", [IMAGE], [most.max(axis=(3, 4))], "Pool2D", options),
        "average_pool": Case("AVERAGE_POOL_2D", [IMAGE], [mean], "Pool2D", options),
        "max_pool_relu": Case("MAX_POOL_2D", [IMAGE], [np.maximum(cut.max(axis=(3, 4)), 0)], "Pool2D", valid_relu),
    }


def _layers() -> dict[str, Case]:
    weight, bias = floats(6, 3, 3, 4), floats(6)
    options = {"Padding": SAME, "StrideH": 2, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
    dilated = {"Padding": VALID, "StrideH": 1, "StrideW": 1, "DilationHFactor": 2, "DilationWFactor": 1}
    same = convolved(IMAGE, weight, bias, Window((3, 3), (2, 1), True))
    split = floats(6, 3, 3, 2)
    deep, deep_bias = floats(1, 3, 3, 8), floats(8)
    depth = {**options, "StrideH": 1, "DepthMultiplier": 2}
    up, up_bias = floats(3, 3, 3, 4), floats(3)
    rows, columns = floats(7, 4), floats(7)
    flat = (IMAGE.reshape(-1, 4).astype(np.float64) @ rows.T + columns).astype(np.float32)
    a, b = floats(2, 3, 4), floats(2, 4, 5)
    cases = {
        "conv": Case("CONV_2D", [IMAGE, Const(weight), Const(bias)], [same], "Conv2D", options),
        "conv_relu6": Case(
            "CONV_2D",
            [IMAGE, Const(weight), Const(bias)],
            [np.clip(same, 0, 6)],
            "Conv2D",
            {**options, "FusedActivationFunction": RELU6},
        ),
        "conv_dilated": Case(
            "CONV_2D",
            [IMAGE, Const(weight), Const(bias)],
            [convolved(IMAGE, weight, bias, Window((3, 3), (1, 1), False, (2, 1)))],
            "Conv2D",
            dilated,
        ),
        "conv_grouped": Case(
            "CONV_2D",
            [IMAGE, Const(split), Const(bias)],
            [convolved(IMAGE, split, bias, Window((3, 3), (2, 1), True))],
            "Conv2D",
            options,
        ),
        "depthwise": Case(
            "DEPTHWISE_CONV_2D",
            [IMAGE, Const(deep), Const(deep_bias)],
            [_depthwise(IMAGE, deep, deep_bias, Window((3, 3), (1, 1), True))],
            "DepthwiseConv2D",
            depth,
        ),
        "fully_connected": Case(
            "FULLY_CONNECTED", [IMAGE, Const(rows), Const(columns)], [flat], "FullyConnected", {"KeepNumDims": False}
        ),
        "fully_connected_kept": Case(
            "FULLY_CONNECTED",
            [IMAGE, Const(rows), Const(columns)],
            [np.maximum(flat, 0).reshape(2, 6, 5, 7)],
            "FullyConnected",
            {"KeepNumDims": True, "FusedActivationFunction": RELU},
        ),
        "fully_connected_plain": Case(
            "FULLY_CONNECTED", [a[0], Const(rows), None], [a[0].astype(np.float64) @ rows.T], "FullyConnected"
        ),
        "batch_matmul": Case("BATCH_MATMUL", [a, b], [a.astype(np.float64) @ b], "BatchMatMul"),
        "batch_matmul_turned": Case(
            "BATCH_MATMUL",
            [a.transpose(0, 2, 1).copy(), b.transpose(0, 2, 1).copy()],
            [a.astype(np.float64) @ b],
            "BatchMatMul",
            {"AdjX": True, "AdjY": True},
        ),
    }
    for name, padding, shape in (("same", SAME, (2, 12, 10, 3)), ("valid", VALID, (2, 13, 11, 3))):
        cases[f"transpose_conv_{name}"] = Case(
            "TRANSPOSE_CONV",
            [ints(*shape), Const(up), IMAGE, Const(up_bias)],
            [_transposed(IMAGE, up, up_bias, 2, padding == SAME)],
            "TransposeConv",
            {"Padding": padding, "StrideH": 2, "StrideW": 2},
        )
    for kind, name in (("RESIZE_BILINEAR", "ResizeBilinear"), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")):
        for corners, half in ((False, False), (True, False), (False, True)):
            for size in ((9, 4), (3, 10)):
                cases[f"{kind.lower()}_{size[0]}_{'corners' if corners else 'half' if half else 'plain'}"] = Case(
                    kind,
                    [IMAGE, ints(*size)],
                    [_resized(IMAGE, size, corners, half, kind != "RESIZE_BILINEAR")],
                    name,
                    {"AlignCorners": corners, "HalfPixelCenters": half},
                )
    return cases


def _elementwise() -> dict[str, Case]:
    positive = np.abs(IMAGE) + np.float32(0.1)
    unary: dict[str, tuple[Array, Callable[[Array], Array]]] = {
        "ABS": (IMAGE, np.abs),
        "CEIL": (IMAGE, np.ceil),
        "COS": (IMAGE, np.cos),
        "ELU": (IMAGE, lambda x: np.where(x > 0, x, np.expm1(x))),
        "EXP": (IMAGE, np.exp),
        "FLOOR": (IMAGE, np.floor),
        "HARD_SWISH": (IMAGE * 3, lambda x: x * np.clip(x + 3, 0, 6) / 6),
        "LOG": (positive, np.log),
        "LOGISTIC": (IMAGE, lambda x: 1 / (1 + np.exp(-x))),
        "NEG": (IMAGE, np.negative),
        "RELU": (IMAGE, lambda x: np.maximum(x, 0)),
        "RELU6": (IMAGE * 5, lambda x: np.clip(x, 0, 6)),
        "RELU_N1_TO_1": (IMAGE, lambda x: np.clip(x, -1, 1)),
        "RELU_0_TO_1": (IMAGE, lambda x: np.clip(x, 0, 1)),
        "ROUND": (IMAGE * 2, np.rint),
        "RSQRT": (positive, lambda x: 1 / np.sqrt(x)),
        "SIGN": (IMAGE, np.sign),
        "SIN": (IMAGE, np.sin),
        "SQRT": (positive, np.sqrt),
        "SQUARE": (IMAGE, np.square),
        "TANH": (IMAGE, np.tanh),
    }
    cases = {kind.lower(): Case(kind, [x], [f(x)]) for kind, (x, f) in unary.items()}
    channel, row, other = floats(4), floats(1, 6, 1, 1), floats(2, 6, 5, 4)[::-1].copy()
    binary: dict[str, Callable[[Array, Array], Array]] = {
        "ADD": np.add,
        "SUB": np.subtract,
        "MUL": np.multiply,
        "DIV": np.divide,
        "MAXIMUM": np.maximum,
        "MINIMUM": np.minimum,
        "SQUARED_DIFFERENCE": lambda a, b: np.square(a - b),
        "GREATER": np.greater,
        "GREATER_EQUAL": np.greater_equal,
        "LESS": np.less,
        "LESS_EQUAL": np.less_equal,
        "EQUAL": np.equal,
        "NOT_EQUAL": np.not_equal,
    }
    for kind, f in binary.items():
        cases[f"{kind.lower()}_constant"] = Case(kind, [IMAGE, Const(channel)], [f(IMAGE, channel)])
        cases[f"{kind.lower()}_values"] = Case(kind, [IMAGE, other], [f(IMAGE, other)])
    e, beta = IMAGE.astype(np.float64), 1.5
    norm = np.sqrt(np.maximum(np.square(e).sum(axis=-1, keepdims=True), 1e-6))
    fused = np.maximum(IMAGE + row, 0)
    return cases | {
        "add_relu": Case("ADD", [IMAGE, Const(row)], [fused], "Add", {"FusedActivationFunction": RELU}),
        "sub_from_constant": Case("SUB", [Const(channel), IMAGE], [channel - IMAGE]),
        "add_lower_rank": Case("ADD", [IMAGE, channel], [IMAGE + channel]),
        "mul_by_number": Case("MUL", [IMAGE, Const(np.array(2.5, np.float32))], [IMAGE * np.float32(2.5)]),
        "pow": Case("POW", [positive, Const(np.array(1.5, np.float32))], [positive**1.5]),
        "prelu": Case("PRELU", [IMAGE, Const(floats(1, 1, 4))], [np.where(IMAGE > 0, IMAGE, IMAGE * floats(1, 1, 4))]),
        "leaky_relu": Case(
            "LEAKY_RELU", [IMAGE], [np.where(IMAGE > 0, IMAGE, IMAGE * 0.25)], "LeakyRelu", {"Alpha": 0.25}
        ),
        "gelu": Case(
            "GELU",
            [IMAGE],
            [e * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (e + 0.044715 * e**3)))],
            "Gelu",
            {"Approximate": True},
        ),
        "logical_not": Case("LOGICAL_NOT", [IMAGE > 0], [IMAGE <= 0]),
        "logical_and": Case("LOGICAL_AND", [IMAGE > 0, other > 0], [(IMAGE > 0) & (other > 0)]),
        "logical_or": Case("LOGICAL_OR", [IMAGE > 0, other > 0], [(IMAGE > 0) | (other > 0)]),
        "select_same": Case("SELECT", [IMAGE > 0, IMAGE, other], [np.where(IMAGE > 0, IMAGE, other)]),
        "local_response_normalization": Case(
            "LOCAL_RESPONSE_NORMALIZATION",
            [IMAGE],
            [_local_response(e, 1, 1.5, 0.25, 0.75)],
            "LocalResponseNormalization",
            {"Radius": 1, "Bias": 1.5, "Alpha": 0.25, "Beta": 0.75},
        ),
        "select": Case("SELECT_V2", [IMAGE > 0, IMAGE, Const(channel)], [np.where(IMAGE > 0, IMAGE, channel)]),
        "softmax": Case("SOFTMAX", [IMAGE], [_softmax(IMAGE)], "Softmax", {"Beta": 1.0}),
        "softmax_beta": Case("SOFTMAX", [IMAGE[0, 0]], [_softmax(IMAGE[0, 0], beta)], "Softmax", {"Beta": beta}),
        "log_softmax": Case("LOG_SOFTMAX", [IMAGE], [np.log(_softmax(IMAGE))]),
        "l2_normalization": Case("L2_NORMALIZATION", [IMAGE], [e / norm], "L2Norm"),
        "cast": Case("CAST", [IMAGE], [IMAGE.astype(np.int32)]),
    }


def _reductions() -> dict[str, Case]:
    cases = {}
    functions: dict[str, Callable[..., Any]] = {
        "MEAN": np.mean,
        "SUM": np.sum,
        "REDUCE_MAX": np.max,
        "REDUCE_MIN": np.min,
    }
    for kind, reduce in functions.items():
        for axes in ((1, 2), (3,), (0, 1), (2, -1)):
            for keep in (False, True):
                name = f"{kind.lower()}_{'_'.join(map(str, axes))}{'_kept' if keep else ''}"
                result = np.asarray(reduce(IMAGE.astype(np.float64), axis=axes, keepdims=keep))
                cases[name] = Case(kind, [IMAGE, ints(*axes)], [result], "Reducer", {"KeepDims": keep})
    cases["reduce_prod"] = Case("REDUCE_PROD", [IMAGE, ints(2)], [IMAGE.prod(axis=2)], "Reducer", {"KeepDims": False})
    for axis in (3, 1):
        for dtype, number in ((np.int64, 4), (np.int32, 2)):
            for kind, name, f in (("ARG_MAX", "ArgMax", np.argmax), ("ARG_MIN", "ArgMin", np.argmin)):
                result = np.asarray(f(IMAGE, axis=axis)).astype(dtype)
                place, options = f"{kind.lower()}_{axis}_{result.dtype}", {"OutputType": number}
                cases[place] = Case(kind, [IMAGE, ints(axis)], [result], name, options)
    return cases


def _moves() -> dict[str, Case]:
    other, pads = floats(2, 6, 5, 4) * 2, ints((0, 0), (1, 2), (0, 1), (2, 0))
    widths = [(0, 0), (1, 2), (0, 1), (2, 0)]
    one = IMAGE[:, :1, :1].copy()
    indices = ints(2, 0, 3)
    depth = IMAGE[:, :, :4]
    blocks = depth.reshape(2, 3, 2, 2, 2, 4).transpose(0, 1, 3, 2, 4, 5).reshape(2, 3, 2, 16)
    wide = IMAGE.reshape(2, 6, 5, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 12, 10, 1)
    cases = {
        "reshape": Case("RESHAPE", [IMAGE, ints(2, -1)], [IMAGE.reshape(2, -1)]),
        "reshape_option": Case("RESHAPE", [IMAGE], [IMAGE.reshape(4, 30, 2)], "Reshape", {"NewShape": [4, 30, 2]}),
        "reshape_pixel": Case("RESHAPE", [one, ints(2, 4)], [one.reshape(2, 4)]),
        "squeeze": Case("SQUEEZE", [one], [one.reshape(2, 4)], "Squeeze", {"SqueezeDims": [1, 2]}),
        "squeeze_one": Case("SQUEEZE", [one], [one.reshape(2, 1, 4)], "Squeeze", {"SqueezeDims": [1]}),
        "squeeze_all": Case("SQUEEZE", [one], [one.reshape(2, 4)]),
        "expand_dims": Case("EXPAND_DIMS", [IMAGE, ints(-2)], [IMAGE[:, :, :, None]]),
        "pad": Case("PAD", [IMAGE, pads], [np.pad(IMAGE, widths)]),
        "padv2": Case(
            "PADV2", [IMAGE, pads, Const(np.array(1.5, np.float32))], [np.pad(IMAGE, widths, constant_values=1.5)]
        ),
        "mirror_pad": Case("MIRROR_PAD", [IMAGE, pads], [np.pad(IMAGE, widths, "reflect")], "MirrorPad", {"Mode": 0}),
        "mirror_pad_edge": Case(
            "MIRROR_PAD", [IMAGE, pads], [np.pad(IMAGE, widths, "symmetric")], "MirrorPad", {"Mode": 1}
        ),
        "transpose": Case("TRANSPOSE", [IMAGE, ints(3, 1, 0, 2)], [IMAGE.transpose(3, 1, 0, 2)]),
        "split_channels": Case("SPLIT", [ints(3), IMAGE], np.split(IMAGE, 2, axis=3), "Split", {"NumSplits": 2}),
        "split_rows": Case("SPLIT", [ints(-3), IMAGE], np.split(IMAGE, 3, axis=1), "Split", {"NumSplits": 3}),
        "split_v": Case(
            "SPLIT_V",
            [IMAGE, ints(1, -1, 2), ints(1)],
            np.split(IMAGE, [1, 4], axis=1),
            "SplitV",
            {"NumSplits": 3},
        ),
        "slice": Case("SLICE", [IMAGE, ints(0, 1, 2, 0), ints(-1, 3, -1, 2)], [IMAGE[:, 1:4, 2:, :2]]),
        "strided_slice": Case(
            "STRIDED_SLICE",
            [IMAGE, ints(0, 4, 0, 1), ints(2, 0, 0, 4), ints(1, -2, 1, 2)],
            [IMAGE[:, 4:0:-2, :, 1:4:2]],
            "StridedSlice",
            {"BeginMask": 5, "EndMask": 5},
        ),
        "strided_slice_shrunk": Case(
            "STRIDED_SLICE",
            [IMAGE, ints(0, -1, 1), ints(0, 0, 5), ints(1, 1, 1)],
            [IMAGE[:, -1, 1:5]],
            "StridedSlice",
            {"BeginMask": 1, "EndMask": 1, "ShrinkAxisMask": 2},
        ),
        "strided_slice_one_channel": Case(
            "STRIDED_SLICE",
            [IMAGE, ints(0, 0, 0, 2), ints(0, 0, 0, 3), ints(1, 1, 1, 1)],
            [IMAGE[..., 2]],
            "StridedSlice",
            {"BeginMask": 7, "EndMask": 7, "ShrinkAxisMask": 8},
        ),
        "space_to_batch": Case(
            "SPACE_TO_BATCH_ND",
            [IMAGE, ints(2, 3), ints((0, 0), (1, 0))],
            [_to_batch(IMAGE, (2, 3), [(0, 0), (1, 0)])],
        ),
        "batch_to_space": Case(
            "BATCH_TO_SPACE_ND", [_to_batch(IMAGE, (2, 3), [(0, 0), (1, 0)]), ints(2, 3), ints((0, 0), (1, 0))], [IMAGE]
        ),
        "gather": Case("GATHER", [IMAGE, indices], [IMAGE[:, [2, 0, 3]]], "Gather", {"Axis": 1}),
        "tile": Case("TILE", [IMAGE, ints(1, 2, 1, 3)], [np.tile(IMAGE, (1, 2, 1, 3))]),
        "broadcast_to": Case("BROADCAST_TO", [one, ints(2, 3, 2, 4)], [np.broadcast_to(one, (2, 3, 2, 4))]),
        "space_to_depth": Case("SPACE_TO_DEPTH", [depth.copy()], [blocks], "SpaceToDepth", {"BlockSize": 2}),
        "depth_to_space": Case("DEPTH_TO_SPACE", [IMAGE], [wide], "DepthToSpace", {"BlockSize": 2}),
        "shape": Case("SHAPE", [IMAGE], [np.array(IMAGE.shape, np.int32)], "Shape", {"OutType": 2}),
        "unpack": Case(
            "UNPACK", [IMAGE], [IMAGE[:, :, i] for i in range(5)], "Unpack", {"Axis": 2, "Num": 5}
        ),
        "unpack_channels": Case(
            "UNPACK", [IMAGE], [IMAGE[..., i] for i in range(4)], "Unpack", {"Axis": -1, "Num": 4}
        ),
        "pack": Case(
            "PACK", [IMAGE, other], [np.stack([IMAGE, other], axis=1)], "Pack", {"Axis": 1, "ValuesCount": 2}
        ),
    }  # fmt: skip
    for axis in range(4):
        joined = np.concatenate([IMAGE, other, IMAGE], axis=axis)
        inputs: list[Array | Const | None] = [IMAGE, Const(other), IMAGE + 0]
        cases[f"concatenation_{axis}"] = Case("CONCATENATION", inputs, [joined], "Concatenation", {"Axis": axis - 4})
    return cases


CASES: dict[str, Case] = {**_layers(), **_pools(), **_elementwise(), **_reductions(), **_moves()}
