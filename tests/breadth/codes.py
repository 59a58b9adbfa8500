"""Numbers to integer codes and back."""

from typing import Any

import numpy as np
from bittern.operators import ROUNDING

from tests.breadth import layers
from tests.breadth.cases import Case, Family, Rng, floats, number, one_of, sizes, values
from tests.reference.arrays import Array

TYPES = ("uint8", "int8", "uint16", "int16")


def _grid(choose: Rng, change: Rng) -> tuple[list[int], list[int], dict[str, Any]]:
    """Shapes of a tensor and of its scale, which is one number, one per entry of an axis, or one per block."""
    shape = sizes(change, number(choose, 1, 4), high=9)
    kind = one_of(choose, ("tensor", "axis", "block"))
    if kind == "tensor":
        return shape, one_of(choose, ([], [1])), {}
    axis = number(choose, -len(shape), len(shape) - 1)
    if kind == "axis":
        return shape, [shape[axis]], {"axis": axis}
    block = number(choose, 1, 4)
    blocks = list(shape)
    blocks[axis] = -(-shape[axis] // block)
    return shape, blocks, {"axis": axis, "block_size": block}


def _scale(change: Rng, shape: list[int]) -> Array:
    # Powers of two among them: ties then are met exactly.
    exponents = change.integers(-4, 1, shape).astype(np.float32)
    return np.asarray(np.exp2(exponents) * np.where(change.random(shape) < 0.5, 1, 0.77), np.float32)


def quantizers(choose: Rng, change: Rng) -> Case:
    dtype = one_of(choose, TYPES)
    shape, scales, attributes = _grid(choose, change)
    if dtype in ("uint8", "int8"):
        attributes["bits"] = one_of(choose, (8, 8, 2, 3, 4, 7))
        attributes["narrow"] = int(dtype == "int8" and choose.random() < 0.5)
    zero = values(change, dtype, scales, -3, 3) if choose.random() < 0.7 else None
    if zero is None:
        attributes["output_dtype"] = dtype[0] + dtype.lstrip("uint")
    x = floats(change, shape) * 4
    x = np.where(change.random(x.shape) < 0.5, np.rint(x * 16) / 16, x).astype(np.float32)
    return Case("QuantizeLinear", [x, _scale(change, scales), zero], attributes)


def dequantizers(choose: Rng, change: Rng) -> Case:
    dtype = one_of(choose, (*TYPES, "int32"))
    shape, scales, attributes = _grid(choose, change)
    # In int32 ONNX has no zero points.
    zero = values(change, dtype, scales, -3, 3) if choose.random() < 0.7 and dtype != "int32" else None
    x = values(change, dtype, shape, -100, 100)
    return Case("DequantizeLinear", [x, _scale(change, scales), zero], attributes, tolerance=0.0)


def dynamic_quantizers(choose: Rng, change: Rng) -> Case:
    x = floats(change, sizes(change, number(choose, 1, 4))) * 4
    # Both signs, so that no range is empty.
    x.reshape(-1)[0] = one_of(choose, (-1.0, 2.5))
    return Case("DynamicQuantizeLinear", [x], outputs=3, tolerance=0.0)


def integer_convolutions(choose: Rng, change: Rng) -> Case:
    case = layers.convolution(choose, change)
    x, w, _ = case.inputs
    assert x is not None and w is not None
    kinds = [one_of(choose, ("uint8", "int8")) for _ in range(2)]
    x, w = (values(change, kind, array.shape, -128, 127) for kind, array in zip(kinds, (x, w), strict=True))
    zeros = [
        values(change, kinds[0], (), -5, 5) if choose.random() < 0.7 else None,
        values(change, kinds[1], one_of(choose, ((), (w.shape[0],))), -5, 5) if choose.random() < 0.7 else None,
    ]
    return Case("ConvInteger", [x, w, *zeros], case.attributes)


def integer_products(choose: Rng, change: Rng) -> Case:
    m, k, n = (number(change, 1, 6) for _ in range(3))
    outer = one_of(choose, ([], [], [2]))
    kinds = [one_of(choose, ("uint8", "int8")) for _ in range(2)]
    a = values(change, kinds[0], [*outer, m, k], -128, 127)
    b = values(change, kinds[1], [*outer, k, n] if choose.random() < 0.5 else [k, n], -128, 127)
    zeros = [values(change, kind, (), -5, 5) if choose.random() < 0.7 else None for kind in kinds]
    return Case("MatMulInteger", [a, b, *zeros])


def _number(value: float) -> Array:
    return np.array(value, np.float32)


def quants(choose: Rng, change: Rng) -> Case:
    shape = sizes(change, number(choose, 1, 4), high=5)
    per = one_of(choose, ([], [1] * len(shape), [1] * (len(shape) - 1) + shape[-1:]))
    zero = _number(one_of(choose, (0, 0, 1, 2.5)))
    bits = _number(one_of(choose, (1, 2, 3, 4, 8, 12)))
    attributes = {
        "signed": number(choose, 0, 1),
        "narrow": number(choose, 0, 1),
        "rounding_mode": one_of(choose, ROUNDING),
    }
    return Case("Quant", [floats(change, shape) * 4, _scale(change, per), zero, bits], attributes)


def bipolars(choose: Rng, change: Rng) -> Case:
    shape = sizes(change, number(choose, 0, 4), empty=True)
    return Case("BipolarQuant", [floats(change, shape), _scale(change, one_of(choose, ([], shape)))])


def truncs(choose: Rng, change: Rng) -> Case:
    scale = _number(one_of(choose, (1, 0.25, 0.1)))
    inputs = [floats(change, sizes(change, number(choose, 0, 3))) * 40, scale, _number(one_of(choose, (0, 3)))]
    attributes: dict[str, Any] = {"rounding_mode": one_of(choose, ROUNDING)}
    if choose.random() < 0.5:
        return Case("Trunc", [*inputs, _number(8), _number(number(choose, 3, 7))], attributes)
    out_scale = np.float32(scale * np.float32(2.0 ** number(choose, 0, 3)))
    attributes |= {"signed": number(choose, 0, 1), "narrow": number(choose, 0, 1)}
    return Case("Trunc", [*inputs, _number(8), np.asarray(out_scale), _number(number(choose, 3, 7))], attributes)


def thresholds(choose: Rng, change: Rng) -> Case:
    layout = one_of(choose, ("NCHW", "NHWC", "NCW", "NC", "NWC"))
    rank = {"NCHW": number(choose, 1, 5), "NHWC": 4, "NCW": 3, "NC": 2, "NWC": 3}[layout]
    shape = sizes(change, rank)
    second = (layout == "NCHW" and rank in (2, 4)) or layout == "NCW"
    rows = one_of(choose, (1, shape[1 if second else -1]))
    table = np.sort(floats(change, [rows, number(change, 0, 7)]), axis=1)
    attributes = {"data_layout": layout, "out_scale": 0.5, "out_bias": -1.0} if choose.random() < 0.7 else {}
    if not attributes and layout != "NCHW":
        attributes = {"data_layout": layout}
    return Case("MultiThreshold", [floats(change, shape), table], attributes)


FAMILIES: dict[str, Family] = {
    "quantizers": quantizers,
    "dequantizers": dequantizers,
    "dynamic quantizers": dynamic_quantizers,
    "integer convolutions": integer_convolutions,
    "integer products": integer_products,
    "quants": quants,
    "bipolars": bipolars,
    "truncs": truncs,
    "thresholds": thresholds,
}
