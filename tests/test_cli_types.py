"""The command line on networks whose inputs are integers, or decide shapes, or whose outputs have any shape."""

import json
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network: the picked rows of a table, reshaped."""
    net = bittern.Network("rows")
    net.add_input("rows", ("N",), "i64")
    net.add_input("flag", (), "bool")
    net.add_input("shape", (2,), "i64")
    net.add_constant("table", np.arange(12, dtype=np.float32).reshape(4, 3))
    net.add_constant("zero", np.zeros((), np.float32))
    net.add_node("Gather", ["table", "rows"], ["picked"])
    net.add_node("Where", ["flag", "picked", "zero"], ["chosen"])
    net.add_node("Reshape", ["chosen", "shape"], ["y"])
    net.add_node("Squeeze", ["y"], ["z"])
    net.set_outputs(["y", "z"])
    net.save(tmp_path / "net.bittern")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(folder: Path, rows: object, flag: object = True, shape: object = (1, -1)) -> Path:
    """A file of inputs."""
    np.savez(folder / "x.npz", rows=np.asarray(rows), flag=np.asarray(flag), shape=np.asarray(shape))
    return folder / "x.npz"


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "float64"])
def test_run_converts_integers(folder: Path, dtype: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(folder, np.array([3, 0], dtype), np.int8(1), np.array([3, 2], dtype))
    assert main(["run", "net.bittern", "--input", str(source), "--output", "y.npz"]) == 0
    assert "y 3x2 float32" in capsys.readouterr().out
    result = np.load(folder / "y.npz")
    assert np.array_equal(result["y"], np.array([[9, 10], [11, 0], [1, 2]], np.float32))


def test_run_refuses_what_does_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows, flag in (([0.5], True), ([np.nan], True), ([1], 2)):
        assert main(["run", "net.bittern", "--input", str(saved(folder, rows, flag))]) == 2
        captured = capsys.readouterr()
        assert "x.npz: holds" in captured.err and "save it as numpy." in captured.err and captured.err.count("\n") == 1


def test_inspect_says_why_there_is_no_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "net.bittern"]) == 0
    out = capsys.readouterr().out
    assert "the elements of shape decide shapes" in out and "--elements shape=" in out
    assert "z any shape f32" in out and "rows N i64" in out and "flag scalar bool" in out
    assert main(["inspect", "net.bittern", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["plan"] is None and document["outputs"][1]["shape"] is None
    assert main(["inspect", "net.bittern", "--elements", "shape=3,2", "--shape", "rows=2", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["output_shapes"]["y"] == [3, 2] and plan["output_shapes"]["z"] == [3, 2]
    for wrong in ("shape=1,2,3", "shape=a,b", "depth=3", "shape"):
        assert main(["inspect", "net.bittern", "--elements", wrong]) == 2
        err = capsys.readouterr().err
        assert f"--elements {wrong}" in err and err.count("\n") == 1


def test_verify_and_export(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    assert main(["convert", "net.bittern", "-o", "net.onnx"]) == 0
    again = bittern.convert(folder / "net.onnx")
    assert again.outputs[1].shape is None and again.inputs[1].dtype == "bool"
    source = saved(folder, [1, 2, 3], True, [9, -1])
    assert main(["verify", "net.bittern", "--against", "net.onnx", "--input", str(source)]) == 0
    assert "within the tolerance" in capsys.readouterr().out
