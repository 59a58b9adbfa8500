"""Methods that quantise weights: the papers' numbers, optimality against brute force, and what the file says."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from bittern.compression.layerwise.batch_norm import nearest_power
from bittern.compression.layerwise.grid import Layout, LevelGrid, WeightMethod
from bittern.compression.quantize import half_gaussian
from bittern.compression.quantize.affine import AffineMethod
from bittern.compression.quantize.entropy import constrained_levels
from bittern.compression.quantize.fixed_point import best_step, steps
from bittern.compression.quantize.kmeans import exact_levels, levels_of
from bittern.compression.quantize.methods import METHODS
from bittern.compression.quantize.powers import linear_quantised
from bittern.compression.quantize.shift import shift_codes, shift_values
from bittern.compression.quantize.ternary import best_split
from bittern.encodings import Huffman, Rans
from bittern.errors import InputError

from tests.compare import assert_equal, assert_same_bits
from tests.reference.arrays import Array

method_of: dict[str, Any] = dict(METHODS)  # what each takes is its own

LAYOUTS = {
    "conv": Layout((6, 5, 3, 3), 0, 1),
    "linear": Layout((7, 40), 0, 1),
    "matmul": Layout((40, 7), 1, 0),
    "recurrent": Layout((2, 12, 9), 1, 2),
    "transposed": Layout((5, 4, 3, 3), 1, 0),
    "one channel": Layout((1, 30), 0, 1),
}


def variants() -> list[Any]:
    """Every method with its defaults, and with each of its options that is a switch turned."""
    made: list[Any] = []
    for name, method in method_of.items():
        made.append(pytest.param(method(), id=name))
        for item in fields(method):
            if item.default is True or item.default is False:
                made.append(pytest.param(method(**{item.name: not item.default}), id=f"{name} {item.name}"))
    for bits in (2, 3, 5):
        made.append(pytest.param(AffineMethod(bits=bits, group=2, symmetric=bits != 3), id=f"affine {bits} groups"))
        made.append(pytest.param(AffineMethod(bits=bits, scale="percentile"), id=f"affine {bits} percentile"))
    return made


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("method", variants())
def test_the_encoding_says_what_the_grid_says(method: WeightMethod, layout: Layout, rng: np.random.Generator) -> None:
    """Decoding gives the grid's values bit for bit; rounding rounded values changes nothing more."""
    weight = rng.laplace(scale=0.1, size=layout.shape)
    rows = layout.rows(weight)
    assert_equal(layout.tensor(rows), weight)
    for importance in (None, rng.random(rows.shape)):
        grid = method.fit(rows, layout, importance)
        codes = grid.nearest(rows)
        tree = grid.encoding(codes, layout)
        assert tree.shape == layout.shape
        assert_same_bits(tree.decode(), layout.tensor(grid.values(codes)).astype(np.float32))
        one_by_one = [grid.nearest(rows[:, i : i + 1], np.array([i])) for i in range(rows.shape[1])]
        if method.name != "entropy":  # which weighs a bit against the error, so that a tie may fall otherwise
            assert_equal(np.concatenate(one_by_one, axis=1), codes)


@pytest.mark.parametrize("method", variants())
@pytest.mark.parametrize("value", [0.0, 1.5, -0.25])
def test_constant_weights(method: WeightMethod, value: float) -> None:
    layout = LAYOUTS["linear"]
    rows = np.full((7, 40), value)
    grid = method.fit(rows, layout, np.zeros(rows.shape))
    found = grid.round(rows)
    assert np.isfinite(found).all()
    assert_same_bits(grid.encoding(grid.nearest(rows), layout).decode(), found.astype(np.float32))
    whole = not getattr(method, "centre", False)  # which takes the mean away
    if method.name not in ("balanced", "linear", "log", "dorefa", "shift") and whole and value:
        assert np.abs(found - value).max() <= 0.01 * abs(value)


def test_options_are_checked() -> None:
    for options in ({"bits": 1}, {"bits": 9}, {"bits": 4.0}, {"scale": "best"}, {"group": 0}, {"symmetric": 1}):
        with pytest.raises(InputError, match=next(iter(options))):
            method_of["affine"](**options)
    for name, key, value in (("shift", "terms", 0), ("ternary", "rule", "x"), ("codebook", "objective", "x")):
        with pytest.raises(InputError, match=key):
            method_of[name](**{key: value})


