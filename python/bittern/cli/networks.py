"""What several verbs say about a network: its inputs, outputs, sizes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bittern.errors import InputError
from bittern.report import shape_text

if TYPE_CHECKING:
    from bittern.network import Network


class Value(Protocol):
    """An input or output of a network or model."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str] | None: ...
    @property
    def dtype(self) -> str: ...


def check_source(path: str) -> None:
    """OSError, naming the path, unless it is a readable file."""
    if not path:
        raise InputError("source", "its path is empty", "give the path of a file")
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    with open(path, "rb"):
        pass


def values_json(values: Iterable[Value]) -> list[dict[str, Any]]:
    """Name, shape and dtype of each."""
    return [
        {"name": value.name, "shape": None if value.shape is None else list(value.shape), "dtype": value.dtype}
        for value in values
    ]


def values_text(values: Iterable[Value]) -> str:
    """`image Nx1x8x8 f32, mask N f32`."""
    return ", ".join(f"{value.name} {shape_text(value.shape)} {value.dtype}" for value in values)


def network_json(network: Network) -> dict[str, Any]:
    """The document's part about the network itself."""
    return {
        "name": network.name,
        "inputs": values_json(network.inputs),
        "outputs": values_json(network.outputs),
        "nodes": len(network.nodes),
        "constants": len(network.constants),
        "metadata": dict(sorted(network.metadata.items())),
    }


def network_lines(network: Network) -> list[str]:
    """A few lines for a reader."""
    operators: dict[str, int] = {}
    for node in network.nodes:
        operators[node.op] = operators.get(node.op, 0) + 1
    lines = [
        f"inputs   {values_text(network.inputs)}",
        f"outputs  {values_text(network.outputs)}",
        f"nodes    {len(network.nodes)}: " + ", ".join(f"{op} {n}" for op, n in sorted(operators.items())),
    ]
    return lines + metadata_lines(network.metadata)


def metadata_lines(metadata: dict[str, str]) -> list[str]:
    """What the file tells `bittern run`: preprocessing and labels."""
    import json

    lines = []
    if "preprocess" in metadata:
        lines.append(f"images   {metadata['preprocess']}")
    if "labels" in metadata:
        try:
            labels = json.loads(metadata["labels"])
            lines.append(f"labels   {len(labels)}: {', '.join(map(str, labels[:3]))}{', ...' if labels[3:] else ''}")
        except (ValueError, TypeError, RecursionError):
            lines.append("labels   unreadable")
    return lines
