"""Programs that tests run: compilers, build tools, what they built."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKAGES = {
    "aarch64-linux-gnu-g++": "apt-get install g++-aarch64-linux-gnu",
    "c++": "apt-get install g++",
    "cc": "apt-get install gcc",
    "cmake": "pip install cmake",
    "ldd": "apt-get install libc-bin",
    "make": "apt-get install make",
    "nm": "apt-get install binutils",
    "pkg-config": "apt-get install pkg-config",
    "qemu-aarch64": "apt-get install qemu-user",
    "readelf": "apt-get install binutils",
}


def tool(name: str) -> str:
    """A program on PATH or beside this Python; skips the test where it is missing."""
    found = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip(f"{name} is not installed: {PACKAGES[name]}")
    return found


def json_headers(folder: Path) -> Path:
    """A folder with the headers of nlohmann-json and nothing else: the host's other headers are not the target's."""
    spec = find_spec("nlohmann_json")
    candidates = [Path(place) / "include" for place in (spec.submodule_search_locations or [])] if spec else []
    for candidate in [*candidates, Path("/usr/include"), Path("/usr/local/include")]:
        if (candidate / "nlohmann" / "json.hpp").is_file():
            folder.mkdir()
            (folder / "nlohmann").symlink_to(candidate / "nlohmann")
            return folder
    pytest.skip("the headers of nlohmann-json are not installed: pip install nlohmann-json")


def call(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """The program's output; its complaint if it fails. BITTERN_ISA is passed on only in `environment`."""
    variables = {name: value for name, value in os.environ.items() if name != "BITTERN_ISA"} | dict(environment or {})
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def configure(source: Path, build: Path, options: Mapping[str, str | Path]) -> str:
    """Configure a CMake project; returns the program for the next steps."""
    cmake = tool("cmake")
    ninja = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    call(cmake, "-S", source, "-B", build, *generator, *(f"-D{name}={value}" for name, value in options.items()))
    return cmake
