"""Writes `.bittern` files byte by byte, right ones and deliberately wrong ones; shares nothing with the package."""

import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.reference.arrays import Array
from tests.reference.container import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}

Header = dict[str, Any]
Patch = Callable[[Header], None]

Node = tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]
"""Operator, inputs, outputs, attributes."""

Declared = str | tuple[str, Sequence[int | str]]
"""The element type of an input or output; with its shape, which an output may leave out."""


@dataclass(frozen=True)
class RawLeaf:
    """A leaf to be written: declared type and shape, bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def leaf(array: Array) -> RawLeaf:
    """A leaf of an array's type, shape and bytes."""
    little = np.asarray(array).astype(array.dtype.newbyteorder("<"))
    return RawLeaf(NAMES[little.dtype], tuple(array.shape), little.tobytes())


def text(value: object) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def container(header: bytes, section: bytes, length: int | None = None) -> bytes:
    """Length, header, data section."""
    return struct.pack("<Q", len(header) if length is None else length) + header + section


def checksum(graph: str, entries: Mapping[str, Any], section: bytes) -> str:
    """The checksum of docs/format.md over what the header declares."""
    crc = zlib.crc32(graph.encode("utf-8"))
    for name in sorted(entries):
        entry = entries[name]
        begin, end = entry["data_offsets"]
        sizes = ",".join(str(size) for size in entry["shape"])
        crc = zlib.crc32(f"{name} {entry['dtype']} [{sizes}] {begin} {end}\n".encode(), crc)
    return f"crc32:{zlib.crc32(section, crc):08x}"


def assemble(
    graph: Mapping[str, Any] | str,
    leaves: Mapping[str, RawLeaf],
    *,
    order: Sequence[str] | None = None,
    patch: Patch | None = None,
    trailing: bytes = b"",
    seal: bool = True,
) -> bytes:
    """A file with leaves in the given order.

    `patch` changes the header's dictionary before the checksum is made to fit what results; `trailing` bytes follow the
    leaves; without `seal` there is no checksum.
    """
    graph_text = graph if isinstance(graph, str) else text(graph)
    section = b""
    header: Header = {"__metadata__": {"format": "bittern", "version": "0", "graph": graph_text}}
    for name in order if order is not None else by_size(leaves):
        entry = leaves[name]
        offsets = [len(section), len(section) + len(entry.data)]
        header[name] = {"data_offsets": offsets, "dtype": entry.dtype, "shape": list(entry.shape)}
        section += entry.data
    section += trailing
    if patch is not None:
        patch(header)
    if seal:
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        header["__metadata__"].setdefault("checksum", checksum(graph_text, entries, section))
    return container(padded(text(header).encode("utf-8")), section)


def padded(header: bytes) -> bytes:
    """Spaces so that the data section starts at a multiple of 64."""
    return header + b" " * (-(8 + len(header)) % 64)


def by_size(leaves: Mapping[str, RawLeaf]) -> list[str]:
    """The writer's order: falling element size, then name."""

    def key(name: str) -> tuple[int, str]:
        dtype = leaves[name].dtype
        return -(2 if dtype == "BF16" else DTYPES[dtype].itemsize), name

    return sorted(leaves, key=key)


def declared(array: Array) -> tuple[str, Sequence[int]]:
    """An array's element type in a graph, and its shape."""
    return NAMES[array.dtype].lower(), array.shape


def raw_file(
    inputs: Mapping[str, Declared],
    constants: Mapping[str, Array],
    nodes: Sequence[Node],
    outputs: Mapping[str, Declared],
) -> bytes:
    """A file of these nodes, its constants dense."""

    def values(found: Mapping[str, Declared]) -> list[dict[str, Any]]:
        return [
            {"name": name, "dtype": value}
            if isinstance(value, str)
            else {"name": name, "dtype": value[0], "shape": list(value[1])}
            for name, value in found.items()
        ]

    graph = {
        "name": "raw",
        "inputs": values(inputs),
        "outputs": values(outputs),
        "constants": {name: {"kind": "dense", "leaf": name} for name in constants},
        "nodes": [
            {"name": f"{op}_{i}", "op": op, "inputs": list(ins), "outputs": list(outs), "attributes": dict(attributes)}
            for i, (op, ins, outs, attributes) in enumerate(nodes)
        ],
        "metadata": {},
    }
    return assemble(graph, {name: leaf(array) for name, array in constants.items()})


def product_graph(tree: Mapping[str, Any] | str, shape: Sequence[int]) -> dict[str, Any]:
    """A graph that multiplies its input by the constant `w`."""
    value = {"dtype": "f32", "shape": list(shape)}
    return {
        "name": "hostile",
        "inputs": [{"name": "x", **value}],
        "outputs": [{"name": "y", **value}],
        "constants": {"w": tree if isinstance(tree, str) else dict(tree)},
        "nodes": [{"name": "product", "op": "Mul", "inputs": ["x", "w"], "outputs": ["y"], "attributes": {}}],
        "metadata": {},
    }


def pack_bits(codes: Array, bits: int) -> RawLeaf:
    """Codes as one bit stream, least significant bit first."""
    flat = codes.reshape(-1).astype(np.int64)
    planes = (flat[:, None] >> np.arange(bits, dtype=np.int64)) & 1
    data = np.packbits(planes.astype(np.uint8).reshape(-1), bitorder="little").tobytes()
    return RawLeaf("U8", (len(data),), data)
