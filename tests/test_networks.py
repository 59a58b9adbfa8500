"""Real networks: converted, loaded and run, they give the outputs stated with them."""

import json
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest

from tests import tolerances
from tests.builders import output
from tests.compare import assert_same_bits, assert_within
from tests.reference.arrays import Array

SQUEEZENET_PREPROCESS = {
    "resize": [256, 256],
    "resize_mode": "warp",
    "crop": [227, 227],
    "color": "BGR",
    "mean": [104, 117, 123],
    "layout": "NCHW",
}
THREADS = pytest.mark.parametrize("threads", [1, 2])


@pytest.fixture(scope="module")
def squeezenet(shared_data: Path) -> bytes:
    """The converted SqueezeNet with its preprocessing."""
    source = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    return bittern.convert(source, preprocess=SQUEEZENET_PREPROCESS).to_bytes()


@pytest.fixture(scope="module")
def resnet8(shared_data: Path) -> bytes:
    """The converted ResNet-8."""
    return bittern.convert(shared_data / "mlperf_tiny" / "resnet8_cifar10_float.onnx").to_bytes()


@pytest.fixture(scope="module")
def autoencoder(shared_data: Path) -> bytes:
    """The converted anomaly detector."""
    return bittern.convert(shared_data / "mlperf_tiny" / "ad01_toycar_float.onnx").to_bytes()


@pytest.fixture(scope="module")
def face_detector(shared_data: Path) -> bytes:
    """The converted face detector."""
    return bittern.convert(shared_data / "ultraface" / "version-slim-320_simplified.onnx").to_bytes()


def preprocess(images: Array, metadata: dict[str, str]) -> Array:
    """docs/format.md's preprocessing for images that have the resized size already, from the file's metadata alone."""
    recipe: dict[str, Any] = json.loads(metadata["preprocess"])
    assert images.shape[1:3] == tuple(recipe["resize"])
    height, width = recipe["crop"]
    top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
    pixels = images[:, top : top + height, left : left + width].astype(np.float32)
    if recipe.get("color", "RGB") == "BGR":
        pixels = pixels[..., ::-1]
    scale, mean, std = (np.array(recipe.get(key, default), np.float32) for key, default in DEFAULTS)
    return np.asarray(((pixels * scale - mean) / std).transpose(0, 3, 1, 2), order="C")


DEFAULTS = (("scale", 1), ("mean", 0), ("std", 1))


@THREADS
def test_squeezenet(squeezenet: bytes, shared_data: Path, isa: str, threads: int) -> None:
    expected = np.load(shared_data / "squeezenet_dc" / "expected_random.npz")
    model = bittern.load(squeezenet, isa=isa, threads=threads)
    assert_within(output(model, expected["data"]), expected["logits"], tolerances.SQUEEZENET)


def test_squeezenet_classifies_the_photos(squeezenet: bytes, shared_data: Path) -> None:
    sample = np.load(shared_data / "imagenet_sample" / "images.npz")
    expected = np.load(shared_data / "squeezenet_dc" / "expected_imagenet_sample.npz")["logits"]
    model = bittern.load(squeezenet)
    inputs = preprocess(sample["images"], model.metadata)
    logits = np.concatenate([output(model, inputs[i : i + 8]) for i in range(0, len(inputs), 8)])
    assert_within(logits, expected, tolerances.SQUEEZENET)
    order = np.argsort(-logits, axis=1)
    hits = order == sample["labels"][:, None]
    assert int(hits[:, 0].sum()) == 19
    assert int(hits[:, :5].any(axis=1).sum()) == 29


def test_package_preprocesses_as_the_format_says(squeezenet: bytes, shared_data: Path) -> None:
    from bittern.preprocess import Preprocess

    images = np.load(shared_data / "imagenet_sample" / "images.npz")["images"][:3]
    metadata = bittern.load(squeezenet).metadata
    recipe = Preprocess.from_json(metadata["preprocess"])
    for image, expected in zip(images, preprocess(images, metadata), strict=True):
        assert_same_bits(recipe.apply(image), expected[None])


def test_thread_count_changes_no_bit_of_squeezenet(squeezenet: bytes, shared_data: Path) -> None:
    data = np.load(shared_data / "squeezenet_dc" / "expected_random.npz")["data"][:1]
    one, two = (output(bittern.load(squeezenet, threads=threads), data) for threads in (1, 2))
    assert_same_bits(two, one)


