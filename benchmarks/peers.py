"""Whole networks on bittern and other engines, side by side: one process per engine, rounds interleaved.

python benchmarks/peers.py                 all networks, every engine that is installed, 1 and 2 threads
python benchmarks/peers.py --quick         a few minutes: three networks, fewer rounds, without ncnn and DeepSparse
python benchmarks/peers.py --int8          networks in 8 bits (QDQ files) on bittern, ONNX Runtime and OpenVINO, and the
                                           float32 networks on the same engines beside them
python benchmarks/peers.py --sparse 0.9    networks with so many weights zero, the same file for every engine, and
                                           bittern on the unpruned network beside them; with --block 4, so many
                                           neighbouring input channels at a time; with --int8, both networks in 8 bits,
                                           and every engine on the unpruned one
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bittern
import numpy as np
from bittern.report import Progress, json_text
from networks import NETWORKS, size, write
from peer_process import EngineFailure, EngineProcess, is_installed
from peer_report import Result, Table, text_of
from pruned import convert as convert_pruned
from pruned import prune
from quantized import quantize

ENGINES = ("bittern", "onnxruntime", "openvino", "torch", "ncnn", "deepsparse")
INT8_ENGINES = ("bittern", "onnxruntime", "openvino")
FLOAT = "_f32"
"""Behind an engine's name: the float32 network, beside quantised ones."""
DENSE = "_dense"
"""Behind bittern's name: the unpruned network, beside pruned ones."""
SPARSE_NETWORKS = ("resnet50", "mobilenet_v1")
INT8_NETWORKS = ("resnet50", "resnet18", "vgg16", "mobilenet_v1", "mobilenet_v2", "squeezenet")
SLOW_TO_SET_UP = ("ncnn", "deepsparse")
QUICK_NETWORKS = ("resnet18", "mobilenet_v1", "squeezenet")
QUICK_ROUNDS = 10
ORACLE = "onnxruntime"
BUSY = 0.5
WRONG_INT8 = 0.3
"""Engines round quantised networks in different places, so that this finds another network, not another rounding."""
WRONG = 1e-3
"""An engine whose first answer is further than this from the oracle's, relative to its largest value, is wrong."""


@dataclass
class Settings:
    """What the command line asked for."""

    networks: list[str]
    engines: list[str]
    threads: list[int]
    rounds: int
    sample_ms: float
    pythons: dict[str, str]
    int8: bool = False
    sparse: float | None = None
    block: int = 1

    def title(self, name: str) -> str:
        """The network's name in tables."""
        words = [name, *["int8"] * self.int8]
        if self.sparse is not None:
            words.append(f"{100 * self.sparse:g} % zeros" + (f" in blocks of {self.block}" if self.block > 1 else ""))
        return " ".join(words)


def _plain(engine: str) -> str:
    """The engine's own name."""
    return engine.removesuffix(FLOAT).removesuffix(DENSE)


def _beside(engine: str) -> str:
    """What stands behind the name of an engine that runs another file than the compressed one."""
    return engine.removeprefix(_plain(engine))


def compare(name: str, threads: int, folder: Path, settings: Settings, progress: Progress) -> Table:
    """One network with one number of threads on all engines."""
    shape = [1, *size(name).input_shape]
    files, refusal = _prepare(name, folder, settings)
    sizes = {
        path.suffix[1:]: path.stat().st_size
        for engine, path in files.items()
        if path.suffix != ".param" and not _beside(engine)
    }
    table = Table(settings.title(name), threads, shape, settings.rounds, sizes, [])
    running: list[tuple[EngineProcess, Result]] = []
    oracles: dict[str, np.ndarray[Any, Any]] = {}
    with ExitStack() as stack:
        order = sorted(settings.engines, key=lambda engine: _plain(engine) != ORACLE)
        wanted = [ORACLE, ORACLE + DENSE] if "bittern" + DENSE in order else [ORACLE]
        helper = [each for each in wanted if each not in order and is_installed(ORACLE)]
        for engine in helper + order:
            progress(0, settings.rounds, f"{name}, {threads} threads: loading {engine}")
            result = Result(engine)
            if engine not in helper:
                table.results.append(result)
            if _plain(engine) == "bittern" and refusal:
                result.failure = refusal
                continue
            python = settings.pythons.get(engine, sys.executable)
            process = stack.enter_context(EngineProcess(engine, threads, python))
            answer = folder / "answer.npy"
            path = files.get(engine) or files[ORACLE + _beside(engine)]
            try:
                loaded = process.ask(
                    "load",
                    engine=_plain(engine),
                    path=str(path),
                    threads=threads,
                    shape=shape,
                    answer=str(answer),
                )
            except EngineFailure as failure:
                result.failure = str(failure)
                process.__exit__(None, None, None)
                continue
            result.loaded = loaded
            given = np.load(answer)
            # Quantised networks are compared with the float ones; an unpruned network is another network.
            which = DENSE if engine.endswith(DENSE) else ""
            if engine == ORACLE + which:
                oracles[which] = given
            result.error = _relative_error(given, oracles.get(which))
            result.wrong = result.error is not None and not result.error <= (WRONG_INT8 if settings.int8 else WRONG)
            if engine in helper:
                process.__exit__(None, None, None)
            else:
                running.append((process, result))
        _rounds(table, running, settings, progress)
    table.results.sort(key=lambda each: (bool(_beside(each.engine)), ENGINES.index(_plain(each.engine))))
    return table


