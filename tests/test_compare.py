"""The comparisons themselves: they must fail on wrong data."""

import numpy as np
import pytest

from tests import tolerances
from tests.compare import assert_equal, assert_same_bits, assert_within, differences

X = np.array([[1.0, -2.0, 0.0], [3.5, 1e-3, 7.0]], np.float32)


def test_equal_arrays_pass() -> None:
    assert_equal(X.copy(), X)
    assert_same_bits(X.copy(), X)
    assert_within(X, X, 0.0)
    assert differences(X[:0], X[:0]) is None


def test_one_unit_in_the_last_place_is_seen() -> None:
    wrong = X.copy()
    wrong[1, 2] = np.nextafter(np.float32(7), np.float32(8))
    problem = differences(wrong, X)
    assert problem is not None and "(1, 2)" in problem and "1 of 6" in problem
    with pytest.raises(AssertionError, match="layer"):
        assert_equal(wrong, X, "layer")
    with pytest.raises(AssertionError):
        assert_same_bits(wrong, X)
    assert_within(wrong, X, 1e-6)


def test_wrong_shape_and_dtype_are_seen() -> None:
    for check in (assert_equal, assert_same_bits):
        with pytest.raises(AssertionError):
            check(X.T.copy(), X)
        with pytest.raises(AssertionError):
            check(X.astype(np.float64), X)
        with pytest.raises(AssertionError):
            check(X[:1], X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_seen_on_either_side(bad: float) -> None:
    other = X.copy()
    other[0, 1] = bad
    pairs = [(other, X), (X, other)]
    if not np.isnan(bad):
        pairs.append((other, -other))
    for actual, expected in pairs:
        with pytest.raises(AssertionError):
            assert_within(actual, expected, 1e30)
    assert_within(other, other.copy(), 0.0)


def test_bound_is_per_element() -> None:
    off = X + np.float32(0.25)
    assert_within(off, X, 0.25)
    bound = np.full(X.shape, 0.25)
    bound[1, 0] = 0.2
    problem = differences(off, X, bound)
    assert problem is not None and "(1, 0)" in problem


def test_negative_zero_counts_only_bit_for_bit() -> None:
    flipped = X.copy()
    flipped[0, 2] = -0.0
    assert_equal(flipped, X)
    with pytest.raises(AssertionError, match="index 2"):
        assert_same_bits(flipped, X)


def test_dot_bound_holds_for_any_order_and_rejects_a_lost_product(rng: np.random.Generator) -> None:
    w, x = rng.standard_normal((2, 600)).astype(np.float32)
    exact = np.float32(np.dot(w.astype(np.float64), x.astype(np.float64)))
    bound = tolerances.dot_bound(600, np.dot(np.abs(w), np.abs(x)).reshape(1))
    for order in (np.arange(600), np.arange(600)[::-1], rng.permutation(600), np.argsort(w * x)):
        total = np.float32(0)
        for product in (w * x)[order]:
            total += product
        assert_within(total.reshape(1), exact.reshape(1), bound)
    lost = np.float32(exact - w[np.argmax(np.abs(w * x))] * x[np.argmax(np.abs(w * x))])
    with pytest.raises(AssertionError):
        assert_within(lost.reshape(1), exact.reshape(1), bound)
