"""`bittern compress` with recipes that quantise or prune: calibration data by name, options without a flag."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.cli import main


def document(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    """What the command prints with --json."""
    assert main([str(word) for word in (*words, "--json")]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_compress_to_few_bits(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    source, output, data = (tmp_path / name for name in ("digits.onnx", "small.bittern", "data.npz"))
    source.write_bytes((resources.files("bittern") / "data" / "digits.onnx").read_bytes())
    np.savez(data, image=np.random.default_rng(0).random((12, 1, 8, 8), np.float32))
    words = ("compress", source, "-o", output, "--calibration", data, "--recipe")
    sets = ("--set", "exclude=fc1", "--set", "exclude=fc2", "--set", "reconstruct=True")
    told = document(capsys, *words, "int8", *sets)
    assert told["options"] == {"exclude": ["fc1", "fc2"], "reconstruct": True}
    assert any("calibrated on 12 samples" in remark for remark in told["summary"]["remarks"])
    network = bittern.Network.load(output)
    encodings = {name: tree.describe() for name, tree in network.constants.items() if name.endswith(".weight")}
    assert encodings["conv2.weight"] == "affine(packed(8))" and encodings["fc1.weight"] == "dense"
    assert any(node.op == "QuantizeLinear" for node in network.nodes)

    told = document(capsys, *words, "int4", "--bits", 3, "--set", "scale=percentile", "--set", "percentile=99.5")
    assert told["options"] == {"bits": 3, "scale": "percentile", "percentile": 99.5}
    tree = bittern.Network.load(output).constants["fc1.weight"]
    assert tree.describe() == "affine(packed(3))"

    for wrong, message in (
        (("--set", "bits"), "--set bits"),
        (("--set", "=4"), "--set =4"),
        (("--set", "speed=1"), "speed"),
        (("--set", "bits=4", "--bits", "4"), "bits is given twice"),
        (("--set", "scale=big"), "minmax, percentile, mse"),
        (("--density", "0.5"), "density"),
    ):
        assert main([str(word) for word in (*words, "int8", *wrong)]) == 2
        assert message in capsys.readouterr().err
    np.savez(data, image=np.zeros((3, 1, 9, 9), np.float32))
    assert main([str(word) for word in (*words, "int8")]) == 2
    assert "calibration of 'image'" in capsys.readouterr().err


def test_compress_by_pruning(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    source, output, data = (tmp_path / name for name in ("digits.onnx", "small.bittern", "data.npz"))
    source.write_bytes((resources.files("bittern") / "data" / "digits.onnx").read_bytes())
    np.savez(data, image=np.random.default_rng(0).random((6, 1, 8, 8), np.float32))
    words = ("compress", source, "-o", output, "--recipe", "prune")
    shares = ("--sparsity", 0.5, "--sparsity", "conv*=0.25", "--sparsity", "fc2=0")
    told = document(capsys, *words, *shares, "--calibration", data, "--set", "quantize=int4", "--bits", 8)
    assert told["options"]["per_layer"] == {"conv*": 0.25, "fc2": 0.0} and told["options"]["sparsity"] == 0.5
    found = {row["name"]: row["density"] for row in told["summary"]["rows"] if row["is_weight"]}
    assert 0.7 < found["conv2.weight"] <= 0.751 and found["fc1.weight"] <= 0.501 and found["fc2.weight"] > 0.8
    assert "affine" in bittern.Network.load(output).constants["fc1.weight"].describe()

    told = document(capsys, *words, "--set", "pattern=2:4")
    found = {row["name"]: row["density"] for row in told["summary"]["rows"] if row["is_weight"]}
    assert found["conv2.weight"] == 0.5 and found["conv1.weight"] == 1.0
    assert document(capsys, *words, "--sparsity", 0.9)["output_bytes"] < told["output_bytes"]

    for wrong, message in (
        ((), "sparsity: is missing"),
        (("--sparsity", "1"), "0 <= S < 1"),
        (("--sparsity", "conv9=0.5"), "conv9"),
        (("--sparsity", "0.5", "--set", "pattern=5:4"), "N of N:M"),
        (("--sparsity", "0.5", "--set", "pattern=rows"), "unstructured"),
        (("--sparsity", "0.5", "--set", "method=reconstruct"), "--calibration DATA.npz"),
        (("--sparsity", "0.5", "--set", "quantize=dorefa"), "no zero"),
    ):
        assert main([str(word) for word in (*words, *wrong)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_compress_to_binary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Methods and recipes of binary networks, by options and by a file."""
    pytest.importorskip("onnx")
    pytest.importorskip("tomllib", reason="recipes in TOML need Python 3.11")
    source, output, data = (tmp_path / name for name in ("digits.onnx", "small.bittern", "data.npz"))
    source.write_bytes((resources.files("bittern") / "data" / "digits.onnx").read_bytes())
    np.savez(data, image=np.random.default_rng(0).random((8, 1, 8, 8), np.float32))
    curvature = {"conv2.weight": np.ones((64, 32, 3, 3), np.float32)}
    np.savez(tmp_path / "v.npz", allow_pickle=False, **curvature)
    words = ("compress", source, "-o", output, "--calibration", data, "--recipe")
    expected = {
        'recipe = "quantize"\nmethod = "separable"\nbatch_norm = "recalibrate"\nreconstruct = false': (
            "signs(separable_signs)", {"BatchNormalization": 0},
        ),
        'recipe = "quantize"\nmethod = "residual"\nlevels = 2\nreconstruct = false': (
            "sum(signs(packed(1)), signs(packed(1)))", {"BatchNormalization": 0},
        ),
        f'recipe = "quantize"\nmethod = "loss-aware"\ncurvature = "{tmp_path / "v.npz"}"\nreconstruct = false': (
            "signs(packed(1))", {"Conv": 3},
        ),
        'recipe = "local-binary"\nfilters = 2\nbits = 16\nseed = 5': (None, {"Conv": 5}),
    }  # fmt: skip
    for text, (encoding, counts) in expected.items():
        (tmp_path / "recipe.toml").write_text(text)
        told = document(capsys, *words, tmp_path / "recipe.toml")
        network = bittern.Network.load(output)
        if encoding is not None:
            assert network.constants["conv2.weight"].describe() == encoding
        else:
            assert network.constants["conv2.weight.filters"].describe() == "seeded"
            assert told["options"] == {"filters": 2, "bits": 16, "seed": 5}
        for op, count in counts.items():
            assert sum(node.op == op for node in network.nodes) == count
        assert bittern.load(output).run({"image": np.zeros((1, 1, 8, 8), np.float32)})["scores"].shape == (1, 10)
    for wrong, message in (
        (("quantize", "--set", "method=residual", "--set", "levels=9"), "levels"),
        (("quantize", "--set", "batch_norm=no"), "fold, recalibrate, shift"),
        (("quantize", "--set", "method=loss-aware", "--set", f"curvature={tmp_path / 'no.npz'}"), "no.npz"),
        (("local-binary", "--set", "levels=2"), "unknown option 'levels'"),
    ):
        assert main([str(word) for word in (*words, *wrong)]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
