"""`bittern inspect`: what is in a file, and how it runs on this machine."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from bittern.cli.output import Output
from bittern.cli.parser import add_execution_options, named_elements, named_shapes, positive
from bittern.errors import InputError

if TYPE_CHECKING:
    from bittern.plan import Plan

HELP = "layers, encodings, bytes; the kernel each layer takes here and why"
DESCRIPTION = """List layers, encodings, bytes and bits per weight, then each layer's kernel on this machine and why.

Where weights may be zero, a table of these layers follows: their density, the dense and the sparse kernel, the
estimates that decided between them, in cycles of the vector unit, and with --measure the time that each really takes
(medians, the layer alone, without moves between layouts). estimated, measured: how many times as fast the sparse kernel
is."""
EXAMPLE = "bittern inspect net.bittern --shape data=1,3,224,224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help=".bittern file")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,H,W",
        help="plan for this input shape; may be repeated",
    )
    parser.add_argument(
        "--elements",
        action="append",
        default=[],
        metavar="NAME=4,5",
        help="plan for these elements of an input that decides shapes; may be repeated",
    )
    parser.add_argument(
        "--measure", action="store_true", help="time the dense and the sparse kernel of every layer that may hold zeros"
    )
    parser.add_argument("--runs", type=positive, default=10, metavar="N", help="rounds of --measure (default: 10)")
    add_execution_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Load, plan, list."""
    import bittern
    from bittern.bench import random_feeds
    from bittern.cli.networks import check_source, metadata_lines, network_json, values_text
    from bittern.sparse_choices import choices_text, measure_choices, sparse_choices

    check_source(arguments.file)
    network = bittern.Network.load(arguments.file)
    model = bittern.load(arguments.file, threads=arguments.threads, isa=arguments.isa)
    shapes = named_shapes(arguments.shape)
    given = {**shapes, **named_elements(arguments.elements, model.inputs)}
    missing = [name for name in model.shape_deciding_inputs if name not in given]
    plan = None if missing else model.plan_for(given)
    if arguments.measure and plan is None:
        raise InputError("--measure", no_plan_text(missing[0]), "")
    choices = [] if plan is None else sparse_choices(plan)
    if arguments.measure and plan is not None and choices:
        feeds: list[dict[str, Any]] = [
            {**each, **{name: given[name] for name in model.shape_deciding_inputs}}
            for each in random_feeds(model.inputs, shapes, model.metadata.get("preprocess"))
        ]
        options = {"threads": arguments.threads, "isa": arguments.isa, "rounds": arguments.runs}
        with output.progress() as progress:
            choices = measure_choices(network, plan, feeds, **options, progress=progress)
    summary = network.summary()
    size = os.path.getsize(arguments.file)
    document: dict[str, Any] = {
        "file": arguments.file,
        "bytes": size,
        **network_json(network),
        "summary": summary,
        "plan": plan,
        **({"sparse_choices": choices} if choices else {}),
    }

    def text() -> str:
        return "\n".join(
            [
                f"file     {arguments.file}: {size:,} bytes",
                f"inputs   {values_text(network.inputs)}",
                f"outputs  {values_text(network.outputs)}",
                *metadata_lines(network.metadata),
                "",
                "constants",
                str(summary),
                "",
                "plan on this machine",
                no_plan_text(missing[0]) if plan is None else plan_text(plan),
                *(["", "layers that may hold zeros", choices_text(choices)] if choices else []),
                *(["", "no layer may hold zeros: nothing to measure"] if arguments.measure and not choices else []),
            ]
        )

    output.result(document, text)
    return 0


def no_plan_text(name: str) -> str:
    """Why there is no plan, and how to get one."""
    return f"the elements of {name} decide shapes: say them with --elements {name}=1,2,3 to see a plan"


def plan_text(plan: Plan) -> str:
    """A row per layer of the plan, the reason of its kernel last, and totals."""
    from bittern.report import bytes_exact, bytes_short, shape_text, table

    rows = []
    for layer in plan.layers:
        fused = "+".join([layer.op, *layer.fused])
        rows.append(
            [
                layer.name,
                fused,
                shape_text(layer.output_shape),
                layer.encoding or "-",
                bytes_exact(layer.encoded_bytes) if layer.encoded_bytes else "-",
                bytes_exact(layer.packed_bytes) if layer.packed_bytes else "-",
                f"{layer.macs:,.0f}" if layer.macs else "-",
                f"{layer.density:.1%}" if layer.density >= 0 else "-",
                layer.kernel,
                layer.layout,
                layer.reason,
            ]
        )
    total = [
        "total",
        "",
        "",
        "",
        bytes_exact(sum(layer.encoded_bytes for layer in plan.layers)),
        bytes_exact(sum(layer.packed_bytes for layer in plan.layers)),
        f"{sum(layer.macs for layer in plan.layers):,.0f}",
        "",
        "",
        "",
        f"activations {bytes_short(plan.arena_bytes)}",
    ]
    headers = ["layer", "op", "output", "encoding", "bytes", "packed", "MACs", "density", "kernel", "layout", "why"]
    return table(headers, rows, "llllrrrrlll", total)
