"""Wrong constants of binary networks: separable kernels, random filters, sums."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.hostile import Hostile
from tests.hostile_values import SCALE, SHAPE, affine, bytes_leaf, dense, hostile
from tests.rawfile import leaf


def separable_streams() -> Iterator[Hostile]:
    """Sizes, shapes and spare bits of separable kernels; a code above 1 where a parent takes fewer."""

    def separable(name: str, data: bytes, shape: Any = SHAPE, lazy: bool = False) -> Hostile:
        codes = {"kind": "separable_signs", "leaf": "c", "shape": list(shape)}
        return hostile(f"separable_signs: {name}", affine(codes), {"c": bytes_leaf(data), "s": SCALE}, lazy=lazy)

    yield separable("spare bits are set", bytes([0b01000000]), lazy=True)  # a kernel of 4 x 3 takes 6 bits
    yield separable("too long", bytes(2))
    yield separable("nothing", b"")
    yield separable("one dimension", bytes(2), (12,))
    yield separable("no dimension", bytes(1), ())
    for shape in ((4, 0), (0, 3), (4, 3, 0, 0), (2**40, 0), (2**31, 2**31), (2**62, 4, 4), (-4, -3), (2**24, 2**24)):
        yield separable(f"shape {shape}", bytes(1), shape)
    good = {"kind": "separable_signs", "leaf": "c", "shape": list(SHAPE)}
    leaves = {"c": bytes_leaf(bytes(1)), "s": SCALE}
    yield hostile("separable_signs: an unknown key", affine({**good, "bits": 1}), leaves, lazy=False)
    yield hostile("separable_signs: no shape", affine({"kind": "separable_signs", "leaf": "c"}), leaves, lazy=False)
    yield hostile("separable_signs: a root", good, {"c": leaves["c"]}, lazy=False)
    narrow = {"kind": "codebook", "codes": good, "table": dense("t")}
    table = {"c": bytes_leaf(bytes([0b111111])), "t": leaf(np.zeros(1, np.float32))}
    yield hostile("separable_signs: a table of one entry", narrow, table)


def seeded_values() -> Iterator[Hostile]:
    """Seeds and thresholds out of range, shapes that are none."""
    good = {"kind": "seeded", "seed": 1, "threshold": 2**31, "shape": list(SHAPE)}

    def tree(name: str, lack: str = "", **more: Any) -> Hostile:
        kept = {key: value for key, value in {**good, **more}.items() if key != lack}
        return hostile(f"seeded: {name}", kept, {}, lazy=False)

    for seed in (-1, -(2**63), "1", 1.0, None, True):
        yield tree(f"seed {seed!r}", seed=seed)
    for threshold in (-1, 2**32 + 1, 2**63 - 1, 0.5, [1]):
        yield tree(f"threshold {threshold!r}", threshold=threshold)
    for shape in ([2**31, 2**31], [-4, 3], "x", [4.0, 3], [2**20] * 3):
        yield tree(f"shape {shape}", shape=shape)
    for key in ("seed", "threshold", "shape"):
        yield tree(f"no {key}", lack=key)
    yield tree("a leaf", leaf="c")
    codes = affine(good)
    yield hostile("seeded: as codes", codes, {"s": SCALE}, lazy=False)


def sums() -> Iterator[Hostile]:
    """Parts that are none, too many, integers, of other shapes or nested too deep."""
    plain = {"p": leaf(np.ones(SHAPE, np.float32))}

    def tree(name: str, parts: Any, lazy: bool = False, **more: Any) -> Hostile:
        leaves = {**plain, **more.pop("leaves", {})}
        return hostile(f"sum: {name}", {"kind": "sum", "parts": parts, **more}, leaves, lazy=lazy)

    for parts in ([], "p", {"0": "p"}, None, 3, ["p"] * 9, [["p"]], [None], ["p", 1], ["p", "absent"]):
        yield tree(f"parts {parts}", parts)
    yield hostile("sum: no parts", {"kind": "sum"}, {}, lazy=False)
    yield tree("an unknown key", ["p"], axis=0)
    yield tree("a part with an order", ["p", {"kind": "dense", "leaf": "p", "order": "OHWI"}])
    other = {"q": leaf(np.ones((3, 4), np.float32)), "i": leaf(np.ones(SHAPE, np.int32))}
    yield tree("another shape", ["p", "q"], leaves={"q": other["q"]})
    yield tree("integers", ["p", "i"], leaves={"i": other["i"]})
    yield tree("a pattern", ["p", {"kind": "bitmap", "mask": "i"}], leaves={"i": other["i"]})
    codes = {"kind": "signs", "codes": dense("i"), "scale": dense("s")}
    wrong = leaf(np.full(SHAPE, 2, np.int32))
    yield tree("a part whose codes are wrong", ["p", codes], lazy=True, leaves={"i": wrong, "s": SCALE})
    deep: Any = "p"
    for _ in range(17):
        deep = {"kind": "sum", "parts": [deep]}
    yield hostile("sum: nested too deep", deep, plain, lazy=False)


def all_binary() -> Iterator[Hostile]:
    """Every file of this module."""
    for source in (separable_streams, seeded_values, sums):
        yield from source()
