"""Where a verb's result goes: text for readers, one JSON object for programs, nothing when quiet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bittern.report import Progress, json_text


class Output:
    """`json`: one object on standard output and nothing else; `quiet`: no text and no progress."""

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self.json = json
        self.quiet = quiet

    def result(self, document: dict[str, Any], text: str | Callable[[], str]) -> None:
        """Print the document or the text, whichever is wanted."""
        if self.json:
            print(json_text(document))
        elif not self.quiet:
            print(text() if callable(text) else text)

    def progress(self) -> Progress:
        """A progress line on standard error, shown on a terminal only."""
        return Progress(quiet=self.quiet)
