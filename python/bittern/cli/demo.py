"""`bittern demo`: a small trained network, compressed in every way that exists."""

from __future__ import annotations

import argparse
import os

from bittern.cli.output import Output
from bittern.cli.parser import positive
from bittern.errors import InputError

HELP = "compress a small trained network in every way, and compare"
DESCRIPTION = """Compress a network for handwritten digits in every way that exists and show what each costs and gains.

The float network ships with the package; the digits it never saw come from scikit-learn."""
EXAMPLE = "bittern demo --keep digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--keep", metavar="DIR", help="keep the files in this directory (created if missing)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="threads for all (default: 1)")
    parser.add_argument("--isa", metavar="LEVEL", help="instruction set level (default: the best)")
    parser.add_argument("--rounds", type=positive, default=50, metavar="R", help="timing rounds (default: 50)")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Run the demo and print its table."""
    from bittern import demo

    if arguments.keep is not None and os.path.exists(arguments.keep) and not os.path.isdir(arguments.keep):
        raise InputError(arguments.keep, "is not a directory", "give a directory for --keep")
    with output.progress() as progress:
        result = demo.run(
            keep=arguments.keep,
            threads=arguments.threads,
            isa=arguments.isa,
            rounds=arguments.rounds,
            progress=progress,
        )
    output.result(result.to_json(), lambda: str(result))
    return 0
