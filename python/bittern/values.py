"""Inputs and outputs of a network: name, shape, element type."""

from __future__ import annotations

from typing import NamedTuple

DTYPES = ("f32", "f16", "bf16", "f64", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool")
NUMPY_TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    **{f"{kind[0]}{bits}": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    "bool": "bool",
}


# A tuple, not a dataclass: every program that loads a file makes this class, and dataclasses take long to import.
class ValueInfo(NamedTuple):
    """An input or output: its name, its shape (sizes, or symbols that stand for one), its element type.

    The shape of an output is None where even its number of dimensions depends on what the inputs are.
    """

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str = "f32"