def test_affine_by_hand() -> None:
    layout = Layout((2, 4), 0, 1)
    rows = np.array([[-1.0, 0.5, 0.26, 0.0], [0.0, 2.0, 0.1, -2.0]])
    grid = AffineMethod(bits=8, scale="minmax").fit(rows, layout)
    assert_equal(grid.scale, np.array([[1 / 127], [2 / 127]], np.float32))
    assert grid.nearest(rows).tolist() == [[-127, 64, 33, 0], [0, 127, 6, -127]]
    grid = AffineMethod(bits=4, symmetric=False, scale="minmax", per_channel=False).fit(rows, layout)
    assert grid.scale.tolist() == [[np.float32(4 / 15)]] and grid.zero is not None and grid.zero.tolist() == [[7]]
    assert grid.nearest(rows).tolist() == [[3, 9, 8, 7], [7, 14, 7, 0]]


def test_affine_least_error_beats_the_range(rng: np.random.Generator) -> None:
    rows = rng.laplace(size=(16, 300))
    layout = Layout((16, 300), 0, 1)
    for bits in range(2, 9):
        errors = [
            np.square(AffineMethod(bits=bits, scale=scale).fit(rows, layout).round(rows) - rows).sum(axis=1)
            for scale in ("mse", "minmax")
        ]
        assert (errors[0] <= errors[1] * (1 + 1e-12)).all()
        assert bits > 4 or errors[0].sum() < 0.9 * errors[1].sum()


