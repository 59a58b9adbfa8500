"""Errors of the package: what a user did or a file holds that cannot be served."""

from __future__ import annotations

_LONGEST = {"place": 1000, "problem": 1700, "remedy": 500}  # a part may quote a file, and a message is no dump of it


class Error(Exception):
    """Base of all errors of the package.

    ``place`` is a file, layer or argument; ``problem`` says what was found and what is allowed; ``remedy`` says what to
    do about it and may be empty.
    """

    def __init__(self, place: str, problem: str, remedy: str = "") -> None:
        place, problem, remedy = (
            text if len(text) <= most else f"{text[:most]}..."
            for text, most in zip((place, problem, remedy), _LONGEST.values(), strict=True)
        )
        super().__init__(place, problem, remedy)
        self.place = place
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.place}: {self.problem}" if self.place else self.problem
        return f"{text}; {self.remedy}" if self.remedy else text


class FormatError(Error):
    """A file is damaged or is not what it claims to be."""


class UnsupportedError(Error):
    """A file or request is valid, but this version cannot serve it."""


class InputError(Error):
    """An argument is wrong: a name, shape, element type, option or path."""


class ResourceError(Error):
    """A limit on memory or threads would be exceeded."""
