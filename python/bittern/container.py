"""The container of a .bittern file: a safetensors file with a graph and a checksum (docs/format.md)."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from bittern.errors import FormatError, InputError, UnsupportedError

FORMAT = "bittern"
VERSION = "0"
MAX_HEADER = 16 * 2**20
MAX_NESTING = 64
MAX_VALUES = 2**19
ALIGNMENT = 64

# BF16 has no NumPy type: its leaves are uint16 arrays that hold the bits.
NUMPY_TYPES: dict[str, str] = {
    "BOOL": "|b1", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
LEAF_TYPES: dict[str, str] = {numpy: name for name, numpy in NUMPY_TYPES.items() if name != "BF16"}


@dataclass(frozen=True, eq=False)
class Leaf:
    """A raw tensor of the file: a C-ordered little-endian array and its element type (a key of NUMPY_TYPES)."""

    array: NDArray[Any]
    dtype: str


def leaf_type(array: NDArray[Any]) -> str:
    """The file's name for the element type of ``array``. Raises InputError if the file knows no such type."""
    text = array.dtype.newbyteorder("<").str
    if text not in LEAF_TYPES:
        raise InputError(
            "array", f"element type {array.dtype} cannot be stored", f"use one of {', '.join(NUMPY_TYPES)}"
        )
    return LEAF_TYPES[text]


