"""The documents: every example runs, every command does what is shown, every link leads somewhere."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from importlib import resources
from pathlib import Path

import bittern
import numpy as np
import pytest

from tests.conftest import REPOSITORY

DOCUMENTS = sorted(
    path.relative_to(REPOSITORY).as_posix() for path in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]
)


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with the network and the data that examples use."""
    network = resources.files("bittern") / "data" / "digits.onnx"
    (tmp_path / "net.onnx").write_bytes(network.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document", ["README.md", "docs/python.md"])
def test_python_examples_run(document: str, repository: Path, folder: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    code = blocks(repository / document, "python")
    assert code
    (folder / "example.py").write_text("\n".join(code), "utf-8")
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "gemm_f32" in done.stdout


def grey_png(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """A grey PNG image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    height, width = pixels.shape
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_commands_end_as_shown(repository: Path, folder: Path) -> None:
    """Each `$ bittern ...` of docs/cli.md, in its order, with its exit code."""
    for package in ("onnx", "onnxruntime", "PIL", "sklearn"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    from bittern.demo import digits

    images, _ = digits()
    np.savez(folder / "digits.npz", image=images)
    grey_png(folder / "seven.png", np.rint(images[0, 0] * 255).astype(np.uint8))
    text = "\n".join(blocks(repository / "docs" / "cli.md", "console"))
    shown = re.findall(r"^\$ bittern (.*)\n((?:(?!\$ ).*\n?)*)", text, re.MULTILINE)
    assert len(shown) > 10
    for arguments, printed in shown:
        code = re.search(r"^\[exit code (\d+)\]$", printed, re.MULTILINE)
        command = [sys.executable, "-m", "bittern", *arguments.split()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == (int(code[1]) if code else 0), f"bittern {arguments}: {done.stdout}{done.stderr}"
        if done.returncode == 2:
            here = "usable here: " + ", ".join(bittern.cpu().isa_levels_usable)  # the document shows another machine's
            assert done.stderr.strip() in re.sub("usable here: .*", here, printed)


def test_every_verb_is_documented(repository: Path) -> None:
    from bittern.cli.parser import VERBS

    for document, form in (("README.md", "`bittern {verb}"), ("docs/cli.md", "## {verb}")):
        text = (repository / document).read_text("utf-8")
        for verb in VERBS:
            if (document, verb) != ("docs/cli.md", "demo"):
                assert form.format(verb=verb) in text, f"{document} lacks {verb}"


def test_operators_are_listed(repository: Path) -> None:
    """The README's list of operators is the package's."""
    from bittern.operators import OPERATORS

    found = re.search(r"^\* \*\*Operators\*\*: (.*?)\. ", (repository / "README.md").read_text("utf-8"), re.M | re.S)
    assert found and sorted(re.split(r",\s+", found[1])) == sorted(OPERATORS), "bring the README's list up to date"


def test_cpp_example_compiles(repository: Path, folder: Path) -> None:
    """With the public headers alone; linked and run where the library was built."""
    (code,) = blocks(repository / "README.md", "cpp")
    assert (repository / "examples" / "cpp" / "digits.cpp").read_text("utf-8") == code
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    (folder / "digits.cpp").write_text(code, "utf-8")
    flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", "-I", str(repository / "include"), "digits.cpp"]
    libraries = sorted(Path(os.environ.get("BITTERN_BUILD_DIR", folder)).rglob("libbittern.a"))
    flags += [str(libraries[0]), "-pthread", "-o", "digits"] if libraries else ["-fsyntax-only"]
    done = subprocess.run([compiler, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if libraries:
        import bittern

        refused = subprocess.run(["./digits"], capture_output=True, text=True, check=False)
        assert refused.returncode == 2 and "small.bittern" in refused.stderr
        bittern.compress("net.onnx").save("small.bittern")
        done = subprocess.run(["./digits"], capture_output=True, text=True, check=True)
        expected = np.asarray(bittern.load("small.bittern", threads=1)(np.zeros((1, 1, 8, 8), np.float32)))
        assert np.allclose([float(line) for line in done.stdout.splitlines()], expected[0], rtol=1e-4)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str, repository: Path) -> None:
    path = repository / document
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", text):
        if target and "://" not in target:
            assert (path.parent / target).exists(), f"{document}: {target} does not exist"
    for word in re.findall(r"`([\w./*-]+/[\w./*-]*)`", text):
        if word.split("/")[0] in ("engine", "src", "tests", "python", "include", "examples"):
            names = (repository.glob(word.rstrip("/")), (repository / "tests").glob(word.rstrip("/")))
            assert any(any(found) for found in names), f"{document}: {word} does not exist"


def test_readme_commands_are_those_of_the_checks(repository: Path) -> None:
    checks = repository / ".ci" / "run"
    if not checks.is_file():
        pytest.skip("the checks are not here")
    commands = re.findall(r"^\w+_command='(.*)'$", checks.read_text("utf-8"), re.MULTILINE)
    lines = (repository / "README.md").read_text("utf-8").splitlines()
    assert len(commands) == 2 and all(command in lines for command in commands)
