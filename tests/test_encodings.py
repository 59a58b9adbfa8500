"""Encoding trees: built, described, written to JSON and read back; streams; the native encoders."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bittern.container import Leaf
from bittern.encode import bitpack, huffman, lloyd, relative_index
from bittern.encodings import (
    Affine,
    Bitmap,
    Blocks,
    Codebook,
    Csr,
    Dense,
    Encoding,
    Huffman,
    NOfM,
    Packed,
    Pattern,
    RelativeIndex,
    Signs,
    Sparse,
    Ternary,
    from_json,
)
from bittern.errors import FormatError, InputError, ResourceError

from tests.compare import assert_equal, assert_same_bits

SHAPE = (4, 3, 2, 5)


def f32(*values: float) -> Dense:
    """A dense 1-D parameter."""
    return Dense(np.array(values, np.float32))


def scalar(value: float) -> Dense:
    """A dense parameter of the whole tensor."""
    return Dense(np.array(value, np.float32))


def codes(high: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    """Integers in 0 .. high - 1, the same each time."""
    return np.random.default_rng(high).integers(0, high, shape)


def trees() -> dict[str, tuple[Encoding, np.ndarray[Any, Any]]]:
    """Trees and the tensors that they stand for, computed from the text of the format."""
    q, signs = codes(16), codes(2)
    table = np.linspace(-1, 1, 16, dtype=np.float32)
    rows = np.stack([table * (row + 1) for row in range(3)]).astype(np.float32)
    scale, point = np.array([1, 2, 3, 4], np.float32), np.array([0, 5, 7, 9], np.uint8)
    column = (slice(None), None, None, None)
    grouped = np.arange(1, 1 + 4 * 3 * 2 * 3, dtype=np.float32).reshape(4, 3, 2, 3)
    mask = codes(3) == 0
    flat = np.flatnonzero(mask)
    packed = Packed.pack(q, 4)
    values = Packed.pack(q[mask], 4)
    rng = np.random.default_rng(0)
    grid, block = codes(2, (2, 3)) == 1, (2, 10)
    kept = np.repeat(np.repeat(grid, 2, axis=0), 10, axis=1).reshape(SHAPE)
    half = np.tile(np.array([True, False, False, True, False, False, True, False, False, True]), 12).reshape(SHAPE)
    weight = rng.standard_normal(SHAPE).astype(np.float32)
    bf16 = (weight.view(np.uint32) >> 16).astype(np.uint16)
    gaps = np.diff(flat, prepend=-1) - 1
    sparse_q = np.where(mask, q, 0)
    return {
        "dense": (Dense(weight), weight),
        "f16": (Dense(weight.astype(np.float16)), weight.astype(np.float16).astype(np.float32)),
        "bf16": (Dense(bf16, bf16=True), (bf16.astype(np.uint32) << 16).view(np.float32)),
        "ohwi": (Dense(weight, order="OHWI"), weight.transpose(0, 3, 1, 2)),
        "affine": (Affine(packed, scalar(0.5)), q.astype(np.float32) * np.float32(0.5)),
        "affine axis": (
            Affine(packed, Dense(scale), Dense(point), axis=0),
            scale[column] * (q - point.astype(np.int64)[column]).astype(np.float32),
        ),
        "affine group": (
            Affine(packed, Dense(grouped), axis=3, group=2),
            np.repeat(grouped, 2, axis=3)[..., :5] * q.astype(np.float32),
        ),
        "codebook": (Codebook(Huffman.code(q), Dense(table)), table[q]),
        "codebook axis": (
            Codebook(packed, Dense(rows), axis=1),
            np.stack([rows[c][q[:, c]] for c in range(3)], axis=1),
        ),
        "ternary": (
            Ternary(Packed.pack(codes(3), 2), Dense(scale), Dense(scale * 10), axis=0),
            np.select([codes(3) == 1, codes(3) == 2], [scale[column] + 0 * q, -10 * scale[column] + 0 * q], 0),
        ),
        "signs": (Signs(Packed.pack(signs, 1), scalar(3)), np.where(signs, 3, -3)),
        "bitmap": (Codebook(Sparse(Bitmap.of(mask), values, SHAPE), Dense(table)), table[sparse_q]),
        "csr": (Sparse(Csr.of(mask), Dense(weight[mask]), SHAPE), np.where(mask, weight, 0)),
        "blocks": (Sparse(Blocks.of(grid, *block), Dense(weight[kept]), SHAPE), np.where(kept, weight, 0)),
        "n of m": (
            Sparse(NOfM.of(half, 2, 5), Dense(weight[half]), SHAPE),
            np.where(half, weight, 0),
        ),
        "relative": (
            Affine(Sparse(RelativeIndex(Huffman.code(gaps)), values, SHAPE), scalar(2)),
            2 * sparse_q,
        ),
    }


TREES = trees()


def write(tree: Encoding) -> tuple[Any, dict[str, Leaf]]:
    """The JSON form and the leaves of a tree."""
    leaves: dict[str, Leaf] = {}

    def register(role: str, array: np.ndarray[Any, Any], dtype: str) -> str:
        name = f"w.{role}" if role else "w"
        assert name not in leaves
        leaves[name] = Leaf(array, dtype)
        return name

    return tree.to_json(register), leaves


@pytest.mark.parametrize("name", TREES)
def test_decode(name: str) -> None:
    tree, expected = TREES[name]
    assert tree.shape == expected.shape
    assert tree.decode().dtype == np.float32
    assert_equal(tree.decode(), expected.astype(np.float32), name)
    assert tree.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("name", TREES)
def test_json_round_trip(name: str) -> None:
    tree, _ = TREES[name]
    json, leaves = write(tree)
    used: set[str] = set()
    again = from_json(json, leaves, "here", used)
    assert used == set(leaves)
    assert again.describe() == tree.describe()
    assert again.nbytes == tree.nbytes == sum(leaf.array.nbytes for leaf in leaves.values())
    assert_same_bits(again.decode(), tree.decode(), name)
    assert write(again)[0] == json


def test_names_of_leaves_and_defaults() -> None:
    tree = TREES["relative"][0]
    json, leaves = write(tree)
    assert sorted(leaves) == ["w", "w.gaps", "w.gaps.lengths", "w.scale"]
    assert json["scale"] == "w.scale" and from_json("w.scale", leaves, "here").describe() == "dense"
    assert "axis" not in json and "order" not in json
    assert tree.describe() == "affine(sparse(relative_index(huffman), packed(4)))"
    assert TREES["csr"][0].describe() == "sparse(csr(dense(u8)), dense)"
    assert TREES["bf16"][0].describe() == "dense(bf16)"


def test_arrays_are_views_that_cannot_be_written() -> None:
    array = np.zeros((2, 3), np.float32)
    tree = Dense(array)
    assert np.shares_memory(tree.leaf, array)
    assert not tree.leaf.flags.writeable and array.flags.writeable
    turned = Dense(array.T)
    assert turned.leaf.flags.c_contiguous and turned.shape == (3, 2)
    assert Dense(np.float32(1)).shape == ()
    assert_equal(Dense(np.arange(3).astype(">f4")).decode(), np.arange(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Dense(np.zeros(3)), "F64"),
        (lambda: Dense(np.zeros(3, np.complex64)), "complex64"),
        (lambda: Affine(f32(1, 2), scalar(1)), "codes is real"),
        (lambda: Affine(Packed.pack(codes(2), 1), f32(1, 2)), "scale has shape"),
        (lambda: Affine(Packed.pack(codes(2), 1), f32(1, 2), axis=4), "axis is 4"),
        (lambda: Affine(Packed.pack(codes(2), 1), scalar(1), group=2), "needs an axis"),
        (lambda: Codebook(Packed.pack(codes(2), 1), scalar(1)), "table has shape"),
        (lambda: Packed(np.zeros(3, np.uint8), 4, (8,)), "3 bytes"),
        (lambda: Packed.pack(np.array([4]), 2), "do not fit"),
        (lambda: Packed.pack(np.array([-3]), 2, signed=True), "do not fit"),
        (lambda: Huffman.code(np.zeros(0, np.int64)), "at least one symbol"),
        (lambda: Sparse(Bitmap.of(np.ones(4, bool)), f32(1), (5,)), "mask has 4"),
        (lambda: Sparse(RelativeIndex(Packed.pack(codes(2, (3,)), 1)), f32(1), (9,)), "3 entries"),
        (lambda: Sparse(Csr.of(np.ones((2, 2), bool)), f32(1, 2, 3, 4), ()), "no rows"),
        (lambda: Dense(np.zeros(3, np.float32), order="OHWI"), "four dimensions"),
        (lambda: Dense(np.zeros(SHAPE, np.float32), order="HWIO"), "order is"),
        (lambda: Codebook(Dense(codes(2), order="OHWI"), f32(0, 1)), "only the root"),
    ],
)
def test_trees_that_cannot_be(build: Callable[[], Encoding], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        build()


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Codebook(Packed.pack(codes(4), 2), f32(0, 1, 2)), "outside 0..2"),
        (lambda: Codebook(Dense(np.array([-1], np.int8)), f32(0, 1)), "code -1"),
        (lambda: Sparse(RelativeIndex(Packed.pack(np.array([3, 3]), 2)), f32(1, 2), (7,)), "position 7"),
        (lambda: Sparse(Bitmap.of(np.ones(4, bool)), f32(1), (4,)), "4 entries"),
        (lambda: Packed(np.array([255], np.uint8), 3, (2,)), "spare bits"),
        (lambda: Sparse(Csr(Dense(np.array([0, 2])), Dense(np.array([1, 1]))), f32(1, 2), (1, 4)), "increase"),
        (lambda: Sparse(Csr(Dense(np.array([0, 1])), Dense(np.array([4]))), f32(1), (1, 4)), "outside 0..3"),
        (lambda: Sparse(Csr(Dense(np.array([1, 1])), Dense(np.array([3]))), f32(1), (1, 4)), "rise from 0"),
    ],
)
def test_values_that_do_not_decode(build: Callable[[], Encoding], problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        build().decode()


def test_no_memory_is_an_error_of_its_own() -> None:
    tree = Sparse(RelativeIndex(Packed.pack(np.array([1]), 2)), f32(1), (2**24, 2**24))
    with pytest.raises(ResourceError, match="no memory"):
        tree.decode()


@pytest.mark.parametrize("signed", [False, True])
def test_packed_streams(rng: np.random.Generator, signed: bool) -> None:
    for bits in range(1, 33):
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
        for n in (0, 1, 7, 64, 1001):
            given = rng.integers(low, high, n)
            packed = Packed.pack(given, bits, signed=signed)
            assert packed.nbytes == -(-n * bits // 8)
            assert_equal(packed.decode().astype(np.int64), given, f"{bits} bits, {n} codes")


def test_packing_order() -> None:
    """Least significant bit first: the first of two 4-bit codes is the low half of the byte."""
    assert Packed.pack(np.array([1, 2, 3]), 4).leaf.tolist() == [0x21, 0x03]


@pytest.mark.parametrize("n", [1, 2, 65535, 65536, 65537, 131072, 200001])
def test_huffman_round_trip(rng: np.random.Generator, n: int) -> None:
    symbols = np.minimum(rng.geometric(0.2, n) - 1, 40)
    tree = Huffman.code(symbols)
    assert_equal(tree.decode().astype(np.int64), symbols)
    assert (tree.offsets is None) == (n <= huffman.CHUNK)


def test_huffman_lengths_are_optimal_and_limited(rng: np.random.Generator) -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 30:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    for counts in (fibonacci, [5], [0, 0, 3], [1] * 256, rng.integers(0, 1000, 300).tolist()):
        lengths = huffman.code_lengths(counts)
        used = lengths[lengths > 0].astype(int)
        assert used.max() <= huffman.MAX_LENGTH
        assert [length > 0 for length in lengths] == [count > 0 for count in counts]
        assert used.size == 1 or sum(2.0**-used) == 1
        bits = int(np.dot(counts, lengths))
        total = sum(counts)
        entropy = -sum(count * np.log2(count / total) for count in counts if count)
        assert entropy <= bits + 1e-6 and (bits < entropy + total or used.size == 1)
    # Without the limit the rarest of these would take 29 bits.
    lengths = huffman.code_lengths(fibonacci)
    assert (np.diff(lengths.astype(int)) <= 0).all()


def test_huffman_known_code() -> None:
    """Lengths 1, 2, 3, 3 give the codes 0, 10, 110, 111, written from the most significant bit on."""
    tree = Huffman.code(np.array([0, 0, 0, 0, 1, 1, 2, 3]))
    assert tree.lengths.tolist() == [1, 2, 3, 3]
    assert tree.length == 14
    assert tree.leaf.tolist() == [0b00001010, 0b11011100]


def test_huffman_damage_is_found(rng: np.random.Generator) -> None:
    tree = Huffman.code(rng.integers(0, 5, 100))
    lengths = tree.lengths
    for change, problem in (
        ({"lengths": np.array([1, 1, 1], np.uint8)}, "prefix code"),
        ({"lengths": np.array([16, 1], np.uint8)}, "at most 15"),
        ({"dims": (99,)}, "end at bit|spare bits"),
        ({"dims": (101,)}, "end at bit"),
    ):
        parts: dict[str, Any] = {"leaf": tree.leaf, "lengths": lengths, "length": tree.length, "dims": (100,)}
        with pytest.raises(FormatError, match=problem):
            Huffman(**{**parts, **change}).decode()
    with pytest.raises(ValueError, match="no code"):
        huffman.encode(np.array([0, 3], np.uint32), np.array([1, 1, 0, 0], np.uint8))
    with pytest.raises(ValueError, match="no code"):
        huffman.decode(np.array([0x80], np.uint8), 1, np.array([1], np.uint8), 1)


def test_relative_index_golden() -> None:
    """Non-zeros at 0, 3, 19, 20, 53, 59 of 60, gaps of four bits: two fillers bridge the run before 53."""
    positions = np.array([0, 3, 19, 20, 53, 59], np.int64)
    gaps, sources = relative_index.encode(positions, 4)
    assert list(zip(gaps.tolist(), (sources + 1).tolist(), strict=True)) == [
        (0, 1), (2, 2), (15, 3), (0, 4), (15, 0), (15, 0), (0, 5), (5, 6),
    ]  # fmt: skip
    assert relative_index.decode(gaps, 60).tolist() == [0, 3, 19, 20, 36, 52, 53, 59]
    with pytest.raises(ValueError, match="position 59"):
        relative_index.decode(gaps, 59)


def test_relative_index_refuses_disorder() -> None:
    for positions in ([3, 3], [5, 4], [-1]):
        with pytest.raises(ValueError, match="strictly increase"):
            relative_index.encode(np.array(positions, np.int64), 4)


def test_native_encoders_check_their_arguments() -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 32"):
        bitpack.pack(np.zeros(1, np.uint32), 33)
    with pytest.raises(ValueError, match="exactly"):
        bitpack.unpack(np.zeros(1, np.uint8), 3, 4)
    with pytest.raises(ValueError, match="at least one"):
        lloyd.lloyd(np.zeros(0, np.float32), 2)


def test_lloyd_finds_clusters() -> None:
    values = np.array([-3, -2.9, -2.8, 1, 1.1, 5], np.float32)
    centroids, ends = lloyd.lloyd(values, 3)
    assert ends.tolist() == [3, 5, 6]
    np.testing.assert_allclose(centroids, [-2.9, 1.05, 5], rtol=1e-6)


def test_lloyd_keeps_the_centroid_of_an_empty_cluster() -> None:
    centroids, ends = lloyd.lloyd(np.array([0, 0, 10], np.float32), 5)
    assert centroids.tolist() == [0, 2.5, 5, 7.5, 10]
    assert ends.tolist() == [2, 2, 2, 2, 3]
    centroids, ends = lloyd.lloyd(np.array([1, 2, 6], np.float32), 1)
    assert centroids.tolist() == [3] and ends.tolist() == [3]


def test_lloyd_matches_a_plain_implementation(rng: np.random.Generator) -> None:
    values = np.sort(rng.laplace(size=2000)).astype(np.float32)
    k = 13
    centroids = np.linspace(float(values[0]), float(values[-1]), k)
    before = None
    for _ in range(50):
        assigned = np.argmin(np.abs(values[:, None].astype(np.float64) - centroids), axis=1)
        if before is not None and (assigned == before).all():
            break
        before = assigned
        for j in range(k):
            if (assigned == j).any():
                centroids[j] = values[assigned == j].astype(np.float64).mean()
    found, ends = lloyd.lloyd(values, k)
    np.testing.assert_allclose(found, centroids, rtol=1e-9)
    assert_equal(np.diff(ends, prepend=0), np.bincount(assigned, minlength=k))


def test_patterns_are_no_constants() -> None:
    pattern: Pattern = Bitmap.of(np.ones(3, bool))
    json = pattern.to_json(lambda role, array, dtype: "leaf")
    with pytest.raises(FormatError, match="cannot be a constant"):
        from_json(json, {"leaf": Leaf(np.array([7], np.uint8), "U8")}, "here")


def test_depth_is_limited() -> None:
    tree: Encoding = Packed.pack(np.ones(1, np.int64), 1)
    with pytest.raises(InputError, match="deep"):
        for _ in range(9):
            tree = Sparse(Bitmap(Sparse(Bitmap(tree), Packed.pack(np.ones(1, np.int64), 1), (1,))), tree, (1,))
