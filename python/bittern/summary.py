"""What the constants of a network take and hold: one row each, and totals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bittern.encodings import Encoding, leaf_key
from bittern.errors import Error, InputError
from bittern.operators import OPERATORS
from bittern.report.quantities import bytes_short, ratio, significant
from bittern.report.table import table

if TYPE_CHECKING:
    from bittern.network import Network


@dataclass(frozen=True)
class Row:
    """One constant. ``error`` is the relative RMS error that compression made, None if nobody measured it."""

    name: str
    op: str  # the first operator that uses it; empty if none does
    encoding: str
    elements: int
    density: float  # share of elements that are not zero
    bits_per_weight: float
    bytes_dense: int  # as dense float32, or integers of their own type
    bytes: int
    error: float | None
    note: str
    is_weight: bool = True
    output_error: float | None = None  # likewise, of the first layer's output, on calibration data


@dataclass(frozen=True)
class Summary:
    """The rows of a network. ``str()`` is a table of the weights; the other constants share one line."""

    name: str
    rows: tuple[Row, ...]
    file_bytes: int | None  # the whole file; None if the network is not complete yet
    bytes: int  # all leaves, those that several constants share counted once
    remarks: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, Any]:
        """Elements, density, bits per weight and bytes over all rows."""
        elements = sum(row.elements for row in self.rows)
        dense = sum(row.bytes_dense for row in self.rows)
        nonzero = sum(round(row.density * row.elements) for row in self.rows)
        return {
            "elements": elements,
            "density": nonzero / elements if elements else 0.0,
            "bits_per_weight": 8 * self.bytes / elements if elements else 0.0,
            "bytes_dense": dense,
            "bytes": self.bytes,
            "ratio": dense / self.bytes if self.bytes else 1.0,
            "file_bytes": self.file_bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data: ``name``, ``rows``, ``totals``, ``remarks``."""
        rows = [asdict(row) for row in self.rows]
        return {"name": self.name, "rows": rows, "totals": self.totals, "remarks": list(self.remarks)}

    def __str__(self) -> str:
        headers = ("weight", "op", "encoding", "elements", "density", "bits", "dense", "bytes", "error", "note")
        lines = [_cells(row) for row in self.rows if row.is_weight]
        others = [row for row in self.rows if not row.is_weight]
        if others:
            size = sum(row.bytes for row in others)
            lines.append(_cells(_merged(f"{len(others)} other constants", others, size)))
        totals = _cells(_merged("total", list(self.rows), self.bytes))
        text = table(headers, lines, "lllrrrrrrl", totals)
        if self.file_bytes:
            dense = self.totals["bytes_dense"]
            smaller = ratio(dense / self.file_bytes)
            text += f"\nfile {self.file_bytes:,} bytes; the dense constants take {dense:,} ({smaller})"
        return "\n".join([text, *self.remarks])


def _merged(name: str, rows: list[Row], size: int) -> Row:
    """Several rows as one."""
    elements = sum(row.elements for row in rows)
    nonzero = sum(round(row.density * row.elements) for row in rows)
    density, bits = (nonzero / elements, 8 * size / elements) if elements else (0.0, 0.0)
    return Row(name, "", "", elements, density, bits, sum(row.bytes_dense for row in rows), size, None, "")


def _cells(row: Row) -> list[str]:
    error = "" if row.error is None else "exact" if row.error == 0 else significant(row.error, 2)
    return [
        row.name,
        row.op,
        row.encoding,
        f"{row.elements:,}",
        f"{100 * row.density:.1f} %",
        significant(row.bits_per_weight),
        bytes_short(row.bytes_dense),
        bytes_short(row.bytes),
        error,
        row.note,
    ]


def _nonzero(name: str, tree: Encoding) -> int:
    try:
        return tree.nnz
    except Error as error:
        raise type(error)(f"constant {name!r}: {error.place}", error.problem, error.remedy) from None


def summarize(network: Network) -> Summary:
    """The summary of a network; decodes every constant once. Raises FormatError for leaves that cannot be decoded."""
    users: dict[str, str] = {}
    weights: set[str] = set()
    for node in network.nodes:
        for index, name in enumerate(node.inputs):
            users.setdefault(name, node.op)
            if node.op in OPERATORS and index in OPERATORS[node.op].weights:
                weights.add(name)
    rows: list[Row] = []
    leaves: dict[tuple[Any, ...], int] = {}
    order = {name: index for index, name in enumerate(users)}  # as the nodes use them, whatever the file's order
    for name in sorted(network.constants, key=lambda name: (order.get(name, len(order)), name)):
        tree = network.constants[name]
        leaves.update({leaf_key(leaf): leaf.nbytes for leaf in tree.leaves()})
        size, nonzero = tree.size, _nonzero(name, tree)
        dense = 4 * size if tree.is_real else tree.nbytes
        rows.append(
            Row(
                name,
                users.get(name, ""),
                tree.describe(),
                size,
                nonzero / size if size else 0.0,
                8 * tree.nbytes / size if size else 0.0,
                dense,
                tree.nbytes,
                network._errors.get(name),
                network._notes.get(name, ""),
                name in weights,
                network._output_errors.get(name),
            )
        )
    try:
        file_bytes = len(network.to_bytes())
    except InputError:
        file_bytes = None
    return Summary(network.name, tuple(rows), file_bytes, sum(leaves.values()), tuple(network._remarks))
