"""Compression recipes: exactness where promised, sizes, determinism, options, reports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.deep_compression import DeepCompression, encode
from bittern.compression.kmeans import codebook
from bittern.compression.magnitude import prune
from bittern.compression.streams import coded_bytes, packed_bytes, smallest, smallest_affine, stream_bytes
from bittern.encode import relative_index
from bittern.encodings import Codebook, Dense, Huffman, Packed, Rans, RelativeIndex, Sparse
from bittern.errors import InputError
from bittern.importers import convert
from bittern.network import Network

from tests.compare import assert_equal, assert_same_bits
from tests.reference.arrays import Array


def network(*weights: Array) -> Network:
    """A chain of fully connected layers, ``w0`` in node ``fc0`` and so on."""
    net = Network("chain")
    net.add_input("x", ["N", weights[0].shape[1]])
    value = "x"
    for index, weight in enumerate(weights):
        net.add_constant(f"w{index}", weight)
        net.add_constant(f"b{index}", np.ones(weight.shape[0], np.float32))
        net.add_node("Gemm", [value, f"w{index}", f"b{index}"], [f"y{index}"], f"fc{index}", transB=1)
        value = f"y{index}"
    net.set_outputs([value])
    return net


def laplace(rng: np.random.Generator, shape: tuple[int, ...], density: float = 1.0) -> Array:
    """Weights as trained ones are distributed, with zeros if asked."""
    weight = rng.laplace(scale=0.05, size=shape).astype(np.float32)
    return np.where(rng.random(shape) < density, weight, np.float32(0))


def test_squeezenet_is_small_and_exact(shared_data: Path) -> None:
    """Smaller than the authors' own file, every weight bit for bit the same, the same bytes twice."""
    path = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    original, small = convert(path), compress(path)
    data = small.to_bytes()
    assert len(data) <= 575_000 < 675_763
    assert compress(path).to_bytes() == data
    again = Network.load(data)
    for name, tree in original.constants.items():
        assert_same_bits(again.constants[name].decode(), tree.decode(), name)
    summary = small.summary()
    assert all(row.error == 0 for row in summary.rows if row.is_weight)
    assert summary.file_bytes == len(data)
    assert len(compress(path, index_bits=4).to_bytes()) >= len(data)


def test_fuzz_encode_decode(rng: np.random.Generator) -> None:
    """1000 tensors of any density, code and gap width come back exactly."""
    for _ in range(1000):
        shape = tuple(int(size) for size in rng.integers(1, 12, int(rng.integers(1, 5))))
        bits = int(rng.integers(2, 9))
        values = rng.standard_normal(2**bits - 1).astype(np.float32)
        keep = rng.random(shape) < rng.random() ** int(rng.integers(1, 4))
        weight = np.where(keep, rng.choice(values, shape), np.float32(0))
        positions = np.flatnonzero(weight).astype(np.int64)
        table, codes, exact = codebook(weight.reshape(-1)[positions], 2**bits - 1)
        assert exact
        tree = encode(shape, positions, codes + np.uint32(1), table, int(rng.integers(2, 9)))
        assert_same_bits(tree.decode(), weight)