def test_groups_have_scales_of_their_own(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((4, 7, 3, 3)) * np.repeat([1, 100], [3, 4])[None, :, None, None]
    layout = Layout((4, 7, 3, 3), 0, 1)
    rows = layout.rows(weight)
    plain, grouped = (AffineMethod(bits=4, group=g).fit(rows, layout) for g in (None, 3))
    assert grouped.scale.shape == (4, 3 * 9)
    small = layout.rows(np.broadcast_to(np.arange(7)[None, :, None, None] < 3, weight.shape))[0]
    errors = [np.square(grid.round(rows) - rows)[:, small].sum() for grid in (plain, grouped)]
    assert errors[1] < 0.01 * errors[0]


def test_ternary_split_is_the_best() -> None:
    """The golden case of Learning-Compression, and every split of small rows."""
    value, limit = best_split(np.array([[0.9, 0.8, 0.7, 0.2, 0.1, 0.05]]))
    assert value[0, 0] == pytest.approx(0.8) and limit[0, 0] == pytest.approx(0.4)
    u = np.array([[0.9, -0.8, 0.7, 0.2, -0.1, 0.05]])
    grid = method_of["ternary"](rule="symmetric").fit(u, Layout((1, 6), 0, 1))
    assert grid.round(u)[0] == pytest.approx([0.8, -0.8, 0.8, 0, 0, 0])
    rng = np.random.default_rng(3)
    for _ in range(200):
        x, h = rng.standard_normal(7), rng.random(7) + 0.1
        value, limit = best_split(x[None], h[None])
        chosen = x > limit[0, 0]
        cost = float(h @ np.square(x * (x > 0) - value[0, 0] * chosen))
        best = np.inf
        for mask in itertools.product((False, True), repeat=7):
            pick = np.array(mask)
            mean = h[pick] @ x[pick] / h[pick].sum() if pick.any() else 0.0
            if mean >= 0:
                best = min(best, float(h @ np.square(x * (x > 0) - mean * pick)))
        assert cost <= best + 1e-12


def test_ternary_threshold_rule() -> None:
    rows = np.array([[1.0, -0.5, 0.04, -0.05, 0.06, -0.7]])
    grid = method_of["ternary"](rule="threshold", per_channel=True).fit(rows, Layout((1, 6), 0, 1))
    assert grid.nearest(rows).tolist() == [[1, 2, 0, 0, 1, 2]]
    assert grid.round(rows)[0].tolist() == [
        np.float32(0.53),
        -np.float32(0.6),
        0,
        0,
        np.float32(0.53),
        -np.float32(0.6),
    ]


def test_shift_codes_are_those_of_the_paper() -> None:
    weights = np.array([1, -0.7, 0.5, 0.3, -0.26, 0.1, 0.04, -0.02, 0.003, 0])
    codes = shift_codes(weights, 2, 4)
    assert codes[:, 0].tolist() == [1, -2, 2, 3, -3, 4, 6, -7, 0, 0]
    assert codes[:, 1].tolist() == [0, -2, 0, 4, -7, -5, 7, 0, 0, 0]
    expected = [1, -0.75, 0.5, 0.3125, -0.2578125, 0.09375, 0.0390625, -0.015625, 0, 0]
    assert shift_values(codes).tolist() == expected
    rows = weights[None]
    assert method_of["shift"]().fit(rows, Layout((1, 10), 0, 1)).round(rows)[0].tolist() == expected


@pytest.mark.parametrize(("terms", "bits"), [(1, 3), (1, 4), (2, 3), (2, 4), (3, 4), (3, 5)])
def test_shift_error_bound(terms: int, bits: int, rng: np.random.Generator) -> None:
    weights = rng.uniform(-1, 1, 20000)
    error = np.abs(shift_values(shift_codes(weights, terms, bits)) - weights)
    bound = np.maximum(np.abs(weights) / 3**terms, 1.5 * 2.0 ** (1 - terms - (2 ** (bits - 1) - 1)))
    assert (error <= bound).all()


def brute_force_levels(x: Array, h: Array, k: int) -> float:
    """The least weighted error of any division of sorted points into ``k`` runs."""
    best = np.inf
    for cuts in itertools.combinations(range(1, x.size), min(k, x.size) - 1):
        bounds = [0, *cuts, x.size]
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        best = min(best, sum(float(h[p] @ np.square(x[p] - np.average(x[p], weights=h[p]))) for p in parts))
    return best


def test_exact_clustering_equals_brute_force(rng: np.random.Generator) -> None:
    for _ in range(150):
        n, k = int(rng.integers(2, 11)), int(rng.integers(1, 5))
        x, h = rng.standard_normal(n), rng.random(n) + 0.01
        levels = exact_levels(x, k, h)
        found = float(h @ np.square(x - LevelGrid(levels).round(x[None])[0]))
        assert found <= brute_force_levels(np.sort(x), h[np.argsort(x)], k) + 1e-6
        assert (np.diff(levels) > 0).all() and levels.size <= k


def random_rounding_cost(x: Array, levels: Array) -> float:
    """The variance of rounding each point at random to the levels around it."""
    place = np.clip(np.searchsorted(levels, x, side="right"), 1, levels.size - 1)
    return float(np.sum((levels[place] - x) * (x - levels[place - 1])))


def test_levels_for_random_rounding() -> None:
    """ZipML's golden case, and brute force."""
    x = np.array([0, 0.1, 0.15, 0.4, 0.45, 0.5, 0.9, 1.0])
    for levels, cost in (([0, 1.0], 1.045), ([0, 0.45, 1], 0.17), ([0, 0.15, 0.5, 1], 0.085)):
        found = exact_levels(x, len(levels), objective="stochastic_var")
        assert found.tolist() == levels
        assert random_rounding_cost(x, found) == pytest.approx(cost)
    rng = np.random.default_rng(5)
    for _ in range(100):
        points, k = np.sort(rng.random(9)), int(rng.integers(2, 6))
        inner = itertools.combinations(points[1:-1], k - 2)
        best = min(random_rounding_cost(points, np.array([points[0], *mid, points[-1]])) for mid in inner)
        found = exact_levels(points, k, objective="stochastic_var")
        assert random_rounding_cost(points, found) <= best + 1e-12
        even = np.linspace(points[0], points[-1], k)
        assert random_rounding_cost(points, found) <= random_rounding_cost(points, even) + 1e-12


def test_binned_clustering_is_close_to_exact(rng: np.random.Generator) -> None:
    x = rng.laplace(size=6000)
    for k in (4, 16, 64):
        exact, binned = (
            np.square(x - LevelGrid(levels_of(x, k, None, "mse", p)).round(x[None])[0]).sum() for p in (None, 1024)
        )
        assert exact <= binned * (1 + 1e-6) and binned <= 1.01 * exact
    exact, binned = (random_rounding_cost(x, levels_of(x, 16, None, "stochastic_var", p)) for p in (None, 1024))
    assert exact <= binned <= 1.05 * exact


def test_weights_of_the_clustering_count(rng: np.random.Generator) -> None:
    rows, importance = rng.standard_normal((8, 100)), rng.random((8, 100)) ** 4
    layout = Layout((8, 100), 0, 1)
    plain, weighted = (method_of["codebook"](bits=3).fit(rows, layout, given) for given in (None, importance))
    cost = [float(np.sum(importance * np.square(grid.round(rows) - rows))) for grid in (plain, weighted)]
    assert cost[1] < 0.95 * cost[0]


def test_entropy_constrained_golden_case() -> None:
    w = np.array([-1, -0.9, -0.8, -0.1, 0, 0.05, 0.1, 0.8, 1, 1.1])
    h = np.array([1, 1, 2, 1, 1, 1, 1, 2, 1, 4], dtype=np.float64)
    centres, shares, history = constrained_levels(w, 4, 0.05, h)
    assert centres == pytest.approx([-0.875, 0.0125, 1.0])
    assert shares == pytest.approx([0.3, 0.4, 0.3])
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(history))


