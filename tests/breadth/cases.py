"""What the families of random cases are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.reference.arrays import Array

Rng = np.random.Generator
SIGNED, UNSIGNED = ("int8", "int16", "int32", "int64"), ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = ("float32", *INTEGERS)


@dataclass
class Case:
    """One node with arrays for its inputs (None: left out), of any rank and type."""

    op: str
    inputs: list[Array | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    tolerance: float = 1e-5  # relative to the largest number


Family = Callable[[Rng, Rng], Case]
"""Makes a case: what the node is (operator, ranks, attributes, types) from the first generator, what may change from
run to run (sizes, elements) from the second."""


def one_of(rng: Rng, choices: Sequence[Any]) -> Any:
    """One of the choices."""
    return choices[int(rng.integers(len(choices)))]


def number(rng: Rng, low: int, high: int) -> int:
    """A number from low to high, both included."""
    return int(rng.integers(low, high + 1))


def sizes(rng: Rng, rank: int, low: int = 1, high: int = 5, empty: bool = False) -> list[int]:
    """A shape; sometimes, if wanted, with a zero in it."""
    shape = [number(rng, low, high) for _ in range(rank)]
    if empty and rank and rng.random() < 0.2:
        shape[number(rng, 0, rank - 1)] = 0
    return shape


def values(rng: Rng, dtype: str, shape: Sequence[int], low: float = -3, high: float = 3) -> Array:
    """Elements of a type: floats and integers within the bounds, booleans of both kinds."""
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype == "float32":
        return rng.uniform(low, high, shape).astype(np.float32)
    least = 0 if dtype.startswith("u") else int(low)
    return rng.integers(least, int(high) + 1, shape).astype(dtype)


def floats(rng: Rng, shape: Sequence[int]) -> Array:
    """Floats of both signs."""
    return values(rng, "float32", shape)


def integers(*numbers: int) -> Array:
    """A vector of int64."""
    return np.array(numbers, np.int64)


def broadcastable(choose: Rng, change: Rng, count: int, most: int = 4, empty: bool = True) -> list[list[int]]:
    """Shapes that broadcast together; ranks and which sizes are 1 come from ``choose``."""
    ranks = [number(choose, 0, most) for _ in range(count)]
    ones = [[choose.random() < 0.25 for _ in range(rank)] for rank in ranks]
    full = sizes(change, max(ranks), empty=empty)
    return [
        [1 if one else size for one, size in zip(flags, full[len(full) - rank :], strict=True)]
        for rank, flags in zip(ranks, ones, strict=True)
    ]
