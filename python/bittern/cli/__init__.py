"""The command `bittern`: one module per verb, errors as one line, exit codes that mean something."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from bittern.errors import Error

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0: what was asked holds; 1: a check failed; 2: an error, told in one line on standard error; 130: interrupted.
    The environment variable BITTERN_TRACEBACK=1 lets exceptions through, for developers.
    """
    if os.environ.get("BITTERN_TRACEBACK") == "1":
        return _dispatch(argv)
    try:
        return _dispatch(argv)
    except Error as error:
        return _complain(str(error))
    except BrokenPipeError:
        _drop_stdout()
        return EXIT_BROKEN_PIPE
    except OSError as error:
        _drop_stdout()
        return _complain(_describe(error))
    except MemoryError:
        return _complain("memory: not enough for this; use smaller inputs or fewer images at once")
    except KeyboardInterrupt:
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        problem = f"internal error: {type(error).__name__}: {error}"
        return _complain(f"{problem}; set BITTERN_TRACEBACK=1 for details and report it")


def _dispatch(argv: Sequence[str] | None) -> int:
    from bittern.cli.output import Output
    from bittern.cli.parser import build_parser

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a label that the terminal cannot show must not end the run
            reconfigure(errors="backslashreplace")
    try:
        arguments = build_parser().parse_args(argv)
    except SystemExit as done:  # --help and --version
        sys.stdout.flush()
        return done.code if isinstance(done.code, int) else EXIT_OK
    output = Output(json=arguments.json, quiet=arguments.quiet)
    code: int = arguments.verb(arguments, output)
    sys.stdout.flush()
    return code


def _describe(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.filename is None:
        return f"input or output: {reason}"
    remedies: dict[type[OSError], str] = {
        FileNotFoundError: "check the path",
        IsADirectoryError: "give a file",
        NotADirectoryError: "check the path",
        PermissionError: "check the permissions",
    }
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{name}: {reason}; {remedies.get(type(error), 'check the file and the disk')}"


def _complain(text: str) -> int:
    """Print one line on standard error; a message of several lines is joined."""
    parts = [part.strip() for part in text.splitlines() if part.strip()]
    line = parts[0] if parts else "error"
    for part in parts[1:]:
        line += (" " if line.endswith((":", ";", ",")) else "; ") + part
    print(f"bittern: {line}", file=sys.stderr)
    return EXIT_ERROR


def _drop_stdout() -> None:
    """What is still buffered cannot be written; keep the interpreter from trying again at exit."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        pass
