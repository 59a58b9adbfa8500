"""`bittern convert`: a network of another format as a .bittern file, nothing lost, and back to ONNX."""

from __future__ import annotations

import argparse
import os

from bittern.cli.metadata import add_metadata_options, labels_of, preprocess_of
from bittern.cli.output import Output

HELP = "faithful import of a network"
DESCRIPTION = """Write SOURCE as a .bittern file. Nothing is lost: every weight keeps its value.

If FILE ends with .onnx, SOURCE becomes an ONNX file with dense weights, for any other runtime to check."""
EXAMPLE = "bittern convert net.onnx -o net.bittern --resize 256 256 --crop 224 224 --scale 0.00392157"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("source", metavar="SOURCE", help="network: .onnx, .tflite, .bittern, or what --from names")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--from",
        dest="source_format",
        choices=("onnx", "tflite", "deep-compression"),
        help="format of SOURCE (default: by its suffix); deep-compression: the published compressed_SqueezeNet.net",
    )
    add_metadata_options(parser)


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Convert, save, report."""
    import bittern
    from bittern.cli.files import check_output
    from bittern.cli.networks import check_source, network_json, network_lines

    check_source(arguments.source)
    check_output(arguments.output, [arguments.source, arguments.labels], onnx=True)
    preprocess, labels = preprocess_of(arguments), labels_of(arguments)
    network = bittern.convert(
        arguments.source, source_format=arguments.source_format, preprocess=preprocess, labels=labels
    )
    if arguments.output.lower().endswith(".onnx"):
        from bittern.atomic_file import write_atomic

        write_atomic(arguments.output, network.to_onnx().SerializeToString(deterministic=True))
    else:
        network.save(arguments.output)
    before, after = os.path.getsize(arguments.source), os.path.getsize(arguments.output)
    document = {
        "source": arguments.source,
        "source_bytes": before,
        "output": arguments.output,
        "output_bytes": after,
        **network_json(network),
    }
    output.result(
        document,
        lambda: "\n".join(
            [f"{arguments.source}: {before:,} bytes -> {arguments.output}: {after:,} bytes", *network_lines(network)]
        ),
    )
    return 0
