"""Comparisons that say where and by how much."""

import numpy as np

from tests.reference.arrays import Array


def differences(actual: Array, expected: Array, bound: Array | float = 0.0) -> str | None:
    """What is wrong with `actual`, or None: shape, type, NaN pattern, infinities, elements off by more than `bound`."""
    if actual.shape != expected.shape:
        return f"shape {actual.shape}, expected {expected.shape}"
    if actual.dtype != expected.dtype:
        return f"dtype {actual.dtype}, expected {expected.dtype}"
    if actual.size == 0:
        return None
    finite = np.isfinite(expected)
    odd = ~finite & ~((actual == expected) | (np.isnan(actual) & np.isnan(expected)))
    odd |= finite & ~np.isfinite(actual)
    limit = np.broadcast_to(np.asarray(bound, np.float64), expected.shape)
    # Where either side is not finite the verdict is `odd`; keep infinities out of the subtraction.
    usable = finite & np.isfinite(actual)
    error = np.abs(np.where(usable, actual, 0).astype(np.float64) - np.where(usable, expected, 0).astype(np.float64))
    wrong = odd | (error > limit)
    if not wrong.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        severity = np.where(odd, np.inf, np.where(wrong, error / limit, -1.0))
    worst = np.unravel_index(int(np.nanargmax(severity)), expected.shape)
    place = tuple(int(i) for i in worst)
    return (
        f"{int(wrong.sum())} of {expected.size} elements wrong; worst at {place}: {actual[worst]!r},"
        f" expected {expected[worst]!r}, error {error[worst]:.3g}, allowed {limit[worst]:.3g}"
    )


def assert_within(actual: Array, expected: Array, bound: Array | float, what: str = "") -> None:
    """Fail unless every element is within its bound."""
    problem = differences(actual, expected, bound)
    assert problem is None, f"{what}: {problem}"


def assert_equal(actual: Array, expected: Array, what: str = "") -> None:
    """Fail unless all elements are equal in value (0.0 equals -0.0)."""
    assert_within(actual, expected, 0.0, what)


def assert_same_bits(actual: Array, expected: Array, what: str = "") -> None:
    """Fail unless dtype, shape and every bit agree (-0.0 differs from 0.0)."""
    problem = None
    if actual.dtype != expected.dtype or actual.shape != expected.shape:
        problem = f"{actual.dtype} {actual.shape}, expected {expected.dtype} {expected.shape}"
    elif actual.tobytes() != expected.tobytes():
        bits = np.dtype(f"u{expected.dtype.itemsize}")
        a, e = (np.asarray(array, order="C").reshape(-1).view(bits) for array in (actual, expected))
        at = int(np.flatnonzero(a != e)[0])
        problem = (
            f"{int((a != e).sum())} of {e.size} elements differ; first at flat index {at}: {actual.reshape(-1)[at]!r}"
            f" ({int(a[at]):#x}), expected {expected.reshape(-1)[at]!r} ({int(e[at]):#x})"
        )
    assert problem is None, f"{what}: {problem}"
