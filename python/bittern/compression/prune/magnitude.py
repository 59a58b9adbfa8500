"""The smallest magnitudes go (Han et al., arXiv 1506.02626)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bittern.compression.layerwise.grid import Floats
from bittern.compression.layerwise.options import one_of
from bittern.compression.prune.method import Layer, PruneMethod
from bittern.compression.prune.patterns import Mask, select


@dataclass(frozen=True)
class MagnitudeMethod(PruneMethod):
    """Scores are ``|w|``, or ``w^2`` with ``norm`` "l2": they differ where a pattern adds up several."""

    name: ClassVar[str] = "magnitude"
    norm: str = "l1"

    def __post_init__(self) -> None:
        one_of("norm", self.norm, ("l1", "l2"))

    def prune(self, layer: Layer, density: float) -> tuple[Floats, Mask]:
        scores = np.abs(layer.rows) if self.norm == "l1" else np.square(layer.rows)
        kept = select(layer.pattern, layer.cells, scores, density, layer.rows != 0)
        return np.where(kept, layer.rows, 0.0), kept
