"""Models and sessions as a process sees them: threads, instruction sets, options, files, memory, fork."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import bittern
import numpy as np
import pytest

from tests.builders import NodeSpec, digits_like, floats, network, output
from tests.compare import assert_same_bits
from tests.conftest import INTEGER_LEVELS, ISA_LEVELS
from tests.reference.arrays import Array


@pytest.fixture(scope="module")
def model() -> bittern.Model:
    """A small network with a symbolic batch."""
    return bittern.load(digits_like(), threads=1)


@pytest.fixture
def image(rng: np.random.Generator) -> Array:
    """Three images for it."""
    return floats(rng, 3, 1, 8, 8)


def test_two_callers_at_once(isa: str, rng: np.random.Generator) -> None:
    """Many calls from several threads on one model, of different sizes, equal the calls one after the other."""
    model = bittern.load(digits_like(), isa=isa, threads=2)
    images = [floats(rng, 1 + i % 4, 1, 8, 8) for i in range(40)]
    expected = [output(model, x) for x in images]
    with ThreadPoolExecutor(4) as callers:
        for _ in range(5):
            for result, one in zip(callers.map(partial(output, model), images), expected, strict=True):
                assert_same_bits(result, one)


def test_two_models_at_once(rng: np.random.Generator) -> None:
    models = [bittern.load(digits_like(seed), threads=2) for seed in (1, 2)]
    x = floats(rng, 5, 1, 8, 8)
    expected = [output(model, x) for model in models]
    assert np.abs(expected[0] - expected[1]).max() > 1e-3
    with ThreadPoolExecutor(2) as callers:
        for _ in range(20):
            for result, one in zip(callers.map(lambda model: output(model, x), models), expected, strict=True):
                assert_same_bits(result, one)


def test_thread_count_changes_no_bit(isa: str, rng: np.random.Generator) -> None:
    x = floats(rng, 5, 1, 8, 8)
    results = {threads: bittern.load(digits_like(), isa=isa, threads=threads) for threads in (1, 2, 3, 8, 0)}
    plans = {threads: [layer.kernel for layer in model.plan.layers] for threads, model in results.items()}
    for threads, model in results.items():
        assert_same_bits(output(model, x), output(results[1], x), f"{threads} threads")
        assert plans[threads] == plans[1], "the choice of kernels depends on the thread count"


def test_repeated_runs_give_the_same_bits(model: bittern.Model, image: Array) -> None:
    first = output(model, image)
    for _ in range(10):
        assert_same_bits(output(model, image), first)


def test_wrong_thread_count() -> None:
    with pytest.raises(bittern.InputError, match="thread"):
        bittern.load(digits_like(), threads=-1)
    wrong: list[Any] = [1.5, "two"]
    for threads in wrong:
        with pytest.raises((bittern.InputError, TypeError)):
            bittern.load(digits_like(), threads=threads)


def test_isa_is_really_forced(isa: str) -> None:
    """Every loop that has a kernel of the level runs it; the portable operators have one kernel for all levels."""
    loops = {kernel.name: kernel.loop for kernel in bittern.kernels()}
    level = INTEGER_LEVELS.get(isa, isa)  # of loops on real numbers
    at_level = {kernel.loop for kernel in bittern.kernels() if kernel.isa == level}
    assert "gemm" in at_level
    layers = [layer for layer in bittern.load(digits_like(), isa=isa).plan.layers if layer.kernel]
    assert sum(loops[layer.kernel] in ("gemm", "winograd") for layer in layers) == 3
    for layer in layers:
        assert layer.kernel.endswith(f"__{layer.isa}")
        assert layer.isa == (level if loops[layer.kernel] in at_level else "scalar"), layer.kernel


def test_unknown_isa() -> None:
    with pytest.raises(bittern.InputError, match="sse9") as caught:
        bittern.load(digits_like(), isa="sse9")
    assert "scalar" in str(caught.value), "the message says what is allowed"


def test_absent_isa_is_an_error() -> None:
    cpu = bittern.cpu()
    absent = [level for level in (*ISA_LEVELS, "neon") if level not in cpu.isa_levels_usable]
    if not absent:
        pytest.skip("every known instruction set is usable here")
    for level in absent:
        with pytest.raises((bittern.InputError, bittern.UnsupportedError), match=level):
            bittern.load(digits_like(), isa=level)


def child(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process that can import these tests."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), root]))
    values = {**os.environ, "PYTHONPATH": path, **environment}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=values, timeout=120)


SHOW_PLAN = """
import json, sys
import bittern
try:
    model = bittern.load(sys.argv[1])
    print(json.dumps([layer.isa for layer in model.plan.layers if layer.op == "Conv"]))
