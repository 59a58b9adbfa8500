"""The promises of docs/trust.md that need a program of their own, an emulator or a signal."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import bittern
import numpy as np
import pytest
from bittern.operators import OPERATORS

from tests import hostile_costs, operator_samples
from tests.builders import NodeSpec, digits_like, floats, network, output
from tests.compare import assert_same_bits
from tests.quantized_graphs import Wiring, small_network
from tests.quantized_random import random_case

Tool = Callable[[str], Path]


@pytest.fixture(scope="session")
def tool(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Compiles a program of tests/tools against the library of the installed build."""
    library = Path(os.environ.get("BITTERN_BUILD_DIR", "")) / "libbittern.a"
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if not library.is_file() or compiler is None:
        pytest.skip("no static library of the build, or no compiler (set BITTERN_BUILD_DIR)")
    folder = tmp_path_factory.mktemp("tools")

    def build(name: str) -> Path:
        program = folder / name
        if not program.exists():
            source = repository / "tests" / "tools" / f"{name}.cpp"
            command = [
                compiler,
                "-std=c++20",
                "-O1",
                "-I",
                repository / "include",
                source,
                library,
                "-pthread",
                "-o",
                program,
            ]
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        return program

    return build


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file of a small network for every operator, odd sizes all over; graphs of quantised layers."""
    folder = tmp_path_factory.mktemp("networks")
    paths = []
    for name, net in operator_samples.networks():
        paths.append(folder / f"{name}.bittern")
        net.save(paths[-1])
    for seed in range(20):
        maker, net = random_case(seed)
        paths.append(folder / f"quantised.{seed}.bittern")
        maker.network([info.name for info in net.outputs]).save(paths[-1])
    return paths


def call(*command: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a program without this session's choice of an instruction set."""
    environment = {name: value for name, value in os.environ.items() if name != "BITTERN_ISA"}
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=environment, check=False)


def test_every_operator_has_a_sample(networks: list[Path]) -> None:
    covered = {path.name.split(".")[0] for path in networks} - {"quantised"}
    missing = sorted(set(OPERATORS) - covered)
    assert not missing, f"add to SAMPLES in tests/operator_samples.py: {missing}"


def test_run_keeps_its_promises(tool: Tool, networks: list[Path]) -> None:
    """No allocation in `run`; no byte outside the arrays; no dependence on threads and the floating-point mode."""
    done = call(tool("promises"), *networks)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}\nexit code {done.returncode}"
    assert done.stdout == f"{len(networks)} files, 0 failures\n"


@pytest.mark.parametrize("encoded", [False, True], ids=["dense", "codebook"])
def test_memory_limit_holds(encoded: bool, tool: Tool, rng: np.random.Generator, tmp_path: Path) -> None:
    """Whatever the limit, loading and running stays below it, but for what the graph itself takes."""
    constants = {"w": floats(rng, 64, 64, 3, 3), "v": floats(rng, 10, 64 * 28 * 28)}
    net = network(
        {"x": (1, 64, 28, 28)},
        constants,
        [
            ("Conv", ["x", "w"], "c", {"pads": [1, 1, 1, 1]}),
            ("Flatten", ["c"], "f", {}),
            ("Gemm", ["f", "v"], "y", {"transB": 1}),
        ],
        ["y"],
    )
    if encoded:
        net = bittern.compress(net, recipe="deep-compression", bits=4, density=0.5)
    path = tmp_path / "net.bittern"
    net.save(path)
    program, ends = tool("promises"), []
    for megabytes in (1, 2, 3, 4, 6, 8, 12, 16, 32):
        done = call(program, "--limit", megabytes << 20, path)
        assert done.returncode == 0, done.stdout + done.stderr
        end, peak = done.stdout.split()
        ends.append(end)
        # Beside weights and scratch: the graph, the plan, and the arrays of the caller.
        assert int(peak) < (megabytes << 20) + 400_000, f"{end} within {megabytes} MiB, held {peak} bytes"
    assert ends[0] == "refused" and ends[-1] == "ok" and ends == sorted(ends, reverse=True)


