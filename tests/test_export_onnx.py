"""The way back: ONNX Runtime on an exported file gives what this engine gives on the original."""

from pathlib import Path

import bittern
import numpy as np
import pytest

from tests.compare import assert_within
from tests.conftest import seed_of

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NETWORKS = (
    "squeezenet_dc/squeezenet_dc.onnx",
    "mlperf_tiny/resnet8_cifar10_float.onnx",
    "mlperf_tiny/ad01_toycar_float.onnx",
    "ultraface/version-slim-320_simplified.onnx",
    "ml_kws/GRU_S.onnx",
    "rnnoise/mp.onnx",
)
BINARY = ("bnn_pynq/mnist_lfcW1A1.onnx", "bnn_pynq/cifar10_cnvW1A1.onnx")
"""Steps turn any rounding into other answers: compared on integers, with encodings that keep every weight."""


def answers(model: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives, by output."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(
    ("name", "recipe"),
    [(name, recipe) for name in NETWORKS for recipe in (None, "float16", "deep-compression")]
    + [(name, recipe) for name in BINARY for recipe in (None, "float16")],
)
def test_another_runtime_agrees(name: str, recipe: str | None, shared_data: Path, tmp_path: Path) -> None:
    network = bittern.convert(shared_data / name)
    if recipe is not None:
        network = bittern.compress(network, recipe=recipe)
    path = tmp_path / "net.bittern"
    network.save(path)
    model = bittern.load(path)
    rng = np.random.default_rng(seed_of(name))
    feeds = {}
    for info in model.inputs:
        size = [d if isinstance(d, int) else 1 for d in info.shape or ()]
        values = rng.choice([-1.0, 1.0], size) if name in BINARY else rng.standard_normal(size)
        feeds[info.name] = values.astype(np.float32)
    expected = answers(bittern.Network.load(path).to_onnx().SerializeToString(), feeds)
    for output, value in model.run(feeds).items():
        assert_within(value, expected[output], 1e-5 * max(1.0, float(np.abs(expected[output]).max())))


def test_nothing_is_lost_on_the_way_there_and_back(shared_data: Path) -> None:
    network = bittern.convert(shared_data / NETWORKS[1], labels=["a", "b"])
    again = bittern.convert(network.to_onnx())
    assert [node.op for node in again.nodes] == [node.op for node in network.nodes]
    for name, encoding in network.constants.items():
        assert np.array_equal(again.constants[name].decode(), encoding.decode())
    assert network.to_onnx().SerializeToString(deterministic=True) == network.to_onnx().SerializeToString(
        deterministic=True
    )
    properties = {entry.key: entry.value for entry in network.to_onnx().metadata_props}
    assert properties == {"labels": '["a","b"]'}
