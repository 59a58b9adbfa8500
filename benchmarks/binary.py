"""What one bit for weights and activations gains: a layer against float32 forms of it, ResNet-18 against other engines.

python benchmarks/binary.py             both, 1 and 2 threads; --rounds, --threads and --skip-network shorten it

The layer has 256 channels on 14x14 pixels, 3x3, bits in and out. Beside it: our direct float32 kernel, the planner's
own float32 pick, our 8-bit kernel, 2-bit activations, and the plain float loop in C that XNOR-Net (arXiv 1603.05279)
was compared with, compiled by the system's compiler without vectors. Networks run one process per engine, in turns.

Not shown: what binarisation costs in accuracy (weights are random), batches above 1, other processors.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import bittern
import numpy as np
from binary_resnet import binary_resnet18
from bittern.layer_networks import LAYER, one_layer
from bittern.layer_shapes import parse_shape
from bittern.report import milliseconds, table
from networks import write
from peer_process import EngineFailure, EngineProcess, is_installed
from quantized import quantize

SHAPE = "256x14x14,outputs=256,kernel=3,pad=1"
_LOOP = """
void conv(const float *x, const float *w, float *y, int c, int n, int o) {
  for (int k = 0; k < o; ++k)
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        float sum = 0;
        for (int l = 0; l < c; ++l)
          for (int a = 0; a < 3; ++a)
            for (int b = 0; b < 3; ++b)
              sum += x[(l * (n + 2) + i + a) * (n + 2) + j + b] * w[((k * c + l) * 3 + a) * 3 + b];
        y[(k * n + i) * n + j] = sum;
      }
}
"""


def plain_loop(folder: Path) -> Callable[[], float]:
    """A function that runs the layer as a plain loop and says how many milliseconds it took."""
    source, library = folder / "loop.c", folder / "loop.so"
    source.write_text(_LOOP)
    subprocess.run(["cc", "-O2", "-fno-tree-vectorize", "-shared", "-fPIC", "-o", library, source], check=True)
    conv = ctypes.CDLL(str(library)).conv
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(size).astype(np.float32) for size in (256 * 16 * 16, 256 * 256 * 9, 256 * 14 * 14)]
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]

    def run() -> float:
        start = time.perf_counter()
        conv(*pointers, 256, 14, 256)
        return 1e3 * (time.perf_counter() - start)

    return run


def own_layer(kind: str, threads: int, direct: bool = False) -> Callable[[], float]:
    """A function that runs the layer of a kind and gives the milliseconds of the layer alone."""
    file = one_layer(parse_shape(f"{kind}:{SHAPE}")).to_bytes()
    model = bittern.load(file, threads=threads, winograd=not direct)
    rng = np.random.default_rng(0)
    feeds = {}
    for info in model.inputs:
        size = tuple(int(each) for each in info.shape or ())
        feeds[info.name] = (
            rng.integers(0, 256, size, np.uint8) if info.dtype == "u8" else rng.standard_normal(size, np.float32)
        )

    def run() -> float:
        return next(row.ms for row in model.profile(*feeds.values(), runs=5).layers if row.layer.name == LAYER)

    return run


def layers(threads: int, rounds: int, folder: Path) -> str:
    """The table of the layer's forms, measured in turns."""
    runs = {
        "1 bit x 1 bit": own_layer("conv_b1", threads),
        "2 bits x 1 bit": own_layer("conv_b2", threads),
        "8 bits": own_layer("conv_u8", threads),
        "float32, planner's pick": own_layer("conv", threads),
        "float32, direct kernel": own_layer("conv", threads, direct=True),
    }
    if threads == 1:
        runs["plain float loop"] = plain_loop(folder)
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in list(runs)[number % len(runs) :] + list(runs)[: number % len(runs)]:
            if name != "plain float loop" or number <= 5:
                samples[name].append(runs[name]())
    base = median(samples["1 bit x 1 bit"][1:])
    rows = []
    for name, times in samples.items():
        middle, (low, high) = median(times[1:]), np.percentile(times[1:], [10, 90])
        rows.append([name, milliseconds(middle), f"{low:.3g} .. {high:.3g}", f"{middle / base:.1f}"])
    return table([f"conv {SHAPE}, {threads} threads", "median", "p10 .. p90 ms", "times 1 bit"], rows, "lrrr")


def networks(threads: int, rounds: int, folder: Path) -> str:
    """ResNet-18 on one bit by bittern; in float32 and 8 bits by every engine that is installed."""
    floats, codes, bits = folder / "resnet18.onnx", folder / "resnet18.int8.onnx", folder / "binary.bittern"
    if not floats.exists():
        write("resnet18", folder)
        quantize(floats, codes, [1, 3, 224, 224])
        binary_resnet18().save(bits)
        for source in (floats, codes):
            bittern.convert(source).save(source.with_suffix(".bittern"))
    engines = [("bittern", "1 bit", bits)]
    for form, path in (("float32", floats), ("8 bits", codes)):
        engines += [(name, form, path) for name in ("onnxruntime", "openvino") if is_installed(name)]
        engines.append(("bittern", form, path.with_suffix(".bittern")))
    samples: dict[tuple[str, str], list[float]] = {}
    with ExitStack() as stack:
        running = []
        for engine, form, path in engines:
            process = stack.enter_context(EngineProcess(engine, threads))
            answer = str(folder / "answer.npy")
            try:
                process.ask(
                    "load", engine=engine, path=str(path), threads=threads, shape=[1, 3, 224, 224], answer=answer
                )
            except EngineFailure as failure:
                print(f"{engine}, {form}: {failure}", file=sys.stderr)
                process.__exit__(None, None, None)
                continue
            running.append((process, (engine, form)))
            samples[engine, form] = []
        for number in range(rounds):
            for process, key in running[number % len(running) :] + running[: number % len(running)]:
                samples[key].append(process.ask("measure", sample_ms=50.0)["ms"])
    own = samples["bittern", "1 bit"]
    rows = []
    for (engine, form), times in samples.items():
        low, high = np.percentile(np.array(times) / np.array(own), [10, 90])
        ratio = f"{median(times) / median(own):.2f}"
        rows.append([engine, form, milliseconds(median(times)), ratio, f"{low:.2f} .. {high:.2f}"])
    return table([f"ResNet-18, {threads} threads", "numbers", "median", "times 1 bit", "p10 .. p90"], rows, "llrrr")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--skip-network", action="store_true")
    options: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        for threads in options.threads:
            print(layers(threads, options.rounds, Path(name)), "\n", flush=True)
            if not options.skip_network:
                print(networks(threads, options.rounds, Path(name)), "\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
