"""Binary weights that weigh errors by the curvature of the loss: LAB's closed form (Hou et al., arXiv 1611.01600)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from bittern.compression.layerwise.grid import Floats, Layout, WeightMethod
from bittern.compression.layerwise.options import number_in, one_of
from bittern.compression.quantize.binary import SignGrid, mean_scale
from bittern.errors import InputError

REMEDY = "give the second moments of the gradients by the name of the weight, in its shape: a dict, or an .npz file"


@dataclass(frozen=True)
class LossAwareMethod(WeightMethod):
    """The scale ``sum(d |w|) / sum(d)`` with ``d = sqrt(v) + epsilon``: one for a weight, or for each channel.

    ``curvature``: by the name of a weight, the mean squares ``v`` of its elements' gradients (Adam's second moments, of
    a float32 array in the weight's shape); a dict, or the path of an .npz file of such. For weights it does not name,
    the mean squares of the inputs that an element meets stand in where calibration data is given and the recipe
    reconstructs; else all elements count alike, which is "binary".
    """

    name: ClassVar[str] = "loss-aware"
    has_zero: ClassVar[bool] = False
    curvature: Any = None
    epsilon: float = 1e-8
    per_channel: bool = False

    def __post_init__(self) -> None:
        number_in("epsilon", self.epsilon, 0, 1e6)
        one_of("per_channel", self.per_channel, (True, False))
        object.__setattr__(self, "curvature", _arrays(self.curvature))  # once, so that a file is read once

    def named(self, name: str) -> WeightMethod:
        if name not in self.curvature:
            return self
        return _Known(self.curvature[name], self)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> SignGrid:
        distance = None if importance is None else np.sqrt(importance) + self.epsilon
        return SignGrid(mean_scale(np.abs(rows), distance, self.per_channel))


@dataclass(frozen=True)
class _Known(WeightMethod):
    """The method for one weight whose second moments are known."""

    name: ClassVar[str] = LossAwareMethod.name
    has_zero: ClassVar[bool] = False
    moments: Floats
    method: LossAwareMethod = field(default_factory=LossAwareMethod)

    def fit(self, rows: Floats, layout: Layout, importance: Floats | None = None) -> SignGrid:
        if self.moments.shape != layout.shape:
            raise InputError(
                "curvature", f"has shape {list(self.moments.shape)}, the weight has {list(layout.shape)}", REMEDY
            )
        if not np.isfinite(self.moments).all() or (self.moments < 0).any():
            raise InputError("curvature", "holds values that are negative or not finite", REMEDY)
        return self.method.fit(rows, layout, layout.rows(self.moments))


def _arrays(given: Any) -> dict[str, Floats]:
    if given is None:
        return {}
    if isinstance(given, (str, os.PathLike)):
        from bittern.cli.files import read_arrays

        path = os.fspath(given)
        try:
            given = read_arrays(path)
        except OSError as error:
            raise InputError(path, f"cannot be read: {error.strerror or error}") from None
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InputError("curvature", f"is a {type(given).__name__}", REMEDY)
    return {name: np.asarray(array, dtype=np.float64) for name, array in given.items()}
