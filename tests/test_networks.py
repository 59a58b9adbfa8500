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


# Networks of integers and of recurrent layers


@THREADS
def test_binary_digits(shared_data: Path, isa: str, threads: int) -> None:
    """A binary network in float form: its sums are integers, so they are exact."""
    folder = shared_data / "bnn_pynq"
    images = np.load(shared_data / "mnist" / "mnist_test_1000.npz")
    expected = np.load(folder / "expected_mnist_lfcW1A1_1000.npz")
    model = bittern.load(bittern.convert(folder / "mnist_lfcW1A1.onnx"), isa=isa, threads=threads)
    x = np.where(images["images"].reshape(1000, 784) >= 128, 1, -1).astype(np.float32)
    result = model.run({"input": x})
    assert_same_bits(result["acc"], expected["acc"].astype(np.float32))
    assert_within(result["margin"], expected["margin"], 0.0)
    assert np.array_equal(result["margin"].argmax(1), expected["pred"])
    assert int((expected["pred"] == images["labels"]).sum()) == 987


@THREADS
def test_binary_photos(shared_data: Path, isa: str, threads: int) -> None:
    """Its activations are steps, which would turn Winograd's rounding into other integers: it runs without."""
    folder = shared_data / "bnn_pynq"
    photos, expected = np.load(folder / "photos32.npz"), np.load(folder / "expected_cifar10_cnvW1A1.npz")
    network = bittern.convert(folder / "cifar10_cnvW1A1.onnx")
    model = bittern.load(network, isa=isa, threads=threads)
    for images, sums in ((photos["images"], "acc_photos"), (expected["random_images"], "acc_random")):
        scaled = np.floor((images / 255 * 2 - 1) * 128 + 0.5)
        x = np.clip(scaled, -128, 127).transpose(0, 3, 1, 2).astype(np.float32)
        assert_same_bits(output(model, np.ascontiguousarray(x)), expected[sums].astype(np.float32))
    assert np.array_equal(expected["acc_photos"].argmax(1), photos["labels"])


@THREADS
def test_keyword_spotter(shared_data: Path, isa: str, threads: int) -> None:
    expected = np.load(shared_data / "ml_kws" / "expected_GRU_S.npz")
    model = bittern.load(bittern.convert(shared_data / "ml_kws" / "GRU_S.onnx"), isa=isa, threads=threads)
    logits = output(model, expected["mfcc"])
    assert_within(logits, expected["logits"], tolerances.KEYWORDS)
    assert [str(expected["labels"][row]) for row in logits[:2].argmax(1)] == ["yes", "no"]


@THREADS
def test_noise_suppressor(shared_data: Path, isa: str, threads: int) -> None:
    """Three recurrent layers in one graph, and a sequence of any length."""
    expected = np.load(shared_data / "rnnoise" / "expected_mp.npz")
    model = bittern.load(bittern.convert(shared_data / "rnnoise" / "mp.onnx"), isa=isa, threads=threads)
    for frames in (200, 31, 1):
        result = model.run({"features": expected["features"][:frames, None]})
        for name in ("gains", "vad"):
            assert_within(result[name][:, 0], expected[name][:frames], tolerances.NOISE_SUPPRESSOR)


@pytest.mark.parametrize("name", ["mnist_lfcW1A1", "cifar10_cnvW1A1"])
def test_binary_networks_there_and_back(shared_data: Path, name: str) -> None:
    """Exported to ONNX and imported again: the same nodes, types and constants."""
    network = bittern.convert(shared_data / "bnn_pynq" / f"{name}.onnx")
    again = bittern.convert(network.to_onnx())
    assert [(node.op, node.attributes) for node in again.nodes] == [(n.op, n.attributes) for n in network.nodes]
    assert again.outputs == network.outputs
    for key, encoding in network.constants.items():
        assert_same_bits(again.constants[key].decode(), encoding.decode(), key)
