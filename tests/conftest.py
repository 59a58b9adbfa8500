"""Fixtures shared by all tests: data, instruction sets, replayable random numbers; a count of what was skipped."""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ISA_LEVELS = ("scalar", "avx2", "avx2vnni", "avx512", "avx512vnni")
INTEGER_LEVELS = {"avx2vnni": "avx2", "avx512vnni": "avx512"}
"""Levels that only add instructions on integers, and whose loops on real numbers they run."""
BIT_LEVELS = {"avx512icl": "avx512vnni"}
"""Levels that only add instructions on planes of bits, and whose other loops they run."""

_kernel_notes: Counter[str] = Counter()
_seed = pytest.StashKey[int]()


def seed_of(text: str) -> int:
    """A seed that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "little")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real networks and their expected outputs."""
    folder = Path(os.environ.get("BITTERN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder} (set BITTERN_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ library as `cmake --install` leaves it, moved elsewhere; the place it was built in is gone.

    BITTERN_PREFIX names one that is installed already; else a finished build with the shared library, named by
    BITTERN_BUILD_DIR, is installed as it is, and only without one the library is built anew.
    """
    from tests.programs import call, configure, json_headers, tool

    tool("c++")
    if given := os.environ.get("BITTERN_PREFIX"):
        return Path(given).resolve()
    folder = tmp_path_factory.mktemp("installed")
    build, prefix, moved = folder / "build", folder / "prefix", folder / "moved"
    if finished := os.environ.get("BITTERN_BUILD_DIR"):
        existing = Path(finished).resolve()
        if all((existing / name).is_file() for name in ("libbittern.a", "libbittern.so", "cmake_install.cmake")):
            call(tool("cmake"), "--install", existing, "--prefix", prefix)
            return prefix.rename(moved)
    headers = json_headers(folder / "json")
    cmake = configure(REPOSITORY, build, {"CMAKE_BUILD_TYPE": "Release", "BITTERN_JSON_INCLUDE": headers})
    call(cmake, "--build", build, "--parallel", "2")
    call(cmake, "--install", build, "--prefix", prefix)
    prefix.rename(moved)
    shutil.rmtree(build)
    return moved


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> str:
    """Every instruction set level of the build in turn; one this CPU cannot run is skipped."""
    import bittern

    level: str = request.param
    cpu = bittern.cpu()
    if level not in cpu.isa_levels_built:
        pytest.skip(f"instruction set {level} is not in this build")
    if level not in cpu.isa_levels_usable:
        pytest.skip(f"instruction set {level} is not usable on this CPU")
    return level


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that ask for `isa` once per level."""
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", known_isa_levels(), indirect=True)


def known_isa_levels() -> list[str]:
    """The levels of x86-64, and any other level of this build that adds more than kernels on planes of bits."""
    import bittern

    others = (level for level in bittern.cpu().isa_levels_built if level not in (*ISA_LEVELS, *BIT_LEVELS))
    return [*ISA_LEVELS, *others]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers that depend on the test's id alone, so that running the test again replays them."""
    seed = seed_of(request.node.nodeid)
    request.node.stash[_seed] = seed
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def kernel_notes() -> Counter[str]:
    """Counts of kernel cases that ran and that a kernel's guard refused, for the summary."""
    return _kernel_notes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed of a failed test."""
    report = yield
    if report.failed and _seed in item.stash:
        report.sections.append(("seed", f"np.random.default_rng({item.stash[_seed]}), from the test's id"))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker process of pytest-xdist hands its counts on."""
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["kernel_notes"] = dict(_kernel_notes)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The process that started the workers adds their counts up."""
    _kernel_notes.update(getattr(node, "workeroutput", {}).get("kernel_notes", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count skips per reason and kernel cases per outcome: silent holes are holes."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    if reasons:
        terminalreporter.section("skipped, by reason")
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count:5d}  {reason}")
    if _kernel_notes:
        terminalreporter.section("kernel cases")
        for note, count in sorted(_kernel_notes.items()):
            terminalreporter.line(f"{count:5d}  {note}")
