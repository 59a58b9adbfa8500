"""Weights with zeros in blocks of four output channels: the planner loads an input once for the four."""

from __future__ import annotations

import bittern
import numpy as np
import pytest
from bittern.encodings import Bitmap, Dense, Sparse

from tests import tolerances
from tests.compare import assert_same_bits
from tests.conftest import seed_of
from tests.reference.arrays import Array
from tests.test_binary_layers import convolved
from tests.test_sparse_lists import one_layer, row_of


def sparse(rng: np.random.Generator, shape: tuple[int, ...], density: float, together: int) -> Sparse:
    """Random weights, ``together`` neighbouring output channels zero at a time."""
    cells = rng.random((shape[0] // together, *shape[1:])) < density
    mask = np.repeat(cells, together, axis=0)
    return Sparse(Bitmap.of(mask), Dense(rng.standard_normal(int(mask.sum())).astype(np.float32)), shape)


@pytest.mark.parametrize("rows", [0, 40], ids=["convolution", "product"])
def test_the_planner_takes_them(isa: str, rows: int) -> None:
    """On vectors of 512 bits; within the bound of real numbers, the same bits on two threads."""
    rng = np.random.default_rng(seed_of(f"blocks of four {rows}"))
    shape: tuple[int, ...] = (256, 256) if rows else (64, 96, 3, 3)
    tree = sparse(rng, shape, 0.1, 4)
    x = rng.standard_normal((rows, 256) if rows else (1, 96, 14, 14)).astype(np.float32)
    net = one_layer(tree, x, pads=[1, 1, 1, 1])
    model = bittern.load(net, isa=isa, threads=1)
    row = row_of(model, x)
    w = np.float64(tree.decode())
    if isa.startswith("avx512"):
        assert "_f32_f32x4_f32_" in row.kernel, row
        assert "% of the weights are not zero, of four output channels at a time: estimated" in row.reason, row
        # Five bytes a weight; groups of rows, their order.
        assert row.packed_bytes <= 5 * np.count_nonzero(w) + 16 * shape[0] + 2048, row
    else:
        assert "_f32_f32_f32_" in row.kernel, row
    found = model.run({"x": x})["y"]

    def layer(values: Array, weight: Array) -> Array:
        return np.asarray(values @ weight.T if rows else convolved(values, weight, 1, 1, 1, 1))

    bound = tolerances.dot_bound(w[0].size, layer(np.abs(np.float64(x)), np.abs(w)))
    assert (np.abs(found - layer(np.float64(x), w)) <= bound).all()
    again = bittern.load(net, isa=isa, threads=2).run({"x": x})["y"]
    assert_same_bits(again, found, "two threads")


def test_where_they_do_not_pay() -> None:
    """Channels that share nothing, numbers of channels that are no multiple of four, groups."""
    rng = np.random.default_rng(seed_of("no blocks of four"))
    x = rng.standard_normal((1, 96, 14, 14)).astype(np.float32)
    for shape, together, groups in (((64, 96, 3, 3), 1, 1), ((66, 96, 3, 3), 2, 1), ((64, 48, 3, 3), 4, 2)):
        net = one_layer(sparse(rng, shape, 0.1, together), x, pads=[1, 1, 1, 1], group=groups)
        row = row_of(bittern.load(net, threads=1), x)
        assert row.kernel.startswith("spmm_f32_f32_f32_"), row
