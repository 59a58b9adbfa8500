"""What a pruning method is: it decides which weights of a layer stay, and what values those take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from bittern.compression.layerwise.grid import Floats
from bittern.compression.prune.patterns import Cells, Mask, Pattern


@dataclass(frozen=True)
class Layer:
    """A layer's weight as rows ``[channels, n]``, and what is known of it.

    ``target`` is what its inputs, those of the pruned network, need in place of ``rows`` for the original's output.
    ``hessian``: the sum of ``x x^T`` over these inputs, ``[groups, n, n]``, or None.
    """

    rows: Floats
    target: Floats
    pattern: Pattern
    cells: Cells
    hessian: Floats | None = None


class PruneMethod(ABC):
    """Prunes a layer. A dataclass whose fields are its options; raises InputError for values out of range."""

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False

    @abstractmethod
    def prune(self, layer: Layer, density: float) -> tuple[Floats, Mask]:
        """New rows, and which of their elements are kept; all others are zero. Zeros that were there stay."""
