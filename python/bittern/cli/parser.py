"""The argument parser: verbs, the options that all of them share, usage errors as exceptions."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from bittern.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bittern.values import ValueInfo

VERBS = ("convert", "compress", "inspect", "run", "verify", "bench", "kernels", "doctor", "demo")


class Parser(argparse.ArgumentParser):
    """Raises InputError where argparse would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        verb = self.prog.removeprefix("bittern").strip()
        raise InputError(verb or "command line", message, f"see {self.prog} --help")


def build_parser() -> Parser:
    """The parser of the command with all verbs; `arguments.verb` runs the one chosen."""
    parser = Parser(
        prog="bittern",
        description="Make neural networks small, run them fast where they are small, and see why or why not.",
        epilog="bittern VERB --help explains a verb. Exit codes: 0 what was asked holds, 1 a check failed, 2 error.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for name in VERBS:
        module = import_module(f"bittern.cli.{name}")
        verb = verbs.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(verb)
        verb.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        verb.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
        verb.set_defaults(verb=module.run)
    return parser


class _Version(argparse.Action):
    """Reads the version only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import bittern

        print(f"bittern {bittern.__version__}")
        parser.exit()


def add_execution_options(parser: argparse.ArgumentParser, *, threads: bool = True) -> None:
    """`--isa` and `--threads`, for the verbs that run a network."""
    parser.add_argument("--isa", metavar="LEVEL", help="instruction set level (default: the best; see bittern doctor)")
    if threads:
        parser.add_argument(
            "--threads", type=count, default=0, metavar="N", help="threads (default: every CPU granted to the process)"
        )


def count(text: str) -> int:
    """A whole number that is not negative, for argparse."""
    return _whole(text, 0)


def positive(text: str) -> int:
    """A whole number of at least one, for argparse."""
    return _whole(text, 1)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not least <= value < 1 << 31:
        raise argparse.ArgumentTypeError(f"{text} is out of range, at least {least} is allowed")
    return value


def named_shapes(parts: list[str]) -> dict[str, tuple[int, ...]]:
    """`name=1,3,224,224`, repeated, as a mapping. InputError for anything else."""
    shapes: dict[str, tuple[int, ...]] = {}
    for part in parts:
        name, mark, sizes = part.rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.replace("x", ",").split(","))
        except ValueError:
            shape = (-1,)
        if not mark or not name or min(shape) < 0:
            raise InputError(f"--shape {part}", "is not a named shape", "write it as name=1,3,224,224")
        shapes[name] = shape
    return shapes


def named_elements(parts: list[str], inputs: Sequence[ValueInfo]) -> dict[str, Any]:
    """`name=4,5`, repeated, as arrays of the inputs' types and declared shapes. InputError for anything else."""
    import numpy as np

    from bittern.values import NUMPY_TYPES

    infos = {info.name: info for info in inputs}
    arrays: dict[str, Any] = {}
    for part in parts:
        name, _, text = part.rpartition("=")
        if name not in infos:
            known = f"the inputs are {', '.join(infos)}"
            raise InputError(f"--elements {part}", "names no input", f"write it as name=4,5; {known}")
        info = infos[name]
        try:
            numbers = np.asarray([float(word) for word in text.split(",") if word])
            sizes = [size if isinstance(size, int) else -1 for size in info.shape or ()]
            arrays[name] = numbers.astype(NUMPY_TYPES[info.dtype]).reshape(sizes)
        except ValueError:
            remedy = "separate numbers with commas, as many as the input has"
            raise InputError(f"--elements {part}", f"does not fit {name}", remedy) from None
    return arrays
