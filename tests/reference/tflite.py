"""TensorFlow Lite's integer arithmetic, in NumPy: the multiplier of 31 bits, its two roundings, and the layers on top.

From the public definition: a real multiplier is ``m * 2^(shift - 31)`` with ``2^30 <= m < 2^31``. Accumulators are
exact 32-bit integers. The older form of the scaling rounds twice: the doubled high half of the product (halves up),
then the division by a power of two (halves away from zero); the newer form rounds once (halves up).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.reference.arrays import Array


@dataclass(frozen=True)
class Scale:
    """Scales and zero points of a tensor: one, or one per entry of a dimension."""

    scale: Array
    zero_point: Array

    @property
    def one(self) -> float:
        """The scale of the whole tensor."""
        return float(self.scale[0])

    @property
    def zero(self) -> int:
        """The code of zero."""
        return int(self.zero_point[0])


def multiplier_of(real: float) -> tuple[int, int]:
    """The multiplier of 31 bits and the shift of a positive real number."""
    if real == 0:
        return 0, 0
    fraction, shift = np.frexp(real)
    fixed = int(np.floor(float(fraction) * 2**31 + 0.5))
    if fixed == 2**31:
        fixed, shift = fixed // 2, shift + 1
    return (0, 0) if shift < -31 else (fixed, int(shift))


def doubling_high(a: Array, b: int) -> Array:
    """The upper half of twice the product of 32-bit integers, rounded to the nearest, halves up."""
    product = a.astype(np.int64) * b
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    return np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))


def divided(x: Array, exponent: int) -> Array:
    """x / 2^exponent, rounded to the nearest, halves away from zero."""
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def scaled(x: Array, real: float, once: bool = False) -> Array:
    """Integers times a real number, in fixed point; ``once``: rounded once."""
    fixed, shift = multiplier_of(real)
    x = x.astype(np.int64)
    if once:
        total = 31 - shift
        return (x * fixed + (1 << (total - 1))) >> total
    return divided(doubling_high(x << max(shift, 0), fixed), max(-shift, 0))


def away_from_zero(x: float) -> int:
    """The nearest integer, halves away from zero."""
    return int(np.sign(x) * np.floor(abs(x) + 0.5))


_BOUNDS: dict[int, tuple[float | None, float | None]] = {0: (None, None), 1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}


def limits(activation: int, out: Scale) -> tuple[int, int]:
    """The codes between which int8 results stay after a fused activation."""
    low, high = -128, 127
    least, most = _BOUNDS[activation]
    if least is not None:
        low = max(low, out.zero + away_from_zero(np.float32(least) / np.float32(out.one)))
    if most is not None:
        high = min(high, out.zero + away_from_zero(np.float32(most) / np.float32(out.one)))
    return low, high


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation in rows and columns; padding like ``SAME`` or none."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    same: bool
    dilation: tuple[int, int] = (1, 1)


def windows(x: Array, window: Window, fill: int) -> tuple[Array, Array]:
    """Patches [N, H, W, kernel rows, kernel columns, C], and which entries are inside [H, W, rows, columns]."""
    pads, sizes = [], []
    for side in (0, 1):
        reach = (window.kernel[side] - 1) * window.dilation[side] + 1
        size, stride = x.shape[1 + side], window.stride[side]
        out = -(-size // stride) if window.same else (size - reach) // stride + 1
        total = max(0, (out - 1) * stride + reach - size)
        pads.append((total // 2, total - total // 2))
        sizes.append(out)
    wide = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    inside = np.pad(np.ones(x.shape[1:3], bool), pads)
    rows, columns = (
        np.arange(sizes[side])[:, None] * window.stride[side]
        + np.arange(window.kernel[side])[None] * window.dilation[side]
        for side in (0, 1)
    )
    index = rows[:, None, :, None], columns[None, :, None, :]
    return wide[:, index[0], index[1]], inside[index]


def _finish(acc: Array, real: Sequence[float], out: Scale, activation: int, once: bool) -> Array:
    """Accumulators with the channel in the last dimension, as int8 codes."""
    channels = [scaled(acc[..., c], real[c % len(real)], once) for c in range(acc.shape[-1])]
    codes: Array = np.clip(np.stack(channels, axis=-1) + out.zero, *limits(activation, out)).astype(np.int8)
    return codes


def _multipliers(x: Scale, weight: Scale, out: Scale) -> list[float]:
    return [float(np.float64(x.one) * np.float64(s) / np.float64(out.one)) for s in weight.scale]


def conv(
    x: Array, weight: Array, bias: Array | None, window: Window, scales: Sequence[Scale], activation: int, once: bool
) -> Array:
    """CONV_2D of int8: x [N, H, W, C], weight [O, rows, columns, C]; scales of x, weight and output."""
    patches, _ = windows(x.astype(np.int64) - scales[0].zero, window, 0)
    acc = np.einsum("nhwijc,oijc->nhwo", patches, weight.astype(np.int64), optimize=True)
    acc = acc if bias is None else acc + bias
    return _finish(acc, _multipliers(*scales), scales[2], activation, once)


def depthwise(
    x: Array, weight: Array, bias: Array | None, window: Window, scales: Sequence[Scale], activation: int, once: bool
) -> Array:
    """DEPTHWISE_CONV_2D of int8: weight [1, rows, columns, C * multiplier]."""
    patches, _ = windows(x.astype(np.int64) - scales[0].zero, window, 0)
    each = weight.shape[3] // x.shape[3]
    acc = np.einsum("nhwijc,ijc->nhwc", np.repeat(patches, each, axis=-1), weight[0].astype(np.int64))
    acc = acc if bias is None else acc + bias
    return _finish(acc, _multipliers(*scales), scales[2], activation, once)


def fully_connected(
    x: Array, weight: Array, bias: Array | None, scales: Sequence[Scale], activation: int, once: bool
) -> Array:
    """FULLY_CONNECTED of int8: weight [O, I]."""
    rows = x.astype(np.int64).reshape(-1, weight.shape[1]) - scales[0].zero
    acc = rows @ (weight.astype(np.int64) - scales[1].zero).T
    acc = acc if bias is None else acc + bias
    if len(scales[1].scale) > 1:
        return _finish(acc, _multipliers(*scales), scales[2], activation, once)
    # Here the product of the scales is one of float32.
    product = np.float32(scales[0].one) * np.float32(scales[1].one)
    return _finish(acc, [float(np.float64(product) / np.float64(scales[2].one))], scales[2], activation, once)


def add(a: Array, b: Array, scales: Sequence[Scale], activation: int, once: bool) -> Array:
    """ADD of int8: both inputs go to a common scale with 20 more bits."""
    widest = 2 * max(scales[0].one, scales[1].one)
    parts = [
        scaled((x.astype(np.int64) - s.zero) << 20, float(np.float64(s.one) / widest), once)
        for x, s in zip((a, b), scales[:2], strict=True)
    ]
    out = scales[2]
    total = scaled(parts[0] + parts[1], widest / (float(2**20) * out.one), once) + out.zero
    codes: Array = np.clip(total, *limits(activation, out)).astype(np.int8)
    return codes


def average_pool(x: Array, window: Window, out: Scale, activation: int) -> Array:
    """AVERAGE_POOL_2D of int8 codes: the mean of those inside, halves away from zero."""
    patches, inside = windows(x.astype(np.int64), window, 0)
    total, count = patches.sum(axis=(3, 4)), inside.sum(axis=(2, 3))[None, :, :, None]
    mean = np.where(total > 0, (total + count // 2) // count, -((-total + count // 2) // count))
    codes: Array = np.clip(mean, *limits(activation, out)).astype(np.int8)
    return codes


def max_pool(x: Array, window: Window, out: Scale, activation: int) -> Array:
    """MAX_POOL_2D of int8 codes."""
    patches, _ = windows(x.astype(np.int64), window, -128)
    codes: Array = np.clip(patches.max(axis=(3, 4)), *limits(activation, out)).astype(np.int8)
    return codes


def mean(x: Array, axes: tuple[int, ...], keep: bool, scales: Sequence[Scale], once: bool) -> Array:
    """MEAN of int8: the number of elements goes into the multiplier, with as many bits as fit."""
    count = int(np.prod([x.shape[axis] for axis in axes]))
    fixed, shift = multiplier_of(float(np.float64(scales[0].one) / np.float64(scales[1].one)))
    more = min(count.bit_length() - 1, 32, 31 + shift)
    fixed, shift = (fixed << more) // count, shift - more
    acc = x.astype(np.int64).sum(axis=axes, keepdims=keep) - scales[0].zero * count
    if once:
        total = 31 - shift
        y = (acc * fixed + (1 << (total - 1))) >> total
    else:
        y = divided(doubling_high(acc << max(shift, 0), fixed), max(-shift, 0))
    codes: Array = np.clip(y + scales[1].zero, -128, 127).astype(np.int8)
    return codes


def softmax(x: Array, beta: float, scales: Sequence[Scale]) -> Array:
    """SOFTMAX of int8 over the last dimension: exponentials of all 256 differences in a float32 table."""
    table = np.exp(np.float32(-scales[0].one * beta) * np.arange(256, dtype=np.float32)).astype(np.float32)
    wide = x.astype(np.int64)
    terms = table[wide.max(axis=-1, keepdims=True) - wide]
    total = np.zeros(terms.shape[:-1], np.float32)
    for j in range(terms.shape[-1]):
        total = total + terms[..., j]
    inverse = np.float32(1) / (total * np.float32(scales[1].one))
    whole = np.floor(terms * inverse[..., None] + np.float32(0.5)).astype(np.int64)
    codes: Array = np.clip(whole + scales[1].zero, -128, 127).astype(np.int8)
    return codes


def concatenation(parts: Sequence[Array], axis: int, scales: Sequence[Scale]) -> Array:
    """CONCATENATION of int8: parts of another scale than the output's are rounded to it, halves away from zero."""
    out, moved = scales[-1], []
    for part, own in zip(parts, scales[:-1], strict=True):
        if (own.one, own.zero) == (out.one, out.zero):
            moved.append(part)
            continue
        ratio = np.float32(own.one) * (np.float32(1) / np.float32(out.one))
        shifted = part.astype(np.float32) * ratio + np.float32(-own.zero) * ratio
        whole = np.sign(shifted) * np.floor(np.abs(shifted) + np.float32(0.5)) + out.zero
        moved.append(np.clip(whole, -128, 127).astype(np.int8))
    return np.concatenate(moved, axis=axis)


