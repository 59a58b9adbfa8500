"""Interleaved latency measurement: medians and spread of several runtimes on the same, varied inputs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bittern.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from bittern.model import Model

Feeds = dict[str, NDArray[Any]]

_VARIANTS = 4
_WARM_UP = 3
_SAMPLE_S = 0.002
_MOST_REPEATS = 200
_NUMPY_DTYPES = {
    "f32": np.float32,
    "f16": np.float16,
    "f64": np.float64,
    "i8": np.int8,
    "u8": np.uint8,
    "i16": np.int16,
    "u16": np.uint16,
    "i32": np.int32,
    "u32": np.uint32,
    "i64": np.int64,
    "u64": np.uint64,
    "bool": np.bool_,
}


class Value(Protocol):
    """An input of a model."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Sequence[int | str] | None: ...
    @property
    def dtype(self) -> str: ...


@dataclass(frozen=True)
class Runner:
    """Something to time: a name and a call that runs one inference."""

    name: str
    call: Callable[[Feeds], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds per call of one runner, a sample per round."""

    name: str
    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.samples_ms))

    @property
    def p10_ms(self) -> float:
        """The tenth percentile."""
        return float(np.percentile(self.samples_ms, 10))

    @property
    def p90_ms(self) -> float:
        """The ninetieth percentile."""
        return float(np.percentile(self.samples_ms, 90))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"name": self.name, "median_ms": self.median_ms, "p10_ms": self.p10_ms, "p90_ms": self.p90_ms}


def measure(
    runners: Sequence[Runner],
    feeds: Sequence[Feeds],
    *,
    rounds: int = 30,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Timing]:
    """Time each runner once per round, in turning order, so that drift of the machine meets all alike.

    A sample repeats short calls up to about two milliseconds. Inputs change from call to call. The garbage collector
    is off meanwhile.
    """
    repeats = [_warm_up(runner, feeds) for runner in runners]
    samples: list[list[float]] = [[] for _ in runners]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            for turn in range(len(runners)):
                which = (number + turn) % len(runners)
                call, count = runners[which].call, repeats[which]
                batch = [feeds[(number + repeat) % len(feeds)] for repeat in range(count)]
                call(batch[0])  # the previous runner left its own data in the caches and maybe its threads awake
                start = time.perf_counter_ns()
                for each in batch:
                    call(each)
                samples[which].append((time.perf_counter_ns() - start) / count / 1e6)
            if progress is not None:
                progress(number + 1, rounds, "rounds")
    finally:
        if collecting:
            gc.enable()
    return [Timing(runner.name, tuple(taken)) for runner, taken in zip(runners, samples, strict=True)]


def _warm_up(runner: Runner, feeds: Sequence[Feeds]) -> int:
    """Run a few times; return how many calls make one sample."""
    fastest = float("inf")
    for number in range(_WARM_UP):
        start = time.perf_counter()
        runner.call(feeds[number % len(feeds)])
        fastest = min(fastest, time.perf_counter() - start)
    return max(1, min(_MOST_REPEATS, int(_SAMPLE_S / max(fastest, 1e-7))))


def random_feeds(
    inputs: Sequence[Value], shapes: Mapping[str, tuple[int, ...]], preprocess: str | None = None
) -> list[Feeds]:
    """A few different inputs for a model, always the same ones.

    Symbolic dimensions become 1 unless `shapes` says otherwise. Floats are normal, or random pixels put through the
    file's preprocessing scale if it has one; integers are 0 or 1. InputError for a shape that does not fit.
    """
    unknown = sorted(set(shapes) - {value.name for value in inputs})
    if unknown:
        names = ", ".join(value.name for value in inputs)
        raise InputError(f"--shape {unknown[0]}", "names no input", f"the inputs are {names}")
    rng = np.random.default_rng(0)
    return [{value.name: _random(value, shapes, preprocess, rng) for value in inputs} for _ in range(_VARIANTS)]


def _random(
    value: Value, shapes: Mapping[str, tuple[int, ...]], preprocess: str | None, rng: np.random.Generator
) -> NDArray[Any]:
    declared = value.shape or ()
    shape = shapes.get(value.name, tuple(size if isinstance(size, int) else 1 for size in declared))
    if len(shape) != len(declared) or any(
        isinstance(size, int) and size != given for size, given in zip(declared, shape, strict=True)
    ):
        raise InputError(
            f"--shape {value.name}", f"{list(shape)} does not fit {list(declared)}", "change the free sizes"
        )
    dtype = _NUMPY_DTYPES.get(value.dtype)
    if dtype is None:
        raise UnsupportedError(f"input {value.name}", f"random values of type {value.dtype}", "use another network")
    if np.dtype(dtype).kind != "f":
        return rng.integers(0, 2, shape).astype(dtype)
    if preprocess is not None and len(shape) == 4:
        return _pixels(shape, preprocess, rng).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _pixels(shape: tuple[int, ...], preprocess: str, rng: np.random.Generator) -> NDArray[Any]:
    """Random pixels, scaled as the file prepares images; its channel count must be the input's."""
    from bittern.preprocess import Preprocess

    settings = Preprocess.from_json(preprocess)
    axis = 1 if settings.layout == "NCHW" else 3
    pixels = rng.integers(0, 256, shape).astype(np.float64) * settings.scale
    if shape[axis] != settings.channels:
        return pixels
    along = [1, 1, 1, 1]
    along[axis] = -1
    mean = np.asarray(settings.mean or (0.0,)).reshape(along)
    std = np.asarray(settings.std or (1.0,)).reshape(along)
    scaled: NDArray[Any] = (pixels - mean) / std
    return scaled


def bittern_runner(name: str, model: Model) -> Runner:
    """Time a loaded model."""
    return Runner(f"bittern {Path(name).name}", model.run)


def onnxruntime_runner(path: str, threads: int, feeds: Sequence[Feeds] = ()) -> Runner:
    """Time ONNX Runtime on an .onnx file, on the CPU, with so many threads.

    UnsupportedError if it is not installed; InputError if it cannot read the file, or if the file's
    inputs are not those of `feeds`.
    """
    session, version = onnxruntime_session(path, threads)
    _check_inputs(path, [value.name for value in session.get_inputs()], feeds)
    outputs = [value.name for value in session.get_outputs()]
    return Runner(f"ONNX Runtime {version} {Path(path).name}", lambda each: session.run(outputs, each))


def onnxruntime_session(path: str, threads: int) -> tuple[Any, str]:
    """An ONNX Runtime session and its version. Errors as in onnxruntime_runner."""
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise UnsupportedError(
            "onnxruntime", "the package onnxruntime is not installed", "pip install bittern[peers]"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads spin while it runs, as in real use, but not while another runtime is being timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are not public
        raise InputError(path, f"ONNX Runtime cannot load it ({_last_line(error)})", "give the .onnx file") from None
    return session, str(onnxruntime.__version__)


def openvino_runner(path: str, threads: int, feeds: Sequence[Feeds]) -> Runner:
    """Time OpenVINO on an .onnx file, on the CPU, float32, compiled for the shapes of `feeds`.

    UnsupportedError if it is not installed; InputError if it cannot read the file, or if the file's inputs are not
    those of `feeds`.
    """
    try:
        openvino = import_module("openvino")
        frontends = import_module("openvino.frontend").FrontEndManager()
    except ImportError:
        raise UnsupportedError("openvino", "the package openvino is not installed", "pip install openvino") from None
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # where the processor has bfloat16, that would be the default
    }
    try:
        reader = frontends.load_by_framework("onnx")  # left to guess, it tries formats that print warnings
        network = reader.convert(reader.load(path))
        names = [value.get_any_name() for value in network.inputs]
    except Exception as error:  # its exception types are not public
        raise InputError(path, f"OpenVINO cannot read it ({_last_line(error)})", "give the .onnx file") from None
    _check_inputs(path, names, feeds)
    try:
        network.reshape({name: list(array.shape) for name, array in feeds[0].items()})
        request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    except Exception as error:
        raise InputError(path, f"OpenVINO cannot compile it ({_last_line(error)})", "compare another network") from None
    version = str(openvino.__version__).partition("-")[0]
    return Runner(f"OpenVINO {version} {Path(path).name}", lambda each: request.infer(each, share_inputs=True))


def _check_inputs(path: str, names: Sequence[str], feeds: Sequence[Feeds]) -> None:
    if feeds and sorted(names) != sorted(feeds[0]):
        raise InputError(
            path,
            f"has the inputs {', '.join(names) or 'none'}, the network timed has {', '.join(feeds[0])}",
            "compare networks with equal inputs",
        )


def _last_line(error: Exception) -> str:
    """The end of a message says what is wrong, the lines before it where in the runtime's source."""
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
