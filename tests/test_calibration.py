"""Calibration: what the data may be, and the ranges that come of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bittern.compression.layerwise.calibration import samples_of
from bittern.compression.quantize.ranges import Observer, Quantiser
from bittern.errors import InputError
from bittern.network import Network

from tests.compare import assert_equal


def plain() -> Network:
    """One input, nothing else."""
    net = Network("plain")
    net.add_input("x", ["N", 3, 12, 12])
    return net


def test_calibration_data_in_its_forms(rng: np.random.Generator, tmp_path: Path) -> None:
    net, x = plain(), rng.standard_normal((3, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    np.save(tmp_path / "data.npy", x)
    forms: list[Any] = [x, {"x": x}, {"other": x}, [{"x": x[:2]}, {"x": x[2:]}], tmp_path / "data.npz"]
    for form in (*forms, str(tmp_path / "data.npy"), {"x": x.astype(np.float64)}):
        samples = samples_of(net, form)
        assert len(samples) == 3
        assert_equal(np.concatenate([sample["x"] for sample in samples]), x)
    for wrong in (3, [], {}, x[:0], {"x": x, "y": x}, {"x": x[:, :2]}, "absent.npz", [x[0]], {"x": x * np.nan}):
        with pytest.raises(InputError, match="absent" if isinstance(wrong, str) else "calibration"):
            samples_of(net, wrong)
    fixed = Network("fixed")
    fixed.add_input("a", [2, 3])
    fixed.add_input("b", [2], "i64")
    assert len(samples_of(fixed, {"a": np.zeros((6, 3)), "b": np.zeros(6, int)})) == 3
    with pytest.raises(InputError, match="3 of a, 2 of b"):
        samples_of(fixed, {"a": np.zeros((6, 3)), "b": np.zeros(4, int)})
    sequences = Network("sequences")
    sequences.add_input("x", ["T", 1, 3])
    sequences.add_constant("w", rng.standard_normal((1, 2, 3)).astype(np.float32))
    sequences.add_constant("r", rng.standard_normal((1, 2, 2)).astype(np.float32))
    sequences.add_node("RNN", ["x", "w", "r"], ["y"], hidden_size=2)
    assert len(samples_of(sequences, np.zeros((9, 1, 3)))) == 1, "the first dimension is time"
    pictures = Network("pictures")
    pictures.add_input("x", ["N", 3, 8, 8])
    pictures.metadata["preprocess"] = '{"crop":[8,8],"mean":[10],"color":"BGR"}'
    images = rng.integers(0, 256, (5, 10, 9, 3)).astype(np.uint8)
    for given in (images, list(images)):
        samples = samples_of(pictures, given)
        assert len(samples) == 5 and samples[0]["x"].shape == (1, 3, 8, 8)
    assert samples[0]["x"][0, 0, 0, 0] == float(images[0, 1, 0, 2]) - 10
    made_up = samples_of(pictures, None)
    assert made_up[0]["x"].shape == (1, 3, 8, 8) and made_up[0]["x"].min() == -10


def test_ranges() -> None:
    assert Quantiser.of(0, 2.55) == Quantiser(np.float32(0.01), 0)
    assert Quantiser.of(-1, 1, 2) == Quantiser(np.float32(2 / 3), 1, 2)
    assert Quantiser.of(0, 0).round(np.zeros(2)).tolist() == [0, 0]
    quantiser = Quantiser.of(-1, 3)
    x = np.array([-9, -1, 0, 1, 3, 9, np.nan, np.inf], np.float32)
    assert quantiser.codes(x).tolist() == [0, 0, 64, 128, 255, 255, 0, 255]
    assert quantiser.round(x)[2] == 0
    observer = Observer()
    data = np.random.default_rng(2).laplace(size=100_000).astype(np.float32)
    observer.see_range(data)
    observer.see_counts(data)
    assert observer.range("minmax", 0, 8) == (float(data.min()), float(data.max()))
    low, high = observer.range("percentile", 99.0, 8)
    assert low == pytest.approx(np.quantile(data, 0.005), rel=0.02)
    assert high == pytest.approx(np.quantile(data, 0.995), rel=0.02)

    def error(ends: tuple[float, float], bits: int) -> float:
        return float(np.mean(np.square(Quantiser.of(*ends, bits).round(data) - data)))

    for bits in (4, 6, 8):
        ends = observer.range("mse", 0, bits)
        assert error(ends, bits) <= 1.02 * min(
            error((f * low * 3, f * high * 3), bits) for f in np.linspace(0.1, 1, 40)
        )
