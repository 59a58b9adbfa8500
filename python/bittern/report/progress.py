"""One line of progress on standard error, and only on a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_WIDTH = 24
_INTERVAL_S = 0.05


class Progress:
    """Callable as `progress(done, total, what)`; a context manager that wipes its line at the end.

    Silent when `quiet` or when the stream is not a terminal, so logs and pipes stay clean.
    """

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._active = not quiet and self._stream.isatty()
        self._shown = 0
        self._last = 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if not self._active or (now - self._last < _INTERVAL_S and done < total):
            return
        self._last = now
        filled = _WIDTH * done // total if total > 0 else _WIDTH
        text = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total} {what}"[:100]
        self._stream.write("\r" + text.ljust(self._shown))
        self._stream.flush()
        self._shown = len(text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._stream.write("\r" + " " * self._shown + "\r")
            self._stream.flush()
            self._shown = 0