# The executor of files


def run_file(data: bytes, inputs: Sequence[Array], once: bool = False) -> list[Array]:
    """The outputs of an int8 file for one set of inputs; ``once``: the newer rounding."""
    outputs, values = _run(data, inputs, once)
    return [values[index][1] for index in outputs]


def run_values(data: bytes, inputs: Sequence[Array], once: bool = False) -> dict[str, Array]:
    """The same, all tensors by name."""
    return dict(_run(data, inputs, once)[1].values())


def _run(data: bytes, inputs: Sequence[Array], once: bool) -> tuple[list[int], dict[int, tuple[str, Array]]]:
    import tflite

    model = tflite.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    kinds = {code: name for name, code in vars(tflite.BuiltinOperator).items() if isinstance(code, int)}
    values: dict[int, Array] = {}
    scales: dict[int, Scale] = {}
    types = {0: "<f4", 2: "<i4", 9: "i1"}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        q, buffer = tensor.Quantization(), model.Buffers(tensor.Buffer())
        if q is not None and q.ScaleLength():
            scales[index] = Scale(q.ScaleAsNumpy(), q.ZeroPointAsNumpy())
        if buffer.DataLength():
            shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
            values[index] = np.frombuffer(buffer.DataAsNumpy().tobytes(), types[tensor.Type()]).reshape(shape)
    values.update(zip(graph.InputsAsNumpy().tolist(), inputs, strict=True))
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        names = operator.InputsAsNumpy().tolist()
        out = int(operator.Outputs(0))
        step = _Step(
            [values[name] if name >= 0 else None for name in names],
            [scales.get(name) for name in names] + [scales.get(out)],
            _Options(tflite, operator),
            once,
        )
        values[out] = _KINDS[kind](step)
    named = {index: (graph.Tensors(index).Name().decode(), array) for index, array in values.items()}
    return graph.OutputsAsNumpy().tolist(), named