def test_entropy_constrained_clusters_of_any_numbers(rng: np.random.Generator) -> None:
    """The cost never rises, and weights that tell how errors count make the counted error less."""
    for draw in range(20):
        x = rng.laplace(size=int(rng.integers(20, 2000)))
        h = rng.random(x.size) ** 4 + 1e-3
        k, multiplier = int(rng.integers(1, 40)), float(rng.choice([0.0, 1e-3, 0.05, 1.0]))
        centres, shares, history = constrained_levels(x, k, multiplier, h)
        assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(history)), draw
        assert centres.size == shares.size <= k and shares.sum() == pytest.approx(1) and (np.diff(centres) > 0).all()
    x = rng.laplace(size=(8, 500))
    h = np.square(x) + 1e-3  # of large numbers, which are few, errors count most
    costs = []
    for given in (None, h):
        grid = method_of["entropy"](bits=3, multiplier=0.0).fit(x, Layout(x.shape, 0, 1), given)
        costs.append(float(np.sum(h * np.square(x - grid.round(x)))))
    assert costs[1] < 0.9 * costs[0]


def test_entropy_costs_fewer_bits(rng: np.random.Generator) -> None:
    rows = rng.laplace(size=(64, 400))
    layout = Layout((64, 400), 0, 1)
    sizes, errors = [], []
    for multiplier in (0.0, 0.01, 0.1):
        grid = method_of["entropy"](bits=6, multiplier=multiplier).fit(rows, layout)
        tree = grid.encoding(grid.nearest(rows), layout)
        sizes.append(tree.nbytes)
        errors.append(np.square(grid.round(rows) - rows).sum())
    assert sizes[0] > sizes[1] > sizes[2] and errors[0] < errors[1] < errors[2]
    assert any(isinstance(child, Huffman | Rans) for _, child in tree.children())
    cells = method_of["cells"](bits=6).fit(rows, layout)
    assert cells.encoding(cells.nearest(rows), layout).nbytes < 6 * rows.size / 8


def test_steps_of_the_fixed_point_networks() -> None:
    """Optimal steps for a normal distribution; halves are rounded away from zero."""
    assert steps(np.array([0.5, -0.5, 1.5, 2.4, -9.0]), np.array(1.0), 3).tolist() == [1, -1, 2, 2, -3]
    x = np.random.default_rng(1).standard_normal((1, 100_000))
    for bits, step, error in ((2, 1.2240, 0.19017), (3, 0.6508, 0.04686), (4, 0.3534, 0.01289), (5, 0.1932, 0.00369)):
        found = float(best_step(x, bits)[0, 0])
        assert found == pytest.approx(step, rel=0.01)
        rounded = found * steps(x, np.array(found), 2 ** (bits - 1) - 1)
        assert float(np.mean(np.square(x - rounded))) == pytest.approx(error, rel=0.015)


