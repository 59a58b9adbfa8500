"""The encodings of few bits: sums of powers of two, trits, rANS; and tables that layers share."""

import contextlib
from collections.abc import Callable
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.container import Leaf
from bittern.encode import rans
from bittern.encodings import Affine, Codebook, Dense, Encoding, Huffman, Packed, Pow2, Rans, Ternary, Trits, from_json
from bittern.errors import FormatError, InputError

from tests import binary_samples
from tests.compare import assert_equal, assert_same_bits
from tests.encoding_samples import Samples, pow2_samples, rans_samples, trits_samples
from tests.rawfile import RawLeaf, assemble, product_graph
from tests.reference.arrays import Array
from tests.reference.container import Leaf as StoredLeaf
from tests.reference.decoders import decode, spelled
from tests.tools.write_seeds import leaves_of


def scalar(value: float) -> Dense:
    """A dense parameter of the whole tensor."""
    return Dense(np.array(value, np.float32))


def engine_reads(tree: Encoding) -> Array:
    """The constant as the engine decodes it from a file, which the package reads and writes again to the same bytes."""
    net = bittern.Network("one")
    net.add_input("x", (1,))
    net.add_constant("w", tree)
    net.add_node("Relu", ["x"], ["y"])
    net.set_outputs(["y"])
    data = net.to_bytes()
    again = bittern.Network.load(data)
    assert again.constants["w"].describe() == tree.describe()
    assert again.to_bytes() == data
    return bittern.load(data).constant("w")


def entropy_bytes(codes: Array) -> float:
    """The zero-order entropy of all codes together."""
    counts = np.bincount(codes.reshape(-1))
    counts = counts[counts > 0]
    return float(counts @ -np.log2(counts / codes.size)) / 8


GOLDEN_WEIGHTS = [1, -0.7, 0.5, 0.3, -0.26, 0.1, 0.04, -0.02, 0.003, 0]
GOLDEN_LEVELS = np.array([[1, -2, 2, 3, -3, 4, 6, -7, 0, 0], [0, -2, 0, 4, -7, -5, 7, 0, 0, 0]]).T
GOLDEN_VALUES = [1, -0.75, 0.5, 0.3125, -0.2578125, 0.09375, 0.0390625, -0.015625, 0, 0]


def test_the_published_codes_of_shiftcnn() -> None:
    """Two terms of four bits; the values are those of the released script of arXiv 1706.02393."""
    tree = Pow2.of(GOLDEN_LEVELS, scalar(1), 4)
    assert tree.codes.decode().tolist()[:5] == [0x01, 0xAA, 0x02, 0x43, 0xFB]
    assert tree.decode().tolist() == GOLDEN_VALUES
    assert_equal(tree.levels(), GOLDEN_LEVELS.astype(np.int16))
    assert_same_bits(engine_reads(tree), tree.decode(), "engine")
    # Each stage that does not saturate leaves at most a third of what it was given.
    errors = np.abs(np.array(GOLDEN_VALUES) - GOLDEN_WEIGHTS)
    assert (errors <= np.maximum(np.abs(GOLDEN_WEIGHTS) / 9, 1.5 * 2.0 ** (1 - 2 - 7))).all()


def test_logarithmic_weights_are_one_term() -> None:
    """LogQuant of arXiv 1609.07061 with 4 bits and exponents -5 .. 1."""
    exponents = np.array([1, 0, -1, -4, -5])
    tree = Pow2.of(np.stack([1 - exponents + 1, exponents - 2], axis=1)[..., None], scalar(2), 4)
    assert_equal(tree.decode(), np.stack([2.0**exponents, -(2.0**exponents)], axis=1).astype(np.float32))
    assert tree.codes.describe() == "packed(4)"