class _Options:
    """The options of an operator by name."""

    def __init__(self, schema: Any, operator: Any) -> None:
        kinds = {code: name for name, code in vars(schema.BuiltinOptions).items() if isinstance(code, int)}
        self.table = None
        if operator.BuiltinOptionsType():
            self.table = getattr(schema, kinds[operator.BuiltinOptionsType()])()
            raw = operator.BuiltinOptions()
            self.table.Init(raw.Bytes, raw.Pos)

    def __getitem__(self, name: str) -> Any:
        return 0 if self.table is None else getattr(self.table, name)()


@dataclass(frozen=True)
class _Step:
    """What an operator of a file has: inputs, their scales and the output's, options."""

    inputs: list[Any]
    scales: list[Any]
    options: _Options
    once: bool

    def window(self, kernel: Sequence[int], dilated: bool = False) -> Window:
        """The window of a layer."""
        o = self.options
        dilation = (o["DilationHFactor"], o["DilationWFactor"]) if dilated else (1, 1)
        return Window((kernel[0], kernel[1]), (o["StrideH"], o["StrideW"]), o["Padding"] == 0, dilation)

    @property
    def layer(self) -> tuple[Any, Any, Any]:
        """Input, weight and bias."""
        x, weight, *bias = self.inputs
        return x, weight, bias[0] if bias else None

    @property
    def ends(self) -> list[Any]:
        """The scales of input, weight and output."""
        return [self.scales[0], self.scales[1], self.scales[-1]]


