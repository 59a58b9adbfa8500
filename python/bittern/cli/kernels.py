"""`bittern kernels`: every kernel that this build registers."""

from __future__ import annotations

import argparse
import re

from bittern.cli.output import Output
from bittern.errors import InputError

HELP = "every kernel of this build"
DESCRIPTION = "List the kernels: inner loop, instruction set, register tile, and whether this machine runs them."
EXAMPLE = "bittern kernels --filter gemm --isa avx2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--filter", default="", metavar="REGEX", help="only kernels whose name matches")
    parser.add_argument("--isa", metavar="LEVEL", help="only kernels of this instruction set level")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """List; InputError if nothing matches."""
    import bittern
    from bittern.report import table

    try:
        pattern = re.compile(arguments.filter)
    except (re.error, OverflowError) as error:
        raise InputError("--filter", f"is not a regular expression ({error})", "correct it") from None
    every = bittern.kernels()
    chosen = [kernel for kernel in every if pattern.search(kernel.name) and arguments.isa in (None, kernel.isa)]
    if not chosen:
        levels = ", ".join(dict.fromkeys(kernel.isa for kernel in every))
        raise InputError("kernels", "none matches", f"see bittern kernels without options; levels: {levels}")
    fields = ("name", "loop", "isa", "usable", "rows", "cols", "description")
    document = {"kernels": [{field: getattr(kernel, field) for field in fields} for kernel in chosen]}
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
        ),
    )
    return 0