def _rounds(table: Table, running: list[tuple[EngineProcess, Result]], settings: Settings, progress: Progress) -> None:
    """Every engine once per round, in turning order, so that drift of the machine meets all alike."""
    for number in range(settings.rounds):
        turning = running[number % len(running) :] + running[: number % len(running)] if running else []
        for process, result in turning:
            if result.failure:
                continue
            try:
                result.samples_ms.append(process.ask("measure", sample_ms=settings.sample_ms)["ms"])
            except EngineFailure as failure:
                result.failure = str(failure)
        progress(number + 1, settings.rounds, f"{table.network}, {table.threads} threads")
    for process, result in running:
        if not result.failure:
            try:
                result.peak_bytes = process.ask("memory")["peak_bytes"]
            except EngineFailure as failure:
                result.failure = str(failure)


def _prepare(name: str, folder: Path, settings: Settings) -> tuple[dict[str, Path], str]:
    """The network's file for each engine that does not read ONNX, and the ONNX file; or why there is none for bittern.

    Conversion happens here, so that it counts in no engine's load time or memory.
    """
    source = folder / f"{name}.onnx"
    if not source.exists():
        write(name, folder)
    files, refusal = {ORACLE: source}, ""
    if settings.int8:
        files = {ORACLE + FLOAT: source, ORACLE: source.with_suffix(".int8.onnx")}
        if not files[ORACLE].exists():
            quantize(source, files[ORACLE], [1, *size(name).input_shape])
    if settings.sparse is not None:
        blocks = f"b{settings.block}" if settings.block > 1 else ""
        pruned = source.with_suffix(f".sparse{100 * settings.sparse:g}{blocks}.onnx")
        if not pruned.exists():
            prune(source, pruned, settings.sparse, settings.block)
        files = {ORACLE + DENSE: files[ORACLE], ORACLE: pruned}
        if settings.int8:
            files[ORACLE] = pruned.with_suffix(".int8.onnx")
            if not files[ORACLE].exists():
                quantize(pruned, files[ORACLE], [1, *size(name).input_shape])
    for suffix in ("", FLOAT, DENSE):
        engine = "bittern" + suffix
        if engine not in settings.engines:
            continue
        try:
            files[engine] = files[ORACLE + suffix].with_suffix(".bittern")
            make = bittern.convert if settings.sparse is None or suffix else convert_pruned
            make(files[ORACLE + suffix]).save(files[engine])
        except bittern.Error as error:
            refusal = str(error).replace(f"{source}: ", "")
    if "ncnn" in settings.engines:
        from peer_ncnn import convert

        files["ncnn"] = files[ORACLE].with_suffix(".param")
        convert(files[ORACLE], files["ncnn"])
    return files, refusal


def _relative_error(given: np.ndarray[Any, Any], oracle: np.ndarray[Any, Any] | None) -> float | None:
    """Largest difference over the oracle's largest value; infinite for another number of values or one that is NaN."""
    if oracle is None:
        return None
    if given.size != oracle.size or not np.all(np.isfinite(given)):
        return float("inf")
    difference = np.abs(given.reshape(-1).astype(np.float64) - oracle.reshape(-1))
    return float(difference.max() / max(float(np.abs(oracle).max()), 1e-30))


