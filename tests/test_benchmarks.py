"""The benchmarks' own facts: sizes of the networks as published, shape files up to date, peers compared correctly."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern import cli
from deep_compression import measure as measure_sizes
from network_builder import Builder
from networks import NETWORKS, build, main, shapes_text, size
from peer_report import Result, Table
from startup import Candidate

from tests.reference.arrays import Array

PUBLISHED = {
    "alexnet": (60.97e6, 0.724e9),
    "vgg16": (138.36e6, 15.47e9),
    "resnet18": (11.69e6, 1.82e9),
    "resnet50": (25.56e6, 4.1e9),
    "resnext50": (25.03e6, 4.23e9),
    "mobilenet_v1": (4.23e6, 0.569e9),
    "mobilenet_v2": (3.50e6, 0.300e9),
    "squeezenet": (1.248e6, 0.82e9),
    "shufflenet": (1.87e6, 0.14e9),
    "xception": (22.86e6, 8.4e9),
    "squeezedet": (7.9 * 2**20 / 4, 9.7e9 / 2 * (1248 * 384) / (1242 * 375)),  # bytes, operations on KITTI's images
}
"""Parameters and products of one inference, from the papers and from implementations in wide use."""

MACS_TOLERANCE = {"squeezedet": 0.06}
"""Beyond 2.5 %: KITTI's odd sizes lose rows and columns at every stride."""


@pytest.mark.parametrize("name", NETWORKS)
def test_sizes_are_the_published_ones(name: str) -> None:
    parameters, macs = PUBLISHED[name]
    counted = size(name)
    assert counted.parameters == pytest.approx(parameters, rel=0.01)
    assert counted.macs == pytest.approx(macs, rel=MACS_TOLERANCE.get(name, 0.025))


@pytest.mark.parametrize("name", NETWORKS)
def test_shape_files_are_up_to_date(name: str, repository: Path) -> None:
    path = repository / "benchmarks" / "shapes" / f"{name}.txt"
    assert path.read_text("utf-8") == shapes_text(name), "run: python benchmarks/networks.py --shapes benchmarks/shapes"


def test_no_shape_file_is_left_over(repository: Path) -> None:
    assert {path.stem for path in (repository / "benchmarks" / "shapes").iterdir()} == set(NETWORKS)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet", "shufflenet"])
def test_networks_are_valid_finite_and_counted_right(name: str) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = build(name)
    onnx.checker.check_model(model, full_check=True)
    loaded = bittern.load(bittern.convert(model))
    assert sum(layer.macs for layer in loaded.plan.layers) == size(name).macs
    report = bittern.verify(loaded, model, tolerance=1e-3)
    assert report.ok, str(report)
    assert 0.1 < report.layers[-1].rms / report.layers[-1].relative < 100


def test_weights_are_seeded() -> None:
    pytest.importorskip("onnx")
    first, same, other = (build("squeezenet", seed=seed).SerializeToString(deterministic=True) for seed in (0, 0, 1))
    assert first == same != other


def test_uneven_padding_is_at_the_end() -> None:
    net = Builder("padding", weights=False)
    x = net.conv(net.input(3, 8, 7), 4, 3, 2, pad="same")
    assert net.layers[0].pads == (0, 1, 1, 1) and (x.height, x.width) == (4, 4)