except bittern.Error as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(2)
"""


def test_isa_from_the_environment(isa: str, tmp_path: Path) -> None:
    path = tmp_path / "net.bittern"
    digits_like().save(path)
    done = child(SHOW_PLAN, str(path), BITTERN_ISA=isa)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [INTEGER_LEVELS.get(isa, isa)] * 2


@pytest.mark.parametrize("wrong", ["sse9", "AVX2", "avx2,avx512"])
def test_wrong_isa_in_the_environment(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "net.bittern"
    digits_like().save(path)
    refused = child(SHOW_PLAN, str(path), BITTERN_ISA=wrong)
    assert refused.returncode == 2, f"BITTERN_ISA={wrong!r} was silently ignored"
    assert wrong in refused.stderr and "BITTERN_ISA" in refused.stderr


def test_memory_limit() -> None:
    net = digits_like()
    assert output(bittern.load(net, memory_limit=1 << 30), np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)
    with pytest.raises(bittern.ResourceError, match="memory"):
        bittern.load(net, memory_limit=1000)
    limited = bittern.load(net, memory_limit=1 << 21)
    with pytest.raises(bittern.ResourceError, match="memory"):
        output(limited, np.zeros((4000, 1, 8, 8), np.float32))
    assert output(limited, np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10), "the model still works"


def test_sources(tmp_path: Path, image: Array) -> None:
    """A network, its bytes, its path as text or Path: the same model."""
    net = digits_like()
    path = tmp_path / "net.bittern"
    net.save(path)
    data = net.to_bytes()
    assert path.read_bytes() == data
    results = [output(bittern.load(source), image) for source in (net, data, path, str(path))]
    for result in results[1:]:
        assert_same_bits(result, results[0])
    with pytest.raises((bittern.InputError, TypeError)):
        bittern.load(cast(str, 3))


def test_model_outlives_its_file(tmp_path: Path, image: Array) -> None:
    path = tmp_path / "net.bittern"
    digits_like().save(path)
    model = bittern.load(path)
    expected = output(model, image)
    path.unlink()
    assert_same_bits(output(model, image), expected)
    assert model.constant("w1").shape == (17, 1, 3, 3)


def test_plan_tells_every_layer(isa: str) -> None:
    model = bittern.load(digits_like(), isa=isa)
    plan = model.plan
    assert plan.arena_bytes > 0
    names = {layer.name for layer in plan.layers} | {name for layer in plan.layers for name in layer.fused}
    text = str(plan)
    for layer in plan.layers:
        assert layer.reason and layer.layout
        assert layer.kernel or layer.op in ("Flatten", "Identity"), f"{layer.op} has no kernel"
        assert layer.macs >= 0 and layer.encoded_bytes >= 0 and layer.packed_bytes >= 0
        assert layer.kernel in text
    convolutions = [layer for layer in plan.layers if layer.op == "Conv"]
    assert [layer.macs for layer in convolutions] == [17 * 9 * 64, 17 * 17 * 9 * 64]
    assert all(layer.encoding == "dense" or "dense" in layer.encoding for layer in convolutions)
    fused_or_run = [node.name for node in digits_like().nodes if node.op != "Flatten"]
    assert all(any(name in known for known in names) for name in fused_or_run), names
    assert json.loads(json.dumps(plan.to_json()))["arena_bytes"] == plan.arena_bytes


def test_profile(model: bittern.Model, image: Array) -> None:
    profile = model.profile(image, runs=3)
    assert len(profile.layers) == len(model.plan.layers)
    assert profile.total_ms > 0
    assert all(layer.ms >= 0 for layer in profile.layers)
    assert abs(sum(layer.share for layer in profile.layers) - 1) < 1e-3
    assert str(profile)


def test_models_are_released() -> None:
    """Two hundred models one after the other do not pile up."""
    script = """
import resource
import numpy as np
import bittern
from tests.builders import digits_like
data = digits_like().to_bytes()
x = np.zeros((64, 1, 8, 8), np.float32)
def use(count):
    for _ in range(count):
        bittern.load(data)(x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
use(20)
before = use(1)
print(use(200) - before)
"""
    done = child(script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20_000, f"grew by {done.stdout.strip()} KiB over 200 models"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_fork(image: Array) -> None:
    """After fork the child builds its own pool and computes the same."""
    script = """
import os, sys, warnings
import numpy as np
import bittern
from tests.builders import digits_like
warnings.simplefilter("ignore", DeprecationWarning)
model = bittern.load(digits_like(), threads=2)
x = np.linspace(-1, 1, 640, dtype=np.float32).reshape(10, 1, 8, 8)
expected = model(x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(model(x), expected) else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) or not np.array_equal(model(x), expected))
"""
    done = child(script)
    assert done.returncode == 0, done.stderr


def test_floating_point_mode_is_restored(model: bittern.Model, image: Array) -> None:
    """`run` flushes subnormals to zero inside, and the caller's arithmetic keeps them."""
    tiny = np.array([1e-39, 1e-40], np.float32)

    def half(x: Array) -> Array:
        result: Array = x * np.float32(0.5)
        return result

    before = half(tiny)
    output(model, image)
    with pytest.raises(bittern.InputError):
        output(model, image.astype(np.float64))
    assert_same_bits(half(tiny), before)
    assert before[0] != 0


