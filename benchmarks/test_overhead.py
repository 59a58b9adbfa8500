"""What a call, loading and a first answer cost; run with `pytest benchmarks`. The peer is ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bittern
import numpy as np
import pytest
from network_builder import Builder
from networks import write
from numpy.typing import NDArray

onnxruntime = pytest.importorskip("onnxruntime")

Array = NDArray[np.float32]
ENGINES = pytest.mark.parametrize("engine", ["bittern", "onnxruntime"])
NETWORK = pytest.mark.parametrize("network", ["squeezenet", "mobilenet_v2"])


def load_bittern(path: Path) -> Callable[[Array], Any]:
    """A loaded .bittern file, one thread."""
    return bittern.load(path.with_suffix(".bittern"), threads=1)


def load_onnxruntime(path: Path) -> Callable[[Array], Any]:
    """A session on an .onnx file, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    return lambda x: session.run([output], {"data": x})[0]


LOADERS = {"bittern": load_bittern, "onnxruntime": load_onnxruntime}


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Writes a network once, as .onnx and .bittern; "one_layer" is so small that a call is all overhead."""
    folder = tmp_path_factory.mktemp("networks")

    def path(name: str) -> Path:
        file = folder / f"{name}.onnx"
        if not file.exists():
            if name == "one_layer":
                net = Builder(name)
                file.write_bytes(net.model(net.conv(net.input(1, 4, 4), 1)).SerializeToString())
            else:
                write(name, folder)
            bittern.convert(file).save(file.with_suffix(".bittern"))
        return file

    return path


@pytest.mark.benchmark(group="call of a one-layer network")
@ENGINES
def test_call(benchmark: Any, files: Callable[[str], Path], engine: str) -> None:
    call = LOADERS[engine](files("one_layer"))
    result = benchmark(call, np.ones((1, 1, 4, 4), np.float32))
    assert result.shape == (1, 1, 4, 4)


@pytest.mark.benchmark(group="call of a one-layer network")
@pytest.mark.parametrize("form", ["by name", "into an array"])
def test_other_calls(benchmark: Any, files: Callable[[str], Path], form: str) -> None:
    model = bittern.load(files("one_layer").with_suffix(".bittern"), threads=1)
    x, out = np.ones((1, 1, 4, 4), np.float32), np.empty((1, 1, 4, 4), np.float32)
    if form == "by name":
        benchmark(model.run, {"data": x})
    else:
        assert benchmark(model, x, out=out) is not None


@pytest.mark.benchmark(group="load")
@ENGINES
@NETWORK
def test_load(benchmark: Any, files: Callable[[str], Path], engine: str, network: str) -> None:
    path = files(network)
    benchmark.pedantic(LOADERS[engine], (path,), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="load and first answer")
@ENGINES
@NETWORK
def test_first_answer(benchmark: Any, files: Callable[[str], Path], engine: str, network: str) -> None:
    path = files(network)
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)
    result = benchmark.pedantic(lambda: LOADERS[engine](path)(x), rounds=5, warmup_rounds=1)
    assert np.isfinite(result).all()
