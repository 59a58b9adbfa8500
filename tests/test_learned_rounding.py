"""Rounding up or down as gradient descent finds it, against all choices, rounding to nearest, and compensation."""

from __future__ import annotations

import itertools

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.grid import Grid, Kept, Layout, LevelGrid
from bittern.compression.layerwise.learned import learned
from bittern.compression.layerwise.reconstruct import compensated, damped
from bittern.compression.layerwise.walk import decibels
from bittern.compression.quantize.affine import AffineMethod
from bittern.compression.quantize.ternary import TernaryMethod
from bittern.errors import InputError

from tests.pruned_networks import residual
from tests.reference.arrays import Array


def grids(rng: np.random.Generator, rows: Array) -> list[Grid]:
    """Even levels, any levels for all rows and for each, and the first with some elements pruned."""
    even = AffineMethod(bits=3, scale="minmax").fit(rows, Layout((rows.shape[0], rows.shape[1]), 0, 1))
    levels = np.sort(np.linspace(-4, 4, 9) + 0.2 * rng.standard_normal((rows.shape[0], 9)), axis=1)
    return [even, LevelGrid(levels[0]), LevelGrid(levels), Kept(even, rng.random(rows.shape) < 0.7)]


def test_neighbours_enclose(rng: np.random.Generator) -> None:
    rows = 1.5 * rng.standard_normal((4, 300))
    for grid in grids(rng, rows):
        found = grid.neighbours(rows)
        assert found is not None
        nearest = grid.round(rows)
        below, above = (grid.values(codes) for codes in found)
        assert ((found[1] - found[0] == 1) | (below == above)).all()
        inside = below < above
        assert (below[inside] < rows[inside]).all() and (rows[inside] <= above[inside]).all()
        closer = np.where(np.abs(below - rows) <= np.abs(above - rows), below, above)
        assert np.abs(np.abs(closer - rows) - np.abs(nearest - rows)).max() < 1e-6
    assert TernaryMethod().fit(rows, Layout((4, 300), 0, 1)).neighbours(rows) is None


def cost(new: Array, rows: Array, hessian: Array) -> float:
    """The error of the output, for inputs of this Hessian."""
    error = (new - rows).reshape(hessian.shape[0], -1, hessian.shape[1])
    return float(np.sum((error @ hessian) * error))


def test_close_to_the_best_of_all_choices(rng: np.random.Generator) -> None:
    """Every way to round eight weights, for correlated inputs."""
    ratios = []
    for _ in range(25):
        rows = rng.standard_normal((1, 8))
        x = rng.standard_normal((40, 8)) @ rng.standard_normal((8, 8))
        hessian = (x.T @ x)[np.newaxis]
        grid = AffineMethod(bits=3).fit(rows, Layout((1, 8), 0, 1))
        around = grid.neighbours(rows)
        assert around is not None
        judge = damped(hessian)
        values = [grid.values(codes)[0] for codes in around]
        best = min(
            cost(np.where(np.array(pick, np.bool_), values[1], values[0])[np.newaxis], rows, judge)
            for pick in itertools.product((0, 1), repeat=8)
        )
        ratios.append(cost(grid.values(learned(rows, grid, hessian)), rows, judge) / best)
        assert ratios[-1] >= 1 - 1e-6
    assert np.median(ratios) < 1.1, ratios


@pytest.mark.parametrize("groups", [1, 2])
def test_less_error_than_the_nearest(groups: int, rng: np.random.Generator) -> None:
    rows = rng.standard_normal((8, 40))
    x = rng.standard_normal((groups, 200, 40)) @ rng.standard_normal((groups, 40, 40)) + rng.standard_normal(40)
    hessian = x.transpose(0, 2, 1) @ x
    for grid in grids(rng, rows):
        target = np.where(grid.round(rows) == 0, 0, rows) if isinstance(grid, Kept) else rows
        found, again = (grid.values(learned(target, grid, hessian)) for _ in range(2))
        assert np.array_equal(found, again)
        share = 1.0 if isinstance(grid, Kept) else 0.75  # where much is pruned little is free
        assert cost(found, target, damped(hessian)) < share * cost(grid.round(target), target, damped(hessian))
    ternary = TernaryMethod().fit(rows, Layout((8, 40), 0, 1))
    assert np.array_equal(learned(rows, ternary, hessian), compensated(rows, ternary, hessian))
    assert np.array_equal(learned(rows, grids(rng, rows)[0], 0 * hessian), grids(rng, rows)[0].nearest(rows))


def test_in_a_recipe(rng: np.random.Generator) -> None:
    net = residual(rng)
    x, unseen = (
        (rng.standard_normal((16, 3, 6, 6)) + 2 * rng.standard_normal((16, 3, 1, 1))).astype(np.float32)
        for _ in range(2)
    )

    def quality(how: bool | str) -> float:
        made = compress(net, recipe="int4", activations=None, calibration=x, reconstruct=how, bias_correction=False)
        name = net.outputs[0].name
        return decibels([bittern.load(net).run({"x": unseen})[name]], [bittern.load(made).run({"x": unseen})[name]])

    assert quality("learned") > quality(False) + 2
    with pytest.raises(InputError, match="True, False, None, learned"):
        compress(net, recipe="int4", reconstruct="learnt")