@pytest.mark.parametrize("density", [0.0, 1e-4, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("bits", [2, 8])
def test_forms_at_every_density(rng: np.random.Generator, density: float, bits: int) -> None:
    values = rng.standard_normal(2**bits - 1).astype(np.float32)
    weight = np.where(rng.random((64, 1024)) < density, rng.choice(values, (64, 1024)), np.float32(0))
    made = compress(network(weight), bits=bits)
    tree = made.constants["w0"]
    assert_same_bits(tree.decode(), weight)
    bound = weight.size * (bits * density + (1 if 0.05 < density < 0.95 else 0.1)) / 8 + 2000
    assert tree.nbytes <= bound
    assert Network.load(made.to_bytes()).constants["w0"].describe() == tree.describe()
    assert isinstance(tree, Codebook)
    if 1e-4 <= density <= 0.1:
        # Fractions of bits hold zeros as well as gaps do, so the form of the paper is no smaller.
        positions = np.flatnonzero(weight).astype(np.int64)
        table, codes, _ = codebook(weight.reshape(-1)[positions], 2**bits - 1)
        gaps, sources = relative_index.encode(positions, 4)
        entries = np.where(sources < 0, np.uint32(0), codes[sources] + np.uint32(1))
        published = Sparse(RelativeIndex(smallest(gaps, 4)), smallest(entries), weight.shape)
        whole = Codebook(published, Dense(np.concatenate([np.zeros(1, np.float32), table])))
        assert_same_bits(whole.decode(), weight)
        assert tree.nbytes <= whole.nbytes
        assert tree.table.decode()[0] == 0
    if density == 1:
        assert not isinstance(tree.codes, Sparse)


def test_streams_take_the_smallest_form(rng: np.random.Generator) -> None:
    """What is estimated is about what is written; of equally small forms the simpler one is taken."""
    seen = set()
    for n in (0, 1, 50, 1000, 70_000):
        for high in (1, 2, 3, 16, 200, 256):
            for skew in (1, 8):
                codes = np.floor(high * rng.random((n, 1)) ** skew).astype(np.uint32)
                made = smallest(codes)
                assert_equal(made.decode().astype(np.uint32), codes)
                seen.add(type(made))
                if n == 0:
                    assert made.describe() == "packed(1)"
                    continue
                by_huffman, by_rans = coded_bytes(codes)
                width = max(int(codes.max()).bit_length(), 1)
                exact = [Packed.pack(codes, width).nbytes, Huffman.code(codes).nbytes, Rans.code(codes).nbytes]
                leaves = [1, 2 + (n > 65536) / 2, 2 + (n > 65536) / 2]
                estimates = np.array([packed_bytes(n, width), by_huffman, by_rans]) - 112 * np.array(leaves)
                assert estimates[0] == exact[0]
                assert 0 <= estimates[1] - exact[1] <= n // 65536
                assert abs(estimates[2] - exact[2]) <= 16 + 0.001 * exact[2]
                best = (Packed, Huffman, Rans).index(type(made))
                assert stream_bytes(codes) == (packed_bytes(n, width), by_huffman, by_rans)[best]
    assert seen == {Packed, Huffman, Rans}
    assert smallest(np.full(5000, 3, np.uint32)).describe() == "rans"
    assert smallest(np.arange(2**16, dtype=np.uint32)).describe() == "packed(16)"


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("points", ["none", "zero", "some"])
def test_signed_codes_are_entropy_coded_too(rng: np.random.Generator, axis: int | None, points: str) -> None:
    shape = () if axis is None else (40,)
    scale = rng.standard_normal(shape).astype(np.float32)
    point = None if points == "none" else np.zeros(shape, np.int64) if points == "zero" else rng.integers(-9, 9, shape)
    for codes, form in (
        (np.clip(np.rint(rng.laplace(0, 4, (40, 3000))), -128, 127).astype(np.int64), "affine(rans)"),
        (rng.integers(-128, 128, (40, 3000)), "affine(packed(8))"),
        (rng.integers(0, 256, (40, 3000)), "affine(packed(8))"),
        (np.minimum(rng.geometric(0.2, (40, 3000)), 255), "affine(rans)"),
    ):
        made = smallest_affine(codes, scale, 8, point, axis)
        assert made.describe() == form
        column = (..., None) if axis == 0 else ()
        difference = codes if point is None else codes - point[column]
        assert_same_bits(made.decode(), scale[column] * difference.astype(np.float32))
    with pytest.raises(InputError, match="do not fit"):
        smallest_affine(np.array([128, -1]), np.array(1, np.float32), 8)


def test_negative_zero_and_special_values_survive(rng: np.random.Generator) -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -3.0], np.float32)
    weight = rng.choice(values, (30, 30))
    assert_same_bits(compress(network(weight)).constants["w0"].decode(), weight)


def test_clustering_needs_finite_values(rng: np.random.Generator) -> None:
    weight = laplace(rng, (40, 40))
    weight[3, 4] = np.nan
    with pytest.raises(InputError, match=r"'w0'.*not finite"):
        compress(network(weight), bits=2)


def test_bits_bound_the_codebook(rng: np.random.Generator) -> None:
    weight = laplace(rng, (64, 300), 0.4)
    errors = []
    for bits in range(2, 9):
        made = compress(network(weight), bits=bits)
        decoded = made.constants["w0"].decode()
        assert np.unique(decoded[decoded != 0]).size <= 2**bits - 1
        assert_equal(decoded == 0, weight == 0, "zeros stay, nothing else becomes zero")
        row = made.summary().rows[0]
        assert row.error is not None
        errors.append(row.error)
        expected = np.linalg.norm(decoded.astype(float) - weight) / np.linalg.norm(weight.astype(float))
        assert row.error == pytest.approx(expected)
        assert "shared values" in row.note
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.02


def test_every_weight_gets_its_nearest_value(rng: np.random.Generator) -> None:
    values = rng.laplace(size=3000).astype(np.float32)
    table, codes, exact = codebook(values, 15)
    assert not exact and (np.diff(table) > 0).all() and table.size <= 15
    distance = np.abs(values[:, None].astype(np.float64) - table.astype(np.float64))
    assert_equal(distance[np.arange(3000), codes], distance.min(axis=1))
    assert set(codes.tolist()) == set(range(table.size))


