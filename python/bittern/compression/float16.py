"""Weights as 16-bit floats."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.compression.method import Compressed, Method
from bittern.encodings import Dense


class Float16(Method):
    """Round to the nearest IEEE half; a weight with values that a half cannot hold stays as it is."""

    def compress(self, weight: NDArray[Any], name: str, nodes: list[str]) -> Compressed:
        """Keeps NaN and infinity; the note has the greatest relative error of an element."""
        with np.errstate(over="ignore", under="ignore"):
            half = weight.astype(np.float16)
        if (np.isinf(half) & ~np.isinf(weight)).any():
            return Compressed(None, f"kept: values up to {np.abs(weight).max():.3g} are beyond float16")
        finite = np.isfinite(weight) & (weight != 0)
        exact = weight[finite].astype(np.float64)
        worst = float(np.max(np.abs(half[finite].astype(np.float64) - exact) / np.abs(exact), initial=0.0))
        return Compressed(Dense(half), f"largest relative error {worst:.2g}")