def test_wrong_logits_would_be_noticed(shared_data: Path) -> None:
    expected = np.load(shared_data / "squeezenet_dc" / "expected_random.npz")["logits"]
    with pytest.raises(AssertionError):
        assert_within(expected[::-1].copy(), expected, tolerances.SQUEEZENET)


@THREADS
def test_resnet8(resnet8: bytes, shared_data: Path, isa: str, threads: int) -> None:
    expected = np.load(shared_data / "mlperf_tiny" / "expected_resnet8_cifar10.npz")
    result = bittern.load(resnet8, isa=isa, threads=threads).run({"input": expected["input_float"]})
    assert list(result) == ["output", "logits"]
    assert_within(result["output"], expected["onnx_output"], tolerances.RESNET8)
    assert_within(result["output"], expected["output_float"], tolerances.RESNET8)
    logits = expected["onnx_logits"]
    assert_within(result["logits"], logits, tolerances.RESNET8 * max(1.0, float(np.abs(logits).max())))


@THREADS
def test_autoencoder(autoencoder: bytes, shared_data: Path, isa: str, threads: int) -> None:
    expected = np.load(shared_data / "mlperf_tiny" / "expected_ad01_toycar.npz")
    x = expected["input_float"]
    y = output(bittern.load(autoencoder, isa=isa, threads=threads), x)
    for name in ("onnx_output", "output_float"):
        assert_within(y, expected[name], tolerances.AUTOENCODER)
    assert abs(float(np.mean((x - y) ** 2)) - 9.707) < 1e-3


@THREADS
def test_face_detector(face_detector: bytes, shared_data: Path, isa: str, threads: int) -> None:
    expected = np.load(shared_data / "ultraface" / "expected_version-slim-320_simplified.npz")
    model = bittern.load(face_detector, isa=isa, threads=threads)
    for image, scores, boxes, faces in zip(
        expected["images"], expected["scores"], expected["boxes"], (87, 94, 16), strict=True
    ):
        x = ((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
        result = model.run({"input": x})
        assert_within(result["scores"], scores[None], tolerances.FACE_DETECTOR)
        assert_within(result["boxes"], boxes[None], tolerances.FACE_DETECTOR)
        assert int((result["scores"][0, :, 1] > 0.7).sum()) == faces


def test_conversion_is_deterministic(shared_data: Path, squeezenet: bytes) -> None:
    source = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    assert bittern.convert(source, preprocess=SQUEEZENET_PREPROCESS).to_bytes() == squeezenet


def test_compressed_squeezenet_gives_the_same_logits(shared_data: Path) -> None:
    """Lossless compression: smaller than the authors' own file, and the expected outputs still."""
    net = bittern.compress(shared_data / "squeezenet_dc" / "squeezenet_dc.onnx", recipe="deep-compression")
    data = net.to_bytes()
    assert len(data) <= 675_763
    expected = np.load(shared_data / "squeezenet_dc" / "expected_random.npz")
    assert_within(output(bittern.load(data), expected["data"]), expected["logits"], tolerances.SQUEEZENET)


def test_original_deep_compression_file(shared_data: Path) -> None:
    """The authors' own file, imported, decodes to the same weights in the engine and gives the same logits."""
    source = shared_data / "squeezenet_dc" / "compressed_SqueezeNet.net"
    model = bittern.load(bittern.convert(source, source_format="deep-compression"))
    decoded = np.load(shared_data / "squeezenet_dc" / "decoded.npz")
    weights = [name for name in decoded.files if name.endswith((".weight", ".bias"))]
    assert len(weights) == 52
    for name in weights:
        assert np.array_equal(model.constant(name), decoded[name]), name
    expected = np.load(shared_data / "squeezenet_dc" / "expected_random.npz")
    assert_within(output(model, expected["data"][:1]), expected["logits"][:1], tolerances.SQUEEZENET)


def test_verify_against_the_source(squeezenet: bytes, shared_data: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    report = bittern.verify(bittern.load(squeezenet), against=shared_data / "squeezenet_dc" / "squeezenet_dc.onnx")
    assert report.ok and report.max_error <= tolerances.SQUEEZENET
    assert "onnxruntime" in report.oracle and report.first_drift is None
