"""The performance model of sparse layers decides which of them are pruned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.prune.guided import machine_of, works
from bittern.errors import InputError
from bittern.network import Network

from tests.pruned_networks import residual
from tests.reference.arrays import Array

SIZES: dict[str, tuple[int, int, int]] = {
    "stem.w": (36, 3 * 36, 8 * 36),
    "a1.w": (36, 8 * 36, 6 * 36),
    "a2.w": (36, 6 * 36, 12 * 36),
    "shortcut.w": (36, 8 * 36, 12 * 36),
    "b1.w": (36, 12 * 36, 10 * 36),
    "b2.w": (36, 10 * 36, 12 * 36),
    "fc1.w": (1, 108, 9),
    "fc2.w": (1, 9, 5),
}
"""Of each layer of `residual`: places of the output, numbers that come in, numbers that go out."""

MACHINES: list[dict[str, float]] = [
    {"flops": 1e11, "bandwidth": 1e13, "alpha": 1.8, "beta": 2.0},  # products are all: the crossover is 1 / alpha
    {"flops": 1e11, "bandwidth": 1.5e10, "alpha": 2.5, "beta": 1.5},
    {"flops": 1e13, "bandwidth": 1e10, "alpha": 3.0, "beta": 2.0},  # bytes are all
]


def faster(size: int, places: int, into: int, out: int, machine: dict[str, float], density: float) -> bool:
    """The paper's two times, written out once more: whether the sparse one is less."""
    flops, rate = machine["flops"], machine["bandwidth"]
    products = 2 * size * places
    dense = max(products / flops, 4 * (into + out + size) / rate)
    part = machine["beta"] * density * size
    return max(machine["alpha"] * density * products / flops, 4 * (into + out + part) / rate) < dense


def kept_shares(network: Network) -> dict[str, float]:
    """The share of each weight that is not zero."""
    shares: dict[str, float] = {}
    for name in SIZES:
        weight: Array = network.constants[name].decode()
        shares[name] = np.count_nonzero(weight) / weight.size
    return shares


@pytest.mark.parametrize("machine", MACHINES, ids=["products", "both", "bytes"])
@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.8])
def test_layers_that_would_not_be_faster(machine: dict[str, float], sparsity: float, rng: np.random.Generator) -> None:
    net = residual(rng)
    dense = kept_shares(compress(net, recipe="prune", sparsity=sparsity, machine=machine))
    made = compress(net, recipe="prune", sparsity=sparsity, machine=machine, slow_layers="sparser")
    sparser = kept_shares(made)
    stay = 0
    for name, layer in SIZES.items():
        size = net.constants[name].size
        pays = faster(size, *layer, machine, 1 - sparsity)
        if pays:
            assert dense[name] == sparser[name] == pytest.approx(1 - sparsity, abs=0.51 / size), name
            continue
        assert dense[name] == 1.0, name
        if sparser[name] < 1:  # as few weights as needed, and one more would not do
            assert sparser[name] < 1 - sparsity + 1 / size
            assert faster(size, *layer, machine, sparser[name]), name
            assert not faster(size, *layer, machine, sparser[name] + 1.001 / size), name
        else:
            assert not faster(size, *layer, machine, 0.01), name
            assert "predicted slower than dense" in made._notes[name]
            stay += 1
    assert any(f"{stay} layers stay dense" in remark for remark in made._remarks)


def test_both_answers_occur(rng: np.random.Generator) -> None:
    """So that the test above has seen each: on one machine some layers pay and others do not."""
    net = residual(rng)
    answers = [faster(net.constants[name].size, *layer, MACHINES[1], 0.5) for name, layer in SIZES.items()]
    assert any(answers) and not all(answers)
    assert works(net, SIZES)["fc1.w"].flops == 2 * 108 * 9


def test_what_the_model_says_nothing_of(rng: np.random.Generator) -> None:
    """Recurrent layers, and maps of unknown size, get what was asked for."""
    net = Network("unknown")
    net.add_input("x", ["N", 3, "H", "W"])
    net.add_constant("w", rng.standard_normal((8, 3, 3, 3)).astype(np.float32))
    net.add_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1])
    net.set_outputs(["y"])
    made = compress(net, recipe="prune", sparsity=0.5, machine="flops=1e11,bandwidth=1")
    assert np.count_nonzero(made.constants["w"].decode()) == 108
    assert any("says nothing of 1" in remark for remark in made._remarks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machine": {"flops": 1e9}}, "bandwidth"),
        ({"machine": "flops=fast,bandwidth=1"}, "flops=fast"),
        ({"machine": "flops=1e9,bandwidth=0"}, "positive"),
        ({"machine": 3}, "flops, bandwidth, alpha, beta"),
        ({"slow_layers": "dense"}, "without a machine"),
        ({"machine": MACHINES[0], "slow_layers": "none"}, "dense, sparser"),
        ({"machine": MACHINES[0], "pattern": "filters"}, "what is left is dense"),
        ({"machine": MACHINES[0], "pattern": "2:4", "slow_layers": "sparser"}, "2:4 removes 0.5"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    given = options if options.get("pattern") == "2:4" else {"sparsity": 0.5, **options}
    with pytest.raises(InputError, match=message):
        compress(residual(rng), recipe="prune", **given)
    assert machine_of("flops=1, bandwidth=2").alpha == 3.0
