"""Numbers to integer codes and back."""

from typing import Any

import numpy as np

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


FAMILIES: dict[str, Family] = {"quantizers": quantizers, "dequantizers": dequantizers}
