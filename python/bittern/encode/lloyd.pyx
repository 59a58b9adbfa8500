# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""One-dimensional k-means on sorted values."""

import numpy as np


def lloyd(const float[::1] values, int k, int iterations=50):
    """Cluster non-decreasing finite ``values`` around ``k`` centroids, spread evenly from the least to the greatest at first.

    Lloyd's iteration until the assignment is stable, at most ``iterations`` times; an empty cluster keeps its centroid
    (Han et al., arXiv 1510.00149, section 3). Values halfway between two centroids go to the lower one.
    Returns ``(centroids float64[k], ends int64[k])``: cluster ``i`` holds ``values[ends[i - 1]:ends[i]]``.
    """
    cdef Py_ssize_t n = values.shape[0], i, begin, end
    cdef int j, turn
    cdef bint changed
    if k < 1 or n < 1:
        raise ValueError("at least one value and one centroid are needed")
    sum_array = np.empty(n + 1, dtype=np.float64)
    centroid_array = np.empty(k, dtype=np.float64)
    end_array = np.full(k, -1, dtype=np.int64)
    cdef double[::1] sums = sum_array, centroids = centroid_array
    cdef long long[::1] ends = end_array
    cdef double low = values[0], high = values[n - 1]
    with nogil:
        sums[0] = 0.0
        for i in range(n):
            sums[i + 1] = sums[i] + values[i]
        for j in range(k):
            centroids[j] = low + (high - low) * j / (k - 1) if k > 1 else sums[n] / n
        for turn in range(iterations + 1):
            # Sorted values and centroids: a cluster is the run of values up to the midpoint to the next centroid.
            changed = False
            begin = 0
            for j in range(k):
                end = n if j == k - 1 else _first_above(values, begin, (centroids[j] + centroids[j + 1]) * 0.5)
                if ends[j] != end:
                    ends[j] = end
                    changed = True
                begin = end
            if not changed or turn == iterations:
                break
            begin = 0
            for j in range(k):
                end = <Py_ssize_t>ends[j]
                if end > begin:
                    centroids[j] = (sums[end] - sums[begin]) / (end - begin)
                begin = end
    return centroid_array, end_array


cdef inline Py_ssize_t _first_above(const float[::1] values, Py_ssize_t begin, double limit) noexcept nogil:
    """The first index from ``begin`` on whose value is greater than ``limit``."""
    cdef Py_ssize_t end = values.shape[0], middle
    while begin < end:
        middle = begin + (end - begin) // 2
        if values[middle] > limit:
            end = middle
        else:
            begin = middle + 1
    return begin
