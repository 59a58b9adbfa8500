"""All methods by name. A new one is a file with a class, and a line here."""

from __future__ import annotations

from bittern.compression.prune.magnitude import MagnitudeMethod
from bittern.compression.prune.method import PruneMethod
from bittern.compression.prune.reconstruct import ReconstructMethod

METHODS: dict[str, type[PruneMethod]] = {method.name: method for method in (MagnitudeMethod, ReconstructMethod)}
