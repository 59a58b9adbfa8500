"""`bittern inspect` on layers that may hold zeros: estimates of both kernels, and their times."""

import json
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.cli import main
from bittern.encodings import Bitmap, Codebook, Dense, Encoding, Sparse
from bittern.sparse_choices import SparseChoice, choices_text, measure_choices, sparse_choices

CHANNELS = 48


def zeros(density: float, codes: bool = False) -> Encoding:
    """Weights of a 3x3 convolution with this share of them not zero."""
    rng = np.random.default_rng(3)
    dims = (CHANNELS, CHANNELS, 3, 3)
    mask = rng.random(dims) < density
    entries = int(mask.sum())
    if not codes:
        return Sparse(Bitmap.of(mask), Dense(rng.standard_normal(entries).astype(np.float32)), dims)
    table = np.append(np.float32(0), rng.standard_normal(15).astype(np.float32))
    return Codebook(Sparse(Bitmap.of(mask), Dense(rng.integers(1, 16, entries).astype(np.uint8)), dims), Dense(table))


def network() -> bittern.Network:
    """Few weights, few weights as codes, most weights, and a layer that holds none by its encoding."""
    net = bittern.Network("layers")
    net.add_input("x", ("N", CHANNELS, 14, 14))
    dense = np.random.default_rng(4).standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    forms: dict[str, Encoding] = {
        "few": zeros(0.05),
        "codes": zeros(0.05, codes=True),
        "most": zeros(0.95),
        "dense": Dense(dense),
    }
    at = "x"
    for name, weights in forms.items():
        net.add_constant(f"{name}.w", weights)
        net.add_node("Conv", [at, f"{name}.w"], [f"{name}.y"], name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        at = f"{name}.y"
    net.set_outputs([at])
    return net


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.bittern"
    network().save(path)
    return path


def test_a_plan_has_both_estimates() -> None:
    plan = bittern.load(network()).plan
    choices = {each.name: each for each in sparse_choices(plan)}
    assert set(choices) == {"few", "codes", "most"}
    for each in choices.values():
        assert each.sparse_kernel.startswith("spmm_f32_") and not each.dense_kernel.startswith("spmm_")
        assert each.dense_estimate > 0 and each.sparse_estimate > 0 and each.dense_ms is None
    assert choices["few"].sparse and choices["codes"].sparse and not choices["most"].sparse
    assert "_lut8_" in choices["codes"].sparse_kernel and "_lut8_" not in choices["few"].sparse_kernel
    assert choices["few"].estimated_speed > 1 and 0.04 < choices["few"].density < 0.06
    assert choices["most"].sparse_estimate > 5 * choices["few"].sparse_estimate
    (other,) = (layer for layer in plan.layers if layer.name == "dense" and layer.op == "Conv")
    assert other.density < 0 and other.sparse_kernel == other.dense_kernel == "" and other.dense_estimate < 0


def test_both_kernels_are_measured(isa: str) -> None:
    """Whichever the planner chose; the network itself stays as it is."""
    net = network()
    before = net.to_bytes()
    x = np.random.default_rng(5).standard_normal((2, CHANNELS, 14, 14), np.float32)
    plan = bittern.load(net, isa=isa).plan_for({"x": x.shape})
    asked: list[tuple[int, int]] = []
    found = measure_choices(
        net, plan, [{"x": x}], threads=1, isa=isa, rounds=2, progress=lambda done, total, _: asked.append((done, total))
    )
    assert [each.name for each in found] == ["few", "codes", "most"] and net.to_bytes() == before
    for each in found:
        assert each.dense_ms is not None and each.sparse_ms is not None
        assert each.measured_speed == each.dense_ms / each.sparse_ms > 0
        assert each.measured_kernel and not each.measured_kernel.startswith("spmm_")
    # Dense, values, codes, and where there is a kernel blocks for most weights; twice.
    kernels = {each.sparse_kernel for each in found}
    assert len(kernels) == (3 if isa.startswith("avx512") else 2)
    turns = 2 * (1 + len(kernels))
    assert asked == [(turn, turns) for turn in range(turns)]


def test_inspect(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(file)]) == 0
    text = capsys.readouterr().out
    assert "layers that may hold zeros" in text and "dense Mcycles" in text and "measured" not in text
    assert main(["inspect", str(file), "--json"]) == 0
    choices = json.loads(capsys.readouterr().out)["sparse_choices"]
    assert [each["name"] for each in choices] == ["few", "codes", "most"] and "dense_ms" not in choices[0]


def test_inspect_measures(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--shape", f"x=2,{CHANNELS},14,14", "--runs", "2", "--threads", "1"]
    assert main(["inspect", str(file), "--measure", *shape]) == 0
    text = capsys.readouterr().out
    assert "measured" in text and text.count(" ms") >= 6
    assert main(["inspect", str(file), "--measure", *shape, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    kernels = {layer["name"]: layer["kernel"] for layer in document["plan"]["layers"] if layer["op"] == "Conv"}
    for each in document["sparse_choices"]:
        assert each["dense_ms"] > 0 and each["sparse_ms"] > 0 and each["kernel"] == kernels[each["name"]]
        assert each["measured_speed"] == pytest.approx(each["dense_ms"] / each["sparse_ms"])


def test_inspect_without_zeros(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = bittern.Network("plain")
    net.add_input("x", (1, 4))
    net.add_node("Relu", ["x"], ["y"])
    net.set_outputs(["y"])
    net.save(tmp_path / "plain.bittern")
    assert main(["inspect", str(tmp_path / "plain.bittern"), "--measure"]) == 0
    assert "nothing to measure" in capsys.readouterr().out


def test_measuring_needs_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = bittern.Network("decides")
    net.add_input("x", (2, 6))
    net.add_input("shape", (2,), "i64")
    net.add_node("Reshape", ["x", "shape"], ["y"])
    net.set_outputs(["y"])
    net.save(tmp_path / "decides.bittern")
    assert main(["inspect", str(tmp_path / "decides.bittern"), "--measure"]) == 2
    message = capsys.readouterr().err
    assert "--measure" in message and "--elements shape" in message and message.count("\n") == 1


def test_the_table() -> None:
    choice = SparseChoice("a", 0.1, "s", "because", "d", "s", 4e6, 1e6, 2.0, 1.0, "d")
    text = choices_text([choice])
    assert "10.0%" in text and "4.00" in text and "2.00 ms" in text and text.rstrip().endswith("sparse  because")
    unmeasured = SparseChoice("b", 0.5, "d", "because", "d", "s", 4e6, 8e6)
    assert unmeasured.measured_speed is None and unmeasured.estimated_speed == 0.5 and not unmeasured.sparse
    assert "dense   because" in choices_text([choice, unmeasured])
