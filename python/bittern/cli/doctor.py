"""`bittern doctor`: what this machine and this installation offer, and whether they work."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from bittern.cli.output import Output

HELP = "CPU, instruction sets, CPUs granted, versions; a self-test"
DESCRIPTION = "Show CPU, instruction set levels, what is granted and installed; run a self-test on every level."
EXAMPLE = "bittern doctor --json"
_OPTIONAL = {
    "onnx": "reading .onnx files",
    "onnxruntime": "verify and bench against it",
    "pillow": "image input",
    "scikit-learn": "bittern demo",
    "tflite": "reading .tflite files",
    "torch": "training the examples",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb has no arguments of its own."""


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Collect, test, print; 1 if the self-test fails on some level."""
    import numpy as np

    import bittern
    from bittern.cli import EXIT_CHECK_FAILED, EXIT_OK

    cpu = bittern.cpu()
    tests = {level: _self_test(level) for level in cpu.isa_levels_usable}
    healthy = bool(tests) and all(result == "ok" for result in tests.values())
    document: dict[str, Any] = {
        "healthy": healthy,
        "cpu": cpu.name,
        "features": list(cpu.features),
        "isa_levels_built": list(cpu.isa_levels_built),
        "isa_levels_usable": list(cpu.isa_levels_usable),
        "isa": cpu.isa,
        "cpus_granted": cpu.cpus_granted,
        "cpus_present": cpu.cpus_present,
        "memory_bytes": _memory(),
        "cuda": "not built",
        "compiler": _compiler(),
        "versions": {
            "bittern": bittern.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **{package: _version(package) for package in _OPTIONAL},
        },
        "self_test": tests,
    }
    output.result(document, lambda: _text(document))
    return EXIT_OK if healthy else EXIT_CHECK_FAILED


def _self_test(level: str) -> str:
    """`ok`, or what went wrong: a small convolution, whole numbers so that every level must agree exactly."""
    import numpy as np

    import bittern

    network = bittern.Network("self-test")
    network.add_input("x", (1, 3, 9, 7))
    weight = (np.arange(5 * 3 * 9) % 7 - 3).astype(np.float32).reshape(5, 3, 3, 3)
    network.add_constant("w", weight)
    network.add_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    network.set_outputs(["y"])
    x = (np.arange(3 * 9 * 7) % 11 - 5).astype(np.float32).reshape(1, 3, 9, 7)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    wanted = np.einsum("nchwij,ocij->nohw", windows, weight)
    try:
        found = bittern.load(network, threads=1, isa=level).run({"x": x})["y"]
    except bittern.Error as error:
        return str(error)
    return "ok" if np.array_equal(found, wanted) else "wrong numbers"


def _memory() -> int | None:
    """Bytes of memory of the machine or of the container, whichever is less; None where neither is told."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            sizes.append(int(Path(limit).read_text()))
        except (ValueError, OSError):
            continue
    return min(sizes) if sizes else None


def _compiler() -> str | None:
    """What built the extension, where it says so."""
    told = getattr(sys.modules.get("bittern._native"), "compiler", None)
    return str(told() if callable(told) else told) if told else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _text(document: dict[str, Any]) -> str:
    from bittern.report import bytes_short

    versions = document["versions"]
    memory = document["memory_bytes"]
    lines = [
        f"bittern    {versions['bittern']}",
        f"python     {versions['python']}, numpy {versions['numpy']}",
        f"compiler   {document['compiler'] or 'not recorded'}",
        f"cpu        {document['cpu']}",
        f"features   {' '.join(document['features'])}",
        f"cpus       {document['cpus_granted']} granted of {document['cpus_present']} present",
        f"memory     {bytes_short(memory) if memory is not None else 'unknown'}",
        f"cuda       {document['cuda']}",
        "",
        "instruction set levels",
    ]
    for level in document["isa_levels_built"]:
        state = document["self_test"].get(level)
        mark = "  (default)" if level == document["isa"] else ""
        told = "not usable on this machine" if state is None else f"self-test {state}"
        lines.append(f"  {level:<12} {told}{mark}")
    lines += ["", "optional packages"]
    for package, purpose in _OPTIONAL.items():
        lines.append(f"  {package:<12} {versions[package] or 'not installed':<14} {purpose}")
    return "\n".join([*lines, "", "healthy" if document["healthy"] else "NOT HEALTHY: the self-test failed"])
