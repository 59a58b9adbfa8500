"""benchmarks/sparse_layers.py and benchmarks/peers.py --sparse run, and count what they say they count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sparse_layers
import sparse_winograd
from bittern.layer_shapes import parse_shape
from networks import size


def test_layers_are_those_of_both_networks() -> None:
    found = sparse_layers.layers()
    built = {
        (layer.channels, layer.height, layer.width, layer.outputs, layer.kernel, layer.stride)
        for name in ("resnet50", "vgg16")
        for layer in size(name).layers
        if layer.kind == "conv"
    }
    listed = [(layer.channels, layer.height, layer.width, layer.outputs, layer.kernel, layer.stride) for layer in found]
    assert len(listed) == len(built) and set(listed) == built
    assert {layer.kernel for layer in found} == {1, 3, 7}
    assert parse_shape("conv:512x28x28,outputs=512,kernel=3,pad=1") in found  # of VGG-16
    assert parse_shape("conv:1024x14x14,outputs=256") in found  # of ResNet-50


def test_sparse_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = [parse_shape(f"conv:32x14x14,outputs=24{rest}") for rest in ("", ",kernel=3,pad=1")]
    monkeypatch.setattr(sparse_layers, "layers", lambda: chosen)
    path = tmp_path / "found.json"
    assert sparse_layers.main(["--rounds", "2", "--sparsity", "0.75", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "75 % zeros" in text and "1x1, 1 layers" in text and "3x3, 1 layers" in text and "Not shown" in text
    document = json.loads(path.read_text("utf-8"))
    small, large = document["layers"]
    assert small["layer"]["channels"] == 32 and len(small["ms"]["sparse"]) == 2
    for each in (small, large):
        assert each["kernels"]["sparse"] == document["kernel"] and "_f32_f32_f32_" in document["kernel"]
        assert each["kernels"]["direct"].startswith("gemm_f32_")
    assert "picked" not in small["ms"] and small["kernels"]["picked"] == small["kernels"]["direct"]
    entries = 32 * 24 * 9 / 4
    middle = sum(large["ms"]["sparse"]) / 2
    assert large["real_gflops"] == pytest.approx(2 * entries * 196 / middle / 1e6)


def test_break_even(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sparse_layers, "BREAK_EVEN", ("16x9x9,outputs=24", "16x9x9,outputs=24,kernel=3,pad=1"))
    path = tmp_path / "found.json"
    assert sparse_layers.main(["--rounds", "2", "--break-even", "--json", str(path)]) == 0
    assert "even at" in capsys.readouterr().out
    document = json.loads(path.read_text("utf-8"))
    assert [len(each["ratios"]) for each in document["layers"]] == [len(sparse_layers.SWEEP)] * 2


def test_sparse_winograd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sparse_winograd, "LAYERS", ("16x9x9,outputs=24",))
    path = tmp_path / "found.json"
    assert sparse_winograd.main(["--rounds", "2", "--best", "--json", str(path)]) == 0
    text = capsys.readouterr().out
    assert "Best of 2 rounds, 1 threads" in text and "Not shown" in text and "16x9x9" in text
    (each,) = json.loads(path.read_text("utf-8"))
    names = {f"{m} {density}" for m in (2, 4) for density in sparse_winograd.DENSITIES}
    assert set(each["ms"]) == {"picked", "dense 2"} | names
    assert all(len(samples) == 2 and min(samples) > 0 for samples in each["ms"].values())


def test_where_lines_cross() -> None:
    assert sparse_layers.crossing((0.4, 0.6, 0.8), (0.5, 0.75, 1.25)) == pytest.approx(0.7)
    assert sparse_layers.crossing((0.4, 0.6, 0.8), (0.8, 1.2, 1.5)) == pytest.approx(0.5)
    assert sparse_layers.crossing((0.4, 0.6), (0.5, 0.9)) is None
    assert sparse_layers.crossing((0.4, 0.6), (1.5, 1.9)) is None


@pytest.mark.parametrize("options", [("--rounds", "0"), ("--threads", "0"), ("--sparsity", "1"), ("--sparsity", "-1")])
def test_sparse_layers_refuses(options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sparse_layers.main(list(options))
    assert options[0] in capsys.readouterr().err
