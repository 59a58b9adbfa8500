"""Integer codes in ONNX models: tensors of fewer than 8 bits, and constants that a scale makes numbers of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encodings import Affine, Dense, Encoding, Packed, Signs
from bittern.errors import InputError

# onnx.TensorProto.DataType by number: the type that holds the codes here, and their bits.
CODE_TYPES = {
    2: ("u8", 8),
    3: ("i8", 8),
    4: ("u16", 16),
    5: ("i16", 16),
    6: ("i32", 32),
    21: ("u8", 4),
    22: ("i8", 4),
    25: ("u8", 2),
    26: ("i8", 2),
}
_MOVES = """
    Concat DepthToSpace Expand Flatten Gather GatherElements GatherND Identity MaxPool Reshape Slice SpaceToDepth Split
    Squeeze Tile Transpose Unsqueeze
"""
MOVES = frozenset(_MOVES.split())
"""Operators that do the same to codes of fewer than 8 bits as to bytes, and give such codes."""
READERS = frozenset({"Cast", "DequantizeLinear", "QuantizeLinear", "Shape", "Size"})
NARROW = {number: bits for number, (_, bits) in CODE_TYPES.items() if bits < 8}


def widened(array: NDArray[Any], number: int) -> NDArray[Any]:
    """An array of a type of fewer than 8 bits in the type that holds it here; others as they are."""
    if number not in NARROW:
        return array
    return array.astype(np.int8 if CODE_TYPES[number][0] == "i8" else np.uint8)


def packed(codes: NDArray[Any], bits: int | None = None) -> Encoding:
    """Codes in their own number of bits; 32 bits and more stay as they are."""
    signed = codes.dtype.kind == "i"
    bits = bits or 8 * codes.dtype.itemsize
    return Dense(codes) if bits >= 32 else Packed.pack(codes, bits, signed=signed)


def limits(dtype: np.dtype[Any], bits: int, narrow: bool = False) -> tuple[int, int]:
    """The least and the largest code of a type that holds ``bits`` bits (more than it has: all of it)."""
    bits = min(bits, 8 * dtype.itemsize) if dtype.itemsize == 1 else 8 * dtype.itemsize
    if dtype.kind == "u":
        return 0, (1 << bits) - 1
    return int(narrow) - (1 << (bits - 1)), (1 << (bits - 1)) - 1


def bits_of_limits(low: NDArray[Any] | None, high: NDArray[Any] | None) -> tuple[int, int] | None:
    """The bits, from 2 to 8, and ``narrow`` of codes between two constants; None if no bits have such limits."""
    if low is None or high is None or low.size != 1 or high.size != 1 or low.dtype not in ("i1", "u1"):
        return None
    found = int(low.reshape(())), int(high.reshape(()))
    for bits in range(2, 9):
        for narrow in (False, True) if low.dtype.kind == "i" else (False,):
            if found == limits(low.dtype, bits, narrow):
                return bits, int(narrow)
    return None


def spread(parameter: NDArray[Any], shape: tuple[int, ...], axis: int, block: int) -> NDArray[Any]:
    """Scales or zero points in a shape that broadcasts to the tensor they belong to."""
    if parameter.size == 1 and not block:
        return parameter.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise InputError("a quantiser", f"axis {axis} is outside a tensor of {len(shape)} dimensions")
    axis %= len(shape)
    expected = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]) if block else (shape[axis],)
    if parameter.shape != expected:
        raise InputError(
            "a quantiser",
            f"its scale has shape {list(parameter.shape)} for a tensor {list(shape)}, not {list(expected)}",
        )
    if block:
        return np.take(parameter, np.arange(shape[axis]) // block, axis=axis)
    return parameter.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def quantized(
    x: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero_point: NDArray[Any],
    limit: tuple[int, int],
    axis: int = 1,
    block: int = 0,
) -> NDArray[Any]:
    """The codes of QuantizeLinear, of the type of ``zero_point``; NaN becomes the lowest code."""
    low, high = limit
    with np.errstate(all="ignore"):
        rounded = np.rint(x / spread(scale, x.shape, axis, block)).astype(np.float64)
    codes = rounded + spread(zero_point, x.shape, axis, block)
    return np.where(np.isnan(codes), low, np.clip(codes, low, high)).astype(zero_point.dtype)


def affine(
    codes: Encoding, scale: NDArray[np.float32], zero_point: NDArray[Any] | None, axis: int = 1, block: int = 0
) -> Affine:
    """Constant codes with what DequantizeLinear makes of them. Raises InputError where shapes do not fit."""
    spread(scale, codes.shape, axis, block)
    if zero_point is not None and (zero_point.shape != scale.shape and zero_point.size * scale.size != 1):
        raise InputError("a quantiser", f"scale has shape {list(scale.shape)}, zero point has {list(zero_point.shape)}")
    whole = scale.size == 1 and not block
    zero = None
    if zero_point is not None and np.any(zero_point):
        zero = Dense(zero_point.reshape(()) if whole else zero_point)
    counted = None if whole else axis % len(codes.shape)
    return Affine(codes, Dense(scale.reshape(()) if whole else scale), zero, counted, block or None)


def transposed(tree: Encoding | None, perm: list[int] | None) -> Encoding | None:
    """An affine or signs encoding with its dimensions in another order; None for anything else."""
    if not isinstance(tree, (Affine, Signs)) or tree.order:
        return None
    codes = tree.codes.decode()
    perm = list(range(codes.ndim))[::-1] if perm is None else perm
    if sorted(perm) != list(range(codes.ndim)):
        raise InputError("Transpose", f"perm is {perm} for a tensor of {codes.ndim} dimensions")
    bits = tree.codes.bits if isinstance(tree.codes, Packed) else None
    turned = packed(np.ascontiguousarray(codes.transpose(perm)), bits)
    axis = None if tree.axis is None else perm.index(tree.axis)
    if isinstance(tree, Signs):
        return replace(tree, codes=turned, axis=axis)

    def turn(parameter: Encoding | None) -> Encoding | None:
        if parameter is None or tree.group is None:
            return parameter
        return Dense(np.ascontiguousarray(parameter.decode().transpose(perm)))

    return Affine(turned, turn(tree.scale) or tree.scale, turn(tree.zero_point), axis, tree.group)
