"""Hostile files: both readers refuse each of them politely, name the culprit and take no memory."""

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bittern
import numpy as np
import pytest

from tests import hostile, hostile_binary, hostile_values
from tests.builders import digits_like, output
from tests.hostile import Hostile
from tests.rawfile import assemble, leaf, product_graph

REFUSALS = (bittern.FormatError, bittern.UnsupportedError, bittern.ResourceError)


def all_hostile() -> Iterator[Hostile]:
    """Every damaged file."""
    values = (hostile_values.all_values, hostile_binary.all_binary)
    for source in (hostile.sections, hostile.entries, hostile.graphs, hostile.trees, *values):
        yield from source()


HOSTILE = list(all_hostile())


def package_reads(data: bytes) -> None:
    """Read and decode everything with the package's Python."""
    net = bittern.Network.load(data)
    for encoding in net.constants.values():
        encoding.decode()


def check_message(error: bittern.Error, case: Hostile, named: bool = True) -> None:
    """One line that names the culprit."""
    message = str(error)
    assert message and "\n" not in message.strip()
    assert len(message) < 2000, "a message is not a dump"
    found = re.search(rf"(?<![0-9A-Za-z]){re.escape(case.names)}(?![0-9A-Za-z])", message)
    assert found or not named or not case.names, f"{case.name}: {message!r} does not name {case.names!r}"


def test_case_names_are_unique() -> None:
    names = [case.name for case in HOSTILE]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_good_file_is_accepted(rng: np.random.Generator) -> None:
    """The file that all the others are made from is fine; else they would be refused for the wrong reason."""
    data = hostile.good_file()
    x = rng.standard_normal(hostile.SHAPE).astype(np.float32)
    weight = np.array([0, 1, -1, 0.5], np.float32)[np.arange(12).reshape(hostile.SHAPE) % 4]
    assert np.array_equal(output(bittern.load(data), x), x * weight)
    package_reads(data)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_engine_refuses(case: Hostile) -> None:
    with pytest.raises(REFUSALS) as caught:
        bittern.load(case.data)
    check_message(caught.value, case)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_package_refuses(case: Hostile) -> None:
    with pytest.raises(REFUSALS) as caught:
        if case.lazy:
            package_reads(case.data)
        else:
            bittern.Network.load(case.data)
    # A tree that is decoded on its own does not know which constant it is.
    check_message(caught.value, case, named=not case.lazy)


def small_files() -> list[bytes]:
    """Two files without fault: a codebook and a network."""
    return [hostile.good_file(), digits_like().to_bytes()]


@pytest.mark.parametrize("which", [0, 1])
def test_every_truncation_is_refused(which: int) -> None:
    data = small_files()[which]
    step = 1 if len(data) < 4000 else 61
    for size in [*range(0, len(data), step), len(data) - 1]:
        for read in (bittern.load, package_reads):
            with pytest.raises(REFUSALS):
                read(data[:size])


def test_every_flipped_bit_is_refused() -> None:
    """The checksum covers all that carries meaning; a flip in the header's padding breaks the JSON."""
    data = hostile.good_file()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        for read in (bittern.load, package_reads):
            try:
                read(bytes(damaged))
            except REFUSALS:
                continue
            pytest.fail(f"{read.__name__} accepted a flip of bit {at % 8} in byte {at}")


def test_random_bytes_are_refused(rng: np.random.Generator) -> None:
    data = hostile.good_file()
    (length,) = struct.unpack("<Q", data[:8])
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 9))):
            damaged[at] = int(rng.integers(256))
        cut = int(rng.integers(8, 8 + length))
        for candidate in (bytes(damaged), rng.bytes(200), data[:cut] + rng.bytes(len(data) - cut)):
            if candidate == data:
                continue
            for read in (bittern.load, package_reads):
                with pytest.raises(REFUSALS):
                    read(candidate)


def test_all_problems_of_a_graph_are_reported_together() -> None:
    graph, leaves = hostile.good_parts()
    graph["nodes"][0].update(inputs=["x", "ghost"])
    graph["outputs"][0]["name"] = "phantom"
    for read in (bittern.load, bittern.Network.load):
        with pytest.raises(bittern.FormatError) as caught:
            read(assemble(graph, leaves))
        assert "ghost" in str(caught.value) and "phantom" in str(caught.value)


