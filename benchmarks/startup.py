"""From nothing to the first answer: whole processes, bittern on its file beside ONNX Runtime on the ONNX file.

python benchmarks/startup.py                    SqueezeNet 1.0 with seeded random weights
python benchmarks/startup.py --model NET.onnx   a network of your own, with one float32 input
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import bittern
from bittern.report import Progress, bytes_short, json_text, milliseconds, table
from bittern.report import ratio as ratio_text
from networks import size, write

# The high-water mark of a process since its exec: the one that wait() reports includes the parent's before it.
_MARK = "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
_FEED = "import sys, numpy as np; x = np.zeros([int(d) for d in sys.argv[2].split(',')], np.float32)"
_BITTERN = _FEED + "; import bittern; m = bittern.load(sys.argv[1], threads=1); m(x)"
_ONNXRUNTIME = _FEED + (
    "; import onnxruntime as o; s = o.SessionOptions(); s.intra_op_num_threads = 1; s.log_severity_level = 3; "
    "m = o.InferenceSession(sys.argv[1], s, providers=['CPUExecutionProvider']); "
    "m.run(None, {m.get_inputs()[0].name: x})"
)


@dataclass
class Candidate:
    """A process that loads a file and answers once."""

    name: str
    file: Path
    program: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)

    def run(self, shape: Sequence[int], environment: Mapping[str, str] | None = None) -> None:
        """Start it, wait for its end, note time and high-water mark of memory. Raises RuntimeError if it fails."""
        command = [sys.executable, "-c", self.program + _MARK, str(self.file), ",".join(map(str, shape))]
        start = time.perf_counter()
        process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        taken = time.perf_counter() - start
        if process.returncode != 0:
            raise RuntimeError(f"{self.name} failed: {process.stderr.strip()[-500:]}")
        self.seconds.append(taken)
        self.peak_bytes.append(int(process.stdout) * 1024)


def measure(candidates: Sequence[Candidate], shape: Sequence[int], rounds: int, bytecode: Path) -> None:
    """Rounds of all candidates in turning order, after one that does not count: it brings files into the cache.

    It also compiles what is Python, into the folder ``bytecode``: packages are installed compiled, a checkout is not.
    """
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with Progress() as progress:
        for turn in range(rounds + 1):
            progress(turn, rounds + 1, "rounds")
            for index in range(len(candidates)):
                candidates[(turn + index) % len(candidates)].run(shape, environment)
            if turn == 0:
                for candidate in candidates:
                    candidate.seconds.clear()
                    candidate.peak_bytes.clear()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, metavar="NET.onnx", help="default: SqueezeNet 1.0, random weights")
    parser.add_argument("--rounds", type=int, default=20, metavar="R", help="default: 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, every sample included")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error("--rounds: at least 2")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        onnx_file = options.model or write("squeezenet", folder)
        dense = bittern.convert(onnx_file)
        dense.save(folder / "dense.bittern")
        bittern.compress(onnx_file, density=0.33, bits=5).save(folder / "small.bittern")
        if options.model is None:
            shape = [1, *size("squeezenet").input_shape]
        else:
            shape = [side if isinstance(side, int) else 1 for side in dense.inputs[0].shape or ()]
        candidates = [
            Candidate("bittern, compressed", folder / "small.bittern", _BITTERN),
            Candidate("bittern, float32", folder / "dense.bittern", _BITTERN),
            Candidate("onnxruntime, float32", onnx_file, _ONNXRUNTIME),
            Candidate("Python and NumPy alone", onnx_file, _FEED),
        ]
        measure(candidates, shape, options.rounds, folder / "bytecode")
        print(_report(candidates))
        if options.json:
            rows = [
                {"name": c.name, "file_bytes": c.file.stat().st_size, "seconds": c.seconds, "peak_bytes": c.peak_bytes}
                for c in candidates
            ]
            options.json.write_text(json_text({"rounds": options.rounds, "processes": rows}), "utf-8")
    return 0


def _report(candidates: Sequence[Candidate]) -> str:
    peer = candidates[2]
    rows = []
    for candidate in candidates:
        cuts = quantiles(candidate.seconds, n=10)
        times = median(candidate.seconds), cuts[0], cuts[-1]
        rows.append(
            [
                candidate.name,
                bytes_short(candidate.file.stat().st_size),
                milliseconds(1e3 * times[0]),
                f"{milliseconds(1e3 * times[1])} .. {milliseconds(1e3 * times[2])}",
                ratio_text(times[0] / median(peer.seconds)),
                bytes_short(median(candidate.peak_bytes)),
                ratio_text(median(candidate.peak_bytes) / median(peer.peak_bytes)),
            ]
        )
    headers = ["process", "file", "median", "p10 .. p90", "ratio", "peak memory", "ratio"]
    return f"""{table(headers, rows, "lrrrrrr")}

From the start of the interpreter to the end of the process after one answer, one thread, files in the system's cache;
ratios to onnxruntime, below 1 bittern takes less. Not shown: a first start with a cold disk cache, the time of a second
answer (see peers.py), programs that embed the C++ library and start no interpreter."""


if __name__ == "__main__":
    sys.exit(main())
