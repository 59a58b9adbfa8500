"""One codebook for all layers, and what the papers of the methods promise of files and products."""

from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.compression.layerwise.grid import Layout
from bittern.compression.layerwise.walk import decibels
from bittern.compression.quantize.entropy import CellsMethod, entropy
from bittern.compression.quantize.fixed_point import best_step, steps
from bittern.compression.quantize.shift import shift_codes
from bittern.compression.quantize.ternary import TernaryMethod
from bittern.encodings import Codebook, Dense, Packed, Pow2
from bittern.errors import InputError
from bittern.network import Network

from tests.compare import assert_equal, assert_same_bits
from tests.reference.arrays import Array


def layers(rng: np.random.Generator, *deviations: float) -> Network:
    """Fully connected layers of 48 channels with weights of these sizes, ReLUs between them."""
    net = Network("layers")
    net.add_input("x", ["N", 48])
    value = "x"
    for index, deviation in enumerate(deviations):
        net.add_constant(f"w{index}", rng.laplace(0, deviation, (48, 48)).astype(np.float32))
        net.add_node("MatMul", [value, f"w{index}"], [f"m{index}"], f"fc{index}")
        net.add_node("Relu", [f"m{index}"], [f"y{index}"])
        value = f"y{index}"
    net.set_outputs([value])
    return net


def run(network: Network, x: Array) -> Array:
    """The output."""
    (result,) = bittern.load(network).run({"x": x}).values()
    return result


@pytest.mark.parametrize("method", ["codebook", "entropy"])
@pytest.mark.parametrize("given", [False, True])
def test_one_codebook_for_all_layers(method: str, given: bool, rng: np.random.Generator) -> None:
    net, x = layers(rng, 0.1, 0.15, 0.2), rng.standard_normal((32, 48)).astype(np.float32)
    options: dict[str, Any] = {"recipe": "quantize", "method": method, "bits": 4}
    calibration = x if given else None
    made = compress(net, **options, shared=True, calibration=calibration)
    trees = [made.constants[f"w{index}"] for index in range(3)]
    tables = [tree.table for tree in trees if isinstance(tree, Codebook)]
    assert len(tables) == 3
    leaves = [next(table.leaves()) for table in tables]
    assert all(np.shares_memory(leaves[0], leaf) for leaf in leaves)
    assert leaves[0].size <= 16 and np.unique([tree.decode() for tree in trees]).size <= 16
    data = made.to_bytes()
    assert data.count(b'.table\\"') == 3 and data.count(b'"w0.table":{') == 1 and b'"w1.table":{' not in data
    again = bittern.load(data)
    for name, tree in made.constants.items():
        assert_same_bits(again.constant(name), tree.decode(), name)
    own = compress(net, **options, calibration=calibration)
    assert len(data) < len(own.to_bytes())
    assert decibels([run(net, x)], [run(made, x)]) > (12 if method == "codebook" else 9)
    assert compress(net, **options, shared=True, calibration=calibration).to_bytes() == data


def test_layers_of_different_size_count_alike(rng: np.random.Generator) -> None:
    """With data the codebook serves the small weights of one layer as well as the large ones of another."""
    net, x = layers(rng, 0.02, 1.0), rng.standard_normal((32, 48)).astype(np.float32)
    options: dict[str, Any] = {"recipe": "codebook4", "shared": True, "reconstruct": False, "bias_correction": False}
    found = []
    for calibration in (None, x):
        made = compress(net, **options, calibration=calibration)
        w = {key: (net.constants[key].decode(), made.constants[key].decode()) for key in ("w0", "w1")}
        found.append([decibels([exact], [rough]) for exact, rough in w.values()])
    assert found[1][0] > found[0][0] + 6, "the layer of small weights"
    assert found[1][1] > 8


def test_refusals(rng: np.random.Generator) -> None:
    net = layers(rng, 0.1)
    cases: list[tuple[dict[str, Any], str]] = [({"per_channel": True}, "one codebook"), ({"shared": 1}, "shared: is 1")]
    for options, problem in cases:
        with pytest.raises(InputError, match=problem):
            compress(net, recipe="codebook4", **{"shared": True, **options})
    net.constants["w0"] = Dense(np.full((48, 48), np.nan, np.float32))
    with pytest.raises(InputError, match="not finite"):
        compress(net, recipe="codebook4", shared=True)