def write_container(graph: str, leaves: Mapping[str, Leaf]) -> bytes:
    """The bytes of a file with this graph text and these leaves; the same input gives the same bytes."""
    order = sorted(leaves, key=lambda name: (-np.dtype(NUMPY_TYPES[leaves[name].dtype]).itemsize, name))
    header: dict[str, Any] = {}
    parts: list[bytes] = []
    end = 0
    for name in order:
        leaf = leaves[name]
        data = np.ascontiguousarray(leaf.array, dtype=NUMPY_TYPES[leaf.dtype]).tobytes()
        begin, end = end, end + len(data)
        header[name] = {"data_offsets": [begin, end], "dtype": leaf.dtype, "shape": list(leaf.array.shape)}
        parts.append(data)
    section = b"".join(parts)
    checksum = _checksum(graph, header, section)
    header["__metadata__"] = {"checksum": checksum, "format": FORMAT, "graph": graph, "version": VERSION}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER:
        raise InputError("network", f"its header would take {len(text)} bytes, allowed are {MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text + section


def read_container(data: bytes, place: str = "file") -> tuple[Any, dict[str, Leaf]]:
    """Read a file: its graph as parsed JSON, and its leaves (views of ``data`` where alignment allows).

    Raises FormatError if a rule of docs/format.md is broken, UnsupportedError for another version.
    """
    if len(data) < 8:
        _damaged(place, f"holds {len(data)} bytes, at least 8 are needed")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        _damaged(place, f"declares a header of {size} bytes, at most {MAX_HEADER} are allowed")
    if size > len(data) - 8:
        _damaged(place, f"declares a header of {size} bytes, {len(data) - 8} remain")
    header = parse_json(data[8 : 8 + size], f"{place}: header")
    if not isinstance(header, dict) or data[8:9] != b"{":
        _damaged(place, "header is not a JSON object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        _damaged(place, "has no __metadata__ of strings, so it is not a bittern file")
    if metadata.get("format") != FORMAT:
        _damaged(place, f"says format {metadata.get('format')!r}, expected {FORMAT!r}")
    for key in ("version", "graph", "checksum"):
        if key not in metadata:
            _damaged(place, f"__metadata__ has no {key!r}")
    if metadata["version"] != VERSION:
        raise UnsupportedError(
            place, f"is of format version {metadata['version']!r}, this release reads {VERSION!r}", "convert it again"
        )
    section = memoryview(data)[8 + size :]
    leaves = _read_leaves(header, section, place)
    found = _checksum(metadata["graph"], header, section)
    if metadata["checksum"] != found:
        _damaged(place, f"checksum is {metadata['checksum']!r}, the content gives {found!r}")
    return parse_json(metadata["graph"].encode(), f"{place}: graph"), leaves


def parse_json(text: bytes, place: str) -> Any:
    """Parse strict JSON: UTF-8, no duplicate keys, no NaN or infinity, nesting at most 64. Raises FormatError."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for key in names if names.count(key) > 1)
            _damaged(place, f"the key {twice!r} stands twice in one object")
        return found

    def no_constants(name: str) -> NoReturn:
        _damaged(place, f"{name} is not JSON")

    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=no_constants)
    except UnicodeDecodeError as error:
        _damaged(place, f"byte {error.start} is not UTF-8")
    except RecursionError:
        _damaged(place, f"JSON is nested deeper than {MAX_NESTING}")
    except ValueError as error:
        _damaged(place, f"not valid JSON ({error})")
    level = [value] if isinstance(value, (dict, list)) else []
    values = 1
    for _ in range(MAX_NESTING + 1):
        if not level:
            if values > MAX_VALUES:
                _damaged(place, f"JSON has {values} values, at most {MAX_VALUES} are allowed")
            return value
        children = [child for parent in level for child in _children(parent)]
        values += sum(len(parent) for parent in level)
        if any(isinstance(child, str) and not is_text(child) for child in children):
            _damaged(place, "a string holds half of a surrogate pair")
        level = [child for child in children if isinstance(child, (dict, list))]
    _damaged(place, f"JSON is nested deeper than {MAX_NESTING}")


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (key for pair in value.items() for key in pair)
    return value if isinstance(value, list) else ()


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def is_size(value: Any) -> bool:
    """Whether a JSON value is an integer that can be a size or an offset."""
    return type(value) is int and 0 <= value < 2**63


def _read_leaves(header: dict[str, Any], section: memoryview, place: str) -> dict[str, Leaf]:
    """Check the table of leaves against the data section, then make arrays of it."""
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        where = f"{place}: leaf {name!r}"
        if not name:
            _damaged(where, "has no name")
        if not isinstance(entry, dict) or set(entry) != {"data_offsets", "dtype", "shape"}:
            _damaged(where, "needs exactly the keys data_offsets, dtype and shape")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in NUMPY_TYPES:
            _damaged(where, f"element type {dtype!r} is unknown, allowed are {', '.join(NUMPY_TYPES)}")
        if not isinstance(shape, list) or not all(is_size(size) for size in shape):
            _damaged(where, "shape is not a list of sizes")
        if not isinstance(offsets, list) or len(offsets) != 2 or not all(is_size(offset) for offset in offsets):
            _damaged(where, "data_offsets are not two offsets")
        begin, end = offsets
        if begin > end or end > len(section):
            _damaged(where, f"lies at {begin}..{end}, the data section has {len(section)} bytes")
        if math.prod(max(size, 1) for size in shape) >= 2**60:
            _damaged(where, f"shape {shape} has too many elements")
        needed = math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize
        if needed != end - begin:
            _damaged(where, f"{dtype} {shape} takes {needed} bytes, data_offsets span {end - begin}")
        spans.append((begin, end, name))
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            _damaged(place, f"leaf {name!r} begins at {begin}, the one before it ends at {position}")
        position = end
    if position != len(section):
        _damaged(place, f"leaves end at {position}, the data section has {len(section)} bytes")
    return {name: _leaf(header[name], section[begin:end]) for begin, end, name in spans}


def _leaf(entry: dict[str, Any], data: memoryview) -> Leaf:
    dtype = np.dtype(NUMPY_TYPES[entry["dtype"]])
    array = (np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)).reshape(entry["shape"])
    if not array.flags.aligned:
        array = array.copy()
        array.flags.writeable = False
    return Leaf(array, entry["dtype"])


def _checksum(graph: str, header: Mapping[str, Any], section: bytes | memoryview) -> str:
    """CRC-32 of everything that carries meaning: graph, table of leaves, data section."""
    value = zlib.crc32(graph.encode())
    for name in sorted(header):
        entry = header[name]
        shape = ",".join(str(size) for size in entry["shape"])
        begin, end = entry["data_offsets"]
        value = zlib.crc32(f"{name} {entry['dtype']} [{shape}] {begin} {end}\n".encode(), value)
    return f"crc32:{zlib.crc32(section, value):08x}"


def _damaged(place: str, problem: str) -> NoReturn:
    raise FormatError(place, problem, "it is damaged, or no .bittern file: bittern convert makes one of an ONNX file")