def test_half_gaussian_levels() -> None:
    for count, step in ((1, 0.79788), (2, 0.65101), (3, 0.53881), (7, 0.32173), (15, 0.18424)):
        assert half_gaussian.uniform_step(count) == pytest.approx(step, abs=1e-5)
    table = {
        1: [0.7979],
        2: [0.4528, 1.5104],
        3: [0.3177, 1.0001, 1.8936],
        7: [0.1457, 0.4413, 0.7504, 1.0856, 1.4675, 1.9386, 2.6251],
        15: [0.0702, 0.2109, 0.3531, 0.4977, 0.6459, 0.7989, 0.9585, 1.1266, 1.3061, 1.5009, 1.7168, 1.9632],
    }
    table[15] += [2.2574, 2.6366, 3.2136]
    for count, expected in table.items():
        assert half_gaussian.lloyd_levels(count) == pytest.approx(expected, abs=1e-4)
    levels = half_gaussian.lloyd_levels(3)
    limit = (levels[0] + levels[1]) / 2
    found = half_gaussian.quantised(np.array([-1, 0, 1e-9, limit, np.nextafter(limit, 9), 99]), levels)
    assert found.tolist() == [0, 0, levels[0], levels[0], levels[1], levels[2]]


def test_linear_and_logarithmic() -> None:
    x = np.array([-2.0, -0.3, 0.0, 0.124, 0.126, 0.9, 5.0])
    assert linear_quantised(x, 0.25, -1, 0.75).tolist() == [-1, -0.25, 0, 0, 0.25, 0.75, 0.75]
    assert nearest_power(np.array([0, 1, 1.41, 1.42, -0.3, 3])).tolist() == [0, 1, 1, 2, -0.25, 4]
    assert nearest_power(np.array([0.7, -5.5, 1.4142, 1.4143])).tolist() == [0.5, -4, 1, 2]
    rows = np.array([[0.9, -0.26, 0.1, 0.01, 0.0, 0.07]])
    layout = Layout((1, 6), 0, 1)
    assert method_of["log"](bits=3).fit(rows, layout).round(rows).tolist() == [[1, -0.25, 0.25 * 0, 0, 0, 0]]
    assert method_of["log"](bits=4).fit(rows, layout).round(rows).tolist() == [[1, -0.25, 0.125, 0.015625, 0, 0.0625]]
    grid = method_of["linear"](bits=4).fit(rows, layout)
    assert grid.scale.tolist() == [[0.25]] and grid.nearest(rows).tolist() == [[4, -1, 0, 0, 0, 0]]


def test_balanced_codes_are_used_evenly(rng: np.random.Generator) -> None:
    rows = 0.1 * rng.standard_normal((1, 200_000))
    layout = Layout(rows.shape, 0, 1)
    for options in ({}, {"spread": "median"}):
        grid = method_of["balanced"](scale="unit", **options).fit(rows, layout)
        shares = np.bincount(grid.nearest(rows)[0], minlength=4) / rows.size
        assert np.abs(shares - 0.25).max() < 0.01
        table = grid.table.astype(float)
        limit = 2.5 * np.abs(np.tanh(rows)).mean() if not options else 3 * np.median(np.abs(np.tanh(rows)))
        assert table == pytest.approx(limit * (np.arange(4) / 3 - 0.5), rel=1e-6)


def test_dorefa_levels(rng: np.random.Generator) -> None:
    rows = rng.standard_normal((3, 50))
    grid = method_of["dorefa"](bits=2, scale="unit").fit(rows, Layout((3, 50), 0, 1))
    unit = np.tanh(rows) / (2 * np.abs(np.tanh(rows)).max()) + 0.5
    assert grid.round(rows) == pytest.approx(2 * np.rint(unit * 3) / 3 - 1, abs=1e-7)
    matched = method_of["dorefa"](bits=2).fit(rows, Layout((3, 50), 0, 1)).round(rows)
    assert np.square(matched - rows).sum() < np.square(grid.round(rows) - rows).sum()
