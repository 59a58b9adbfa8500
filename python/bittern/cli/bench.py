"""`bittern bench`: latency, alone or interleaved with another runtime or file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bittern.cli.output import Output
from bittern.cli.parser import add_execution_options, named_shapes, positive
from bittern.errors import InputError

if TYPE_CHECKING:
    from bittern.bench import Runner, Timing

HELP = "latency, side by side and interleaved"
DESCRIPTION = """Time FILE: median and spread (tenth to ninetieth percentile) over interleaved rounds.

Every candidate gets the same inputs, which change from round to round, and the same number of threads."""
EXAMPLE = "bittern bench net.bittern --against onnxruntime:net.onnx --threads 1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help=".bittern file")
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="PEER:FILE",
        help="onnxruntime:X.onnx, openvino:X.onnx or bittern:X.bittern; may be repeated",
    )
    parser.add_argument("--rounds", type=positive, default=30, metavar="R", help="measured rounds (default: 30)")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,H,W",
        help="shape of an input (default: the network's, symbols as 1)",
    )
    parser.add_argument("--profile", action="store_true", help="also the time of every layer")
    add_execution_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Measure and compare medians."""
    import bittern
    from bittern.bench import bittern_runner, measure, onnxruntime_runner, openvino_runner, random_feeds
    from bittern.cli.networks import check_source

    peers = [_peer(text) for text in arguments.against]
    check_source(arguments.file)
    for _, path in peers:
        check_source(path)
    cpu = bittern.cpu()
    threads = arguments.threads or cpu.cpus_granted
    model = bittern.load(arguments.file, threads=threads, isa=arguments.isa)
    feeds = random_feeds(model.inputs, named_shapes(arguments.shape), model.metadata.get("preprocess"))
    runners: list[Runner] = [bittern_runner(arguments.file, model)]
    for peer, path in peers:
        if peer == "onnxruntime":
            runners.append(onnxruntime_runner(path, threads, feeds))
        elif peer == "openvino":
            runners.append(openvino_runner(path, threads, feeds))
        else:
            runners.append(bittern_runner(path, bittern.load(path, threads=threads, isa=arguments.isa)))
    with output.progress() as progress:
        timings = measure(runners, feeds, rounds=arguments.rounds, progress=progress)
    profile = model.profile(*(feeds[0][value.name] for value in model.inputs)) if arguments.profile else None
    document: dict[str, Any] = {
        "file": arguments.file,
        "version": bittern.__version__,
        "cpu": cpu.name,
        "isa": arguments.isa or cpu.isa,
        "threads": threads,
        "rounds": arguments.rounds,
        "shapes": {name: list(array.shape) for name, array in feeds[0].items()},
        "timings": [timing.to_json() for timing in timings],
        "ratios": {timing.name: timing.median_ms / timings[0].median_ms for timing in timings[1:]},
    }
    if profile is not None:
        document["profile"] = profile
    output.result(document, lambda: _text(document, timings) + (f"\n\n{profile}" if profile is not None else ""))
    return 0


def _peer(text: str) -> tuple[str, str]:
    peer, mark, path = text.partition(":")
    if not mark or not path or peer not in ("onnxruntime", "openvino", "bittern"):
        remedy = "write onnxruntime:FILE.onnx, openvino:FILE.onnx or bittern:FILE.bittern"
        raise InputError(f"--against {text}", "names no peer", remedy)
    return peer, path


def _text(document: dict[str, Any], timings: list[Timing]) -> str:
    from bittern.report import milliseconds, ratio, shape_text, table

    own = timings[0].median_ms
    rows = [
        [
            timing.name,
            milliseconds(timing.median_ms),
            f"{milliseconds(timing.p10_ms)} .. {milliseconds(timing.p90_ms)}",
            ratio(timing.median_ms / own),
        ]
        for timing in timings
    ]
    shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in document["shapes"].items())
    threads = f"{document['threads']} thread{'' if document['threads'] == 1 else 's'}"
    lines = [
        f"{document['cpu']}, {document['isa']}, {threads}; {shapes}; {document['rounds']} rounds",
        "",
        table(["", "median", "p10 .. p90", "time against the first"], rows, "lrrr"),
    ]
    for timing in timings[1:]:
        factor = timing.median_ms / own
        verdict = f"{ratio(factor)} faster than" if factor >= 1 else f"{ratio(1 / factor)} slower than"
        lines.append(f"\n{timings[0].name} is {verdict} {timing.name}")
    return "\n".join(lines)
