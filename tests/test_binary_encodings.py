"""The encodings of binary networks: separable kernels of signs, sums of signs, filters made from a seed."""

import itertools
import math
from collections.abc import Callable

import bittern
import numpy as np
import pytest
from bittern.encodings import Dense, Encoding, Packed, Seeded, SeparableSigns, Signs, Sum
from bittern.encodings.binary import splitmix64
from bittern.errors import FormatError, InputError

from tests.compare import assert_equal, assert_same_bits
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.reference.decoders import seeded as seeded_by_reference
from tests.test_few_bit_layers import held, layer
from tests.test_few_bits import engine_reads, scalar

LEVELS = bittern.cpu().isa_levels_usable
SPLITMIX64_OF_0 = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B]
"""The generator's first numbers with seed 0, as other implementations have them."""


def random_kernels(rng: np.random.Generator, *shape: int) -> Array:
    """Codes 0 and 1 of kernels of rank one."""
    column = rng.integers(0, 2, (*shape[:-2], shape[-2], 1))
    row = rng.integers(0, 2, (*shape[:-2], 1, shape[-1]))
    return np.asarray(column == row, np.uint8)


def test_separable_signs_take_five_bits_for_3x3(rng: np.random.Generator) -> None:
    """`ceil(kernels * (height + width - 1) / 8)` bytes; both readers give back what was packed."""
    for shape in ((64, 32, 3, 3), (7, 5, 5, 5), (3, 3, 3), (4, 1, 1, 7), (2, 3, 1, 1), (5, 4), (0, 2, 3, 3)):
        codes = random_kernels(rng, *shape)
        tree = SeparableSigns.pack(codes)
        assert tree.nbytes == -(-math.prod(shape[:-2]) * (shape[-2] + shape[-1] - 1) // 8)
        assert_equal(tree.decode(), codes, str(shape))
        scale = rng.standard_normal(shape[0]).astype(np.float32)
        signs = Signs(tree, Dense(scale), axis=0)
        wanted = (2 * codes.astype(np.float32) - 1) * scale.reshape(-1, *[1] * (len(shape) - 1))
        assert_same_bits(signs.decode(), wanted, str(shape))
        if math.prod(shape):
            assert_same_bits(engine_reads(signs), wanted, f"{shape}, engine")
    assert SeparableSigns.pack(random_kernels(rng, 64, 32, 3, 3)).nbytes == 64 * 32 * 5 // 8


def test_separable_signs_in_the_documents() -> None:
    """The drawing of docs/format.md: v = ++-, h = ++- in the byte 0x0D."""
    tree = SeparableSigns.pack(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]]))
    assert tree.leaf.tolist() == [0x0D]


def test_all_kernels_of_rank_one_have_a_code_of_their_own() -> None:
    """32 of the 512 patterns of 3x3 can be packed, and no others."""
    codes = set()
    for bits in itertools.product((0, 1), repeat=9):
        kernel = np.array(bits).reshape(3, 3)
        if np.linalg.matrix_rank(2 * kernel - 1) == 1:
            codes.add(int(SeparableSigns.pack(kernel).leaf[0]))
        else:
            with pytest.raises(InputError, match="no product of a column and a row"):
                SeparableSigns.pack(kernel)
    assert codes == set(range(32))


def test_seeds_give_the_numbers_of_splitmix64() -> None:
    assert splitmix64(0, 5).tolist() == SPLITMIX64_OF_0
    for seed in (1, 12345, 2**63 - 1):
        for order, shape in (("", (10, 4, 5, 5)), ("OHWI", (10, 5, 5, 4))):
            tree = Seeded.of(shape, 0.3, seed, order=order)
            by_hand = seeded_by_reference({"seed": seed, "threshold": math.floor(0.3 * 2**32), "shape": shape})
            by_hand = by_hand.transpose(0, 3, 1, 2) if order else by_hand
            assert by_hand.size == 1000
            assert_same_bits(tree.decode(), np.ascontiguousarray(by_hand), f"seed {seed}")
            assert_same_bits(engine_reads(tree), tree.decode(), f"seed {seed}, engine")
            assert tree.nbytes == 0


def test_density_of_seeded_weights() -> None:
    """Within five standard deviations of what is asked for; half of them negative."""
    for density in (0.0, 0.1, 0.5, 0.9, 1.0):
        values = Seeded.of((200, 500), density, 3).decode()
        slack = 5 * math.sqrt(values.size * density * (1 - density))
        assert abs(np.count_nonzero(values) - density * values.size) <= slack
        assert abs(values.sum()) <= 5 * math.sqrt(values.size * density)


