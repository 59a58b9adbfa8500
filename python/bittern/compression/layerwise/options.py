"""Checks of options, with messages that say what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bittern.errors import InputError


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> Any:
    """``value`` if it is one of ``allowed``. Raises InputError."""
    for choice in allowed:
        if type(value) is type(choice) and value == choice:
            return choice
    raise InputError(name, f"is {value!r}", f"use one of {', '.join(map(str, allowed))}")


def whole_in(name: str, value: Any, least: int, most: int) -> int:
    """``value`` as a whole number in a range. Raises InputError."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise InputError(name, f"is {value!r}", f"give an integer from {least} to {most}")
    return int(value)


def number_in(name: str, value: Any, least: float, most: float) -> float:
    """``value`` as a number in a range. Raises InputError."""
    whole = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        raise InputError(name, f"is {value!r}", f"give a number from {least:g} to {most:g}")
    return float(value)
