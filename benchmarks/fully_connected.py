"""Fully connected layers at batch 1, cold: weights of few bits against dense float32, where time is bytes.

python benchmarks/fully_connected.py                4096 x 4096, one and two threads
python benchmarks/fully_connected.py --size 2048    other sizes
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import bittern
import numpy as np
from bittern import encodings as enc
from bittern.report import Progress, bytes_short, json_text, milliseconds, table

COLD = 4
"""The copies of a layer take so many times the last-level cache together."""

Weights = Callable[[np.random.Generator, int], enc.Encoding]


def _scalar(value: float) -> enc.Encoding:
    return enc.Dense(np.array(value, np.float32))


def _affine(bits: int) -> Weights:
    def make(rng: np.random.Generator, size: int) -> enc.Encoding:
        half = 2 ** (bits - 1)
        return enc.Affine(enc.Packed.pack(rng.integers(1 - half, half, (size, size)), bits, signed=True), _scalar(0.01))

    return make


def _codebook(table: Callable[[np.random.Generator], enc.Encoding]) -> Weights:
    def make(rng: np.random.Generator, size: int) -> enc.Encoding:
        return enc.Codebook(enc.Packed.pack(rng.integers(0, 16, (size, size)), 4), table(rng))

    return make


def _int8_table(rng: np.random.Generator) -> enc.Encoding:
    values = np.sort(rng.choice(np.arange(-127, 128), 15, replace=False))
    return enc.Affine(enc.Dense(np.append(values, 0).astype(np.int8)), _scalar(0.01))


def _f32_table(rng: np.random.Generator) -> enc.Encoding:
    return enc.Dense(rng.standard_normal(16).astype(np.float32) * 0.02)


def _ternary(rng: np.random.Generator, size: int) -> enc.Encoding:
    return enc.Ternary(enc.Packed.pack(rng.integers(0, 3, (size, size)), 2), _scalar(0.02), _scalar(0.02))


def _sparse(rng: np.random.Generator, size: int) -> enc.Encoding:
    """9 % not zero, as in the first fully connected layers of Deep Compression's AlexNet and VGG-16."""
    mask = rng.random((size, size)) < 0.09
    codes = enc.Packed.pack(rng.integers(1, 16, int(mask.sum())), 4)
    return enc.Codebook(
        enc.Sparse(enc.Bitmap.of(mask), codes, (size, size)),
        enc.Dense(np.append(np.float32(0), rng.standard_normal(15).astype(np.float32) * np.float32(0.05))),
    )


