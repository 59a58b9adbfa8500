"""A second reader of the container, written from docs/format.md alone: struct and json, no checks beyond sanity."""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.reference.arrays import Array

DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


@dataclass(frozen=True)
class Leaf:
    """A raw tensor of the file: its declared type and shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    def array(self) -> Array:
        """The leaf's elements; bfloat16 is widened to float32, which is exact."""
        if self.dtype == "BF16":
            upper = np.frombuffer(self.data, "<u2").astype(np.uint32)
            widened: Array = (upper << np.uint32(16)).view(np.float32)
            return widened.reshape(self.shape)
        return np.frombuffer(self.data, DTYPES[self.dtype]).reshape(self.shape)


def parse(data: bytes) -> tuple[dict[str, Any], dict[str, Leaf]]:
    """The graph object and the leaves of a file."""
    (length,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + length].decode("utf-8"))
    metadata = header.pop("__metadata__")
    assert metadata["format"] == "bittern" and metadata["version"] == "0"
    section = data[8 + length :]
    leaves = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        leaves[name] = Leaf(entry["dtype"], tuple(entry["shape"]), section[begin:end])
    graph: dict[str, Any] = json.loads(metadata["graph"])
    return graph, leaves
