"""The container: deterministic, readable by safetensors, damage refused."""

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bittern.atomic_file import write_atomic
from bittern.container import Leaf, leaf_type, parse_json, read_container, write_container
from bittern.errors import FormatError, InputError, UnsupportedError

from tests.compare import assert_same_bits

GRAPH = json.dumps({"name": "täst", "inputs": []})


def leaves(rng: np.random.Generator) -> dict[str, Leaf]:
    """A leaf of every type, some empty, some scalar, with awkward names."""
    arrays = {
        "bool": rng.integers(0, 2, 7).astype(np.bool_),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(2.5, np.float32),
        "ünïcode/.name": rng.standard_normal(3),
        **{
            np.dtype(kind).name: rng.integers(0, 100, (3, 5)).astype(kind)
            for kind in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
        },
    }
    out = {name: Leaf(array, leaf_type(array)) for name, array in arrays.items()}
    out["bf16"] = Leaf(rng.integers(0, 2**16, 5).astype(np.uint16), "BF16")
    return out


def test_round_trip(rng: np.random.Generator) -> None:
    given = leaves(rng)
    data = write_container(GRAPH, given)
    graph, found = read_container(data)
    assert graph == json.loads(GRAPH)
    assert sorted(found) == sorted(given)
    for name, leaf in given.items():
        assert found[name].dtype == leaf.dtype
        assert_same_bits(found[name].array, np.asarray(leaf.array), name)


def test_same_input_same_bytes(rng: np.random.Generator) -> None:
    given = leaves(rng)
    turned = dict(reversed(given.items()))
    assert write_container(GRAPH, given) == write_container(GRAPH, turned)


def test_safetensors_reads_it(rng: np.random.Generator, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    given = {name: leaf for name, leaf in leaves(rng).items() if leaf.dtype != "BF16"}
    path = tmp_path / "net.bittern"
    path.write_bytes(write_container(GRAPH, given))
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "bittern"
        assert file.metadata()["graph"] == GRAPH
        assert sorted(file.keys()) == sorted(given)
        for name, leaf in given.items():
            assert_same_bits(file.get_tensor(name), np.asarray(leaf.array), name)


def test_layout(rng: np.random.Generator) -> None:
    """Data start at a multiple of 64, leaves fall in element size, the checksum is the documented one."""
    data = write_container(GRAPH, leaves(rng))
    (size,) = struct.unpack("<Q", data[:8])
    assert (8 + size) % 64 == 0
    header = json.loads(data[8 : 8 + size])
    metadata = header.pop("__metadata__")
    order = sorted(header, key=lambda name: header[name]["data_offsets"])
    widths = [int("".join(filter(str.isdigit, header[name]["dtype"])) or 8) for name in order]
    assert widths == sorted(widths, reverse=True)
    value = zlib.crc32(metadata["graph"].encode())
    for name in sorted(header):
        entry = header[name]
        begin, end = entry["data_offsets"]
        shape = ",".join(map(str, entry["shape"]))
        value = zlib.crc32(f"{name} {entry['dtype']} [{shape}] {begin} {end}\n".encode(), value)
    assert metadata["checksum"] == f"crc32:{zlib.crc32(data[8 + size :], value):08x}"


def test_flipped_bytes_are_refused(rng: np.random.Generator) -> None:
    data = write_container(GRAPH, leaves(rng))
    for at in range(0, len(data), 7):
        for mask in (1, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            with pytest.raises((FormatError, UnsupportedError)):
                read_container(bytes(damaged))


def test_another_version_is_named(rng: np.random.Generator) -> None:
    data = write_container(GRAPH, {}).replace(b'"version":"0"', b'"version":"7"')
    with pytest.raises(UnsupportedError, match="'7'"):
        read_container(data)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("[NaN]", "NaN"),
        ("[1, 2", "not valid JSON"),
        ('{"a": "\\ud800"}', "surrogate"),
        ("[" * 65 + "]" * 65, "nested deeper than 64"),
        ("[" * 100000 + "]" * 100000, "nested deeper than 64"),
        ("1" * 5000, "not valid JSON"),
        ("[" + "0," * 2**19 + "0]", "values"),
    ],
)
def test_strict_json(text: str, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        parse_json(text.encode(), "test")


def test_json_at_its_limits() -> None:
    assert parse_json(("[" * 64 + "]" * 64).encode(), "test")
    assert parse_json(b'{"\\ud83d\\ude00": null}', "test") == {"\U0001f600": None}
    assert parse_json(b"null", "test") is None


def test_unknown_element_type() -> None:
    with pytest.raises(InputError, match="complex128"):
        leaf_type(np.zeros(2, np.complex128))


def test_atomic_write_replaces_or_leaves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    path.chmod(0o640)
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"never")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_atomic_write_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_unwritable_paths(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "folder", Path("/dev/null"), tmp_path / ("n" * 300)):
        with pytest.raises(InputError):
            write_atomic(path, b"data")
    assert not list(tmp_path.iterdir())
