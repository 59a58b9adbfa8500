"""Constants of binary networks: separable kernels, random filters, sums; as JSON trees and leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.rawfile import leaf, pack_bits
from tests.reference.arrays import Array

if TYPE_CHECKING:
    from tests.encoding_samples import Samples, Tree


def separable_node(samples: Samples, name: str, bits: Array, shape: tuple[int, ...]) -> dict[str, Any]:
    """A separable_signs node whose stream holds these bits."""
    return {"kind": "separable_signs", "leaf": samples.put(name, pack_bits(bits, 1)), "shape": list(shape)}


def separable(samples: Samples, rng: np.random.Generator) -> None:
    """Kernels of many sizes; every one of 3x3; none; below each node that reads codes 0 and 1."""
    shapes = [(5, 3, 3, 3), (2, 3, 1, 1), (3, 1, 4), (2, 2, 5, 1), (2, 7, 7), (3, 5, 5, 5), (4, 6), (0, 3, 3, 3)]
    for shape in shapes:
        size = shape[-2] + shape[-1] - 1
        count = int(np.prod(shape[:-2], dtype=np.int64)) * size
        name = f"separable.{'x'.join(map(str, shape))}"
        samples.constants[name] = {
            "kind": "signs",
            "codes": separable_node(samples, f"{name}.codes", rng.integers(0, 2, count), shape),
            "scale": samples.dense(f"{name}.scale", rng.standard_normal(shape[0]).astype(np.float32)),
            "axis": 0,
        }
    every = (np.arange(32)[:, None] >> np.arange(5) & 1).reshape(-1)
    samples.constants["separable.every"] = {
        "kind": "codebook",
        "codes": separable_node(samples, "separable.every.codes", every, (32, 3, 3)),
        "table": samples.dense("separable.every.table", np.array([-0.25, 0.5], np.float32)),
    }
    samples.constants["separable.ohwi"] = {
        "kind": "affine",
        "codes": separable_node(samples, "separable.ohwi.codes", rng.integers(0, 2, 6 * 4), (2, 3, 2, 3)),
        "scale": samples.dense("separable.ohwi.scale", np.array(2, np.float32)),
        "order": "OHWI",
    }


def seeded(samples: Samples, rng: np.random.Generator) -> None:
    """Thresholds from none to all, seeds from the least to the greatest, both orders, no elements."""
    for threshold in (0, 1, 2**20, 2**31, int(0.9 * 2**32), 2**32 - 1, 2**32):
        name = f"seeded.{threshold}"
        samples.constants[name] = {"kind": "seeded", "seed": 11, "threshold": threshold, "shape": [40, 25]}
    for number, seed in enumerate((0, 1, 2**32, 2**63 - 1, int(rng.integers(2**63)))):
        node = {"kind": "seeded", "seed": seed, "threshold": 2**31, "shape": [3, 2, 5, 4]}
        samples.constants[f"seeded.seed {number}"] = {**node, "order": "OHWI"} if number % 2 else node
    samples.constants["seeded.empty"] = {"kind": "seeded", "seed": 5, "threshold": 9, "shape": [0, 4]}
    samples.constants["seeded.scalar"] = {"kind": "seeded", "seed": 5, "threshold": 2**32, "shape": []}
    samples.constants["seeded.table"] = {
        "kind": "codebook",
        "codes": samples.packed("seeded.table.codes", rng.integers(0, 8, (4, 5)), 3),
        "table": {"kind": "seeded", "seed": 3, "threshold": 3 * 2**30, "shape": [8]},
    }


def sums(samples: Samples, rng: np.random.Generator) -> None:
    """One to eight parts of every real kind, shared leaves, sums of sums, overflow."""
    shape = (4, 3, 2, 2)

    def signs(name: str, axis: int | None = None) -> dict[str, Any]:
        scale = np.abs(rng.standard_normal(() if axis is None else shape[axis])).astype(np.float32)
        node = {
            "kind": "signs",
            "codes": samples.packed(f"{name}.codes", rng.integers(0, 2, shape), 1),
            "scale": samples.dense(f"{name}.scale", scale),
        }
        return node if axis is None else {**node, "axis": axis}

    for count in range(1, 9):
        parts: list[Tree] = [signs(f"sum.{count}.{i}", (None, 0, 1)[(count + i) % 3]) for i in range(count)]
        samples.constants[f"sum.{count}"] = {"kind": "sum", "parts": parts}
    plain = samples.put("sum.mixed.plain", leaf(rng.standard_normal((4, 2, 2, 3)).astype(np.float32)))
    random = {"kind": "seeded", "seed": 1, "threshold": 2**31, "shape": [4, 2, 2, 3]}
    pair = {"kind": "sum", "parts": [plain, random]}
    samples.constants["sum.mixed"] = {"kind": "sum", "parts": [pair, plain, random], "order": "OHWI"}
    large = samples.dense("sum.large", np.array([3e38, -3e38, 1e-45, -0.0], np.float32))
    samples.constants["sum.overflow"] = {"kind": "sum", "parts": [large, large]}