def test_the_calculated_ratio_is_that_of_the_file(rng: np.random.Generator) -> None:
    """Choi et al.: N b over code lengths and table. Codes take their entropy, the header and the rest under 1 %."""
    rows = rng.laplace(size=(512, 1024))
    layout = Layout(rows.shape, 0, 1)
    grid = CellsMethod(bits=6).fit(rows, layout)
    codes = grid.nearest(rows)
    tree = grid.encoding(codes, layout)
    counts = np.bincount(codes.reshape(-1))
    bits = rows.size * entropy(counts[counts > 0] / counts.sum())
    net = Network("one")
    net.add_input("x", ["N", 512])
    net.add_constant("w", tree)
    net.add_node("MatMul", ["x", "w"], ["y"])
    net.set_outputs(["y"])
    calculated = bits / 8 + grid.table.size * (4 + 2)
    assert calculated <= len(net.to_bytes()) <= 1.01 * calculated


def test_ternary_files_take_a_fifth_of_a_byte(rng: np.random.Generator) -> None:
    """Zhu et al.: five codes to a byte, or less where zeros are many."""
    rows = rng.standard_normal((64, 999))
    layout = Layout(rows.shape, 0, 1)
    grid = TernaryMethod().fit(rows, layout)
    tree = grid.encoding(grid.nearest(rows), layout)
    assert tree.nbytes <= rows.size / 5 + 64
    assert set(np.unique(grid.nearest(rows))) == {0, 1, 2}


def test_no_other_step_is_better(rng: np.random.Generator) -> None:
    """Shin et al.: codes and step in turn end where no step of a fine search is better; more bits, less error."""
    for x in (rng.standard_normal((1, 1500)), rng.laplace(size=(1, 1500)), rng.uniform(-1, 1, (1, 1500))):
        before = np.inf
        for bits in (2, 3, 4, 6):
            most = 2 ** (bits - 1) - 1

            def error(step: float, x: Array = x, most: int = most) -> float:
                return float(np.sum(np.square(x - step * steps(x, np.array(step), most))))

            found = error(float(best_step(x, bits)[0, 0]))
            search = np.linspace(0.02, 1.2, 200) * float(np.abs(x).max()) / most
            assert found <= min(map(error, search)) * (1 + 5e-3)
            assert found < before
            before = found


@pytest.mark.parametrize(("terms", "bits"), [(1, 4), (2, 4), (2, 3), (3, 4)])
def test_shifts_are_an_integer_product(terms: int, bits: int, rng: np.random.Generator) -> None:
    """Gudovskiy and Rigazio: weights of powers of two times whole inputs, exactly as integers multiply."""
    weights = rng.uniform(-1, 1, (40, 24))
    levels = shift_codes(weights.reshape(-1), terms, bits)
    fields = np.where(levels < 0, 2 ** (bits - 1), 0) + np.abs(levels)
    codes = sum(fields[:, n].astype(np.int64) << (n * bits) for n in range(terms))
    tree = Pow2(Packed.pack(np.reshape(codes, (40, 24)), terms * bits), Dense(np.array(1, np.float32)), terms, bits)
    unit = terms - 2 + 2 ** (bits - 1) - 1  # binary digits behind the point
    whole = np.rint(tree.decode().astype(np.float64) * 2**unit).astype(np.int64)
    assert np.array_equal(whole / 2**unit, tree.decode())
    net = Network("shift")
    net.add_input("x", ["N", 40])
    net.add_constant("w", tree)
    net.add_node("MatMul", ["x", "w"], ["y"])
    net.set_outputs(["y"])
    x = rng.integers(-127, 128, (9, 40))
    found = run(net, x.astype(np.float32)).astype(np.float64) * 2**unit
    assert_equal(found, (x @ whole).astype(np.float64))
