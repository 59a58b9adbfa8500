"""Symbols of the build: nothing compiled for a wide instruction set may be linked into code that runs everywhere."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import INTEGER_LEVELS

LEVELS = ("scalar", "avx2", "avx2vnni", "avx512", "avx512vnni", "avx512icl")
SHARED_KINDS = frozenset("TWVuBDRGSC")
"""Kinds of nm that another object could bind to; lower-case ones are local, U is a reference."""

WIDE = re.compile(r"%[yz]mm\d+")
BEYOND_AVX2 = re.compile(r"%zmm\d+|%k[0-7]\b|%[xy]mm(?:1[6-9]|2\d|3[01])\b")
DOT_PRODUCTS = re.compile(r"\bvpdp[a-z]+\b")
"""What the levels of integer instructions add, and no CPU of the level before has."""


def tool(name: str) -> str:
    """A tool of the binary utilities."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def build_dir() -> Path:
    """The build tree with its object files."""
    value = os.environ.get("BITTERN_BUILD_DIR")
    if not value:
        pytest.skip("no build tree (set BITTERN_BUILD_DIR)")
    folder = Path(value)
    assert folder.is_dir(), f"BITTERN_BUILD_DIR={value} is no folder"
    return folder


def level_of(path: Path) -> str | None:
    """The instruction set an object file was compiled for, from its target's or its own name."""
    for level in sorted(LEVELS, key=len, reverse=True):
        if re.search(rf"(?:^|[^a-z0-9]){level}(?:[^a-z0-9]|$)", path.as_posix()):
            return level
    return None


def objects(build_dir: Path) -> list[Path]:
    """Object files of the project, relative to the build tree; not those of dependencies or compiler checks."""
    found = sorted(path.relative_to(build_dir) for path in build_dir.rglob("*.o"))
    return [path for path in found if not {"_deps", "CMakeScratch", "CompilerIdCXX"} & set(path.parts)]


def belongs(mangled: str, level: str) -> bool:
    """Whether a symbol is in bittern::engine::<level>: a function, variable, table, guard or local static of it."""
    prefix = f"7bittern6engine{len(level)}{level}"
    return re.match(rf"^_Z(?:T[VTISWH]|GV|GTt|TC|Z)*N[VKrRO]*{prefix}", mangled) is not None


def shared_symbols(path: Path) -> list[tuple[str, str]]:
    """Mangled and plain names of the symbols an object file defines for others to see."""
    nm = tool("nm")
    mangled, plain = (
        subprocess.run(
            [nm, *flags, "--defined-only", "--no-sort", str(path)], capture_output=True, text=True, check=True
        )
        for flags in ([], ["-C"])
    )
    found = []
    for raw, readable in zip(mangled.stdout.splitlines(), plain.stdout.splitlines(), strict=True):
        _, kind, name = raw.split(None, 2)
        if kind in SHARED_KINDS and not name.startswith("DW.ref."):
            found.append((name, readable.split(None, 2)[2]))
    return found


def test_name_rule() -> None:
    """The rule itself: what it must let pass and what it must not."""
    assert belongs("_ZN7bittern6engine4avx212gemm_kernelsERi", "avx2")
    assert belongs("_ZNK7bittern6engine6avx5124Tile3runEv", "avx512")
    assert belongs("_ZTVN7bittern6engine6scalar4TileE", "scalar")
    assert belongs("_ZZN7bittern6engine4avx21fEvE1x", "avx2")
    assert not belongs("_ZN7bittern6engine6avx51212gemm_kernelsERi", "avx2")
    assert not belongs("_ZN7bittern6engine4MapsERi", "avx2")
    assert belongs("_ZN7bittern6engine10avx512vnni16int_gemm_kernelsERi", "avx512vnni")
    assert not belongs("_ZN7bittern6engine8avx2vnni12code_kernelsEv", "avx2")
    assert not belongs("_ZN7bittern6engine4avx212code_kernelsEv", "avx2vnni")
    assert not belongs("_ZSt4sortIPN7bittern6engine4avx21XEEvT_S5_", "avx2")
    assert not belongs("_ZNSt6vectorIfSaIfEE9push_backEOf", "avx2")
    assert not belongs("gemm", "avx2")
    assert level_of(Path("CMakeFiles/bittern_avx512.dir/engine/gemm/tile.cpp.o")) == "avx512"
    assert level_of(Path("CMakeFiles/engine-avx2.dir/engine/gemm/tile.cpp.o")) == "avx2"
    assert level_of(Path("CMakeFiles/bittern_avx512vnni.dir/engine/gemm/int_tile_level.cpp.o")) == "avx512vnni"
    assert level_of(Path("CMakeFiles/bittern_avx2vnni.dir/engine/ops/code_rows_level.cpp.o")) == "avx2vnni"
    assert level_of(Path("CMakeFiles/bittern.dir/src/plan/plan.cpp.o")) is None


