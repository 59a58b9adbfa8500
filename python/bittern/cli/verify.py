"""`bittern verify`: is the file's answer the source's answer, and where does it first drift."""

from __future__ import annotations

import argparse

from bittern.cli.output import Output
from bittern.cli.parser import add_execution_options
from bittern.errors import InputError

HELP = "error against the original, layer by layer"
DESCRIPTION = """Run FILE and SOURCE on the same inputs and compare every layer.

Exit code 1 if an output differs by more than the tolerance; the first layer that drifts is named."""
EXAMPLE = "bittern verify net.bittern --against net.onnx --input samples.npz --tolerance 1e-3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("file", metavar="FILE", help=".bittern file")
    parser.add_argument("--against", required=True, metavar="SOURCE", help="the original: .onnx, .tflite or .bittern")
    parser.add_argument("--input", metavar="DATA.npz", help="inputs by name, or one .npy (default: random inputs)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="T", help="largest absolute difference (default: 1e-4)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the random inputs (default: 0)")
    add_execution_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Compare; 0 within tolerance, 1 beyond."""
    import bittern
    from bittern.cli import EXIT_CHECK_FAILED, EXIT_OK
    from bittern.cli.files import read_inputs
    from bittern.cli.networks import check_source

    if not 0 <= arguments.tolerance < float("inf"):
        raise InputError("--tolerance", f"is {arguments.tolerance}", "give a number of at least 0")
    check_source(arguments.file)
    check_source(arguments.against)
    model = bittern.load(arguments.file, threads=arguments.threads, isa=arguments.isa)
    data = None
    if arguments.input is not None:
        data = read_inputs(arguments.input, model.inputs)
    report = bittern.verify(model, arguments.against, data, tolerance=arguments.tolerance, seed=arguments.seed)
    document = {"file": arguments.file, "against": arguments.against, "report": report}
    output.result(document, lambda: str(report))
    return EXIT_OK if report.ok else EXIT_CHECK_FAILED