def test_sums_are_added_in_order(rng: np.random.Generator) -> None:
    shape = (6, 5, 3, 3)
    signs = np.where(rng.integers(0, 2, (3, *shape)), np.float32(1), np.float32(-1))
    scales = rng.standard_normal((3, 6)).astype(np.float32)
    parts = [Signs.of(signs[i], scales[i], axis=0) for i in range(3)]
    each = [signs[i] * scales[i].reshape(-1, 1, 1, 1) for i in range(3)]
    for count in (1, 2, 3):
        tree = Sum(tuple(parts[:count]))
        total = each[0]
        for part in each[1:count]:
            total = total + part
        assert_same_bits(tree.decode(), total, f"{count} parts")
        assert_same_bits(engine_reads(tree), total, f"{count} parts, engine")
        assert tree.nbytes == count * (-(-math.prod(shape) // 8) + 4 * 6)
    assert Sum(tuple(parts)).describe() == "sum(signs(packed(1)), signs(packed(1)), signs(packed(1)))"
    mixed = Sum((Sum((Dense(total), Seeded.of(shape, 0.5, 1))), parts[0]))
    assert_same_bits(engine_reads(mixed), mixed.decode(), "a sum of a sum, dense numbers, random ones and signs")


def test_residual_levels_of_the_paper() -> None:
    """ResBinNet's example: with g = (0.6, 0.2), 0.7 becomes 0.8 and 0.5 becomes 0.4."""
    tree = Sum((Signs.of([1, 1], 0.6), Signs.of([1, -1], 0.2)))
    np.testing.assert_allclose(tree.decode(), [0.8, 0.4], rtol=1e-6)


def test_a_shared_leaf_is_in_the_file_once(rng: np.random.Generator) -> None:
    signs = Signs.of(np.where(rng.integers(0, 2, (64, 64)), 1, -1), 0.5)
    tree = Sum((signs, Signs(signs.codes, scalar(0.25))))
    assert tree.nbytes == 64 * 64 // 8 + 2 * 4
    assert_same_bits(engine_reads(tree), tree.decode(), "engine")


def test_refusals() -> None:
    one = Dense(np.ones((2, 3), np.float32))
    cases: list[tuple[Callable[[], Encoding], str]] = [
        (lambda: SeparableSigns.pack(np.ones(3, np.uint8)), "does not end in a kernel's size"),
        (lambda: SeparableSigns.pack(np.full((2, 2), 2)), "do not fit 0..1"),
        (lambda: SeparableSigns(np.zeros(2, np.uint8), (3, 3)), "leaf has 2 bytes"),
        (lambda: SeparableSigns(np.zeros(0, np.uint8), (3, 0)), "does not end in a kernel's height"),
        (lambda: Signs.of([1.0, 0.5]), "not all -1 or"),
        (lambda: Signs.of([[1, -1]], [1.0, 2.0]), "scale has shape"),
        (lambda: Sum(()), "1 to 8"),
        (lambda: Sum((one,) * 9), "1 to 8"),
        (lambda: Sum((one, Packed.pack(np.zeros((2, 3), np.int64), 1))), "part 1 is not real"),
        (lambda: Sum((one, Dense(np.ones((3, 2), np.float32)))), r"part 1 has shape \[3, 2\]"),
        (lambda: Seeded((-1), 0, (2,)), "seed is -1"),
        (lambda: Seeded(0, 2**32 + 1, (2,)), "threshold is"),
        (lambda: Seeded.of((2,), 1.5, 0), "density is 1.5"),
    ]
    for build, problem in cases:
        with pytest.raises(InputError, match=problem):
            build()
    with pytest.raises(FormatError, match="spare bits"):
        SeparableSigns(np.array([32], np.uint8), (3, 3)).decode()


@pytest.mark.parametrize("size", [(70, 33, 3, 3), (33, 20, 5, 5), (65, 40)])
def test_on_codes_they_run_as_integers(size: tuple[int, ...]) -> None:
    """Weights of two and three values stay codes of two bits, whatever encoding says them."""
    rng = np.random.default_rng(seed_of(f"binary {size}"))
    scale = Dense(rng.uniform(0.5, 2, size[0]).astype(np.float32))
    trees: list[Encoding] = [Seeded.of(size, 0.4, 9)]
    if len(size) == 4:
        trees += [Signs(SeparableSigns.pack(random_kernels(rng, *size)), scale, axis=0)]
        trees += [Seeded.of((size[0], *size[2:], size[1]), 0.4, 9, order="OHWI")]
    for tree in trees:
        for level in LEVELS:
            row = held(*layer(tree, rng, True), level, tree.describe())
            if len(size) == 2:
                assert "gemv_u8_s2_" in row.kernel, row
            else:
                assert "stay 2-bit codes" in row.reason or row.kernel.startswith("spmm_u8_"), row


def test_many_parts_of_much_are_refused() -> None:
    """Each part of a sum counts: nested sums of large tensors of no bytes are refused before they are added."""
    part: Encoding = Seeded(1, 2**31, (2**12, 2**12))
    for _ in range(3):
        part = Sum((part,) * 8)
    net = bittern.Network("costly")
    net.add_input("x", (1,))
    net.constants["w"] = part  # adding it would decode it
    net._known.add("w")
    net.add_node("Relu", ["x"], ["y"])
    net.set_outputs(["y"])
    with pytest.raises(bittern.Error, match=r"w\b"):
        bittern.load(net.to_bytes()).constant("w")
