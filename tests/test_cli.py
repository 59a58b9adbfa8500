"""The command line: every verb on a real small network, JSON, exit codes, one-line errors, real photos."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from bittern.cli import main
from bittern.cli.parser import VERBS

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def digits_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    path.write_bytes((resources.files("bittern") / "data" / "digits.onnx").read_bytes())
    return path


@pytest.fixture(scope="session")
def digits(digits_onnx: Path) -> Path:
    """The digits network as a file that can read images."""
    path = digits_onnx.with_suffix(".bittern")
    preprocess = {"resize": [8, 8], "color": "GRAY", "scale": 1 / 255}
    bittern.convert(digits_onnx, preprocess=preprocess, labels=[f"digit {i}" for i in range(10)]).save(path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Call the command where it must fail: exit code 2, nothing on standard output, one line on standard error."""

    def call(*arguments: object) -> str:
        code, out, err = run(*arguments)
        assert code == 2, (code, out, err)
        assert out == ""
        assert err.startswith("bittern: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert "Traceback" not in err and "internal error" not in err, err
        return err

    return call


def parsed(result: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = result
    assert code == 0, err
    assert err == ""
    document = json.loads(out)
    assert isinstance(document, dict)
    return document


# The command as such


def test_help_names_every_verb_and_is_a_page_for_each(run: Run) -> None:
    code, out, err = run("--help")
    assert code == 0 and err == ""
    for verb in VERBS:
        assert verb in out
        code, page, err = run(verb, "--help")
        assert code == 0 and err == "" and "example:" in page and "--json" in page


def test_examples_in_the_help_parse() -> None:
    from importlib import import_module

    from bittern.cli.parser import build_parser

    for verb in VERBS:
        words = import_module(f"bittern.cli.{verb}").EXAMPLE.split()
        assert words[:2] == ["bittern", verb]
        build_parser().parse_args(words[1:])


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"bittern {bittern.__version__}\n", "")


def test_wrong_usage(refused: Callable[..., str]) -> None:
    assert "--help" in refused()
    assert "convrt" in refused("convrt")
    assert "-o" in refused("convert", "x.onnx")
    assert "--bits" in refused("compress", "x.onnx", "-o", "y", "--bits", "many")
    assert "--nonsense" in refused("doctor", "--nonsense")
    assert "--rounds" in refused("bench", "x.bittern", "--rounds", "0")


def test_module_and_help_start_in_a_process() -> None:
    done = subprocess.run([sys.executable, "-m", "bittern", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "compress" in done.stdout and done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from bittern.cli import main; main(['--help']);"
        "heavy = {'onnx', 'onnxruntime', 'PIL', 'sklearn', 'torch'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)


def test_a_closed_pipe_is_quiet(digits: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bittern", "inspect", str(digits)],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert done.returncode == 141 and done.stderr == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bittern", "kernels"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2 and done.stderr.startswith("bittern: ") and done.stderr.count("\n") == 1


def test_interrupt_and_internal_errors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(bittern, "kernels", interrupted)
    assert run("kernels") == (130, "", "bittern: interrupted\n")
    monkeypatch.setattr(bittern, "kernels", broken)
    code, out, err = run("kernels")
    assert code == 2 and out == "" and err.count("\n") == 1 and "RuntimeError: first; second" in err
    monkeypatch.setenv("BITTERN_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main(["kernels"])


# Verbs


def test_convert(run: Run, digits_onnx: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.bittern", tmp_path / "b.bittern"
    code, out, err = run("convert", digits_onnx, "-o", first)
    assert code == 0 and err == "" and str(first) in out and "Nx1x8x8" in out
    document = parsed(run("convert", digits_onnx, "-o", second, "--json"))
    assert first.read_bytes() == second.read_bytes()
    assert document["output_bytes"] == second.stat().st_size and document["inputs"][0]["name"] == "image"
    assert run("convert", digits_onnx, "-o", first, "-q") == (0, "", "")


def test_convert_to_onnx(run: Run, digits: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    assert run("convert", digits, "-o", tmp_path / "back.onnx", "-q") == (0, "", "")
    model = onnx.load(tmp_path / "back.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert run("convert", tmp_path / "back.onnx", "-o", tmp_path / "again.bittern", "-q") == (0, "", "")
    assert run("verify", tmp_path / "again.bittern", "--against", digits, "-q")[0] == 0


def test_convert_stores_what_run_needs(run: Run, digits_onnx: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"n{i}\n" for i in range(10)), encoding="utf-8")
    output = tmp_path / "d.bittern"
    options = [
        "--resize-shorter",
        "9",
        "--crop",
        "8",
        "8",
        "--color",
        "GRAY",
        "--mean",
        "1",
        "--std",
        "2",
        "--scale",
        "0.5",
    ]
    document = parsed(run("convert", digits_onnx, "-o", output, *options, "--labels", labels, "--json"))
    stored = json.loads(document["metadata"]["preprocess"])
    assert stored["resize"] == [9, 9] and stored["resize_mode"] == "shorter_side" and stored["crop"] == [8, 8]
    assert (stored["color"], stored["mean"], stored["std"], stored["scale"]) == ("GRAY", [1.0], [2.0], 0.5)
    assert json.loads(document["metadata"]["labels"])[3] == "n3"


def test_compress(run: Run, digits_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.bittern"
    code, out, err = run("compress", digits_onnx, "-o", output, "--density", "0.3", "--bits", "5")
    assert code == 0 and err == "" and "conv3.weight" in out and "smaller" in out
    assert output.stat().st_size < 40_000
    network = bittern.Network.load(output)
    weight = network.constants["conv3.weight"].decode()
    assert np.count_nonzero(weight) <= 0.31 * weight.size and len(np.unique(weight)) <= 32
    document = parsed(run("compress", digits_onnx, "-o", output, "--recipe", "float16", "--json"))
    assert document["recipe"] == "float16" and document["summary"]["rows"]
    assert document["output_bytes"] < document["source_bytes"] * 0.55


def test_compress_single_layers(run: Run, digits_onnx: Path, tmp_path: Path) -> None:
    output = tmp_path / "small.bittern"
    document = parsed(run("compress", digits_onnx, "-o", output, "--density", "conv3.weight=0.25", "--json"))
    assert document["options"] == {"density": {"conv3.weight": 0.25}}
    constants = bittern.Network.load(output).constants
    share = {name: np.count_nonzero(constants[name].decode()) / np.prod(constants[name].shape) for name in constants}
    assert share["conv3.weight"] == pytest.approx(0.25, abs=0.01) and share["conv2.weight"] > 0.95


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib needs Python 3.11")
def test_compress_by_recipe_file(run: Run, refused: Callable[..., str], digits_onnx: Path, tmp_path: Path) -> None:
    recipe, output = tmp_path / "recipe.toml", tmp_path / "small.bittern"
    recipe.write_text('recipe = "deep-compression"\nbits = 5\ndensity = 0.3\n', encoding="utf-8")
    document = parsed(run("compress", digits_onnx, "-o", output, "--recipe", recipe, "--bits", 4, "--json"))
    assert document["options"] == {"bits": 4, "density": 0.3}
    recipe.write_text("bitz = 5\n", encoding="utf-8")
    assert "bitz" in refused("compress", digits_onnx, "-o", output, "--recipe", recipe)
    recipe.write_text("bits = = 5\n", encoding="utf-8")
    assert "TOML" in refused("compress", digits_onnx, "-o", output, "--recipe", recipe)


@pytest.mark.parametrize(
    "options", [("2",), ("0",), ("x",), ("nan",), ("conv1=",), ("=0.5",), ("0.5", "0.4"), ("0.5", "a=0.4")]
)
def test_wrong_densities(
    refused: Callable[..., str], digits_onnx: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    words = [word for option in options for word in ("--density", option)]
    assert "--density" in refused("compress", digits_onnx, "-o", tmp_path / "x", *words)
    assert not (tmp_path / "x").exists()


def test_inspect(run: Run, digits: Path) -> None:
    code, out, err = run("inspect", digits)
    assert code == 0 and err == "" and "conv2.weight" in out and "total" in out
    document = parsed(run("inspect", digits, "--shape", "image=3,1,8,8", "--json"))
    assert document["bytes"] == digits.stat().st_size
    layers = document["plan"]["layers"]
    assert any(layer["kernel"] for layer in layers) and all(layer["reason"] for layer in layers)
    assert any(layer["output_shape"][:1] == [3] for layer in layers)


def test_run_arrays(run: Run, digits: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.random((3, 1, 8, 8), dtype=np.float32)
    wanted = bittern.load(digits).run({"image": x})["scores"]
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", image=x, comment=np.array(["other arrays do not matter"]))
    for source in ("x.npy", "x.npz"):
        for target in ("y.npy", "y.npz"):
            document = parsed(run("run", digits, "--input", tmp_path / source, "--output", tmp_path / target, "--json"))
            assert document["results"][0]["outputs"][0]["shape"] == [3, 10]
            loaded = np.load(tmp_path / target)
            assert np.array_equal(loaded if target.endswith("npy") else loaded["scores"], wanted)
    document = parsed(run("run", digits, "--input", tmp_path / "x.npy", "--top", "2", "--json"))
    top = document["results"][0]["outputs"][0]["top"]
    assert [[item["index"] for item in row] for row in top] == np.argsort(-wanted, axis=1)[:, :2].tolist()
    assert top[0][0]["label"] == f"digit {top[0][0]['index']}"
    code, _, err = run("run", digits, "--input", tmp_path / "x.npy", tmp_path / "x.npz", "--output", tmp_path / "y.npy")
    assert code == 0 and err == "" and np.array_equal(np.load(tmp_path / "y.npy"), np.concatenate([wanted, wanted]))


def test_run_images(run: Run, digits: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (2, 8, 8)).astype(np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, each in zip(paths, pixels, strict=True):
        image.fromarray(each).save(path)
    values = (pixels.astype(np.float32) * np.float32(1 / 255))[:, None]
    wanted = bittern.load(digits).run({"image": values})["scores"]
    document = parsed(run("run", digits, "--input", *paths, "--json"))
    for number, result in enumerate(document["results"]):
        top = result["outputs"][0]["top"][0]
        assert [item["index"] for item in top] == np.argsort(-wanted[number])[:5].tolist()
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps([f"zahl-{i}" for i in range(10)]), encoding="utf-8")
    code, out, err = run("run", digits, "--input", paths[0], "--top", 1, "--labels", labels)
    assert code == 0 and err == "" and f"zahl-{wanted[0].argmax()}" in out


def test_verify(run: Run, digits: Path, digits_onnx: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    np.savez(tmp_path / "x.npz", image=rng.random((4, 1, 8, 8), dtype=np.float32))
    document = parsed(run("verify", digits, "--against", digits_onnx, "--input", tmp_path / "x.npz", "--json"))
    assert document["report"]["ok"] is True
    small = tmp_path / "small.bittern"
    assert run("compress", digits_onnx, "-o", small, "--density", "0.1", "--bits", "2", "-q") == (0, "", "")
    code, out, err = run("verify", small, "--against", digits_onnx, "--tolerance", "1e-6")
    assert code == 1 and err == "" and out
    assert run("verify", small, "--against", digits_onnx, "--tolerance", "1e6")[0] == 0


def test_bench(run: Run, digits: Path, digits_onnx: Path) -> None:
    pytest.importorskip("onnxruntime")
    document = parsed(
        run(
            "bench",
            digits,
            "--against",
            f"onnxruntime:{digits_onnx}",
            "--rounds",
            3,
            "--threads",
            1,
            "--json",
            "--profile",
        )
    )
    assert len(document["timings"]) == 2 and document["threads"] == 1 and document["profile"]["layers"]
    assert all(0 < timing["p10_ms"] <= timing["median_ms"] <= timing["p90_ms"] for timing in document["timings"])
    code, out, err = run("bench", digits, "--rounds", 2, "--shape", "image=2,1,8,8")
    assert code == 0 and err == "" and "2x1x8x8" in out


def test_kernels(run: Run) -> None:
    everything = parsed(run("kernels", "--json"))["kernels"]
    assert [kernel["name"] for kernel in everything] == [kernel.name for kernel in bittern.kernels()]
    scalar = parsed(run("kernels", "--isa", "scalar", "--filter", "^gemm", "--json"))["kernels"]
    assert {kernel["isa"] for kernel in scalar} == {"scalar"}
    assert {kernel["loop"] for kernel in scalar} == {"gemm", "gemm_f32", "gemm_u8"}
    code, out, err = run("kernels")
    assert code == 0 and err == "" and all(kernel["name"] in out for kernel in everything)


def test_doctor(run: Run) -> None:
    document = parsed(run("doctor", "--json"))
    assert document["healthy"] is True and set(document["self_test"].values()) == {"ok"}
    assert list(document["self_test"]) == list(bittern.cpu().isa_levels_usable)
    assert document["versions"]["numpy"] == np.__version__
    code, out, err = run("doctor")
    assert code == 0 and err == "" and "healthy" in out


# Refusals


def test_missing_files(refused: Callable[..., str], digits: Path, digits_onnx: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.onnx"
    for arguments in (
        ("convert", gone, "-o", tmp_path / "x"),
        ("compress", gone, "-o", tmp_path / "x"),
        ("inspect", gone),
        ("run", gone, "--input", "x.npy"),
        ("run", digits, "--input", gone),
        ("verify", gone, "--against", digits_onnx),
        ("verify", digits, "--against", gone),
        ("bench", gone),
        ("bench", digits, "--against", f"onnxruntime:{gone}"),
        ("compress", digits_onnx, "-o", tmp_path / "x", "--calibration", gone),
        ("convert", digits_onnx, "-o", tmp_path / "x", "--labels", gone),
    ):
        assert "gone.onnx" in refused(*arguments)
    assert not (tmp_path / "x").exists()


def test_damaged_files(refused: Callable[..., str], digits: Path, digits_onnx: Path, tmp_path: Path) -> None:
    content = digits.read_bytes()
    broken = tmp_path / "broken.bittern"
    for damaged in (b"", b"x" * 100, content[:-1], content[:5000], content[:-9] + b"12345" + content[-4:]):
        broken.write_bytes(damaged)
        for arguments in (("inspect", broken), ("run", broken, "--input", "x.npy"), ("bench", broken)):
            refused(*arguments)
        refused("convert", broken, "-o", tmp_path / "x")
    model = tmp_path / "broken.onnx"
    for damaged in (b"", b"\x00\x01garbage" * 9, digits_onnx.read_bytes()[:2000]):
        model.write_bytes(damaged)
        assert "broken.onnx" in refused("convert", model, "-o", tmp_path / "x")
        assert "broken.onnx" in refused("compress", model, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_outputs_that_cannot_be(refused: Callable[..., str], digits: Path, digits_onnx: Path, tmp_path: Path) -> None:
    x = tmp_path / "x.npy"
    np.save(x, np.zeros((1, 1, 8, 8), np.float32))
    before = digits.read_bytes()
    for verb in ("convert", "compress"):
        assert "directory" in refused(verb, digits_onnx, "-o", tmp_path)
        assert "does not exist" in refused(verb, digits_onnx, "-o", tmp_path / "no" / "y.bittern")
        assert "empty" in refused(verb, digits_onnx, "-o", "")
        assert "empty" in refused(verb, "", "-o", tmp_path / "y")
        assert "input itself" in refused(verb, digits, "-o", digits)
    assert "bittern" in refused("compress", digits_onnx, "-o", tmp_path / "y.onnx")
    assert "input itself" in refused("run", digits, "--input", x, "--output", x)
    assert "directory" in refused("run", digits, "--input", x, "--output", tmp_path / "no" / "y.npz")
    assert ".npz" in refused("run", digits, "--input", x, "--output", tmp_path / "y.txt")
    assert digits.read_bytes() == before and sorted(tmp_path.iterdir()) == [x]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_file_system_that_refuses(refused: Callable[..., str], digits: Path) -> None:
    assert "/proc/" in refused("convert", digits, "-o", "/proc/digits.bittern")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_directory(refused: Callable[..., str], digits_onnx: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        assert "not writable" in refused("convert", digits_onnx, "-o", tmp_path / "x")
    finally:
        tmp_path.chmod(0o700)


def test_wrong_inputs_of_run(refused: Callable[..., str], digits: Path, tmp_path: Path) -> None:
    def saved(name: str, **arrays: Any) -> Path:
        path = tmp_path / name
        if name.endswith("npy"):
            np.save(path, arrays["x"])
        else:
            np.savez(path, **arrays)
        return path

    right = np.zeros((1, 1, 8, 8), np.float32)
    assert "image" in refused("run", digits, "--input", saved("shape.npy", x=np.zeros((1, 8, 8), np.float32)))
    assert "image" in refused("run", digits, "--input", saved("dtype.npy", x=right.astype(np.int64)))
    assert "names.npz" in refused("run", digits, "--input", saved("names.npz", a=right, b=right))
    assert "objects.npy" in refused("run", digits, "--input", saved("objects.npy", x=np.array([{}], object)))
    assert "empty" in refused("run", digits, "--input", "")
    assert "text.npy" in refused("run", digits, "--input", saved("text.npy", x=np.array(["a"])))
    for name in ("junk.npy", "junk.npz", "junk.png", "cut.npy", "cut.npz"):
        content = saved("whole." + name[-3:], x=right).read_bytes()[:-40] if name.startswith("cut") else b"junk"
        (tmp_path / name).write_bytes(content)
        assert name in refused("run", digits, "--input", tmp_path / name)
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n", encoding="utf-8")
    good = saved("good.npy", x=right)
    assert "2 classes" in refused("run", digits, "--input", good, "--labels", labels, "--top", 1)
    labels.write_bytes(b"\xff\xfe\xfa")
    assert "UTF-8" in refused("run", digits, "--input", good, "--labels", labels)


def test_other_wrong_options(refused: Callable[..., str], digits: Path, digits_onnx: Path, tmp_path: Path) -> None:
    assert "avx9000" in refused("inspect", digits, "--isa", "avx9000")
    assert "--shape" in refused("inspect", digits, "--shape", "image=1,x,8,8")
    assert "no input" in refused("bench", digits, "--shape", "pixels=1,1,8,8")
    assert "--against" in refused("bench", digits, "--against", "tflite:x")
    assert "expression" in refused("kernels", "--filter", "(")
    assert "none matches" in refused("kernels", "--filter", "no such kernel")
    assert "--tolerance" in refused("verify", digits, "--against", digits_onnx, "--tolerance", "-1")
    assert "mean" in refused("convert", digits_onnx, "-o", tmp_path / "x", "--mean", "1", "2")
    assert "recipe" in refused("compress", digits_onnx, "-o", tmp_path / "x", "--recipe", "no-such-recipe")
    assert "directory" in refused("demo", "--keep", digits)


# A real network on real photos


def test_squeezenet_classifies_photos(run: Run, shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    image = pytest.importorskip("PIL.Image")
    sample = np.load(shared_data / "imagenet_sample" / "images.npz")
    paths = []
    for number, pixels in enumerate(sample["images"]):
        paths.append(tmp_path / f"{number:02}.png")
        image.fromarray(pixels).save(paths[-1])
    model = tmp_path / "squeezenet.bittern"
    options = ["--resize", "256", "256", "--crop", "227", "227", "--color", "BGR", "--mean", "104", "117", "123"]
    source = shared_data / "squeezenet_dc" / "squeezenet_dc.onnx"
    assert run("convert", source, "-o", model, *options, "-q") == (0, "", "")
    document = parsed(run("run", model, "--input", *paths, "--top", 5, "--output", tmp_path / "y.npz", "--json"))
    ranked = [[item["index"] for item in result["outputs"][0]["top"][0]] for result in document["results"]]
    labels = sample["labels"].tolist()
    assert sum(label == best[0] for label, best in zip(labels, ranked, strict=True)) == 19
    assert sum(label in best for label, best in zip(labels, ranked, strict=True)) == 29
    expected = np.load(shared_data / "squeezenet_dc" / "expected_imagenet_sample.npz")
    found = np.load(tmp_path / "y.npz")["logits"]
    assert np.abs(found - expected["logits"]).max() <= 1e-4


def test_the_published_squeezenet_file_needs_no_options(run: Run, shared_data: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    model = tmp_path / "squeezenet.bittern"
    source = shared_data / "squeezenet_dc" / "compressed_SqueezeNet.net"
    assert run("convert", source, "--from", "deep-compression", "-o", model, "-q") == (0, "", "")
    sample = np.load(shared_data / "imagenet_sample" / "images.npz")
    path = tmp_path / "photo.png"
    image.fromarray(sample["images"][0]).save(path)
    result = parsed(run("run", model, "--input", path, "--json"))["results"][0]
    assert int(sample["labels"][0]) in [item["index"] for item in result["outputs"][0]["top"][0]]
