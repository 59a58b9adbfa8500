"""The folders may include each other only along the arrows python -> include <- src -> engine."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
SOURCES = {".h", ".hpp", ".cpp", ".c", ".cc", ".inc", ".cu", ".cuh"}
INTRINSICS = re.compile(r"^([a-z0-9]*mmintrin|immintrin|x86intrin|x86gprintrin|avx\w*intrin|cpuid|arm_\w+)\.h$")
POSIX = re.compile(r"^(std(?:int|def|bool|lib|io)|sys/\w+|unistd|fcntl|pthread|sched|dirent|features)\.h$")
LIMITS = {"engine/simd", "engine/base"}
"""Where instruction sets may be named by their headers."""


@dataclass(frozen=True)
class Include:
    """One include line."""

    file: str
    name: str
    quoted: bool


def includes(repository: Path) -> list[Include]:
    """Every include line of the four parts."""
    found = []
    for part in ("include", "src", "engine", "python/bindings"):
        for path in sorted((repository / part).rglob("*")):
            if path.suffix in SOURCES:
                for style, name in INCLUDE.findall(path.read_text("utf-8")):
                    found.append(Include(path.relative_to(repository).as_posix(), name, style == '"'))
    return found


def is_standard(name: str) -> bool:
    """A header of C++ or of the platform's C library."""
    return ("/" not in name and "." not in name) or POSIX.match(name) is not None


def violations(found: list[Include], repository: Path) -> Iterator[str]:
    """Include lines that break a rule."""
    for include in found:
        file, name = include.file, include.name
        line = f"{file} includes {'quoted ' if include.quoted else ''}{name}"
        folder = file.split("/")[0]
        public, third = name.startswith("bittern/"), not is_standard(name) and not name.startswith("bittern/")
        if INTRINSICS.match(name):
            if not any(file.startswith(f"{allowed}/") for allowed in LIMITS):
                yield f"{line}: instruction sets belong to {', '.join(sorted(LIMITS))}"
            continue
        if name.startswith("nlohmann"):
            if file != "src/format/json.cpp":
                yield f"{line}: only src/format/json.cpp may"
            continue
        if include.quoted:
            roots = {"engine": ["engine"], "src": ["src", "engine"], "include": [], "python": ["python/bindings"]}[
                folder
            ]
            if not any((repository / root / name).is_file() for root in roots):
                yield f"{line}: a quoted include names a file under {' or '.join(roots) or 'nothing'}"
        elif folder == "engine" and (public or third):
            yield f"{line}: the engine knows neither file nor graph nor the public interface"
        elif folder in ("include", "src") and third:
            yield f"{line}: only the standard library and <bittern/...>"
        elif folder == "python" and third and not name.startswith("pybind11/") and name != "Python.h":
            yield f"{line}: the bindings see <bittern/...> and pybind11 alone"
        elif public and not (repository / "include" / name).is_file():
            yield f"{line}: no such public header"


@pytest.fixture(scope="module")
def found(repository: Path) -> list[Include]:
    """All include lines; there are many, else the search looks in the wrong place."""
    lines = includes(repository)
    if not lines:
        pytest.skip("the sources are not here")
    for part in ("include/", "src/", "engine/", "python/bindings/"):
        assert any(line.file.startswith(part) for line in lines), f"nothing found in {part}"
    return lines


def test_arrows(found: list[Include], repository: Path) -> None:
    problems = list(violations(found, repository))
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("file", "name", "quoted"),
    [
        ("engine/gemm/conv.cpp", "graph/graph.h", True),
        ("engine/gemm/conv.cpp", "bittern/error.h", False),
        ("engine/gemm/conv.cpp", "nlohmann/json.hpp", False),
        ("engine/gemm/conv.cpp", "immintrin.h", False),
        ("src/plan/plan.cpp", "nlohmann/json.hpp", False),
        ("src/plan/plan.cpp", "immintrin.h", False),
        ("src/plan/plan.cpp", "pybind11/pybind11.h", False),
        ("include/bittern/model.h", "plan/plan.h", True),
        ("include/bittern/model.h", "nlohmann/json_fwd.hpp", False),
        ("include/bittern/model.h", "bittern/no_such_header.h", False),
        ("python/bindings/module.cpp", "graph/graph.h", True),
        ("python/bindings/module.cpp", "nlohmann/json.hpp", False),
    ],
)
def test_a_wrong_arrow_is_noticed(file: str, name: str, quoted: bool, repository: Path) -> None:
    assert list(violations([Include(file, name, quoted)], repository))


def test_public_headers_name_no_instruction_set(repository: Path) -> None:
    """The promise holds for every machine."""
    for path in sorted((repository / "include").rglob("*.h")):
        text = re.sub(r"//.*|/\*.*?\*/", "", path.read_text("utf-8"))
        assert not re.search(r"\b(__m\d+\w*|_mm\d*_\w+|avx\w*|vnni|neon)\b", text, re.IGNORECASE), path.name


def test_modules_are_rooms(repository: Path) -> None:
    """No source file beyond 500 lines."""
    folders = ("include", "src", "engine", "python", "tests", "benchmarks", "examples")
    suffixes = SOURCES | {".py", ".pyx", ".pyi"}
    long = []
    for folder in folders:
        for path in sorted((repository / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                lines = path.read_text("utf-8").count("\n")
                if lines > 500:
                    long.append(f"{path.relative_to(repository)}: {lines} lines")
    assert not long, "\n".join(long)