def test_pow2_every_level_and_axis(rng: np.random.Generator) -> None:
    for terms, bits in ((1, 2), (1, 8), (2, 4), (3, 5), (4, 8)):
        most = 2 ** (bits - 1) - 1
        levels = rng.integers(-most, most + 1, (3, 200, terms))
        levels[0, :2] = [[most] * terms, [-most] * terms]
        scale = rng.standard_normal(3).astype(np.float32)
        tree = Pow2.of(levels, Dense(scale), bits, axis=0)
        exact = np.where(levels, np.sign(levels) * 2.0 ** (1.0 - np.arange(terms) - np.abs(levels)), 0)
        total = np.zeros((3, 200), np.float32)
        for n in range(terms):
            total = total + exact[..., n].astype(np.float32)
        if terms == 1 or bits <= 5:
            assert_equal(total.astype(np.float64), exact.sum(axis=-1), "the sum is exact")
        assert_same_bits(tree.decode(), scale[:, None] * total, f"{terms} terms of {bits} bits")
        assert_same_bits(engine_reads(tree), tree.decode(), f"{terms} terms of {bits} bits, engine")
        assert_equal(tree.levels().astype(np.int64), levels)
        assert tree.nbytes == levels[..., 0].size * terms * bits / 8 + 12


def test_pow2_refusals() -> None:
    one = np.ones((2, 3), np.int64)
    cases: list[tuple[Callable[[], Pow2], str]] = [
        (lambda: Pow2.of(one, scalar(1), 9), "3 terms of 9 bits"),
        (lambda: Pow2.of(np.ones((2, 5)), scalar(1), 4), "5 terms of 4 bits"),
        (lambda: Pow2.of(np.array(3), scalar(1), 4), "0 terms"),
        (lambda: Pow2.of(one * -8, scalar(1), 4), "levels -8..-8 do not fit"),
        (lambda: Pow2.of(one, scalar(1), 4, axis=1), "axis is 1"),
        (lambda: Pow2(Packed.pack(one, 4), scalar(1), 0, 4), "terms is 0"),
        (lambda: Pow2(Packed.pack(one, 4), scalar(1), 1, 1), "bits is 1"),
        (lambda: Pow2(scalar(1), scalar(1), 1, 4), "codes is real"),
    ]
    for build, problem in cases:
        with pytest.raises(InputError, match=problem):
            build()
    for codes, problem in (([8], "minus zero"), ([16], "outside 0..15"), ([-1], "code -1")):
        with pytest.raises(FormatError, match=problem):
            Pow2(Dense(np.array(codes)), scalar(1), 1, 4).decode()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 6, 999, 1000])
