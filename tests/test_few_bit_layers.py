"""Weights of 2 to 7 bits under 8-bit activations: what is held in memory, at the edges of what codes can say."""

import bittern
import numpy as np
import pytest
from bittern.encodings import Affine, Codebook, Dense, Encoding, Packed

from tests.compare import assert_equal
from tests.conftest import seed_of
from tests.quantized_graphs import F32, FORMS, Wiring
from tests.reference import codes
from tests.reference.arrays import Array

LEVELS = bittern.cpu().isa_levels_usable
SCALE = Dense(np.array(0.01, F32))


def between(rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]) -> Encoding:
    """Weights from low to high, stored as unsigned codes with a zero point."""
    bits = (high - low).bit_length()
    values = rng.integers(low, high + 1, shape)
    values.reshape(-1)[:2] = [low, high]
    return Affine(Packed.pack(values - low, bits), SCALE, Dense(np.array(-low, np.uint8 if low <= 0 else np.int8)))


def scattered(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Encoding:
    """Codes into a table of so many bytes all over their range."""
    table = np.sort(rng.permutation(np.arange(-128, 128))[:count]).astype(np.int8)
    table[[0, -1]] = -128, 127
    return Codebook(Packed.pack(rng.integers(0, count, shape), (count - 1).bit_length()), Affine(Dense(table), SCALE))


def layer(tree: Encoding, rng: np.random.Generator, transposed: bool) -> tuple[bytes, dict[str, Array]]:
    """A convolution of a 1x1 map or several pixels, or a product with one row; with all that it reads."""
    wiring = Wiring(rng)
    shape = tree.shape
    if len(shape) == 2:
        x = wiring.decoded("x", FORMS[0], 1, shape[1])
        value = wiring.add("Gemm", [x, "w"], transB=int(transposed))
    else:
        x = wiring.decoded("x", FORMS[1], 1, shape[1], 6, 5)
        value = wiring.add("Conv", [x, "w"], pads=[1, 1, 1, 1])
    wiring.trees["w"] = tree
    wiring.quantise(value, FORMS[0].scaled(30), "y")
    return wiring.network(["y"]).to_bytes(), dict(wiring.inputs)


def held(file: bytes, inputs: dict[str, Array], level: str, what: str) -> bittern.Layer:
    """The layer's row of the plan, its result compared with the meaning in whole numbers."""
    model = bittern.load(file, isa=level, threads=1)
    assert_equal(model.run(inputs)["y"], codes.run(file, inputs)["y"], f"{what}, {level}")
    return next(row for row in model.plan.layers if row.op in ("Conv", "Gemm"))


EDGES = [
    (-2, 1, 2), (0, 3, 2), (-4, 3, 3), (0, 7, 3), (-7, 0, 3), (-3, 4, 3), (1, 7, 4), (1, 8, 4), (-8, 7, 4),
    (-16, 15, 5), (0, 31, 5), (-31, 0, 5), (3, 31, 6), (10, 40, 6), (-32, 31, 6), (0, 63, 6), (-63, 0, 6), (-16, 16, 6),
    (-33, 31, 8), (40, 70, 8), (-64, 63, 8), (-128, 127, 8),
]  # fmt: skip
"""Least and greatest weight, and the bits that hold them: zero, which pads, has to have a code as well, and
codes may be all that their bits allow."""


@pytest.mark.parametrize(("low", "high", "bits"), EDGES)
def test_bits_that_hold_a_range(low: int, high: int, bits: int) -> None:
    """A product with one row and a convolution, of an odd number of quads and channels beside panels."""
    rng = np.random.default_rng(seed_of(f"range {low} {high}"))
    for level in LEVELS:
        for size in ((130, 260), (33, 20, 3, 3)):
            file, inputs = layer(between(rng, low, high, size), rng, True)
            row = held(file, inputs, level, f"{low} .. {high} {size}")
            if len(size) == 2:
                assert f"gemv_u8_s{bits}_" in row.kernel, row
            elif bits < 8:
                assert f"stay {bits}-bit codes" in row.reason, row
            # Vectors of 64 bytes, groups of eight of them, panels of 64 channels; offsets, scales, a table.
            padded = -(-size[0] // 64) * 64 * -(-int(np.prod(size[1:])) // 8) * 8
            assert row.packed_bytes <= padded * bits / 8 + 8 * 64 * 8 + 3 * 4 * 256, row


def test_what_stays_bytes(rng: np.random.Generator) -> None:
    """17 numbers all over the range, 7 bits: bytes, and the plan says so; sixteen scattered ones are 4 bits."""
    for size in ((64, 64), (64, 64, 3, 3)):
        for tree in (scattered(rng, 17, size), between(rng, -64, 63, size)):
            row = held(*layer(tree, rng, True), LEVELS[0], str(size))
            assert "values stay bytes" in row.reason and row.packed_bytes >= np.prod(size)
        row = held(*layer(scattered(rng, 15, size), rng, True), LEVELS[0], str(size))
        assert "4-bit codes" in row.reason and row.packed_bytes < np.prod(size)
        whole = Affine(Dense(rng.integers(-128, 128, size).astype(np.int8)), SCALE)
        assert "stay bytes" not in held(*layer(whole, rng, True), LEVELS[0], str(size)).reason
