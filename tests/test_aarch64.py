"""The scalar library built for 64-bit Arm and run in an emulator: the same answers without any x86."""

import subprocess
from pathlib import Path

import bittern
import numpy as np
import pytest

from tests import tolerances
from tests.compare import assert_same_bits, assert_within
from tests.programs import call, configure, json_headers, tool
from tests.quantized_graphs import Wiring, small_network


@pytest.fixture(scope="module")
def run_model(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command that runs a network in the emulator."""
    tool("aarch64-linux-gnu-g++")
    emulator = tool("qemu-aarch64")
    folder = tmp_path_factory.mktemp("aarch64")
    build = folder / "build"
    options: dict[str, str | Path] = {
        "CMAKE_TOOLCHAIN_FILE": repository / "cmake" / "toolchains" / "aarch64-linux-gnu.cmake",
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_CXX_FLAGS_RELEASE": "-O0",  # kernels have -O3 anyway
        "CMAKE_EXE_LINKER_FLAGS": "-static",
        "BITTERN_JSON_INCLUDE": json_headers(folder / "json"),
        "BITTERN_BUILD_TOOLS": "ON",
        "BITTERN_PRECOMPILED_HEADER": "ON",
        "BITTERN_WARNINGS_AS_ERRORS": "ON",
    }
    cmake = configure(repository, build, options)
    call(cmake, "--build", build, "--target", "run_model", "--parallel", "2")
    return emulator, str(build / "run_model")


def test_resnet8_in_the_emulator(run_model: tuple[str, ...], shared_data: Path, tmp_path: Path) -> None:
    expected = np.load(shared_data / "mlperf_tiny" / "expected_resnet8_cifar10.npz")
    x = expected["input_float"]
    network, source, target = tmp_path / "resnet8.bittern", tmp_path / "input.f32", tmp_path / "output.f32"
    bittern.convert(shared_data / "mlperf_tiny" / "resnet8_cifar10_float.onnx").save(network)
    source.write_bytes(x.astype("<f4").tobytes())

    results = []
    for threads in ("1", "2"):
        printed = call(*run_model, network, source, target, "--batch", str(len(x)), "--threads", threads)
        assert printed == f"output {len(x)}x10\nlogits {len(x)}x10\n"
        results.append(target.read_bytes())
    assert results[0] == results[1], "the thread count changed the answer"

    output, logits = np.frombuffer(results[0], "<f4").reshape(2, len(x), 10)
    assert_within(output, expected["onnx_output"], tolerances.RESNET8)
    largest = float(np.abs(expected["onnx_logits"]).max())
    assert_within(logits, expected["onnx_logits"], tolerances.RESNET8 * max(1.0, largest))


def test_codes_in_the_emulator(run_model: tuple[str, ...], rng: np.random.Generator, tmp_path: Path) -> None:
    """Layers on 8-bit codes give the same bits on every machine."""
    wiring = Wiring(rng)
    (name,) = small_network(wiring)
    network, source, target = tmp_path / "codes.bittern", tmp_path / "input.f32", tmp_path / "output.f32"
    wiring.network([name], "N").save(network)
    source.write_bytes(wiring.inputs["image"].astype("<f4").tobytes())
    call(*run_model, network, source, target, "--batch", "2")
    actual = np.frombuffer(target.read_bytes(), "<f4").reshape(2, 10)
    assert_same_bits(actual, bittern.load(network).run(wiring.inputs)[name])


def test_x86_levels_are_not_there(run_model: tuple[str, ...], tmp_path: Path) -> None:
    network = tmp_path / "tiny.bittern"
    net = bittern.Network("tiny")
    net.add_input("x", (1, 4))
    net.add_node("Relu", ["x"], ["y"])
    net.set_outputs(["y"])
    net.save(network)
    (tmp_path / "x.f32").write_bytes(np.array([-1, 2, -3, 4], "<f4").tobytes())
    files = (network, tmp_path / "x.f32", tmp_path / "y.f32")
    call(*run_model, *files, "--isa", "scalar")
    assert np.frombuffer(files[2].read_bytes(), "<f4").tolist() == [0, 2, 0, 4]

    refused = subprocess.run(
        [*run_model, *map(str, files), "--isa", "avx2"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2 and "avx2 is not part of this build" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