def test_pruning_keeps_the_greatest(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((50, 40)).astype(np.float32)
    for density in (0.001, 0.1, 0.5, 1.0):
        pruned = prune(weight, density)
        keep = round(density * weight.size)
        assert np.count_nonzero(pruned) == keep
        kept = np.abs(weight[pruned != 0])
        assert_equal(pruned[pruned != 0], weight[pruned != 0])
        assert keep == weight.size or kept.min() >= np.abs(weight[pruned == 0]).max()
    ties = np.array([1, -2, 2, -1, 2, 1], np.float32)
    assert prune(ties, 4 / 6).tolist() == [1, -2, 2, 0, 2, 0]
    assert prune(ties, 2 / 6).tolist() == [0, -2, 2, 0, 0, 0]
    sparse = np.where(weight > 1, weight, np.float32(0))
    assert prune(sparse, 0.9) is sparse


def test_density_by_weight_or_node(rng: np.random.Generator) -> None:
    net = network(laplace(rng, (40, 40)), laplace(rng, (40, 40)), laplace(rng, (40, 40)))
    made = compress(net, density={"w0": 0.25, "fc2": 0.5})
    assert [made.constants[f"w{i}"].nnz for i in range(3)] == [400, 1600, 800]
    assert "pruned to 25 %" in made.summary().rows[0].note
    with pytest.raises(InputError, match=r"'fc9'.*w0, w1, w2"):
        compress(net, density={"fc9": 0.5})


def test_small_and_other_constants_are_left_alone(rng: np.random.Generator) -> None:
    net = network(laplace(rng, (15, 17)), laplace(rng, (20, 15)))
    made = compress(net, density=0.1)
    assert isinstance(made.constants["w0"], Dense) and isinstance(made.constants["b1"], Dense)
    assert "fewer than 256" in made.summary().rows[0].note
    assert isinstance(made.constants["w1"], Codebook)
    assert net.to_bytes() == network(net.constants["w0"].decode(), net.constants["w1"].decode()).to_bytes()


def test_float16(rng: np.random.Generator) -> None:
    weight, large = laplace(rng, (30, 20), 0.7), np.full((20, 30), 7e4, np.float32)
    made = compress(network(weight, large), recipe="float16")
    assert_same_bits(made.constants["w0"].decode(), weight.astype(np.float16).astype(np.float32))
    rows = {row.name: row for row in made.summary().rows}
    assert rows["w0"].encoding == "dense(f16)" and rows["w0"].bits_per_weight == 16
    assert "largest relative error" in rows["w0"].note and 0 < (rows["w0"].error or 0) < 5e-4
    assert rows["w1"].encoding == "dense" and "beyond float16" in rows["w1"].note
    assert rows["b0"].encoding == "dense"


def test_a_smaller_encoding_is_not_replaced(rng: np.random.Generator) -> None:
    small = compress(network(laplace(rng, (64, 64), 0.1)), bits=2)
    again = compress(small, recipe="float16")
    assert again.constants["w0"] is small.constants["w0"]
    assert "not smaller" in again.summary().rows[0].note


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"recipe": "magic"}, "'magic'.*deep-compression, float16"),
        ({"speed": 3}, "'speed'.*density, bits, index_bits"),
        ({"recipe": "float16", "bits": 3}, "'bits'"),
        ({"bits": 1}, "bits: is 1"),
        ({"bits": 9}, "bits: is 9"),
        ({"bits": True}, "bits: is True"),
        ({"index_bits": 2.5}, "index_bits: is 2.5"),
        ({"density": 0}, "density: is 0"),
        ({"density": 1.5}, "density: is 1.5"),
        ({"density": "half"}, "density: is 'half'"),
        ({"density": {"w0": -1}}, "density of w0: is -1"),
    ],
)
def test_options_are_checked(options: Mapping[str, Any], problem: str, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=problem):
        compress(network(laplace(rng, (20, 20))), **options)


def test_progress_and_remarks(rng: np.random.Generator) -> None:
    calls: list[tuple[int, int, str]] = []
    net = network(laplace(rng, (20, 20)), laplace(rng, (20, 20)))
    made = compress(net, calibration={"x": 1}, progress=lambda *call: calls.append(call))
    assert calls == [(1, 2, "w0"), (2, 2, "w1")]
    assert "calibration data is not used" in str(made.summary())


def test_interruption_leaves_the_source_alone(rng: np.random.Generator) -> None:
    net = network(laplace(rng, (20, 20)), laplace(rng, (20, 20)))
    before = net.to_bytes()

    def interrupt(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress(net, density=0.5, progress=interrupt)
    assert net.to_bytes() == before


def test_alexnet_shapes_shrink_thirtyfold(rng: np.random.Generator) -> None:
    """AlexNet's layers at the published densities, the fully connected ones scaled down in proportion.

    The published codes: 8 bits for convolutions, 5 bits for fully connected layers.
    """
    scale = 8  # rows of every layer are divided by it, which keeps the proportions between the layers
    layers = [
        ((96, 3, 11, 11), 0.84, 8),
        ((256, 48, 5, 5), 0.38, 8),
        ((384, 256, 3, 3), 0.35, 8),
        ((384, 192, 3, 3), 0.37, 8),
        ((256, 192, 3, 3), 0.37, 8),
        ((4096, 9216), 0.09, 5),
        ((4096, 4096), 0.09, 5),
        ((1000, 4096), 0.25, 5),
    ]
    dense = packed = 0
    for shape, density, bits in layers:
        weight = laplace(rng, (shape[0] // scale, *shape[1:]))
        made = DeepCompression(density=density, bits=bits).compress(weight, "w", [])
        assert made.encoding is not None
        dense += 4 * weight.size
        packed += made.encoding.nbytes
    assert dense / packed >= 30