def system() -> dict[str, Any]:
    """The machine and the versions that a number depends on."""
    cpu = bittern.cpu()
    return {
        "cpu": cpu.name,
        "isa": cpu.isa,
        "cpus_granted": cpu.cpus_granted,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "bittern": bittern.__version__,
        "commit": _commit(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def _commit() -> str | None:
    """The commit of this checkout, with a + where files have changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    said = []
    for command in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=False)
        except OSError:
            return None
        if done.returncode != 0:
            return None
        said.append(done.stdout.strip())
    return said[0] + ("+" if said[1] else "")


def _names(allowed: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in allowed]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{text!r}; write some of {','.join(allowed)}")
        return names

    return parse


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; write thread counts, such as 1,2")
    return counts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--networks", type=_names(tuple(NETWORKS)), metavar="A,B", help="default: all")
    parser.add_argument("--engines", type=_names(ENGINES), metavar="A,B", help=f"of {','.join(ENGINES)}; default: all")
    parser.add_argument("--threads", type=_counts, default=[1, 2], metavar="1,2", help="thread counts (default: 1,2)")
    parser.add_argument("--rounds", type=int, metavar="R", help=f"default: 30, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--sample", type=float, default=50.0, metavar="MS", help="least length of a sample (50 ms)")
    parser.add_argument("--quick", action="store_true", help="three networks, fewer rounds, no ncnn, no DeepSparse")
    parser.add_argument("--int8", action="store_true", help="quantised networks, and the float32 ones beside them")
    parser.add_argument(
        "--sparse",
        type=float,
        metavar="S",
        help="networks with this share of weights zero, and bittern on unpruned ones",
    )
    parser.add_argument(
        "--block", type=int, default=1, metavar="N", help="with --sparse: so many input channels at a time (default: 1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, every sample included")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the networks' files here and use them again")
    parser.add_argument(
        "--python-for",
        action="append",
        default=[],
        metavar="ENGINE=PYTHON",
        help="the interpreter that has an engine which cannot be installed beside the others",
    )
    return parser


def _settings(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Settings:
    pythons = {}
    for text in options.python_for:
        engine, mark, python = text.partition("=")
        if engine not in ENGINES or not mark or not os.access(python, os.X_OK):
            parser.error(f"--python-for {text}: write ENGINE=PATH of an interpreter")
        pythons[engine] = python
    if options.int8 and not set(options.engines or []) <= set(INT8_ENGINES):
        parser.error(f"--int8: --engines are some of {','.join(INT8_ENGINES)}")
    if options.sparse is not None and not 0 <= options.sparse < 1:
        parser.error(f"--sparse {options.sparse:g}: a share from 0 to below 1")
    if options.block < 1 or (options.block > 1 and options.sparse is None):
        parser.error(f"--block {options.block}: a positive number, with --sparse")
    engines = options.engines or [
        each for each in (INT8_ENGINES if options.int8 else ENGINES) if not (options.quick and each in SLOW_TO_SET_UP)
    ]
    missing = [engine for engine in engines if not is_installed(engine, pythons.get(engine, sys.executable))]
    if missing and options.engines:
        parser.error(f"{missing[0]} is not installed: pip install {missing[0]}")
    for engine in missing:
        print(f"{engine} is left out: it is not installed", file=sys.stderr)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else 30)
    if rounds < 1 or not 0 < options.sample < 1e5:
        parser.error("--rounds and --sample are positive numbers")
    every = SPARSE_NETWORKS if options.sparse is not None else INT8_NETWORKS if options.int8 else tuple(NETWORKS)
    networks = options.networks or [each for each in every if not options.quick or each in QUICK_NETWORKS]
    chosen = [engine for engine in engines if engine not in missing]
    if options.sparse is not None:
        chosen += [engine + DENSE for engine in chosen if options.int8 or engine == "bittern"]
    elif options.int8:
        chosen += [engine + FLOAT for engine in chosen]
    return Settings(
        networks, chosen, options.threads, rounds, options.sample, pythons, options.int8, options.sparse, options.block
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 1 if an answer was wrong or bittern could not run a network."""
    parser = _parser()
    options = parser.parse_args(arguments)
    settings = _settings(parser, options)
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: the machine is busy, load average {load:.2f}; times mean little", file=sys.stderr)
    document: dict[str, Any] = {"system": system(), "rounds": settings.rounds, "sample_ms": settings.sample_ms}
    tables: list[Table] = []
    with ExitStack() as stack:
        folder = options.cache or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name in settings.networks:
            for threads in settings.threads:
                with Progress() as progress:
                    tables.append(compare(name, threads, folder, settings, progress))
                print(f"{tables[-1].text()}\n", flush=True)
            if not options.cache:
                for path in folder.glob(f"{name}.*"):
                    path.unlink()
    document["networks"] = [table.to_json() for table in tables]
    print(text_of(document["system"], tables, sparse=settings.sparse is not None))
    if options.json:
        options.json.write_text(json_text(document) + "\n", "utf-8")
    results = [result for table in tables for result in table.results]
    return 1 if any(each.wrong or (each.engine == "bittern" and each.failure) for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