def test_every_shared_symbol_of_a_level_is_in_its_namespace(build_dir: Path) -> None:
    levels = {path: level_of(path) for path in objects(build_dir)}
    seen = {level for level in levels.values() if level is not None}
    assert seen in (set(LEVELS), {"scalar"}), f"found object files of the levels {sorted(seen)} alone"
    problems, functions = [], 0
    for path, level in levels.items():
        if level is not None:
            for mangled, plain in shared_symbols(build_dir / path):
                functions += 1
                if not belongs(mangled, level):
                    problems.append(f"{path}: {plain}")
    assert functions > 0
    assert not problems, "outside of the namespace of their instruction set:\n" + "\n".join(problems[:40])


def test_baseline_code_uses_no_wide_registers(build_dir: Path) -> None:
    """Objects of no level or of the scalar one must run on any x86-64: no 256- or 512-bit register in their code."""
    objdump = tool("objdump")
    checked, problems = 0, []
    for path in objects(build_dir):
        if level_of(path) not in (None, "scalar"):
            continue
        command = [objdump, "-d", "--no-show-raw-insn", str(build_dir / path)]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        checked += 1
        if wide := WIDE.search(code):
            problems.append(f"{path} uses {wide.group()}")
    assert checked > 0
    assert not problems, "\n".join(problems)


def test_wide_objects_are_really_wide(build_dir: Path) -> None:
    """The levels were compiled with their flags: their tiles use the registers they are named for."""
    objdump = tool("objdump")
    found, products = dict.fromkeys(LEVELS[1:], 0), dict.fromkeys(LEVELS[1:], 0)
    for path in objects(build_dir):
        level = level_of(path)
        if level in found:
            command = [objdump, "-d", "--no-show-raw-insn", str(build_dir / path)]
            code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert level.startswith("avx512") or not BEYOND_AVX2.search(code), f"{path} uses registers of AVX-512"
            found[level] += code.count("%zmm" if level.startswith("avx512") else "%ymm")
            products[level] += len(DOT_PRODUCTS.findall(code))
    if not any(level_of(path) in found for path in objects(build_dir)):
        pytest.skip("a build without x86 levels")
    assert all(count > 100 for count in found.values()), found
    assert all(count > 100 if level in INTEGER_LEVELS else count == 0 for level, count in products.items()), products


def test_extension_exports_only_what_it_promises() -> None:
    """The shared object's dynamic table holds the module's entry and public names; no kernel, no third-party code."""
    import bittern._native

    nm = tool("nm")
    command = [nm, "-D", "-C", "--defined-only", str(bittern._native.__file__)]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [line.split(None, 2)[2] for line in table.splitlines() if len(line.split(None, 2)) == 3]
    assert any(name.startswith("PyInit_") for name in names)
    unwanted = re.compile(r"^(?:[\w ]+ for )?(?:bittern::engine|nlohmann)::")
    wrong = [name for name in names if unwanted.match(name)]
    assert not wrong, "\n".join(wrong[:20])
