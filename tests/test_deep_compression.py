"""The original Deep Compression file of SqueezeNet: value for value what its authors meant, damage refused."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from bittern.compression import compress
from bittern.encodings import Codebook
from bittern.errors import FormatError, InputError
from bittern.importers import convert
from bittern.importers.deep_compression import import_deep_compression
from bittern.network import Network
from bittern.operators import significant

from tests.compare import assert_equal, assert_same_bits


@pytest.fixture(scope="module")
def original(shared_data: Path) -> Path:
    """The authors' file."""
    return shared_data / "squeezenet_dc" / "compressed_SqueezeNet.net"


def test_values(original: Path) -> None:
    net = convert(original, source_format="deep-compression")
    decoded = np.load(original.parent / "decoded.npz")
    layers = [node.name for node in net.nodes if node.op == "Conv"]
    assert len(layers) == 26 and len(net.constants) == 52
    for layer in layers:
        for part in ("weight", "bias"):
            assert_same_bits(net.constants[f"{layer}.{part}"].decode(), decoded[f"{layer}.{part}"], layer)
        tree = net.constants[f"{layer}.weight"]
        assert isinstance(tree, Codebook)
        assert_same_bits(tree.table.decode(), decoded[f"{layer}.codebook"], layer)
        assert_equal(tree.codes.decode(), decoded[f"{layer}.code"], layer)


def test_every_layer_takes_its_smallest_form(original: Path) -> None:
    """Codes and positions near their entropy, and a small header."""
    net = convert(original)
    forms = {tree.describe() for tree in net.constants.values() if isinstance(tree, Codebook)}
    assert len(forms) >= 4, forms  # few codes, many codes, hardly any zeros, many zeros
    assert len(net.to_bytes()) <= 575_000 < 675_763


def test_same_network_as_the_dense_one(original: Path) -> None:
    net, dense = convert(original), convert(original.parent / "squeezenet_dc.onnx")
    assert net.name == dense.name and net.inputs == dense.inputs and net.outputs == dense.outputs
    for a, b in zip(net.nodes, dense.nodes, strict=True):
        assert (a.name, a.op, a.inputs, a.outputs) == (b.name, b.op, b.inputs, b.outputs)
        assert significant(a.op, a.attributes) == significant(b.op, b.attributes)


def test_preprocessing(original: Path) -> None:
    net = convert(original)
    assert json.loads(net.metadata["preprocess"]) == {
        "resize": [256, 256],
        "crop": [227, 227],
        "color": "BGR",
        "mean": [104, 117, 123],
    }
    assert json.loads(convert(original, preprocess={"color": "RGB"}).metadata["preprocess"]) == {}


def test_deterministic_and_smaller_when_compressed(original: Path) -> None:
    net = convert(original)
    assert net.to_bytes() == convert(original.read_bytes(), source_format="deep-compression").to_bytes()
    small = compress(net)
    assert len(small.to_bytes()) <= len(net.to_bytes()) <= 575_000
    for name, tree in net.constants.items():
        assert_same_bits(small.constants[name].decode(), tree.decode(), name)
    again = Network.load(net.to_bytes())
    assert again.to_bytes() == net.to_bytes()


def test_damage_is_named(original: Path) -> None:
    data = original.read_bytes()
    conv1 = 104
    codes = conv1 + 4 * 256 + 4 * 96
    gaps = codes + 13902
    cases = [
        (b"", "header takes 104 bytes"),
        (data[:50], "header takes 104 bytes"),
        (data[:1000], "codebook of conv1"),
        (data[:5000], "codes of conv1"),
        (data[:-1], "gaps of conv_final takes"),
        (data + b"\0", "1 bytes are left over"),
        (struct.pack("<I", 2**32 - 1) + data[4:], "codes of conv1 takes 4294967295 bytes"),
        (struct.pack("<I", 13901) + data[4:], "conv1: entries reach position 14129 of 14112"),
        (data[:conv1] + struct.pack("<f", 0.5) + data[conv1 + 4 :], r"conv1: codebook\[0\] is 0.5"),
        (data[:conv1] + struct.pack("<f", -0.0) + data[conv1 + 4 :], r"codebook\[0\]"),
        (data[: conv1 + 4] + struct.pack("<f", np.nan) + data[conv1 + 8 :], "not finite"),
        (data[:gaps] + b"\xff" * 6951 + data[gaps + 6951 :], "position .* of 14112 weights"),
    ]
    for damaged, problem in cases:
        with pytest.raises(FormatError, match=problem):
            import_deep_compression(damaged)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        convert(tmp_path / "absent.net")