@pytest.mark.parametrize("quantised", [False, True], ids=["real", "codes"])
@pytest.mark.parametrize(("cpu", "level"), [("Nehalem", "scalar"), ("Haswell", "avx2")])
def test_old_cpu(cpu: str, level: str, quantised: bool, tool: Tool, tmp_path: Path) -> None:
    """On an emulated CPU that stops at any wider instruction, the best level it has gives the bits of this machine."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or "avx2" not in bittern.cpu().isa_levels_built:
        pytest.skip("no qemu-x86_64 (apt-get install qemu-user), or no build for x86-64")
    if level not in bittern.cpu().isa_levels_usable:
        pytest.skip(f"this CPU has no {level} to compare with")
    program = tool("run_model")
    paths = {name: tmp_path / name for name in ("net.bittern", "x.f32", "native.f32", "emulated.f32")}
    net, pixels = digits_like(), 64
    if quantised:
        wiring = Wiring(np.random.default_rng(1))
        net, pixels = wiring.network(small_network(wiring), "N"), wiring.inputs["image"][0].size
    net.save(paths["net.bittern"])
    paths["x.f32"].write_bytes(np.linspace(-1, 1, 3 * pixels, dtype="<f4").tobytes())
    emulate = [
        emulator,
        "-cpu",
        cpu,
        program,
        paths["net.bittern"],
        paths["x.f32"],
        paths["emulated.f32"],
        "--batch",
        3,
    ]
    if "does not support" in call(emulator, "-cpu", f"{cpu},enforce", "/bin/true").stderr:
        pytest.skip(f"this qemu does not emulate all of {cpu}")
    native = [program, paths["net.bittern"], paths["x.f32"], paths["native.f32"], "--batch", 3, "--isa", level]
    for done in (call(*emulate), call(*native)):
        assert done.returncode == 0, done.stdout + done.stderr
    assert paths["emulated.f32"].read_bytes() == paths["native.f32"].read_bytes()
    wider = "avx512" if level == "avx2" else "avx2"
    refused = call(*emulate, "--isa", wider)
    assert refused.returncode == 2 and wider in refused.stderr, refused.stdout + refused.stderr


def test_eight_threads_on_one_model(rng: np.random.Generator) -> None:
    model = bittern.load(digits_like(), threads=2)
    images = [floats(rng, 1 + i % 5, 1, 8, 8) for i in range(16)]
    expected = [output(model, x) for x in images]

    def caller(first: int) -> None:
        for step in range(100):
            at = (first + step) % len(images)
            assert_same_bits(output(model, images[at]), expected[at], f"caller {first}, call {step}")

    with ThreadPoolExecutor(8) as callers:
        for done in [callers.submit(caller, i) for i in range(8)]:
            done.result(timeout=120)


# The package onnx ends the process when it is interrupted while it loads.
INTERRUPTED = """
import sys
import bittern
try:
    import onnx
except ImportError:
    pass
from bittern.cli import main
print("ready", flush=True)
try:
    sys.exit(main(sys.argv[1:]))
except KeyboardInterrupt:  # before the command has begun, or after its end
    sys.exit(130)
"""


def started(*arguments: object) -> subprocess.Popen[str]:
    """The command in a process of its own, at the moment when it begins to work."""
    command = [sys.executable, "-c", INTERRUPTED, *map(str, arguments)]
    # Whoever started the tests in the background may have made them ignore the signal.
    attend = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=attend)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_interrupted_conversion_leaves_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    """Ctrl-C at any moment of a conversion: the old file, or the whole new one; no other file, no traceback."""
    pytest.importorskip("onnx")
    source, target = tmp_path / "net.onnx", tmp_path / "out" / "net.bittern"
    target.parent.mkdir()
    weights = {"w": floats(rng, 128, 128, 3, 3), "v": floats(rng, 128, 128, 3, 3)}
    nodes: list[NodeSpec] = [("Conv", ["x", "w"], "c", {}), ("Conv", ["c", "v"], "y", {})]
    net = network({"x": (1, 128, 9, 9)}, weights, nodes, ["y"])
    from onnx import save

    save(net.to_onnx(), str(source))
    target.write_bytes(b"old")
    ends = []
    for delay in (0.0, 0.05, 0.2, 0.4, 0.8, 1.6):
        process = started("compress", source, "-o", target, "--density", "0.3", "--bits", "5")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
        ends.append(process.returncode)
        assert "Traceback" not in complaint, complaint
        # An interpreter that is already on its way out has the system's own handler again.
        assert process.returncode in (0, 130, -signal.SIGINT), complaint
        assert [path.name for path in target.parent.iterdir()] == ["net.bittern"]
        if target.read_bytes() != b"old":
            bittern.load(target)
            assert process.returncode == 0 or delay > 0
            break
        assert process.returncode == 130, "it ended without writing"
    assert 130 in ends, "no conversion was interrupted"


def test_interrupted_run_ends_soon(tmp_path: Path) -> None:
    """Ctrl-C between two runs of a long loop ends it with code 130 and one line."""
    path = tmp_path / "net.bittern"
    digits_like().save(path)
    process = started("bench", path, "--rounds", "1000000")
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130 and complaint.endswith("bittern: interrupted\n"), complaint


@pytest.mark.parametrize("name", [name for name, _ in hostile_costs.files()])
def test_small_files_cost_little(name: str) -> None:
    """Work that grows with the square of a size takes minutes here. The mutator checks the second that is promised."""
    data = dict(hostile_costs.files())[name]
    start = time.process_time()
    with contextlib.suppress(bittern.Error):
        bittern.load(data, threads=1, memory_limit=1 << 28)
    taken = time.process_time() - start
    assert taken < 10.0, f"{taken:.2f} s of CPU time"
