"""Aligned plain-text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", total: Sequence[str] = ()) -> str:
    """Render rows under headers, columns two spaces apart.

    `align` has a letter per column, `l` (default) or `r`. `total`, if given, stands below a rule.
    Every row has as many cells as there are headers; ValueError otherwise. Cells are one line each.
    """
    body = [[str(cell) for cell in row] for row in rows]
    foot = [[str(cell) for cell in total]] if total else []
    for row in body + foot:
        if len(row) != len(headers):
            raise ValueError(f"table row has {len(row)} cells, {len(headers)} headers")
    widths = [max(len(row[i]) for row in [list(headers), *body, *foot]) for i in range(len(headers))]
    sides = align.ljust(len(headers), "l")

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, sides, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    lines = [line(headers), rule, *(line(row) for row in body)]
    if foot:
        lines += [rule, *(line(row) for row in foot)]
    return "\n".join(lines)
