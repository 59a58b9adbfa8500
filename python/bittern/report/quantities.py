"""Numbers as readers want them: bytes, milliseconds, ratios, shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence


def bytes_short(count: float) -> str:
    """`912 B`, `41.3 kB`, `5.00 MB`: powers of 1000, three digits."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{significant(count / size)} {unit}"
    return f"{count:.0f} B"


def bytes_exact(count: int) -> str:
    """`675,763`."""
    return f"{count:,}"


def significant(value: float, digits: int = 3) -> str:
    """A number rounded to so many significant digits, never in exponent form below a million."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")  # 9.999 has the decimals of 10.0
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    if abs(value) < 1e-4 or abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(decimals, 0)}f}"


def milliseconds(value: float) -> str:
    """`0.043 ms`, `12.3 ms`: three digits."""
    return f"{significant(value)} ms"


def ratio(value: float) -> str:
    """`12.3x`."""
    return f"{significant(value)}x"


def accuracy(value: float) -> str:
    """A share of 1 as a percentage with two decimals, `98.89 %`."""
    return f"{100 * value:.2f} %"


def shape_text(shape: Sequence[int | str] | None) -> str:
    """`Nx3x227x227`; `scalar` for the empty shape, `any shape` for one that is not known."""
    if shape is None:
        return "any shape"
    return "x".join(str(size) for size in shape) or "scalar"
