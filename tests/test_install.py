"""The installed C++ library: its files, and the examples in C++ and C built against it, with Python's answers."""

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.preprocess import Preprocess

from tests.builders import digits_like, floats, network
from tests.programs import call, configure, json_headers, tool
from tests.reference.arrays import Array

RUN_TIME = re.compile(r"^(lib(c|m|stdc\+\+|gcc_s|pthread|dl|rt)\.so\.\d+|ld-linux[\w-]*\.so\.\d+)$")
INTERFACE = ".".join(bittern.__version__.split(".")[:2])
"""What the shared library's name promises to stay compatible with."""

PROGRAMS = ("C++, static", "C++, shared", "C, static", "C, shared")


@dataclass(frozen=True)
class Case:
    """A picture for a network: what the program is given, and the lines it must print."""

    arguments: tuple[str, ...]
    expected: tuple[str, ...]


def folder_of(installed: Path, file: str) -> Path:
    """The folder of an installed file."""
    (found,) = installed.rglob(file)
    return found.parent


def pnm(path: Path, pixels: Array) -> Path:
    """A binary PPM or PGM with a comment: uint8 [H, W, 3] or [H, W]."""
    kind = "P6" if pixels.ndim == 3 else "P5"
    path.write_bytes(f"{kind}\n# a picture\n{pixels.shape[1]} {pixels.shape[0]}\n255\n".encode() + pixels.tobytes())
    return path


def best(scores: Array, labels: list[str]) -> tuple[str, ...]:
    """The lines for the five best classes, from Python's scores: float32 [classes]."""
    shares = [float(score) for score in scores]
    total = 0.0
    for share in shares:
        total += share
    if min(shares) < 0 or abs(total - 1) >= 1e-3:
        largest, total = max(shares), 0.0
        shares = [math.exp(share - largest) for share in shares]
        for share in shares:
            total += share
        shares = [share / total for share in shares]
    order = np.argsort(-scores, kind="stable")[:5]
    return tuple(
        f"{100 * shares[i]:8.4f} %  {scores[i]:.9g}  {i}  {labels[i] if labels else ''}".rstrip() for i in order
    )


def case(folder: Path, net: bittern.Network, image: Array, picture: Array, labels: list[str]) -> Case:
    """Save the network and the picture. `image` is what Python prepares, `picture` the same ready for the program."""
    net.save(folder / "net.bittern")
    arguments = [str(folder / "net.bittern"), str(pnm(folder / "picture.ppm", picture))]
    if labels:
        (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), "utf-8")
        arguments.append(str(folder / "labels.txt"))
    prepared = Preprocess.from_json(net.metadata.get("preprocess", "{}")).apply(image)
    scores = np.asarray(bittern.load(folder / "net.bittern")(prepared)).reshape(-1)
    assert len(set(scores.tolist())) > 3, "equal scores show nothing"
    return Case(tuple(arguments), best(scores, labels))


