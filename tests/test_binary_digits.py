"""The demo's digits network in one bit and a little more, without training: right answers on digits held back."""

from __future__ import annotations

from importlib import resources
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.compression import compress
from bittern.demo import digits
from bittern.network import Network

from tests.reference.arrays import Array

FEW: dict[str, Any] = {
    "recipe": "quantize", "batch_norm": "recalibrate", "first_layer": False, "last_layer": False, "samples": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def network() -> Network:
    pytest.importorskip("onnx")
    return bittern.convert(str(resources.files("bittern") / "data" / "digits.onnx"))


@pytest.fixture(scope="module")
def samples() -> Array:
    """256 digits of the training set; the rest is what the network is judged by."""
    datasets = pytest.importorskip("sklearn.datasets")
    selection = pytest.importorskip("sklearn.model_selection")
    data = datasets.load_digits()
    images = (data.images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    seen, _ = selection.train_test_split(images, test_size=0.2, stratify=data.target, random_state=0)
    return np.ascontiguousarray(seen[:256])


def right(network: Network) -> float:
    """The share of right answers."""
    images, labels = digits()
    found = bittern.load(network).run({"image": images})["scores"]
    return float(np.mean(found.argmax(axis=1) == labels))


@pytest.mark.parametrize(
    ("options", "least", "most_bytes"),
    [
        ({**FEW, "method": "binary"}, 0.94, 24_000),
        ({**FEW, "method": "separable"}, 0.92, 21_000),
        ({**FEW, "method": "residual", "levels": 2}, 0.97, 37_500),
        ({"recipe": "local-binary", "samples": 64}, 0.95, 245_000),
    ],
    ids=["binary", "separable", "residual", "local-binary"],
)
def test_digits(network: Network, samples: Array, options: dict[str, Any], least: float, most_bytes: int) -> None:
    assert right(network) > 0.98
    made = compress(network, calibration=samples, **options)
    assert right(made) >= least
    assert len(made.to_bytes()) <= most_bytes


def test_measured_statistics_mend_what_rounding_broke(network: Network, samples: Array) -> None:
    """Signs alone, no reconstruction: the answers get better by normalisations that fit the weights as they are."""
    plain = {**FEW, "method": "residual", "levels": 1, "reconstruct": False, "bias_correction": False}
    before = right(compress(network, calibration=samples, **{**plain, "batch_norm": "fold"}))
    after = right(compress(network, calibration=samples, **plain))
    assert after > before + 0.05
