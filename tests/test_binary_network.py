"""Binary networks built from NumPy arrays, as examples/binary_network.py does it: exact sums on every level."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import bittern
import numpy as np
import pytest
from bittern.encodings import Packed, Signs

from tests.compare import assert_equal
from tests.reference.arrays import Array


@pytest.fixture(scope="module")
def example(repository: Path) -> ModuleType:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("binary_network", repository / "examples" / "binary_network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def scores(layers: dict[str, Array], x: Array, pooled: Collection[int]) -> Array:
    """The same in integers: sums of products, comparisons."""
    value = x.astype(np.int64)
    count = sum(key.endswith(".weight") for key in layers)
    for i in range(count):
        weight, threshold = layers[f"L{i}.weight"].astype(np.int64), layers.get(f"L{i}.threshold")
        if weight.ndim == 4:
            windows = np.lib.stride_tricks.sliding_window_view(value, weight.shape[2:], axis=(2, 3))
            value = np.einsum("nihwrs,oirs->nohw", windows, weight)
        else:
            value = value.reshape(len(value), -1) @ weight.T
        if i + 1 == count:
            break
        assert threshold is not None
        steps = threshold.reshape(1, len(threshold), *[1] * (value.ndim - 2), threshold.shape[1])
        value = 2 * (value[..., None] > steps).sum(axis=-1) - threshold.shape[1]
        if i in pooled:
            n, channels, height, width = value.shape
            cut = value[:, :, : height // 2 * 2, : width // 2 * 2]
            value = cut.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return np.asarray(value if threshold is None else value - threshold.reshape(-1))


def random_layers(rng: np.random.Generator, levels: int, last: bool) -> dict[str, Array]:
    """Two convolutions and two products, with thresholds near the sums."""
    layers: dict[str, Array] = {}
    for i, shape in enumerate(((17, 3, 3, 3), (20, 17, 2, 2), (33, 20 * 9), (6, 33))):
        layers[f"L{i}.weight"] = np.where(rng.integers(0, 2, shape), 1, -1).astype(np.int8)
        if i < 3 or last:
            spread = np.sqrt(np.prod(shape[1:]))
            steps = 1 if i == 3 else levels
            layers[f"L{i}.threshold"] = np.round(2 * spread * rng.standard_normal((shape[0], steps))) / 2
    return layers


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("last", [False, True])
def test_random_networks(example: ModuleType, levels: int, last: bool, isa: str, rng: np.random.Generator) -> None:
    layers, x = random_layers(rng, levels, last), rng.integers(-128, 128, (7, 3, 10, 10)).astype(np.float32)
    net = example.binary_network(layers, (3, 10, 10), [0])
    model = bittern.load(net.to_bytes(), isa=isa)
    assert_equal(model.run({"x": x})["scores"].astype(np.float64), scores(layers, x, [0]).astype(np.float64), isa)


def test_weights_take_one_bit(example: ModuleType, rng: np.random.Generator) -> None:
    layers = random_layers(rng, 1, False)
    net = example.binary_network(layers, (3, 10, 10), [0])
    for i in range(4):
        tree, weight = net.constants[f"weight{i}"], layers[f"L{i}.weight"]
        assert isinstance(tree, Signs) and isinstance(tree.codes, Packed) and tree.scale.shape == ()
        assert tree.codes.nbytes == -(-weight.size // 8)
        assert_equal(tree.decode(), weight.astype(np.float32))


def test_the_script(repository: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "layers.npz", allow_pickle=False, **random_layers(rng, 1, True))
    command = [sys.executable, str(repository / "examples" / "binary_network.py"), "layers.npz", "net.bittern"]
    options = ["--input", "3", "10", "10", "--pool", "0"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "signs(packed(1))" in done.stdout and "scores of a random input" in done.stdout
    assert bittern.load(tmp_path / "net.bittern").outputs[0].name == "scores"


def stored(path: Path) -> dict[str, Array]:
    """The arrays of a file."""
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def test_published_digits(example: ModuleType, shared_data: Path, isa: str) -> None:
    """The fully connected network of FINN on 1000 digits: every margin exact, 98.7 % right."""
    layers = stored(shared_data / "bnn_pynq" / "mnist_lfcW1A1.npz")
    expected = stored(shared_data / "bnn_pynq" / "expected_mnist_lfcW1A1_1000.npz")
    digits = stored(shared_data / "mnist" / "mnist_test_1000.npz")
    x = np.where(digits["images"].reshape(-1, 784) >= 128, np.float32(1), np.float32(-1))
    data = example.binary_network(layers, (784,)).to_bytes()
    found = bittern.load(data, isa=isa).run({"x": x})["scores"]
    assert_equal(found, expected["margin"], isa)
    assert np.mean(found.argmax(axis=1) == digits["labels"]) == 0.987
    weights = sum(layers[f"L{i}.weight"].size for i in range(4))
    assert len(data) < weights / 8 + 4 * (3 * 1024 + 10) + 4096


def test_published_photos(example: ModuleType, shared_data: Path, isa: str) -> None:
    """The convolutional network of FINN: every score of five photos and eight random images exact."""
    folder = shared_data / "bnn_pynq"
    layers = stored(folder / "cifar10_cnvW1A1.npz")
    expected, photos = stored(folder / "expected_cifar10_cnvW1A1.npz"), stored(folder / "photos32.npz")
    model = bittern.load(example.binary_network(layers, (3, 32, 32), [1, 3]).to_bytes(), isa=isa)
    for images, key in ((photos["images"], "acc_photos"), (expected["random_images"], "acc_random")):
        levels = np.clip(np.floor((images / 255.0 * 2 - 1) * 128 + 0.5), -128, 127)
        x = np.ascontiguousarray(levels.transpose(0, 3, 1, 2)).astype(np.float32)
        found = model.run({"x": x})["scores"]
        assert_equal(found, expected[key].astype(np.float32), f"{key} at {isa}")
        if key == "acc_photos":
            assert_equal(found.argmax(axis=1), photos["labels"])