def test_command_line_of_networks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in NETWORKS)
    assert main(["--shapes", str(tmp_path), "alexnet"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["alexnet.txt"]
    with pytest.raises(SystemExit):
        main(["--list", "no_such_network"])
    assert "no_such_network" in capsys.readouterr().err


def result(engine: str, *samples: float, error: float = 0.0, wrong: bool = False, failure: str = "") -> Result:
    """An engine's result; its other fields do not matter here."""
    loaded = {"version": "1", "note": "", "load_ms": 1.0, "first_ms": 1.0}
    return Result(engine, list(samples), loaded, 1000, error, wrong, failure)


def test_ratio_is_against_the_fastest_right_engine() -> None:
    engines = [
        result("bittern", 2.0, 4.0, 3.0),
        result("onnxruntime", 4.0, 4.0, 4.0),
        result("openvino", 3.0, 2.0, 3.0),
        result("torch", 0.1, 0.1, 0.1, error=0.5, wrong=True),
        result("ncnn", failure="it does not work"),
    ]
    table = Table("net", 1, [1, 3, 8, 8], 3, {"onnx": 10}, engines)
    ratio = table.ratio
    assert ratio is not None and (ratio.other, ratio.value) == ("openvino", 1.0)
    assert ratio.low < 1 < ratio.high
    assert "torch: its answer is wrong" in table.text() and "ncnn: it does not work" in table.text()
    assert json.loads(json.dumps(table.to_json()))["fastest_other"] == "openvino"


@pytest.mark.parametrize("engines", [[result("onnxruntime", 1.0)], [result("bittern", 1.0)], []])
def test_no_ratio_without_two_sides(engines: list[Result]) -> None:
    table = Table("net", 1, [1], 1, {}, engines)
    assert table.ratio is None and table.text()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Callable[..., tuple[int, Any, str]]:
    """Run peers.py: its exit code, JSON and text."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("peers")

    def run(*arguments: str) -> tuple[int, Any, str]:
        target = folder / "peers.json"
        target.unlink(missing_ok=True)
        command = [sys.executable, str(repository / "benchmarks" / "peers.py"), "--json", str(target)]
        command += ["--cache", str(folder), "--networks", "squeezenet", "--threads", "1", "--rounds", "2"]
        done = subprocess.run([*command, "--sample", "1", *arguments], capture_output=True, text=True, check=False)
        return (
            done.returncode,
            json.loads(target.read_text("utf-8")) if target.exists() else None,
            done.stdout + done.stderr,
        )

    return run


def test_peers(peers: Callable[..., tuple[int, Any, str]]) -> None:
    code, document, text = peers("--engines", "bittern,onnxruntime")
    assert code == 0, text
    (network,) = document["networks"]
    assert document["system"]["cpu"] and network["fastest_other"] == "onnxruntime" and network["ratio"] > 0
    for engine in network["engines"]:
        assert len(engine["samples_ms"]) == 2 and engine["relative_error"] < 1e-4 and engine["peak_bytes"] > 10**7
    assert "squeezenet" in text and "Not shown" in text


def test_bittern_alone_is_still_checked(peers: Callable[..., tuple[int, Any, str]]) -> None:
    code, document, text = peers("--engines", "bittern")
    (network,) = document["networks"]
    assert code == 0 and [each["engine"] for each in network["engines"]] == ["bittern"], text
    assert network["engines"][0]["relative_error"] < 1e-4 and network["ratio"] is None


def test_peers_on_pruned_networks(peers: Callable[..., tuple[int, Any, str]]) -> None:
    """One pruned file for all engines, encoded for bittern; the unpruned network on bittern alone beside it."""
    code, document, text = peers("--engines", "bittern,onnxruntime", "--sparse", "0.9")
    assert code == 0, text
    (network,) = document["networks"]
    assert network["network"] == "squeezenet 90 % zeros" and network["fastest_other"] == "onnxruntime"
    engines = {each["engine"]: each for each in network["engines"]}
    assert set(engines) == {"bittern", "onnxruntime", "bittern_dense"}
    assert all(each["relative_error"] < 1e-4 for each in engines.values())
    assert network["file_bytes"]["bittern"] < 0.3 * network["file_bytes"]["onnx"]
    assert network["ratio_to_dense"] == pytest.approx(
        engines["bittern"]["median_ms"] / engines["bittern_dense"]["median_ms"]
    )
    assert "own dense" in text and "nothing here is compressed" not in text


def test_peers_on_pruned_networks_in_8_bits(peers: Callable[..., tuple[int, Any, str]]) -> None:
    """Every engine on the pruned and on the unpruned network, both quantised; blocks of channels are zero together."""
    code, document, text = peers("--engines", "bittern,onnxruntime", "--sparse", "0.8", "--block", "4", "--int8")
    assert code == 0, text
    (network,) = document["networks"]
    assert network["network"] == "squeezenet int8 80 % zeros in blocks of 4"
    engines = {each["engine"]: each for each in network["engines"]}
    assert set(engines) == {"bittern", "onnxruntime", "bittern_dense", "onnxruntime_dense"}
    assert all(each["relative_error"] < 0.3 for each in engines.values())
    assert network["file_bytes"]["bittern"] < 0.5 * network["file_bytes"]["onnx"]
    assert network["ratio_to_dense"] > 0


@pytest.mark.parametrize("options", [("1",), ("-0.5",), ("0.9", "--block", "0")])
def test_peers_refuses_such_sparsity(peers: Callable[..., tuple[int, Any, str]], options: tuple[str, ...]) -> None:
    code, document, text = peers("--sparse", *options)
    assert code == 2 and document is None and "--sparse" in text and "Traceback" not in text


@pytest.mark.parametrize("arguments", [["--engines", "tflite"], ["--threads", "0"], ["--python-for", "torch=/no"]])
def test_peers_refuses_what_it_cannot_do(peers: Callable[..., tuple[int, Any, str]], arguments: list[str]) -> None:
    code, document, text = peers(*arguments)
    assert code == 2 and document is None and arguments[1] in text and "Traceback" not in text


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Array, Array]:
    """A network with all that folding and conversion treat specially, an input, and ONNX Runtime's answer."""
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    net = Builder("small")
    x = net.input(3, 9, 9)
    x = net.relu6(net.batch_norm(net.conv(x, 12, 3, 2, pad="same", bias=False)))
    y = net.channel_shuffle(net.conv(x, 12, 3, pad=1, groups=3), 3)
    x = net.concat(net.lrn(net.add(x, y)), net.batch_norm(net.conv(x, 4)))
    x = net.max_pool(net.average_pool(x, 3, 1, pad=1), 2, 2, ceil=True)
    path = tmp_path / "small.onnx"
    path.write_bytes(net.model(net.fc(net.global_average_pool(net.relu(x)), 5)).SerializeToString())
    values = np.random.default_rng(0).standard_normal((1, 3, 9, 9), np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return path, values, session.run(None, {"data": values})[0]


@pytest.mark.parametrize("form", ["eager", "frozen"])
@pytest.mark.filterwarnings("ignore")
def test_pytorch_is_given_the_same_network(small: tuple[Path, Array, Array], form: str) -> None:
    pytest.importorskip("torch", exc_type=ImportError)
    from peer_torch import load

    path, values, expected = small
    np.testing.assert_allclose(load(path, 1, values, form)(values), expected, rtol=1e-4, atol=1e-5)


def test_ncnn_is_given_the_same_network(small: tuple[Path, Array, Array]) -> None:
    pytest.importorskip("ncnn", exc_type=ImportError)
    from peer_ncnn import convert, load

    path, values, expected = small
    convert(path, path.with_suffix(".param"))
    result = load(path.with_suffix(".param"), 1)(values)
    np.testing.assert_allclose(result.reshape(expected.shape), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("peer", ["onnxruntime", "openvino"])
def test_bench_verb_against_a_peer(peer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(peer, exc_type=ImportError)
    path = tmp_path / "net.onnx"
    net = Builder("net")
    path.write_bytes(net.model(net.conv(net.input(3, 8, 8), 4, 3)).SerializeToString())
    bittern.convert(path).save(tmp_path / "net.bittern")
    command = ["bench", str(tmp_path / "net.bittern"), "--threads", "1", "--rounds", "2", "--shape", "data=2,3,8,8"]
    assert cli.main([*command, "--against", f"{peer}:{path}", "--against", f"{peer}:{path}", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["timings"]) == 3
    other = tmp_path / "other.onnx"
    for content, said in ((path.read_bytes().replace(b"data", b"atad"), "atad"), (b"\1garbage", "other.onnx")):
        other.write_bytes(content)
        assert cli.main([*command, "--against", f"{peer}:{other}"]) == 2
        message = capsys.readouterr().err
        assert said in message and message.count("\n") == 1


def test_startup_measures_whole_processes(tmp_path: Path) -> None:
    """A process's own memory counts, not that of the one which started it; one that fails is not timed."""
    small = Candidate("small", tmp_path, "x = 1")
    large = Candidate("large", tmp_path, "x = bytearray(64 << 20)")
    for candidate in (small, large):
        candidate.run([1])
    assert len(small.seconds) == 1 and small.seconds[0] > 0
    assert 50 << 20 < large.peak_bytes[0] - small.peak_bytes[0] < 80 << 20
    broken = Candidate("broken", tmp_path, "raise SystemExit('no such model')")
    with pytest.raises(RuntimeError, match=r"broken failed: no such model"):
        broken.run([1])
    assert broken.seconds == []


def test_a_sparse_clustered_layer_takes_its_entropy() -> None:
    """4096 x 4096, 9 % of the weights, 16 values: at least 25 times smaller, the parts add up, no byte wasted."""
    result = measure_sizes("fc4096", "laplace", 0)
    (row,) = result.rows
    assert result.ratio >= 25 and abs(row.density - 0.09) < 0.001
    assert row.entropy <= row.total <= 1.01 * row.entropy
    assert row.total + 4 * 4096 < result.file < row.total + 4 * 4096 + 2000
