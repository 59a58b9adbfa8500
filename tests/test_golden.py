"""Golden files: what was written once is read the same for ever, and what is written now is the same bytes."""

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.encodings.base import Tree

from tests.compare import assert_same_bits, assert_within
from tests.reference.arrays import Array
from tests.tolerances import network_bound
from tests.tools import write_golden
from tests.tools.write_golden import EXPECTED, FOLDER, input_of

NAMES = ("dense", "packed", "scaled", "sparse", "huffman", "few_bits", "binary", "layers")
REMEDY = (
    "the format of written files has changed: if that is wanted, run `python -m tests.tools.write_golden` "
    "and say so in the CHANGELOG"
)
KINDS = {
    "dense", "affine", "codebook", "ternary", "signs", "pow2", "sparse", "packed", "trits", "huffman", "rans", "csr",
    "relative_index", "blocks", "n_of_m", "separable_signs", "sum", "seeded",
}  # fmt: skip


@pytest.fixture(scope="module")
def expected() -> dict[str, Array]:
    with np.load(FOLDER / EXPECTED, allow_pickle=False) as arrays:
        return dict(arrays)


def part(expected: dict[str, Array], name: str, what: str) -> dict[str, Array]:
    """The arrays of one file: `constant` or `output`."""
    prefix = f"{name}/{what}/"
    found = {key.removeprefix(prefix): array for key, array in expected.items() if key.startswith(prefix)}
    assert found, f"{EXPECTED} lacks {prefix}"
    return found


@pytest.mark.parametrize("name", NAMES)
def test_constants(name: str, expected: dict[str, Array]) -> None:
    """Both readers decode every constant to the same bits as ever."""
    model = bittern.load(FOLDER / f"{name}.bittern")
    net = bittern.Network.load(FOLDER / f"{name}.bittern")
    constants = part(expected, name, "constant")
    assert set(net.constants) == set(constants)
    for key, array in constants.items():
        assert_same_bits(model.constant(key), array, f"{name} {key}, engine")
        assert_same_bits(net.constants[key].decode(), array, f"{name} {key}, package")


@pytest.mark.parametrize("name", NAMES)
def test_outputs(name: str, isa: str, expected: dict[str, Array]) -> None:
    model = bittern.load(FOLDER / f"{name}.bittern", isa=isa)
    results = model.run({"x": input_of(name)})
    outputs = part(expected, name, "output")
    assert set(results) == set(outputs)
    for key, array in outputs.items():
        if name == "layers":
            assert_within(results[key], array, network_bound(array), f"{key} at {isa}")
        else:  # one product, rounded once; subnormals are flushed
            flushed = np.where(np.abs(array) < np.float32(2.0**-126), np.float32(0), array)
            np.testing.assert_array_equal(results[key], flushed, f"{key} at {isa}")


@pytest.mark.parametrize("name", NAMES)
def test_read_and_written_again(name: str) -> None:
    data = (FOLDER / f"{name}.bittern").read_bytes()
    assert bittern.Network.load(data).to_bytes() == data, REMEDY


def test_the_writer_writes_the_same_bytes() -> None:
    nets = write_golden.networks()
    assert set(nets) == set(NAMES)
    for name, net in nets.items():
        assert net.to_bytes() == (FOLDER / f"{name}.bittern").read_bytes(), f"{name}: {REMEDY}"


def test_expected_is_what_the_reference_says(expected: dict[str, Array]) -> None:
    again = write_golden.expected(write_golden.networks())
    assert set(again) == set(expected), REMEDY
    for key, array in again.items():
        if "/output/" in key:
            assert_within(expected[key], array, network_bound(array), key)
        else:
            assert_same_bits(expected[key], array, key)


def test_every_encoding_is_there() -> None:
    """A new kind of encoding gets a golden file in the same change."""

    def kinds(tree: Tree) -> set[str]:
        return {tree.kind}.union(*(kinds(child) for _, child in tree.children()))

    def known(cls: Any) -> set[str]:
        subclasses = cls.__subclasses__()
        return set().union(*map(known, subclasses)) if subclasses else {cls.kind}

    written: set[str] = set()
    for name in NAMES:
        for encoding in bittern.Network.load(FOLDER / f"{name}.bittern").constants.values():
            written |= kinds(encoding)
    assert KINDS <= known(Tree) <= written, f"no golden file of {sorted(known(Tree) - written)}"


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 400_000
    assert {path.name for path in FOLDER.iterdir()} == {*(f"{name}.bittern" for name in NAMES), EXPECTED}
