"""Options of `convert` and `compress` that a file stores for `bittern run`: image preprocessing and class names."""

from __future__ import annotations

import argparse
from typing import Any

from bittern.cli.parser import positive


def add_metadata_options(parser: argparse.ArgumentParser) -> None:
    """The image options and `--labels`."""
    group = parser.add_argument_group(
        "image input", "stored in the file, so that `bittern run FILE --input photo.png` needs no option"
    )
    size = group.add_mutually_exclusive_group()
    size.add_argument("--resize", type=positive, nargs=2, metavar=("H", "W"), help="resize to H x W, bilinearly")
    size.add_argument("--resize-shorter", type=positive, metavar="N", help="scale until the shorter side is N")
    group.add_argument("--crop", type=positive, nargs=2, metavar=("H", "W"), help="then cut the centre H x W")
    group.add_argument("--color", choices=("RGB", "BGR", "GRAY"), help="order of the channels (default: RGB)")
    group.add_argument("--mean", type=float, nargs="+", metavar="M", help="value = (pixel * scale - mean) / std")
    group.add_argument("--std", type=float, nargs="+", metavar="S", help="one number, or one per channel")
    group.add_argument("--scale", type=float, metavar="S", help="factor of the 8-bit pixel (default: 1)")
    group.add_argument("--channels-last", action="store_true", help="the input is N x H x W x C, not N x C x H x W")
    group.add_argument("--labels", metavar="FILE", help="class names, one per line or a JSON list")


def preprocess_of(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The checked `preprocess` object that the options describe; None if there are none. FormatError if they clash."""
    fields: dict[str, Any] = {}
    if arguments.resize:
        fields["resize"] = list(arguments.resize)
    if arguments.resize_shorter:
        fields["resize"] = [arguments.resize_shorter, arguments.resize_shorter]
        fields["resize_mode"] = "shorter_side"
    if arguments.crop:
        fields["crop"] = list(arguments.crop)
    for name in ("color", "mean", "std", "scale"):
        if getattr(arguments, name) is not None:
            fields[name] = getattr(arguments, name)
    if arguments.channels_last:
        fields["layout"] = "NHWC"
    if not fields:
        return None
    from bittern.preprocess import Preprocess

    Preprocess.from_dict(fields)
    return fields


def labels_of(arguments: argparse.Namespace) -> list[str] | None:
    """The class names of `--labels`, or None."""
    if arguments.labels is None:
        return None
    from bittern.cli.files import read_labels

    return read_labels(arguments.labels)
