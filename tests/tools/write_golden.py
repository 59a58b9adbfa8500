"""Writes the golden files: python -m tests.tools.write_golden. What they hold depends on integer arithmetic alone.

Run it only when the format changes on purpose, and say so in the CHANGELOG: test_golden.py is there to notice every
other change of the written bytes or of what old files mean.
"""

import io
import sys
from collections.abc import Mapping
from pathlib import Path

import bittern
import numpy as np
from bittern import encodings as enc

from tests.builders import reference
from tests.reference import run
from tests.reference.arrays import Array

FOLDER = Path(__file__).resolve().parents[1] / "golden"
EXPECTED = "expected.npz"
SHAPE = (4, 3, 3, 2)
INPUT = np.array([[-1.5], [0.25]], np.float32)
"""What every file's input `x` gets; a file of constants multiplies each by the second number."""


def integers(count: int, low: int, high: int, salt: int) -> Array:
    """Numbers from low to high - 1 that look random."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(salt * 40503)
    state = (state ^ (state >> np.uint64(15))) * np.uint64(2246822519) & np.uint64(2**32 - 1)
    found: Array = low + ((state >> np.uint64(7)) % np.uint64(high - low)).astype(np.int64)
    return found


def numbers(*shape: int, salt: int) -> Array:
    """Multiples of 1/64 between -2 and 2."""
    return (integers(int(np.prod(shape, dtype=int)), -128, 129, salt) / 64).astype(np.float32).reshape(shape)


def codes(high: int, *shape: int, low: int = 0, salt: int = 1) -> Array:
    """Integer codes of a shape."""
    return integers(int(np.prod(shape, dtype=int)), low, high, salt).reshape(shape)


def dense() -> dict[str, enc.Encoding | Array]:
    """Leaves as they are, in every type that a constant may have."""
    half = numbers(7, salt=2)
    special = np.array([0.0, -0.0, 1e-45, -1e-40, 3.4e38, np.inf, -np.inf, np.nan], np.float32)
    found: dict[str, enc.Encoding | Array] = {
        "f32": special,
        "scalar": np.array(2.5, np.float32),
        "f16": enc.Dense(half.astype(np.float16)),
        "bf16": enc.Dense((half.view(np.uint32) >> 16).astype(np.uint16), bf16=True),
        "ohwi": enc.Dense(numbers(*SHAPE, salt=3), order="OHWI"),
        "empty": np.zeros((2, 0), np.float32),
        "bool": enc.Dense(codes(2, 5).astype(bool)),
    }
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "i8"):
        limits = np.iinfo(np.dtype(dtype))
        found[dtype] = enc.Dense(np.array([limits.min, limits.max, 0, 1, limits.max // 3], dtype))
    return found


def packed() -> dict[str, enc.Encoding | Array]:
    """Codes of every width, with and without sign."""
    found: dict[str, enc.Encoding | Array] = {}
    for bits in range(1, 33):
        for signed in (False, True):
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
            values = codes(high, 3, 5, low=low, salt=bits)
            values.reshape(-1)[:2] = [low, high - 1]
            scale = enc.Dense(np.array(2.0**-bits, np.float32))
            found[f"{'s' if signed else 'u'}{bits:02}"] = enc.Affine(
                enc.Packed.pack(values, bits, signed=signed), scale
            )
    return found


def scaled() -> dict[str, enc.Encoding | Array]:
    """Scales and zero points of a tensor, an axis, groups; tables; ternary numbers; signs; nested trees."""
    four, three, two = enc.Packed.pack(codes(16, *SHAPE), 4), codes(3, *SHAPE, salt=4), codes(2, *SHAPE, salt=5)
    per_tensor, per_channel = enc.Dense(np.array(0.125, np.float32)), enc.Dense(numbers(4, salt=6))
    nested = enc.Affine(enc.Packed.pack(codes(64, 4, salt=7), 6), per_tensor)
    groups = enc.Dense(numbers(4, 2, 3, 2, salt=8))
    return {
        "affine": enc.Affine(four, per_tensor),
        "affine axis": enc.Affine(four, per_channel, enc.Dense(np.array([0, 3, 7, 15], np.uint8)), axis=0),
        "affine group": enc.Affine(four, groups, enc.Packed.pack(codes(16, 4, 2, 3, 2, salt=9), 4), axis=1, group=2),
        "affine nested": enc.Affine(four, nested, axis=0),
        "affine ohwi": enc.Affine(four, per_channel, axis=0, order="OHWI"),
        "codebook": enc.Codebook(four, enc.Dense(numbers(16, salt=10))),
        "codebook axis": enc.Codebook(four, enc.Dense(numbers(3, 16, salt=11).astype(np.float16)), axis=1),
        "ternary": enc.Ternary(enc.Packed.pack(three, 2), per_tensor, per_tensor),
        "ternary axis": enc.Ternary(enc.Packed.pack(three, 2), per_channel, enc.Dense(numbers(4, salt=12)), axis=0),
        "signs": enc.Signs(enc.Packed.pack(two, 1), per_tensor),
        "signs axis": enc.Signs(enc.Packed.pack(two, 1), per_channel, axis=0),
    }


def gaps_of(mask: Array, largest: int) -> tuple[Array, Array]:
    """Gaps with fillers, and which entries they make."""
    gaps, entries, zeros = [], mask.copy(), 0
    for position, kept in enumerate(mask):
        if kept or zeros == largest:
            gaps.append(zeros)
            entries[position] = True
            zeros = 0
        else:
            zeros += 1
    return np.array(gaps), entries


def sparse() -> dict[str, enc.Encoding | Array]:
    """Every pattern with real values and with codes, and none and all kept."""
    found: dict[str, enc.Encoding | Array] = {}
    for name, odds in (("some", 3), ("none", 0), ("all", 10)):
        mask = codes(10, 6, 9, salt=13) < odds
        gaps, entries = gaps_of(mask.reshape(-1), 7)
        patterns = {
            "bitmap": (enc.Bitmap.of(mask), mask.reshape(-1)),
            "csr": (enc.Csr.of(mask), mask.reshape(-1)),
            "relative": (enc.RelativeIndex(enc.Packed.pack(gaps, 3)), entries),
        }
        for kind, (pattern, kept) in patterns.items():
            count = int(kept.sum())
            real = np.where(mask.reshape(-1)[kept], numbers(count, salt=14), 0).astype(np.float32)
            found[f"{kind} {name}"] = enc.Sparse(pattern, enc.Dense(real), (6, 9))
            if count:
                symbols = np.where(mask.reshape(-1)[kept], codes(8, count, low=1, salt=15), 0)
                table = np.concatenate([[0], numbers(7, salt=16)]).astype(np.float32)
                inner = enc.Sparse(pattern, enc.Huffman.code(symbols), (6, 9))
                found[f"{kind} {name} codebook"] = enc.Codebook(inner, enc.Dense(table))
    grid = codes(2, 3, 3, salt=19) == 1
    blocks = enc.Blocks.of(grid, 2, 3)
    found["blocks"] = enc.Sparse(blocks, enc.Dense(numbers(6 * int(grid.sum()), salt=20)), (6, 9))
    two = np.tile(np.array([True, False, False, True, False, True, True, False]), 6).reshape(4, 12)
    found["two of four"] = enc.Sparse(enc.NOfM.of(two, 2, 4), enc.Dense(numbers(24, salt=21)), (4, 12))
    return found


def huffman() -> dict[str, enc.Encoding | Array]:
    """One symbol, two, skewed lengths, a wide alphabet, more than one chunk."""
    one = enc.Dense(np.array(1, np.float32))
    skewed = np.minimum(np.bitwise_and(codes(2**20, 900, salt=17), -codes(2**20, 900, salt=17)), 255)
    many = np.minimum(codes(64, 66_000, salt=18), 3) % 3
    return {
        "one": enc.Affine(enc.Huffman.code(np.full((4, 5), 3)), one),
        "two": enc.Affine(enc.Huffman.code(codes(2, 9, 1, salt=19)), one),
        "skewed": enc.Affine(enc.Huffman.code(skewed), one),
        "wide": enc.Affine(enc.Huffman.code(codes(600, 2000, salt=20)), one),
        "chunks": enc.Affine(enc.Huffman.code(many), one),
    }


def few_bits() -> dict[str, enc.Encoding | Array]:
    """Sums of powers of two, trits, rANS with little and much to code, signed codes by a zero point."""
    one, per_channel = enc.Dense(np.array(1, np.float32)), enc.Dense(numbers(4, salt=29))
    shiftcnn = np.array([[1, -2, 2, 3, -3, 4, 6, -7, 0, 0], [0, -2, 0, 4, -7, -5, 7, 0, 0, 0]]).T
    skewed = np.minimum(np.bitwise_and(codes(2**20, 900, salt=17), -codes(2**20, 900, salt=17)), 255)
    signed = enc.Dense(np.array([128, 120, 131, 0], np.uint8))
    return {
        "pow2": enc.Pow2.of(shiftcnn, one, 4),
        "pow2 axis": enc.Pow2.of(codes(8, *SHAPE, 3, low=-7, salt=30), per_channel, 4, axis=0),
        "pow2 widest": enc.Pow2.of(codes(128, 5, 4, low=-127, salt=31), one, 8),
        "pow2 coded": enc.Pow2(enc.Rans.code(codes(8, *SHAPE, salt=32)), one, 1, 4, order="OHWI"),
        "trits": enc.Ternary(enc.Trits.pack(codes(3, *SHAPE, salt=33)), one, enc.Dense(np.array(0.75, np.float32))),
        "trits axis": enc.Ternary(enc.Trits.pack(codes(3, *SHAPE, salt=34)), per_channel, per_channel, axis=0),
        "rans one": enc.Affine(enc.Rans.code(np.full((4, 5), 3)), one),
        "rans two": enc.Affine(enc.Rans.code(codes(2, 9, 1, salt=19), 1), one),
        "rans skewed": enc.Affine(enc.Rans.code(skewed), one),
        "rans wide": enc.Affine(enc.Rans.code(codes(1200, 3000, salt=20)), one),
        "rans signed": enc.Affine(enc.Rans.code(codes(256, *SHAPE, salt=35)), per_channel, signed, axis=0),
        "chunks": enc.Affine(enc.Rans.code(np.minimum(codes(64, 66_000, salt=18), 3) % 3), one),
    }


def binary() -> dict[str, enc.Encoding | Array]:
    """Separable kernels of several sizes, sums of signs and of other nodes, random filters."""
    per_channel = enc.Dense(numbers(4, salt=36))

    def separable(height: int, width: int, salt: int) -> enc.SeparableSigns:
        column, row = (codes(2, 4, 3, size, salt=salt + size) for size in (height, width))
        return enc.SeparableSigns.pack((column[..., np.newaxis] == row[..., np.newaxis, :]).astype(np.uint8))

    def signs(salt: int, axis: int | None = None) -> enc.Signs:
        scale = enc.Dense(np.abs(numbers(4 if axis == 0 else 1, salt=salt)).reshape((4,) if axis == 0 else ()))
        return enc.Signs(enc.Packed.pack(codes(2, *SHAPE, salt=salt), 1), scale, axis)

    return {
        "separable 3x3": enc.Signs(separable(3, 3, 40), per_channel, axis=0),
        "separable 5x5": enc.Signs(separable(5, 5, 41), enc.Dense(np.array(0.5, np.float32))),
        "separable 1x7": enc.Signs(separable(1, 7, 42), per_channel, axis=0),
        "sum of signs": enc.Sum((signs(43, 0), signs(44, 0), signs(45))),
        "sum of others": enc.Sum((enc.Dense(numbers(*SHAPE, salt=46)), signs(47)), order="OHWI"),
        "seeded": enc.Seeded.of((8, 3, 3, 14), 0.5, 0),
        "seeded ohwi": enc.Seeded.of(SHAPE, 0.9, 2**63 - 1, order="OHWI"),
        "seeded dense": enc.Seeded.of((3, 5), 1.0, 7),
    }


def constants_network(name: str, constants: Mapping[str, enc.Encoding | Array]) -> bittern.Network:
    """A network that multiplies each real constant by a number; integers are only held."""
    net = bittern.Network(name)
    net.add_input("x", (1,))
    outputs = []
    for key, value in constants.items():
        net.add_constant(key, value)
        if (value.is_real if isinstance(value, enc.Encoding) else value.dtype.kind == "f") and key != "chunks":
            net.add_node("Mul", [key, "x"], [f"{key} times x"])
            outputs.append(f"{key} times x")
    net.set_outputs(outputs)
    return net


def layers_network() -> bittern.Network:
    """Layers whose weights are encoded in different ways, with what runs between them."""
    net = bittern.Network("layers")
    net.add_input("x", ("N", 1))
    weights: dict[str, enc.Encoding | Array] = {
        "w0": numbers(1, 72, salt=21),
        "w1": enc.Affine(
            enc.Packed.pack(codes(8, 5, 2, 3, 3, low=-8, salt=22), 4, signed=True),
            enc.Dense(np.array(0.125, np.float32)),
        ),
        "b1": numbers(5, salt=23),
        "w2": enc.Signs(enc.Packed.pack(codes(2, 5, 1, 3, 3, salt=24), 1), enc.Dense(np.array(0.25, np.float32))),
        "w3": enc.Codebook(enc.Huffman.code(codes(8, 7, 20, salt=25)), enc.Dense(numbers(8, salt=26))),
        "shape": np.array([0, 2, 6, 6], np.int64),
        "scale": enc.Dense(numbers(5, salt=27).astype(np.float16)),
    }
    for key, value in weights.items():
        net.add_constant(key, value)
    for key in ("shift", "mean"):
        net.add_constant(key, numbers(5, salt=len(key)))
    net.add_constant("variance", np.abs(numbers(5, salt=28)) + np.float32(1))
    net.add_node("MatMul", ["x", "w0"], ["flat"])
    net.add_node("Reshape", ["flat", "shape"], ["map"])
    net.add_node("Conv", ["map", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1])
    net.add_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"])
    net.add_node("Relu", ["n1"], ["r1"])
    net.add_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=5)
    net.add_node("Add", ["c2", "r1"], ["a2"])
    net.add_node("MaxPool", ["a2"], ["p2"], kernel_shape=[3, 3], strides=[3, 3])
    net.add_node("Flatten", ["p2"], ["f"])
    net.add_node("Gemm", ["f", "w3"], ["logits"], transB=1)
    net.add_node("Softmax", ["logits"], ["scores"])
    net.set_outputs(["scores", "logits"])
    return net


def networks() -> dict[str, bittern.Network]:
    """Every golden network by the name of its file."""
    groups = (dense, packed, scaled, sparse, huffman, few_bits, binary)
    named = {make.__name__: constants_network(make.__name__, make()) for make in groups}
    return {**named, "layers": layers_network()}


def input_of(name: str) -> Array:
    """The input of a file."""
    return INPUT if name == "layers" else INPUT[1]


def expected(nets: Mapping[str, bittern.Network]) -> dict[str, Array]:
    """Constants and outputs as the reference in NumPy has them, which shares nothing with the package."""
    found = {}
    for name, net in nets.items():
        twin = reference(net)
        for key, array in twin.constants.items():
            found[f"{name}/constant/{key}"] = array
        with np.errstate(all="ignore"):
            for key, array in run(twin, {"x": input_of(name)}).items():
                if key in {info.name for info in net.outputs}:
                    found[f"{name}/output/{key}"] = array
    return found


def files() -> dict[str, bytes]:
    """Name and content of every file of the folder."""
    nets = networks()
    packed_arrays = io.BytesIO()
    np.savez_compressed(packed_arrays, allow_pickle=False, **expected(nets))
    return {**{f"{name}.bittern": net.to_bytes() for name, net in nets.items()}, EXPECTED: packed_arrays.getvalue()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)
        print(f"{len(data):8}  {name}", file=sys.stderr)
