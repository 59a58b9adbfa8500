"""QONNX: quantisers of any number of bits and their thresholds; those of constants become encodings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Dense, Encoding, Packed, Signs
from bittern.importers.onnx_steps import Context, Step, Unsupported

_MODES = {"HALF_EVEN": "ROUND", "ROUND_TO_ZERO": "DOWN"}  # other names of some
_WIDEST = 16  # bits of constant codes

Reals = NDArray[np.float32]


def _half(x: Reals, least: Callable[[Reals, np.float32], NDArray[np.bool_]]) -> Reals:
    whole = np.trunc(x)
    return np.where(least(np.abs(x - whole), np.float32(0.5)), whole + np.copysign(np.float32(1), x), whole)


_ROUNDED: dict[str, Callable[[Reals], Reals]] = {
    "ROUND": np.rint,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.copysign(np.ceil(np.abs(x)), x),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: _half(x, np.greater_equal),
    "HALF_DOWN": lambda x: _half(x, np.greater),
}


def _reals(node: Context, place: int) -> Reals | None:
    """A constant input as float32."""
    array = node.constant(node.inputs[place])
    if array is not None and array.dtype.kind not in "fiu":
        raise Unsupported(f"{node.op} with a constant of type {array.dtype} is not supported")
    return None if array is None else array.astype(np.float32)


def _mode(node: Context, default: str) -> str:
    given = str(node.attributes.get("rounding_mode", default)).upper()
    mode = _MODES.get(given, given)
    if mode not in _ROUNDED:
        raise Unsupported(f"{node.op} with rounding_mode {given} is not supported (supported: {', '.join(_ROUNDED)})")
    return mode


def limits(bits: float, signed: bool, narrow: bool) -> tuple[float, float]:
    """The least and the largest code."""
    if signed:
        return narrow - 2.0 ** (bits - 1), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1 - narrow


def _as_operator(node: Context, attributes: dict[str, Any], op: str | None = None) -> list[Step]:
    """The operator of the same meaning; parameters are float32."""
    steps, inputs, constants = [], node.inputs[:1], dict[str, NDArray[Any]]()
    for name in node.inputs[1:]:
        array = node.constant(name)
        if array is not None and array.dtype != np.float32:
            constants[node.new(f"{name}.float")] = array.astype(np.float32)
            name = next(reversed(constants))
        elif array is None and node.dtype(name) not in ("f32", None):
            cast = node.new(f"{name}.float")
            steps.append(Step("Cast", f"{node.name}.{cast}", [name], [cast], {"to": "f32"}))
            name = cast
        inputs.append(name)
    return [*steps, node.step(op=op or node.op, inputs=inputs, attributes=attributes, constants=constants)]


def _constant(node: Context, value: Encoding | NDArray[Any]) -> list[Step]:
    held = value if isinstance(value, Encoding) else np.asarray(value, np.float32)
    return [Step("Constant", node.name, [], node.outputs, constants={node.outputs[0]: held})]


def _axis(parameter: Reals, shape: tuple[int, ...]) -> int | None:
    """The one axis along which a parameter differs; None: it is one number; -1: it is neither."""
    if parameter.size == 1:
        return None
    own = (1,) * (len(shape) - parameter.ndim) + parameter.shape
    axes = [axis for axis, size in enumerate(own) if size != 1]
    fits = len(own) == len(shape) and len(axes) == 1 and own[axes[0]] == shape[axes[0]]
    return axes[0] if fits else -1


def _quant(node: Context) -> list[Step]:
    node.needs(4)
    x, scale, zero, width = (_reals(node, place) for place in range(4))
    signed, narrow = bool(node.number("signed", 1)), bool(node.number("narrow", 0))
    mode = _mode(node, "ROUND")
    attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": mode}
    if scale is None or zero is None or width is None:
        return _as_operator(node, attributes, "Quant")
    if width.size != 1:
        raise Unsupported(f"{node.op} with several bit widths is not supported")
    bits = float(width.reshape(()))
    if not bits >= 1:
        raise Unsupported(f"{node.op} with {bits:g} bits is not supported")
    if x is not None:
        return _constant(node, _constant_quant(x, scale, zero, bits, signed, narrow, mode))
    if (
        mode == "ROUND"
        and bits in range(2, 9)
        and (signed or not narrow)
        and scale.size == zero.size == 1
        and float(zero.reshape(())) in (range(-128, 128, 2) if signed else range(0, 256, 2))
    ):
        return _as_codes(node, scale.reshape(()), int(zero.reshape(())), int(bits), signed, narrow)
    return _as_operator(node, attributes, "Quant")


def _as_codes(node: Context, scale: Reals, zero: int, bits: int, signed: bool, narrow: bool) -> list[Step]:
    """Quantise and dequantise: the same for zero points that do not move ties to other neighbours."""
    names = {part: node.new(f"{node.outputs[0]}.{part}") for part in ("scale", "zero", "codes")}
    inputs, constants = [names["scale"]], {names["scale"]: np.asarray(scale)}
    attributes: dict[str, Any] = {"bits": bits, "narrow": int(narrow)}
    known = dict(attributes)
    if zero:
        inputs.append(names["zero"])
        constants[names["zero"]] = np.array(zero, np.int8 if signed else np.uint8)
    elif signed:
        attributes["output_dtype"] = "i8"
    return [
        Step(
            "QuantizeLinear", f"{node.name}.codes", [node.inputs[0], *inputs], [names["codes"]], attributes, constants
        ),
        Step("DequantizeLinear", node.name, [names["codes"], *inputs], node.outputs, known),
    ]


def _constant_quant(
    x: Reals, scale: Reals, zero: Reals, bits: float, signed: bool, narrow: bool, mode: str
) -> Encoding | Reals:
    """The encoding of what Quant makes of a constant; the numbers themselves where none says the same."""
    with np.errstate(all="ignore"):
        code = x / scale + zero
        if bits == 1 and signed:
            if not np.any(zero):
                return _signs(code >= 0, scale, x)
            return np.asarray((np.where(code >= 0, np.float32(1), np.float32(-1)) - zero) * scale, np.float32)
        low, high = limits(bits, signed, narrow)
        code = np.where(np.isnan(code), low, np.clip(code, np.float32(low), np.float32(high))).astype(np.float32)
        code = _ROUNDED[mode](code)
        axis = _axis(scale, x.shape)
        whole = zero.size == 1 and float(zero.reshape(())).is_integer() and abs(float(zero.reshape(()))) < 2**31
        if axis == -1 or not whole or code.shape != x.shape or bits not in range(1, _WIDEST + 1):
            return np.asarray((code - zero) * scale, np.float32)
    packed = Packed.pack(code.astype(np.int32 if signed else np.uint32), int(bits), signed=signed)
    parameter = None
    if number := int(zero.reshape(())):
        parameter = Dense(np.full(() if axis is None else (scale.size,), number, np.int32))
    return Affine(packed, Dense(scale.reshape(() if axis is None else -1).copy()), parameter, axis)


def _signs(positive: NDArray[np.bool_], scale: Reals, x: Reals) -> Encoding | Reals:
    axis = _axis(scale, x.shape)
    if axis == -1 or positive.shape != x.shape:
        return np.asarray(np.where(positive, np.float32(1), np.float32(-1)) * scale, np.float32)
    return Signs(
        Packed.pack(positive.astype(np.uint8), 1), Dense(scale.reshape(() if axis is None else -1).copy()), axis
    )


def _bipolar_quant(node: Context) -> list[Step]:
    node.needs(2)
    x, scale = _reals(node, 0), _reals(node, 1)
    if x is None or scale is None:
        return _as_operator(node, {})
    with np.errstate(all="ignore"):
        return _constant(node, _signs(x >= 0, scale, x))


def _trunc(node: Context) -> list[Step]:
    mode = _mode(node, "FLOOR")
    attributes: dict[str, Any] = {
        name: node.number(name, 0) for name in ("signed", "narrow") if name in node.attributes
    }
    node.needs(len(node.inputs))
    parameters = [_reals(node, place) for place in range(len(node.inputs))]
    known = [array for array in parameters if array is not None]
    if len(known) != len(parameters) or len(parameters) not in (5, 6):
        return _as_operator(node, {**attributes, "rounding_mode": mode})
    x, scale, zero = known[:3]
    with np.errstate(all="ignore"):
        code = np.rint(x / scale + zero)
        if len(known) == 5:
            return _constant(node, (_ROUNDED[mode](code / np.exp2(known[3] - known[4])) - zero) * scale)
        ratio = np.exp2(np.rint(np.log2(known[4] / scale)))
        bits = float(known[5].reshape(()))
        low, high = limits(bits, bool(attributes.get("signed", 1)), bool(attributes.get("narrow", 0)))
        code = np.clip(code / ratio, np.float32(low), np.float32(high))
        return _constant(node, (_ROUNDED[mode](code) - zero / ratio) * known[4])


def _multi_threshold(node: Context) -> list[Step]:
    return _as_operator(node, node.without("out_dtype"))


QONNX: dict[str, Callable[[Context], list[Step]]] = {
    "BipolarQuant": _bipolar_quant,
    "IntQuant": _quant,
    "MultiThreshold": _multi_threshold,
    "Quant": _quant,
    "Trunc": _trunc,
}
"""Operators of QONNX, of Brevitas's export and of FINN."""