WRONG_OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"threads": 2**31}, "threads: 2147483648"),
    ({"threads": 1.5}, "threads: 1.5; it must be a whole number"),
    ({"threads": "two"}, "threads: 'two'"),
    ({"memory_limit": 2.5}, "memory_limit: 2.5"),
    ({"memory_limit": 2**64}, "memory_limit: 18446744073709551616"),
    ({"isa": 5}, "isa: 5; it must be a string"),
    ({"device": None}, "device: None"),
    ({"checksum": 1}, "checksum: 1"),
    ({"checksum": "sometimes"}, "checksum: unknown value sometimes"),
    ({"kernels": "gemm"}, "kernels: 'gemm'; give a list"),
    ({"kernels": [1]}, "kernels: 1"),
]


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS, ids=str)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    """Options of the wrong type or size are told in the package's own words, on one line."""
    with pytest.raises(bittern.InputError) as caught:
        bittern.load(digits_like(), **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_arguments(model: bittern.Model, image: Array) -> None:
    calls: list[tuple[Callable[..., object], str]] = [
        (lambda: model.run(cast(Any, image)), "feeds: a ndarray"),
        (lambda: model.run({"image": image}, taps="c1"), "taps: 'c1'; give a list"),
        (lambda: model.run({"image": image}, taps=cast(Any, [3])), "taps: 3"),
        (lambda: model.run(cast(Any, {"image": image, 3: image})), "input 3"),
        (lambda: model.constant(cast(Any, 4)), "constant: 4"),
        (lambda: model.constant("w9"), "constant w9"),
        (lambda: model.plan_for(cast(Any, [1, 1, 8, 8])), "shapes: a list"),
        (lambda: model.plan_for({"image": cast(Any, 5)}), "input image: the shape 5"),
        (lambda: model.plan_for({"image": cast(Any, (1.5, 1, 8, 8))}), "input image: 1.5"),
        (lambda: model.plan_for({"image": (-1, 1, 8, 8)}), "negative"),
        (lambda: model.plan_for({"image": (2**70, 1, 8, 8)}), "input image: "),
        (lambda: model.profile(image, image), "inputs: 2 given"),
        (lambda: model.profile(image, image=image), "given twice"),
        (lambda: model.profile(image, runs=cast(Any, 1.5)), "runs: 1.5"),
        (lambda: model.profile(image, runs=0), "runs: 0"),
        (lambda: model(image, out={"nothing": image}), "its outputs are scores"),
    ]
    for call, message in calls:
        with pytest.raises(bittern.InputError) as caught:
            call()
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_more_threads_than_any_machine_has(image: Array) -> None:
    model = bittern.load(digits_like(), threads=2**31 - 1)
    assert_same_bits(output(model, image), output(bittern.load(digits_like(), threads=1), image))


def test_path_that_is_no_text(tmp_path: Path, image: Array) -> None:
    """A file name of any bytes can be loaded, and named in a message."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/n\xe4me.bittern")
    with pytest.raises(bittern.InputError) as caught:
        bittern.load(path)
    assert path in str(caught.value)
    Path(path).write_bytes(digits_like().to_bytes())
    assert output(bittern.load(path), image).shape == (3, 10)


def test_lazy_checksum_with_folded_constants(rng: np.random.Generator) -> None:
    """Constants are folded once, before threads share the model; damage is found at every run."""
    nodes: list[NodeSpec] = [("Mul", ["p", "q"], "c", {}), ("Add", ["x", "c"], "y", {})]
    constants = {"p": floats(rng, 3, 1), "q": floats(rng, 1, 4)}
    data = network({"x": (3, 4)}, constants, nodes, ["y"]).to_bytes()
    x = floats(rng, 3, 4)
    model = bittern.load(data, checksum="lazy")
    assert model.values == ["y"] and "c" in model.constants
    assert_same_bits(output(model, x), output(bittern.load(data), x))
    damaged = bytearray(data)
    damaged[-1] ^= 1
    model = bittern.load(bytes(damaged), checksum="lazy")
    for _ in range(2):
        with pytest.raises(bittern.FormatError, match="checksum"):
            output(model, x)


def test_verify_with_infinities() -> None:
    """Infinities and NaN that both sides have agree; one that only one side has is an infinite error."""
    net = network({"x": (4,)}, {}, [("Identity", ["x"], "y", {})], ["y"])
    shifted = network({"x": (4,)}, {}, [("Add", ["x", "x"], "y", {})], ["y"])
    x = np.array([np.inf, -np.inf, np.nan, 0], np.float32)
    report = bittern.verify(net, net, {"x": x})
    assert report.ok and report.max_error == 0 and report.first_drift is None
    finite = np.array([2e38, 1, 2, 3], np.float32)  # twice the first is infinite
    report = bittern.verify(shifted, net, {"x": finite})
    assert not report.ok and report.max_error == np.inf and report.first_drift == "y"
    with pytest.raises(bittern.InputError, match="data: a list"):
        bittern.verify(net, net, cast(Any, [x]))


def test_an_idle_pool_takes_no_time(image: Array) -> None:
    """After a run the workers sleep: a second of waiting costs the process next to nothing."""
    model = bittern.load(digits_like(), threads=0)
    for _ in range(20):
        model(image)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.2, "threads that spin would take a second each"