def test_trits(rng: np.random.Generator, n: int) -> None:
    codes = rng.integers(0, 3, n)
    trits = Trits.pack(codes)
    assert trits.nbytes == -(-n // 5)
    assert_equal(trits.decode().astype(np.int64), codes)
    tree = Ternary(trits, scalar(0.5), scalar(2))
    assert_same_bits(engine_reads(tree), np.array([0, 0.5, -2], np.float32)[codes], "engine")
    assert tree.describe() == "ternary(trits)"


def test_trits_known_bytes_and_refusals() -> None:
    assert Trits.pack(np.array([1, 0, 2, 0, 0, 2, 1])).leaf.tolist() == [0x13, 0x05]
    assert Trits.pack(np.full((2, 5), 2)).leaf.tolist() == [242, 242]
    with pytest.raises(InputError, match=r"do not fit 0\.\.2"):
        Trits.pack(np.array([0, 3]))
    with pytest.raises(InputError, match="take 2"):
        Trits(np.zeros(1, np.uint8), (6,))
    with pytest.raises(FormatError, match="above 242"):
        Trits(np.array([243], np.uint8), (5,)).decode()
    with pytest.raises(FormatError, match="spare trits"):
        Trits(np.array([9], np.uint8), (2,)).decode()


def symbols_of(kind: str, n: int, rng: np.random.Generator) -> Array:
    """Codes of a named distribution."""
    made: dict[str, Callable[[], Array]] = {
        "one symbol": lambda: np.full(n, 7),
        "two symbols": lambda: rng.integers(0, 2, n),
        "ternary": lambda: rng.choice(3, n, p=[0.6, 0.25, 0.15]),
        "flat bytes": lambda: rng.integers(0, 256, n),
        "laplace bytes": lambda: np.clip(np.rint(rng.laplace(0, 6, n)), -128, 127).astype(np.int64) + 128,
        "geometric": lambda: np.minimum(rng.geometric(0.5, n) - 1, 40),
        "mostly zero": lambda: np.where(rng.random(n) < 0.9, 0, rng.integers(1, 256, n)),
        "very skewed": lambda: np.minimum(rng.geometric(0.95, n) - 1, 5),
        "3000 symbols": lambda: np.minimum(rng.geometric(0.003, n) - 1, 2999),
        "20000 symbols": lambda: rng.integers(0, 20000, n),
    }
    return made[kind]()


KINDS = (
    "one symbol", "two symbols", "ternary", "flat bytes", "laplace bytes", "geometric", "mostly zero", "very skewed",
    "3000 symbols", "20000 symbols",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_rans_takes_what_the_entropy_says(rng: np.random.Generator, kind: str) -> None:
    """Within 1 % and 64 bytes for a million codes, without the table of frequencies and the offsets of chunks."""
    codes = symbols_of(kind, 1_000_000, rng)
    coded = Rans.code(codes)
    assert_equal(coded.decode().astype(np.int64), codes)
    if kind == "one symbol":
        assert coded.leaf.tolist() == [0, 1, 0, 1] * 16  # the states alone
    else:
        assert coded.leaf.nbytes <= 1.01 * entropy_bytes(codes) + 64
    assert coded.offsets is not None and coded.offsets.size == 16


@pytest.mark.parametrize("n", [1, 2, 3, 65535, 65536, 65537, 131073])
def test_rans_round_trip(rng: np.random.Generator, n: int) -> None:
    for kind in ("one symbol", "two symbols", "laplace bytes"):
        codes = symbols_of(kind, n, rng)
        coded = Rans.code(codes)
        assert (coded.offsets is None) == (n <= rans.CHUNK)
        assert_equal(coded.decode().astype(np.int64), codes, kind)
        assert coded.leaf.tobytes() == Rans.code(codes.copy()).leaf.tobytes()
        tree = Affine(coded, scalar(1))
        assert_same_bits(engine_reads(tree), codes.astype(np.float32), f"{kind}, engine")


def test_rans_with_every_width(rng: np.random.Generator) -> None:
    for bits in range(1, 16):
        codes = np.minimum(rng.geometric(0.5, (20, 30)) - 1, 2**bits - 1)
        coded = Rans.code(codes, bits)
        assert int(coded.frequencies.astype(np.int64).sum()) == 2**bits
        assert_equal(coded.decode().astype(np.int64), codes)
        assert_same_bits(engine_reads(Affine(coded, scalar(1))), codes.astype(np.float32), f"{bits} bits")


def test_rans_known_stream() -> None:
    """Frequencies 3 and 1 of 4, coded by hand: the second symbol of state 0 first, its frequency 3 in slots 0 to 2."""
    coded = Rans.code(np.array([0, 1, 0, 0]), 2)
    assert coded.frequencies.tolist() == [3, 1]
    # State 0 takes 0, 0: 65536 -> 4 * 21845 + 1 = 87381 -> 4 * 29127 = 116508.
    # State 1 takes 1, 0, the last one first: 65536 -> 87381 -> 4 * 87381 + 3 = 349527.
    assert coded.leaf.tolist() == [116508 % 65536, 1, 349527 % 65536, 349527 // 65536]


def test_frequencies() -> None:
    for counts, bits in (([1], 15), ([1, 0, 10**9], 15), ([1] * 4096, 12), ([5, 1, 1, 1], 2), ([3, 1000, 3, 3], 3)):
        found = rans.frequencies(counts, bits)
        assert int(found.astype(np.int64).sum()) == 2**bits
        assert [int(f) > 0 for f in found] == [count > 0 for count in counts]
    assert rans.frequencies([10, 20, 30, 4], 6).tolist() == [10, 20, 30, 4]
    assert rans.frequencies([1, 1, 1], 4).tolist() == [6, 5, 5]  # equal symbols: the first takes what is over
    for counts, bits in (([1] * 5, 2), ([0, 0], 4), ([1], 0), ([1], 16)):
        with pytest.raises(ValueError, match=r"symbols cannot share|allowed are"):
            rans.frequencies(counts, bits)


def test_rans_refusals(rng: np.random.Generator) -> None:
    for codes in (np.zeros(0, np.int64), np.array([-1]), np.array([32768])):
        with pytest.raises(InputError, match="none outside"):
            Rans.code(codes)
    with pytest.raises(InputError, match="cannot share"):
        Rans.code(np.arange(5), 2)
    good = Rans.code(rng.integers(0, 5, 100))
    changed = good.leaf.copy()
    changed[-1] ^= 1
    parts: dict[str, Any] = {"leaf": good.leaf, "frequencies": good.frequencies, "bits": 14, "dims": (100,)}
    for change, problem in (
        ({"frequencies": good.frequencies[:-1]}, "frequencies sum"),
        ({"leaf": changed}, "first state|left over|ends inside"),
        ({"leaf": good.leaf[:-1]}, "ends inside"),
        ({"leaf": np.append(good.leaf, np.uint16(0))}, "left over"),
        ({"leaf": np.zeros(8, np.uint16)}, "state 0 of chunk 0"),
        ({"dims": (0,)}, "cannot stand"),
    ):
        with pytest.raises(FormatError, match=problem):
            Rans(**{**parts, **change}).decode()
    for change, problem in (
        ({"bits": 16}, "bits is 16"),
        ({"dims": (2**40,)}, "cannot stand"),
        ({"dims": (70000,), "leaf": np.zeros(8, np.uint16)}, "need offsets"),
        ({"offsets": np.zeros(1, np.uint32)}, "have no offsets"),
        ({"frequencies": np.zeros(32769, np.uint16)}, "at most 32768"),
    ):
        with pytest.raises(InputError, match=problem):
            Rans(**{**parts, **change})
    with pytest.raises(ValueError, match="has no frequency"):
        rans.encode(np.array([0, 2], np.uint32), np.array([1, 1, 0], np.uint16), 1)
    with pytest.raises(ValueError, match="has no frequency"):
        rans.encode(np.array([3], np.uint32), np.array([1, 1, 0], np.uint16), 1)


def test_json_round_trip(rng: np.random.Generator) -> None:
    codes = rng.integers(0, 3, (4, 5))
    for tree in (
        Pow2(Rans.code(codes), Dense(np.ones(5, np.float32)), 1, 3, 1),
        Ternary(Trits.pack(codes), scalar(1), scalar(2)),
        Affine(Rans.code(rng.integers(0, 9, 70_000)), scalar(1)),
    ):
        leaves: dict[str, Leaf] = {}

        def register(role: str, array: Array, dtype: str, leaves: dict[str, Leaf] = leaves) -> str:
            leaves[role] = Leaf(array, dtype)
            return role

        json = tree.to_json(register)
        again = from_json(json, leaves, "here")
        assert again.describe() == tree.describe() and again.nbytes == tree.nbytes
        assert_same_bits(again.decode(), tree.decode())


@pytest.mark.parametrize("stream", ["packed", "huffman", "rans"])
def test_signed_codes_of_every_stream(rng: np.random.Generator, stream: str) -> None:
    """Entropy-coded symbols are unsigned: signed codes are shifted, and the zero point with them."""
    codes = rng.integers(-128, 128, (6, 50))
    zero_point = rng.integers(-128, 128, 6)
    scale = rng.standard_normal(6).astype(np.float32)
    shifted = codes + 128
    made: dict[str, Callable[[], Encoding]] = {
        "packed": lambda: Packed.pack(shifted, 8),
        "huffman": lambda: Huffman.code(shifted),
        "rans": lambda: Rans.code(shifted),
    }
    tree = Affine(made[stream](), Dense(scale), Dense((zero_point + 128).astype(np.uint8)), axis=0)
    signed = Affine(Packed.pack(codes, 8, signed=True), Dense(scale), Dense(zero_point.astype(np.int8)), axis=0)
    assert_same_bits(tree.decode(), signed.decode(), stream)
    assert_same_bits(engine_reads(tree), signed.decode(), f"{stream}, engine")


def test_a_table_of_all_layers_is_written_once(rng: np.random.Generator) -> None:
    """One leaf for the codebook that several layers share; the reader shares it again."""
    table = Dense(rng.standard_normal(256).astype(np.float32))
    net = bittern.Network("shared")
    net.add_input("x", (1, 64))
    value = "x"
    for i in range(3):
        net.add_constant(f"w{i}", Codebook(Rans.code(rng.integers(0, 256, (64, 64))), table))
        net.add_node("MatMul", [value, f"w{i}"], [f"y{i}"])
        value = f"y{i}"
    net.set_outputs([value])
    data = net.to_bytes()
    again = bittern.Network.load(data)
    tables = [next(tree.table.leaves()) for tree in again.constants.values() if isinstance(tree, Codebook)]
    assert len(tables) == 3 and all(np.shares_memory(tables[0], other) for other in tables[1:])
    assert again.to_bytes() == data
    leaves = sum(tree.codes.nbytes for tree in net.constants.values() if isinstance(tree, Codebook))
    assert len(data) < leaves + 1024 + 2048, "the table is in the file more than once"
    model = bittern.load(data)
    for name, tree in net.constants.items():
        assert_same_bits(model.constant(name), tree.decode(), name)


def by_engine(file: bytes) -> Array:
    """The constant `w` as the engine decodes it."""
    return bittern.load(file).constant("w")


def by_package(file: bytes) -> Array:
    """The constant `w` as the package decodes it."""
    return bittern.Network.load(file).constants["w"].decode()


def test_damage_is_judged_alike(rng: np.random.Generator) -> None:
    """Bytes changed at random: both readers refuse, or both decode to the same numbers."""
    samples = Samples()
    for add in (pow2_samples, trits_samples, rans_samples, binary_samples.separable, binary_samples.sums):
        add(samples, rng)
    names = [name for name in samples.constants if "chunk" not in name and "most" not in name]
    accepted = refused = 0
    for _ in range(400):
        tree = samples.constants[names[int(rng.integers(len(names)))]]
        leaves = {name: samples.leaves[name] for name in leaves_of(spelled(tree))}
        shape = decode(tree, {name: StoredLeaf(raw.dtype, raw.shape, raw.data) for name, raw in leaves.items()}).shape
        changed = str(rng.choice([name for name, raw in leaves.items() if raw.data] or [*leaves]))
        data = bytearray(leaves[changed].data)
        for at in rng.integers(0, max(len(data), 1), int(rng.integers(1, 3))) if data else []:
            data[at] = int(rng.choice([0, 1, 255, data[at] ^ 1, int(rng.integers(256))]))
        leaves[changed] = RawLeaf(leaves[changed].dtype, leaves[changed].shape, bytes(data))
        file = assemble(product_graph(tree, shape), leaves)
        found: list[Array] = []
        for read in (by_engine, by_package):
            with contextlib.suppress(bittern.FormatError), np.errstate(all="ignore"):
                found.append(read(file))
        assert len(found) != 1, f"{changed} of {tree}: one reader alone accepts {bytes(data)!r}"
        if found:
            assert_same_bits(found[0], found[1], str(tree))
            accepted += 1
        else:
            refused += 1
    assert accepted > 30 and refused > 30