@pytest.fixture(scope="module", params=PROGRAMS)
def classify(
    request: pytest.FixtureRequest, installed: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The example program: its path."""
    language, kind = request.param.split(", ")
    folder = tmp_path_factory.mktemp("classify")
    if language == "C++":
        library = "bittern::bittern" if kind == "static" else "bittern::bittern_shared"
        options: dict[str, str | Path] = {
            "CMAKE_PREFIX_PATH": installed,
            "CMAKE_CXX_FLAGS": "-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror",
            "CMAKE_DISABLE_FIND_PACKAGE_nlohmann_json": "ON",
            "BITTERN_LIBRARY": library,
        }
        cmake = configure(repository / "examples" / "cpp", folder, options)
        call(cmake, "--build", folder)
    else:
        make, _, _ = tool("make"), tool("pkg-config"), tool("cc")
        for file in ("Makefile", "main.c"):
            shutil.copy(repository / "examples" / "c" / file, folder)
        flags = "CFLAGS=-O2 -Wall -Wextra -pedantic -Werror"
        place = {"PKG_CONFIG_PATH": str(folder_of(installed, "bittern.pc"))}
        call(make, "-C", folder, flags, *(["STATIC=1"] if kind == "static" else []), environment=place)
    needed = call(tool("readelf"), "-d", folder / "classify")
    assert ("libbittern.so" in needed) == (kind == "shared")
    return str(folder / "classify")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The example, on the instruction set that Python takes."""
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Networks made here: one channel with a softmax, three channels without, labels and every setting."""
    rng = np.random.default_rng(11)
    grey = rng.integers(0, 256, (8, 8), np.uint8)
    one = digits_like()
    one.metadata["preprocess"] = Preprocess(color="GRAY", scale=1 / 255).to_json()

    color = rng.integers(0, 256, (9, 12, 3), np.uint8)
    constants = {"w1": floats(rng, 5, 3, 3, 3), "w2": floats(rng, 7, 5), "b2": floats(rng, 7)}
    three = network(
        {"image": ("N", 3, 9, 12)},
        constants,
        [
            ("Conv", ["image", "w1"], "c1", {}),
            ("GlobalAveragePool", ["c1"], "p1", {}),
            ("Flatten", ["p1"], "f1", {}),
            ("Gemm", ["f1", "w2", "b2"], "logits", {"transB": 1}),
        ],
        ["logits"],
    )
    settings = Preprocess(color="BGR", scale=1 / 3, mean=(40.5, 117.25, 0.1), std=(7.0, 9.5, 11.125))
    three.metadata["preprocess"] = settings.to_json()
    names = [f"class {letter}" for letter in "abcdefg"]
    folder = tmp_path_factory.mktemp("small")
    for name in ("one", "three"):
        (folder / name).mkdir()
    return [case(folder / "one", one, grey, grey, []), case(folder / "three", three, color, color, names)]


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """SqueezeNet from the file of the Deep Compression paper, on photographs."""
    net = bittern.convert(shared_data / "squeezenet_dc" / "compressed_SqueezeNet.net")
    folder, cases = tmp_path_factory.mktemp("photos"), []
    for number, photo in enumerate(np.load(shared_data / "imagenet_sample" / "images.npz")["images"][:3]):
        (folder / str(number)).mkdir()
        cases.append(case(folder / str(number), net, photo, photo[14:241, 14:241], []))
    return cases


def check(program: str, cases: list[Case]) -> None:
    """The program prints exactly what Python computed."""
    for given in cases:
        done = run(program, *given.arguments)
        assert done.returncode == 0, done.stderr
        assert tuple(line.rstrip() for line in done.stdout.splitlines()) == given.expected
        assert done.stderr == ""


def test_small_networks_as_in_python(classify: str, small: list[Case]) -> None:
    check(classify, small)


def test_photos_as_in_python(classify: str, photos: list[Case]) -> None:
    check(classify, photos)


def test_bad_input_is_told(classify: str, small: list[Case], tmp_path: Path) -> None:
    network, picture = small[0].arguments[:2]
    large = str(pnm(tmp_path / "large.pgm", np.zeros((9, 8), np.uint8)))
    (tmp_path / "short.pgm").write_bytes(Path(picture).read_bytes()[:-1])
    (tmp_path / "text.pgm").write_text("P2\n8 8\n255\n", "utf-8")
    (tmp_path / "damaged.bittern").write_bytes(Path(network).read_bytes()[:-1])
    for arguments, problem in (
        ((network, large), "[1, 1, 9, 8]"),
        ((network, str(tmp_path / "short.pgm")), "short.pgm: ends too early"),
        ((network, str(tmp_path / "text.pgm")), "text.pgm: is no binary PPM"),
        ((network, str(tmp_path / "absent.pgm")), "absent.pgm: cannot be read"),
        ((str(tmp_path / "absent.bittern"), picture), "absent.bittern"),
        ((str(tmp_path / "damaged.bittern"), picture), "damaged.bittern"),
        ((network,), "usage"),
    ):
        done = run(classify, *arguments)
        assert done.returncode == 2 and problem in done.stderr, (arguments, done)
        assert len(done.stderr.splitlines()) == 1 and done.stdout == ""


def test_the_tree_is_complete_and_holds_no_place(installed: Path, repository: Path) -> None:
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if not path.is_dir()}
    lib = folder_of(installed, "bittern.pc").parent.relative_to(installed).as_posix()
    headers = {f"include/bittern/{path.name}" for path in (repository / "include" / "bittern").glob("*.h")}
    scripts = ("Config", "ConfigVersion", "Targets", "Targets-release")
    expected = headers | {
        f"{lib}/libbittern.a",
        f"{lib}/libbittern.so",
        f"{lib}/libbittern.so.{INTERFACE}",
        f"{lib}/libbittern.so.{bittern.__version__}",
        f"{lib}/pkgconfig/bittern.pc",
        *(f"{lib}/cmake/bittern/bittern{script}.cmake" for script in scripts),
        "share/doc/bittern/LICENSE",
        "share/doc/bittern/third-party-licences.txt",
    }
    assert found == expected and len(headers) > 5
    for file in expected - headers:
        for place in (installed.parent, repository):
            assert str(place).encode() not in (installed / file).read_bytes(), f"{file} names {place}"
    for file in (f"{lib}/pkgconfig/bittern.pc", f"{lib}/cmake/bittern/bitternTargets.cmake"):
        text = (installed / file).read_text("utf-8")
        assert "nlohmann" not in text and "bittern_flags" not in text and "bittern_json" not in text


def test_shared_library_needs_the_run_time_alone(installed: Path) -> None:
    library = folder_of(installed, "libbittern.so") / "libbittern.so"
    dynamic = call(tool("readelf"), "-d", library)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)
    assert needed and [name for name in needed if not RUN_TIME.match(name)] == []
    assert re.findall(r"\(SONAME\).*\[(.+)\]", dynamic) == [
        f"libbittern.so.{'.'.join(bittern.__version__.split('.')[:2])}"
    ]
    assert "RPATH" not in dynamic and "RUNPATH" not in dynamic
    loaded = [line.split()[0].rsplit("/", 1)[-1] for line in call(tool("ldd"), library).splitlines()]
    assert loaded and [name for name in loaded if not RUN_TIME.match(name) and name != "linux-vdso.so.1"] == []


def test_shared_library_exports_what_the_headers_declare(installed: Path, repository: Path) -> None:
    library = folder_of(installed, "libbittern.so") / "libbittern.so"
    table = call(tool("nm"), "-D", "-C", "--defined-only", library)
    names = {line.split(None, 2)[2] for line in table.splitlines()}
    declared = set(
        re.findall(r"\b(bittern_\w+)\(", (repository / "include" / "bittern" / "c_api.h").read_text("utf-8"))
    )
    assert len(declared) > 25
    assert {name for name in names if name.startswith("bittern_")} == declared
    others = {re.sub(r"^(typeinfo( name)?|vtable) for ", "", name) for name in names - declared}
    public = re.compile(r"^bittern::(\w+(\[abi:cxx11\])?\(|(Model|Session|SessionPool|SessionPool::Lease|Error)(::|$))")
    assert [name for name in sorted(others) if not public.match(name) or "Impl::" in name or "State::" in name] == []
    for name in ("bittern::Model::load(", "bittern::Session::run(", "bittern::Error::~Error()", "bittern::kernels"):
        assert any(other.startswith(name) for other in others), name


@pytest.mark.parametrize(
    ("compiler", "language"), [("cc", "-std=c99"), ("cc", "-std=c17"), ("c++", "-std=c++11"), ("c++", "-std=c++20")]
)
def test_c_header_is_plain(compiler: str, language: str, repository: Path, tmp_path: Path) -> None:
    source = tmp_path / ("main.c" if compiler == "cc" else "main.cpp")
    source.write_text("#include <bittern/c_api.h>\nint main(void) { return bittern_version() == 0; }\n", "utf-8")
    flags = [language, "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I", str(repository / "include")]
    assert call(tool(compiler), *flags, source) == ""


def test_the_documented_c_program(installed: Path, repository: Path, tmp_path: Path) -> None:
    """That of docs/embedding.md: without a file it tells the reason, with one it prints Python's numbers."""
    text = (repository / "docs" / "embedding.md").read_text("utf-8")
    (code,) = re.findall(r"^```c\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "app.c").write_text(code, "utf-8")
    lib = folder_of(installed, "libbittern.so")
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{installed / 'include'}", f"-L{lib}"]
    program = tmp_path / "app"
    call(tool("cc"), *flags, tmp_path / "app.c", "-o", program, "-lbittern", f"-Wl,-rpath,{lib}")
    done = subprocess.run([program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2 and done.stdout == "" and "small.bittern" in done.stderr

    digits_like().save(tmp_path / "small.bittern")
    done = subprocess.run([program], capture_output=True, text=True, cwd=tmp_path, check=True)
    scores = np.asarray(bittern.load(tmp_path / "small.bittern")(np.zeros((1, 1, 8, 8), np.float32)))
    assert done.stdout.splitlines() == [f"{score:g}" for score in scores[0]]


def test_as_a_part_of_another_project(repository: Path, tmp_path: Path) -> None:
    """add_subdirectory gives the same target; nothing of ours is installed with the other project."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(other LANGUAGES C CXX)\n"
        f'add_subdirectory("{repository}" bittern)\n'
        f'add_executable(digits "{repository}/examples/cpp/digits.cpp")\n'
        "target_link_libraries(digits PRIVATE bittern::bittern)\n",
        "utf-8",
    )
    headers = json_headers(tmp_path / "json")
    options = {"BITTERN_JSON_INCLUDE": str(headers), "CMAKE_EXPORT_COMPILE_COMMANDS": "ON"}
    cmake = configure(tmp_path, tmp_path / "build", options)
    call(cmake, "--install", tmp_path / "build", "--prefix", tmp_path / "prefix")
    assert not (tmp_path / "prefix").exists()
    commands = json.loads((tmp_path / "build" / "compile_commands.json").read_text("utf-8"))
    (own,) = [entry["command"] for entry in commands if entry["file"].endswith("digits.cpp")]
    assert "-std=c++20" in own or "-std=gnu++20" in own
    assert "-Wconversion" not in own and "nlohmann" not in own and "/json" not in own
    assert os.fspath(repository / "include") in own
