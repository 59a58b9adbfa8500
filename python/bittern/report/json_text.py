"""Deterministic JSON of plain results: numpy scalars become numbers, values that are not finite become null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None. TypeError for what has no such form."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    if isinstance(value, PathLike):
        return str(fspath(value))
    convert = getattr(value, "tolist", None)
    if convert is not None:
        return plain(convert())
    report = getattr(value, "to_json", None)
    if report is not None:
        made = report()
        return plain(json.loads(made) if isinstance(made, str) else made)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def json_text(value: Any) -> str:
    """The JSON text, two spaces deep, keys in the order they were made."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
