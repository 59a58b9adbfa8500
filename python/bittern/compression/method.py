"""What a compression method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bittern.encodings import Encoding


@dataclass(frozen=True)
class Compressed:
    """The new encoding of a weight (None: leave it as it is), and a remark for the summary."""

    encoding: Encoding | None
    note: str = ""


class Method(ABC):
    """Turns one weight into a smaller encoding."""

    def check_names(self, weights: Mapping[str, list[str]]) -> None:  # noqa: B027 - few methods have such options
        """Check options that name weights or nodes against those that exist. Raises InputError."""

    @abstractmethod
    def compress(self, weight: NDArray[Any], name: str, nodes: list[str]) -> Compressed:
        """The encoding of a float32 weight that these nodes use."""
