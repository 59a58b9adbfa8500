"""Pruning by magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def prune(weight: NDArray[Any], density: float) -> NDArray[Any]:
    """Keep the ``round(density * size)`` elements of greatest magnitude (Han et al., arXiv 1506.02626).

    The threshold is the weight's own quantile. Among equal magnitudes the first in C order are kept. The others
    become zero; a weight with fewer non-zeros is returned as it is.
    """
    keep = round(density * weight.size)
    magnitude = np.abs(weight).reshape(-1)
    if np.count_nonzero(magnitude) <= keep:
        return weight
    out = np.zeros_like(weight).reshape(-1)
    if keep:
        threshold = np.partition(magnitude, weight.size - keep)[weight.size - keep]
        above = magnitude > threshold
        ties = np.flatnonzero(magnitude == threshold)[: keep - int(np.count_nonzero(above))]
        above[ties] = True
        out[above] = weight.reshape(-1)[above]
    return out.reshape(weight.shape)