def _conv(s: _Step) -> Array:
    window = s.window(s.inputs[1].shape[1:3], dilated=True)
    return conv(*s.layer, window, s.ends, s.options["FusedActivationFunction"], s.once)


def _depthwise(s: _Step) -> Array:
    window = s.window(s.inputs[1].shape[1:3], dilated=True)
    return depthwise(*s.layer, window, s.ends, s.options["FusedActivationFunction"], s.once)


def _pool(f: Callable[[Array, Window, Scale, int], Array]) -> Callable[[_Step], Array]:
    def run(s: _Step) -> Array:
        window = s.window((s.options["FilterHeight"], s.options["FilterWidth"]))
        return f(s.inputs[0], window, s.scales[-1], s.options["FusedActivationFunction"])

    return run


def _mean(s: _Step) -> Array:
    axes = tuple(int(axis) for axis in s.inputs[1].reshape(-1))
    return mean(s.inputs[0], axes, bool(s.options["KeepDims"]), [s.scales[0], s.scales[-1]], s.once)


_KINDS: dict[str, Callable[[_Step], Array]] = {
    "ADD": lambda s: add(s.inputs[0], s.inputs[1], s.scales, s.options["FusedActivationFunction"], s.once),
    "AVERAGE_POOL_2D": _pool(average_pool),
    "CONCATENATION": lambda s: concatenation(s.inputs, s.options["Axis"], s.scales),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": lambda s: fully_connected(*s.layer, s.ends, s.options["FusedActivationFunction"], s.once),
    "MAX_POOL_2D": _pool(max_pool),
    "MEAN": _mean,
    "PAD": lambda s: np.pad(s.inputs[0], s.inputs[1], constant_values=s.scales[-1].zero),
    "RESHAPE": lambda s: s.inputs[0].reshape(s.inputs[1]),
    "SOFTMAX": lambda s: softmax(s.inputs[0], s.options["Beta"], [s.scales[0], s.scales[-1]]),
}
