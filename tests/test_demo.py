"""The demo: the shipped network is what its README says; every form is smaller and still right."""

import json
import sys
from importlib import resources
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern import demo
from bittern.cli import main
from bittern.encodings import Pow2


@pytest.fixture(scope="module")
def result() -> demo.Result:
    for package in ("sklearn", "onnx"):
        pytest.importorskip(package)
    return demo.run(rounds=3)


def test_the_shipped_network_is_small_and_float() -> None:
    content = (resources.files("bittern") / "data" / "digits.onnx").read_bytes()
    assert len(content) < 700_000
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(content).graph
    operators = {node.op_type for node in graph.node}
    assert {"Conv", "BatchNormalization", "Relu", "MaxPool", "Add", "Gemm"} <= operators
    assert [value.name for value in graph.input] == ["image"] and [value.name for value in graph.output] == ["scores"]


def test_sizes_and_accuracy(result: demo.Result) -> None:
    rows = {row.file: row for row in result.rows}
    plain = rows["digits_float32.bittern"]
    assert plain.accuracy >= 0.98 and plain.agreement == 1.0 and plain.bytes < 1.02 * result.source_bytes
    wanted = {
        "digits_float16.bittern": (1.9, 0.98, 0.99),
        "digits_codebook8.bittern": (3.8, 0.98, 0.99),
        "digits_pruned30_5bit.bittern": (10.0, 0.98, 0.98),
        "digits_pruned20_4bit.bittern": (13.0, 0.97, 0.97),
    }
    for file, (ratio, accuracy, agreement) in wanted.items():
        row = rows[file]
        assert row.ratio >= ratio, row
        assert row.accuracy >= accuracy, row
        assert row.agreement >= agreement, row
        assert 0 < row.p10_ms <= row.median_ms <= row.p90_ms
    peer = rows.get("digits.onnx")
    if peer is not None:
        assert peer.bytes == result.source_bytes and peer.agreement == 1.0


def test_the_text_shows_every_row_and_digits(result: demo.Result) -> None:
    text = str(result)
    for row in result.rows:
        assert f"{row.bytes:,}" in text and row.explanation in text
    assert "@@" in text and "held-back" in text
    assert max(map(len, text.splitlines())) <= 100


def test_json_and_kept_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("sklearn", "onnx"):
        pytest.importorskip(package)
    folder = tmp_path / "kept"
    assert main(["demo", "--keep", str(folder), "--rounds", "2", "--isa", "scalar", "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert captured.err == "" and document["isa"] == "scalar" and document["held_back_images"] == 360
    for row in document["rows"]:
        assert (folder / row["file"]).stat().st_size == row["bytes"]
    images, labels = demo.digits()
    model = bittern.load(folder / "digits_pruned30_5bit.bittern")
    share = float((model.run({"image": images})["scores"].argmax(axis=1) == labels).mean())
    told = {row["file"]: row["accuracy"] for row in document["rows"]}["digits_pruned30_5bit.bittern"]
    assert share == pytest.approx(told)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["demo"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "bittern[demo]" in captured.err and captured.err.count("\n") == 1


def test_the_split_is_the_training_split() -> None:
    pytest.importorskip("sklearn")
    images, labels = demo.digits()
    assert images.shape == (360, 1, 8, 8) and images.dtype == np.float32 and images.max() == 1.0
    assert np.bincount(labels).min() >= 34


def test_sums_of_powers_of_two_without_training() -> None:
    """ShiftCNN (1706.02393) of the shipped network: two terms of four bits cost half a point, one term three."""
    pytest.importorskip("sklearn")
    onnx_file = resources.files("bittern") / "data" / "digits.onnx"
    images, labels = demo.digits()
    with resources.as_file(onnx_file) as path:
        net = bittern.convert(path)

    def accuracy(network: bittern.Network) -> float:
        return float(np.mean(bittern.load(network).run({"image": images})["scores"].argmax(axis=1) == labels))

    exact = accuracy(net)
    for terms, margin in ((2, 0.005), (1, 0.03)):
        made = bittern.compress(net, recipe="shift", terms=terms, bits=4, bias_correction=False, reconstruct=False)
        kinds = {type(made.constants[node.inputs[1]]) for node in made.nodes if node.op in ("Conv", "Gemm")}
        assert kinds == {Pow2}
        assert accuracy(made) >= exact - margin, terms
