"""One engine in a process of its own: obeys lines of JSON on standard input, answers with lines of JSON.

{"do": "load", "engine", "path", "threads", "shape", "answer"}   load, run once, write the output to `answer`
{"do": "measure", "sample_ms"}                                   time a number of inferences
{"do": "memory"}                                                 peak memory of this process
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Call = Callable[[Array], Array]

VARIANTS = 4
_PR_SET_PDEATHSIG = 1


def inputs(shape: list[int]) -> list[Array]:
    """A few different inputs, the same in every engine's process."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.float32) for _ in range(VARIANTS)]


def _bittern(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    import bittern

    model = bittern.load(path, threads=threads)
    return model, f"isa {model.isa}"  # type: ignore[return-value]  # one output: an array


def _onnxruntime(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("N", example.shape[0])
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, [session.get_outputs()[0].name]
    return lambda x: session.run(output, {name: x})[0], "default options, batch fixed"


def _openvino(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    import openvino

    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(example.shape))
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(network, "CPU", settings).create_infer_request()

    def call(x: Array) -> Array:
        request.infer([x], share_inputs=True)
        result: Array = request.get_output_tensor(0).data
        return result

    return call, "latency hint, f32, batch fixed"


def _torch(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    """Neither form of a module is always the faster one, so both are tried."""
    import peer_torch

    best: tuple[float, Call, str] | None = None
    for form in ("eager", "frozen"):
        call = peer_torch.load(path, threads, example, form)
        taken = min(_seconds(call, example) for _ in range(4))
        if best is None or taken < best[0]:
            best = (taken, call, f"channels last, {form} (the faster of two forms)")
    assert best is not None
    return best[1], best[2]


def _ncnn(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    import peer_ncnn

    return peer_ncnn.load(path, threads), "float32, Winograd on"


def _deepsparse(path: Path, threads: int, example: Array) -> tuple[Call, str]:
    engine = import_module("deepsparse").Engine(model=str(path), batch_size=example.shape[0], num_cores=threads)
    return lambda x: engine.run([x])[0], "default options"


ENGINES: dict[str, tuple[Callable[[Path, int, Array], tuple[Call, str]], str, str]] = {
    "bittern": (_bittern, "bittern", "bittern"),
    "onnxruntime": (_onnxruntime, "onnxruntime", "onnxruntime"),
    "openvino": (_openvino, "openvino", "openvino"),
    "torch": (_torch, "torch", "peer_torch"),
    "ncnn": (_ncnn, "ncnn", "ncnn"),
    "deepsparse": (_deepsparse, "deepsparse", "deepsparse"),
}
"""How to load a network, the package's name, and the module whose import is not part of loading."""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # imported from a source tree
        return str(import_module(package).__version__)


def _seconds(call: Call, x: Array) -> float:
    start = time.perf_counter()
    call(x)
    return time.perf_counter() - start


def _memory(field: str) -> int:
    """A field of this process's memory in bytes: VmHWM is the peak, VmRSS the present."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


class Worker:
    """The state between two commands."""

    def __init__(self) -> None:
        self._call: Call | None = None
        self._inputs: list[Array] = []
        self._fastest_s = float("inf")
        self._turn = 0

    def load(self, command: dict[str, Any]) -> dict[str, Any]:
        """Load a network, save its first answer, find out how long an inference takes."""
        make, package, module = ENGINES[command["engine"]]
        start = time.perf_counter()
        import_module(module)
        imported = time.perf_counter()
        before = _memory("VmRSS")
        self._inputs = inputs(command["shape"])
        start_load = time.perf_counter()
        self._call, note = make(Path(command["path"]), command["threads"], self._inputs[0])
        loaded = time.perf_counter()
        first = np.asarray(self._call(self._inputs[0]))
        first_s = time.perf_counter() - loaded
        np.save(command["answer"], first)
        self._fastest_s = min(_seconds(self._call, x) for x in self._inputs)
        return {
            "version": _version(package),
            "note": note,
            "import_ms": 1e3 * (imported - start),
            "load_ms": 1e3 * (loaded - start_load),
            "first_ms": 1e3 * first_s,
            "imported_bytes": before,
        }

    def measure(self, command: dict[str, Any]) -> dict[str, Any]:
        """Milliseconds per inference over a sample; a fifth as many before, uncounted, warm caches and clocks."""
        assert self._call is not None
        count = max(1, min(100_000, round(1e-3 * command["sample_ms"] / self._fastest_s + 0.5)))
        self._turn += 1
        batch = [self._inputs[(self._turn + number) % len(self._inputs)] for number in range(count)]
        call = self._call
        for x in batch[: max(1, count // 5)]:
            call(x)
        start = time.perf_counter_ns()
        for x in batch:
            call(x)
        return {"ms": (time.perf_counter_ns() - start) / count / 1e6, "count": count}

    def memory(self, command: dict[str, Any]) -> dict[str, Any]:
        """The peak."""
        return {"peak_bytes": _memory("VmHWM")}


def main() -> int:
    """Serve until standard input ends."""
    # The parent stops this process while others run; a stopped process cannot see that its parent has gone.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # engines print banners
    warnings.simplefilter("ignore")
    worker = Worker()
    gc.collect()
    gc.disable()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command["do"])(command)
        except Exception as error:  # whatever an engine raises is the answer
            text = " ".join(str(error).split())
            reply = {"error": f"{type(error).__name__}: {text[:300]}"}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
