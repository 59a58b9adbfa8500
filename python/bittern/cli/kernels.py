"""`bittern kernels`: the kernels of this build; on layer shapes, their speed against the machine's measured limit."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bittern.cli.output import Output
from bittern.cli.parser import count, positive
from bittern.errors import InputError

if TYPE_CHECKING:
    from bittern.kernel_bench import Panel, Result, SetResult
    from bittern.layer_shapes import ShapeSet
    from bittern.machine_limits import Limits

HELP = "every kernel of this build, and its share of the machine's limit"
DESCRIPTION = """List the kernels; or, with --network, --shapes, --shape or --assert-pick, time every kernel that fits.

Times are those of the layer alone, without the conversions of layouts around it: medians over interleaved rounds with
varying inputs, and the best run. The limits, multiply-adds and products of bytes in registers, and reading from each
cache and from memory, are measured in the same run with vectors of the kernel's own level. * marks what the planner
takes by itself. --isa holds the planner to that level, too. Shapes are written like fc:4096,outputs=1000 and
conv:64x56x56,outputs=64,kernel=3,stride=1,pad=1,groups=1; conv_u8, depthwise_u8, fc_u8, ... are layers on 8-bit codes,
from codes to codes with bias, scales and Relu; sparse:64x56x56,outputs=64,kernel=3,pad=1,density=0.1 has
weights of which all but a share are zero, sparse_u8 and sparse4_u8 on codes, one by one and in blocks of four
input channels."""
EXAMPLE = "bittern kernels --network resnet50 --assert-pick"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--filter", default="", metavar="REGEX", help="only kernels whose name matches")
    parser.add_argument("--isa", metavar="LEVEL", help="only kernels of this instruction set level")
    parser.add_argument(
        "--network", nargs="+", action="extend", default=[], metavar="NAME", help="time on the layers of networks"
    )
    parser.add_argument(
        "--shapes", action="append", default=[], metavar="FILE", help="time on the shapes of a text file"
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="SPEC",
        help="time on a shape: KIND:CxHxW,outputs=O,kernel=K,...",
    )
    parser.add_argument("--int8", action="store_true", help="time the layers on 8-bit codes instead of real numbers")
    parser.add_argument(
        "--sparse",
        type=float,
        metavar="S",
        help="time the convolutions with this share of the weights zero, such as 0.9",
    )
    parser.add_argument(
        "--block",
        type=int,
        choices=(1, 4),
        default=1,
        help="with --sparse and --int8: neighbouring input channels that are zero together (default: 1)",
    )
    parser.add_argument(
        "--assert-pick", action="store_true", help="exit 1 if a pick is more than 10 %% slower than the fastest kernel"
    )
    parser.add_argument("--list", action="store_true", help="list kernels and names of networks, time nothing")
    parser.add_argument("--runs", type=positive, default=10, metavar="N", help="rounds (default: 10)")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="images at once (default: 1)")
    parser.add_argument(
        "--threads", type=count, default=1, metavar="N", help="threads (default: 1; 0: every CPU granted)"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """List or measure; 1 if --assert-pick finds a wrong pick. InputError if nothing matches."""
    wanted = arguments.network or arguments.shapes or arguments.shape or arguments.assert_pick
    return _measure(arguments, output) if wanted and not arguments.list else _list(arguments, output)


def _list(arguments: argparse.Namespace, output: Output) -> int:
    import bittern
    from bittern.kernel_bench import compiled
    from bittern.layer_shapes import shape_names
    from bittern.report import table

    chosen_layers = {"--sparse": arguments.sparse is not None, "--int8": arguments.int8, "--block": arguments.block > 1}
    for option, given in chosen_layers.items():
        if given:
            raise InputError(option, "says which layers to time, but none are timed", "name a --network or a --shape")
    pattern = compiled(arguments.filter)
    every = bittern.kernels()
    chosen = [kernel for kernel in every if pattern.search(kernel.name) and arguments.isa in (None, kernel.isa)]
    if not chosen:
        levels = ", ".join(dict.fromkeys(kernel.isa for kernel in every))
        raise InputError("kernels", "none matches", f"see bittern kernels without options; levels: {levels}")
    fields = ("name", "loop", "isa", "usable", "rows", "cols", "description")
    names = shape_names()
    document = {
        "kernels": [{field: getattr(kernel, field) for field in fields} for kernel in chosen],
        "networks": names,
    }
    rows = [
        [
            kernel.name,
            kernel.loop,
            kernel.isa,
            "yes" if kernel.usable else "no",
            f"{kernel.rows}x{kernel.cols}" if kernel.rows and kernel.cols else "-",
            kernel.description,
        ]
        for kernel in chosen
    ]
    usable = sum(kernel.usable for kernel in chosen)
    output.result(
        document,
        lambda: (
            table(["kernel", "loop", "isa", "runs here", "tile", "description"], rows)
            + f"\n\n{len(chosen)} kernels, {usable} run on this machine"
            + f"\ntheir speed: bittern kernels --network NAME, with {', '.join(names)}"
        ),
    )
    return 0


def _measure(arguments: argparse.Namespace, output: Output) -> int:
    import bittern
    from bittern.cli import EXIT_CHECK_FAILED, EXIT_OK
    from bittern.kernel_bench import KernelBench, wrong_picks

    load = os.getloadavg()[0]
    sets = _shapes(arguments)
    bench = KernelBench(arguments.filter, arguments.isa, arguments.threads, arguments.runs, arguments.batch)
    with output.progress() as progress:
        found = bench.measure(sets, check=arguments.assert_pick, progress=progress)
    wrong = wrong_picks(found)
    cpu = bittern.cpu()
    levels = [level for level in cpu.isa_levels_built if level in bench.limits]
    threads = max(limit.threads for limit in bench.limits.values())
    document: dict[str, Any] = {
        "version": bittern.__version__,
        "cpu": cpu.name,
        "isa": arguments.isa or cpu.isa,
        "threads": threads,
        "batch": arguments.batch,
        "runs": arguments.runs,
        "load_before": load,
        "limits": {level: bench.limits[level].to_json() for level in levels},
        "panel_limits": [
            {"isa": isa, "vectors": vectors, "entries": entries, "gflops": rate}
            for (isa, (vectors, entries)), rate in sorted(bench.panels.items())
        ],
        "sets": [each.to_json() for each in found],
        "wrong_picks": [{"set": name, "text": _complaint(result)} for name, result in wrong],
    }
    head = (
        f"{cpu.name}, {document['isa']}, {threads} {'thread' if threads == 1 else 'threads'}, batch {arguments.batch}"
    )

    if load > cpu.cpus_present / 2:
        head += f"\nother programs were running (load {load:.1f}): trust the best runs, not the medians"

    def text() -> str:
        parts = [head, _limits_text([bench.limits[level] for level in levels])]
        parts += [_panels_text(bench.panels)] if bench.panels else []
        parts += [_set_text(each) for each in found]
        if arguments.assert_pick:
            lines = [f"WRONG PICK in {name}: {_complaint(result)}" for name, result in wrong]
            parts.append("\n".join(lines) or "every pick is within 10 % of the fastest kernel")
        return "\n\n".join(parts)

    output.result(document, text)
    return EXIT_CHECK_FAILED if arguments.assert_pick and wrong else EXIT_OK


def _shapes(arguments: argparse.Namespace) -> list[ShapeSet]:
    from bittern.layer_shapes import ShapeSet, named_shapes, parse_shape, read_shapes, shape_names

    sets = [named_shapes(name) for name in arguments.network]
    sets += [read_shapes(Path(path)) for path in arguments.shapes]
    if arguments.shape:
        sets.append(ShapeSet("shapes", tuple((parse_shape(text), 1) for text in arguments.shape)))
    if arguments.block > 1 and (arguments.sparse is None or not arguments.int8):
        raise InputError("--block", str(arguments.block), "it needs --sparse and --int8: other kernels have no blocks")
    sets = sets or [named_shapes(name) for name in shape_names()]
    if arguments.sparse is not None:
        if not 0 <= arguments.sparse < 1:
            raise InputError("--sparse", f"{arguments.sparse:g}", "a share from 0 to below 1 is allowed")
        kind = "sparse" if not arguments.int8 else "sparse_u8" if arguments.block == 1 else "sparse4_u8"
        return [each.pruned(arguments.sparse, kind) for each in sets]
    return [each.on_codes() for each in sets] if arguments.int8 else sets


def _complaint(result: Result) -> str:
    from bittern.report import milliseconds

    pick, fastest = result.pick, result.better
    slower = 100 * (pick.slower_than(fastest) - 1)
    return (
        f"{result.shape}: {pick.kernel} is picked with {milliseconds(pick.ms)}, "
        f"{fastest.kernel} takes {milliseconds(fastest.ms)}: {slower:.0f} % slower"
    )


def _limits_text(limits: list[Limits]) -> str:
    from bittern.report import significant, table

    headers = ["limits", "FMA GFLOP/s", "dot GOP/s", "bits GOP/s"]
    headers += [f"L{cache.level} ({_size(cache.bytes)}) GB/s" for cache in limits[0].caches]
    rows = [
        [
            each.isa,
            significant(each.fma_gflops),
            significant(each.int8_gops),
            significant(each.bit_gops),
            *(significant(cache.load_gbs) for cache in each.caches),
            significant(each.memory_load_gbs),
            significant(each.memory_copy_gbs),
        ]
        for each in limits
    ]
    return table([*headers, "memory GB/s", "copy GB/s"], rows, "l" + "r" * (len(headers) + 1))


def _panels_text(panels: dict[tuple[str, Panel], float]) -> str:
    from bittern.report import significant, table

    rows = [
        [isa, str(vectors), str(entries), significant(rate)]
        for (isa, (vectors, entries)), rate in sorted(panels.items())
    ]
    return table(["panels", "vectors", "weights of a row", "GFLOP/s"], rows, "lrrr")


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _set_text(each: SetResult) -> str:
    from bittern.report import significant, table

    rows = []
    sparse = any(result.shape.about.sparse for result in each.results)
    for result in each.results:
        for number, candidate in enumerate(result.candidates):
            bound, least = result.bound(candidate)
            real = significant(result.real_gops(candidate)) if candidate.loop.startswith("spmm") else ""
            rows.append(
                [
                    str(result.shape) if number == 0 else "",
                    str(result.count) if number == 0 else "",
                    "*" if candidate.pick else "",
                    candidate.kernel,
                    significant(candidate.ms),
                    significant(candidate.best_ms),
                    significant(result.gops(candidate)) if result.macs else "",
                    *([real] if sparse else []),
                    significant(result.gbs(candidate)) if bound not in ("FMA", "dot", "panel") else "",
                    f"{100 * least / candidate.ms:.0f} %",
                    bound,
                ]
            )
    headers = [each.name, "count", "", "kernel", "ms", "best", "GOP/s", *["real"] * sparse, "GB/s", "share", "of"]
    text = table(headers, rows, "lrllrrr" + "r" * sparse + "rrl")
    means = [
        [mean.name, mean.bound, f"{100 * mean.share:.0f} %", f"{100 * mean.least:.0f} %", mean.least_shape]
        for mean in each.means()
    ]
    if means:
        titles = ["share of arithmetic, weighted by products", "of", "mean", "least", "at"]
        text += "\n\n" + table(titles, means, "llrrl")
    return text