def _sparse_codes(together: int) -> Weights:
    """10 % not zero, so many neighbouring inputs at a time, 8 bits."""

    def make(rng: np.random.Generator, size: int) -> enc.Encoding:
        mask = np.repeat(rng.random((size, size // together)) < 0.1, together, axis=1)
        codes = rng.integers(1, 128, int(mask.sum()), np.int8)
        return enc.Affine(enc.Sparse(enc.Bitmap.of(mask), enc.Dense(codes), (size, size)), _scalar(0.01))

    return make


def _dense(rng: np.random.Generator, size: int) -> enc.Encoding:
    return enc.Dense(rng.standard_normal((size, size), np.float32) * np.float32(0.02))


FORMS: dict[str, tuple[Weights, bool, float]] = {
    "dense float32": (_dense, False, 32),
    "8-bit, 8-bit activations": (_affine(8), True, 8),
    "4-bit, 8-bit activations": (_affine(4), True, 4),
    "16-entry codebook, 8-bit activations": (_codebook(_int8_table), True, 4),
    "2-bit, 8-bit activations": (_affine(2), True, 2),
    "ternary, 8-bit activations": (_ternary, True, 2),
    "10 % of 8-bit, 8-bit activations": (_sparse_codes(1), True, 4),
    "10 % of 8-bit in quads, 8-bit activations": (_sparse_codes(4), True, 1.6),
    "16-entry codebook, float32 activations": (_codebook(_f32_table), False, 4),
    "9 % of a 16-entry codebook, float32 activations": (_sparse, False, 2),
}
"""Weights, whether activations are codes of 8 bits, and bits of a resident weight."""


def chain(weights: Weights, codes: bool, size: int, copies: int) -> bittern.Network:
    """``copies`` layers behind each other; every one reads weights of its own."""
    rng = np.random.default_rng(0)
    net = bittern.Network("fully connected")
    net.add_input("x", (1, size))
    net.add_constant("scale", np.array(0.05, np.float32))
    net.add_constant("zero", np.array(128, np.uint8))
    if not codes:
        net.add_constant("low", np.array(-4, np.float32))
        net.add_constant("high", np.array(4, np.float32))
    at = "x"
    if codes:
        net.add_node("QuantizeLinear", ["x", "scale", "zero"], ["q0"])
        at = "q0"
    for index in range(copies):
        net.add_constant(f"w{index}", weights(rng, size))
        if codes:
            net.add_node("DequantizeLinear", [at, "scale", "zero"], [f"r{index}"])
            net.add_node("Gemm", [f"r{index}", f"w{index}"], [f"y{index}"], transB=1)
            net.add_node("QuantizeLinear", [f"y{index}", "scale", "zero"], [f"q{index + 1}"])
            at = f"q{index + 1}"
        else:
            net.add_node("Gemm", [at, f"w{index}"], [f"y{index}"], transB=1)
            net.add_node("Clip", [f"y{index}", "low", "high"], [f"c{index}"])
            at = f"c{index}"
    if codes:
        net.add_node("DequantizeLinear", [at, "scale", "zero"], ["y"])
        at = "y"
    net.set_outputs([at])
    return net


def measure(size: int, threads: int, rounds: int, only: str, progress: Progress) -> list[dict[str, Any]]:
    """The forms whose names hold ``only``, and dense float32, in turning order; milliseconds of one layer."""
    cache = bittern.limits().caches[-1].bytes
    x = np.random.default_rng(1).standard_normal((1, size)).astype(np.float32)
    rows: list[dict[str, Any]] = []
    models = []
    for name, (weights, codes, bits) in FORMS.items():
        if rows and only not in name:
            continue
        progress(len(rows), len(FORMS), name)
        copies = max(2, round(COLD * cache / (size * size * bits / 8) + 0.5))
        model = bittern.load(chain(weights, codes, size, copies), threads=threads)
        model(x)
        layers = [layer for layer in model.plan.layers if layer.op == "Gemm"]
        resident = sum(layer.packed_bytes for layer in layers) / len(layers)
        rows.append({"form": name, "kernel": layers[0].kernel, "copies": copies, "resident_bytes": resident, "ms": []})
        models.append(model)
    for turn in range(rounds):
        progress(turn, rounds, "rounds")
        for step in range(len(rows)):
            index = (turn + step) % len(rows)
            start = time.perf_counter()
            models[index](x)
            rows[index]["ms"].append(1e3 * (time.perf_counter() - start) / rows[index]["copies"])
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """The table: the ratio is of float32's median over the form's."""
    dense = median(rows[0]["ms"])
    cells = []
    for row in rows:
        cuts = quantiles(row["ms"], n=10)
        cells.append(
            [
                row["form"],
                row["kernel"],
                bytes_short(row["resident_bytes"]),
                milliseconds(median(row["ms"])),
                f"{milliseconds(cuts[0])} .. {milliseconds(cuts[-1])}",
                f"{dense / median(row['ms']):.2f}",
            ]
        )
    return table(["weights", "kernel", "resident", "a layer", "p10 .. p90", "times float32"], cells, "llrrrr")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096, metavar="N", help="inputs and outputs (default: 4096)")
    parser.add_argument("--threads", default="1,2", metavar="1,2")
    parser.add_argument("--rounds", type=int, default=30, metavar="R")
    parser.add_argument("--only", default="", metavar="TEXT", help="forms whose names hold this, and dense float32")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.size < 1 or options.rounds < 2:
        parser.error("--size is positive, --rounds at least 2")
    document = {}
    for threads in map(int, options.threads.split(",")):
        with Progress() as progress:
            rows = measure(options.size, threads, options.rounds, options.only, progress)
        print(
            f"{options.size} x {options.size}, batch 1, {threads} threads, {options.rounds} rounds\n{report(rows)}\n",
            flush=True,
        )
        document[str(threads)] = rows
    print(f"""Every layer reads weights of its own, {COLD} times the last-level cache together, so from memory.
The dense layer is this engine's; it runs at the memory's limit (bittern kernels). Not shown: layers whose weights
stay in cache, batches, other engines (they have no kernels for most of these weights).""")
    if options.json:
        options.json.write_text(json_text(document) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