def test_path_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.bittern"
    path.write_bytes(hostile.good_file()[:-1])
    for read in (bittern.load, bittern.Network.load):
        for source in (path, str(path)):
            with pytest.raises(bittern.FormatError, match=r"broken\.bittern"):
                read(source)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for read in (bittern.load, bittern.Network.load):
        with pytest.raises((bittern.Error, OSError), match=r"absent\.bittern"):
            read(tmp_path / "absent.bittern")
        with pytest.raises((bittern.Error, OSError), match=tmp_path.name):
            read(tmp_path)


def test_huge_sparse_constant_is_a_resource_error() -> None:
    """A file of a few hundred bytes may describe terabytes; that is legal, and refused before the memory is taken."""
    tree = {
        "kind": "sparse",
        "pattern": {"kind": "relative_index", "gaps": {"kind": "dense", "leaf": "g"}},
        "values": {"kind": "dense", "leaf": "v"},
        "shape": [2**20, 2**20],
    }
    leaves = {"g": leaf(np.zeros(3, np.int32)), "v": leaf(np.ones(3, np.float32))}
    with pytest.raises(bittern.ResourceError, match="w"):
        bittern.load(assemble(product_graph(tree, (2**20, 2**20)), leaves))


def test_a_shape_of_very_many_dimensions_makes_no_long_message() -> None:
    """Found by the mutator: ten thousand bytes of message for an output declared as a list of thousands of sizes."""
    case = Hostile("", hostile.file_with(hostile.setter("outputs", 0, shape=[11] * 3000)), "y")
    with pytest.raises(bittern.FormatError) as caught:
        bittern.load(case.data)
    check_message(caught.value, case)


def test_nesting_within_the_limit_is_accepted() -> None:
    data = hostile.nested_file(13)
    assert np.array_equal(bittern.load(data).constant("w"), np.ones(4, np.float32))
    package_reads(data)


def test_unknown_further_metadata_is_ignored() -> None:
    data = assemble(*hostile.good_parts(), patch=lambda header: header["__metadata__"].update(note="kept by others"))
    plain = bittern.load(assemble(*hostile.good_parts()))
    assert bittern.load(data).metadata == plain.metadata
    assert np.array_equal(bittern.load(data).constant("w"), plain.constant("w"))
    package_reads(data)


def test_shared_leaf_is_allowed() -> None:
    graph, leaves = hostile.good_parts()
    graph["constants"]["again"] = json.loads(json.dumps(graph["constants"]["w"]))
    data = assemble(graph, leaves)
    assert np.array_equal(bittern.load(data).constant("again"), bittern.load(data).constant("w"))
    package_reads(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "i64"}, "output y: is declared as i64, its nodes give f32"),
        ({"shape": [2, 4]}, r"output y: is declared as \[2, 4\], its nodes give \[2, 3\]"),
        ({"shape": [6]}, r"output y: is declared as \[6\], its nodes give \[2, 3\]"),
    ],
)
def test_declared_outputs_must_be_what_the_nodes_give(change: dict[str, object], message: str) -> None:
    graph = product_graph({"kind": "dense", "leaf": "w"}, (2, 3))
    leaves = {"w": leaf(np.ones((2, 3), np.float32))}
    bittern.load(assemble(graph, leaves))
    graph["outputs"][0].update(change)
    with pytest.raises(bittern.FormatError, match=message):
        bittern.load(assemble(graph, leaves))
    del graph["outputs"][0]["shape"]  # the file need not say it
    if "dtype" not in change:
        assert bittern.load(assemble(graph, leaves)).outputs[0].shape is None


def test_refusing_costs_little_memory(tmp_path: Path) -> None:
    """All hostile files in one fresh process: the peak stays within 64 MB and a few times a file's size."""
    largest = 0
    for i, case in enumerate(HOSTILE):
        (tmp_path / f"{i:04}.bittern").write_bytes(case.data)
        largest = max(largest, len(case.data))
    script = """
import resource, sys
from pathlib import Path
import numpy as np
import bittern
files = sorted(Path(sys.argv[1]).iterdir())
bittern.cpu()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in files:
    try:
        bittern.load(file)
    except bittern.Error:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    unit = 1024 if sys.platform != "darwin" else 1
    assert int(done.stdout) * unit < 64e6 + 6 * largest
