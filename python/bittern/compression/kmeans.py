"""Codebooks: exact where a weight has few distinct values, else by k-means."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bittern.encode.lloyd import lloyd
from bittern.errors import InputError


def codebook(values: NDArray[np.float32], limit: int) -> tuple[NDArray[np.float32], NDArray[np.uint32], bool]:
    """At most ``limit`` entries for these values, and the entry of each: ``(table, codes, exact)``.

    Exact, bit for bit, if there are no more distinct values than that; else one-dimensional k-means from evenly spread
    centroids (arXiv 1510.00149, section 3). The table rises; entries that nothing uses are left out.
    Raises InputError if values that must be clustered are not finite.
    """
    bits, codes = np.unique(values.view(np.uint32), return_inverse=True)
    if bits.size <= limit:
        distinct = bits.view(np.float32)
        order = np.lexsort((bits, distinct))  # by value, -0.0 and NaN where their bits put them
        rank = np.empty(order.size, dtype=np.uint32)
        rank[order] = np.arange(order.size, dtype=np.uint32)
        return distinct[order], rank[codes.reshape(-1)], True
    if not np.isfinite(values).all():
        raise InputError("weight", "holds values that are not finite", "train it again, or leave this layer out")
    ordered = np.sort(values)
    centroids, ends = lloyd(ordered, limit)
    # Assign to the float32 centroids that are stored; midpoints go down, as in the clustering.
    table = np.unique(centroids.astype(np.float32)[np.diff(ends, prepend=0) > 0])
    middle = (table[:-1].astype(np.float64) + table[1:].astype(np.float64)) * 0.5
    assigned = np.searchsorted(middle, values.astype(np.float64), side="left").astype(np.uint32)
    return _trimmed(table, assigned)


def _trimmed(table: NDArray[Any], codes: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.uint32], bool]:
    used = np.bincount(codes, minlength=table.size) > 0
    rank = np.cumsum(used) - 1
    return table[used], rank[codes].astype(np.uint32), False
