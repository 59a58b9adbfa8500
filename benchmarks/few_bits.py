"""Convolutions with weights of few bits against 8-bit weights: the layers of ResNet-50, codes in and codes out.

python benchmarks/few_bits.py                one thread
python benchmarks/few_bits.py --threads 2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import bittern
import numpy as np
from bittern import encodings as enc
from bittern.report import Progress, bytes_short, json_text, milliseconds, table

LAYERS = (
    (64, 64, 56, 3), (128, 128, 28, 3), (256, 256, 14, 3), (512, 512, 7, 3), (64, 256, 56, 1),
    (256, 64, 56, 1), (512, 128, 28, 1), (1024, 256, 14, 1), (512, 2048, 7, 1), (2048, 512, 7, 1),
)  # fmt: skip
"""Channels, filters, size of the map, kernel."""

Shape = tuple[int, ...]
Weights = Callable[[np.random.Generator, Shape], enc.Encoding]


def _one(value: float) -> enc.Encoding:
    return enc.Dense(np.array(value, np.float32))


def _affine(bits: int) -> Weights:
    def make(rng: np.random.Generator, shape: Shape) -> enc.Encoding:
        half = 2 ** (bits - 1)
        scale = enc.Dense(rng.uniform(0.005, 0.02, shape[0]).astype(np.float32))
        return enc.Affine(enc.Packed.pack(rng.integers(1 - half, half, shape), bits, signed=True), scale, axis=0)

    return make


def _ternary(rng: np.random.Generator, shape: Shape) -> enc.Encoding:
    return enc.Ternary(enc.Packed.pack(rng.integers(0, 3, shape), 2), _one(0.01), _one(0.01))


def _shift(rng: np.random.Generator, shape: Shape) -> enc.Encoding:
    return enc.Pow2(enc.Packed.pack(rng.integers(0, 8, shape), 4), _one(0.1), 1, 4)


def _codebook(rng: np.random.Generator, shape: Shape) -> enc.Encoding:
    values = np.append(np.sort(rng.choice(np.arange(-127, 128), 15, replace=False)), 0).astype(np.int8)
    return enc.Codebook(enc.Packed.pack(rng.integers(0, 16, shape), 4), enc.Affine(enc.Dense(values), _one(0.01)))


FORMS: dict[str, Weights] = {
    "int8": _affine(8),
    "int4": _affine(4),
    "ternary": _ternary,
    "shift": _shift,
    "codebook": _codebook,
}


def network(layer: tuple[int, int, int, int], weights: Weights) -> bittern.Network:
    """One convolution with ReLU, between codes."""
    channels, filters, size, kernel = layer
    net = bittern.Network("layer")
    net.add_input("x", (1, channels, size, size))
    net.add_constant("scale", np.array(0.05, np.float32))
    net.add_constant("zero", np.array(0, np.uint8))
    net.add_constant("w", weights(np.random.default_rng(0), (filters, channels, kernel, kernel)))
    net.add_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"])
    net.add_node("DequantizeLinear", ["codes", "scale", "zero"], ["real"])
    net.add_node("Conv", ["real", "w"], ["sums"], pads=[kernel // 2] * 4, kernel_shape=[kernel, kernel])
    net.add_node("Relu", ["sums"], ["positive"])
    net.add_node("QuantizeLinear", ["positive", "scale", "zero"], ["y"])
    net.set_outputs(["y"])
    return net


def measure(layer: tuple[int, int, int, int], threads: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of the convolution alone, all forms in turning order."""
    models = {name: bittern.load(network(layer, weights), threads=threads) for name, weights in FORMS.items()}
    x = np.abs(np.random.default_rng(1).standard_normal((1, layer[0], layer[2], layer[2]), np.float32))
    times: dict[str, list[float]] = {name: [] for name in models}
    names = list(models)
    for turn in range(rounds):
        for step in range(len(names)):
            name = names[(turn + step) % len(names)]
            profile = models[name].profile(x)
            times[name].append(sum(row.ms for row in profile.layers if row.layer.op == "Conv"))
    resident = {
        name: next(row.packed_bytes for row in model.plan.layers if row.op == "Conv") for name, model in models.items()
    }
    kernel = next(row.kernel for row in models["int8"].plan.layers if row.op == "Conv")
    return {"layer": layer, "kernel": kernel, "ms": times, "resident_bytes": resident}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--rounds", type=int, default=30, metavar="R")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 2 or options.threads < 1:
        parser.error("--rounds is at least 2, --threads at least 1")
    rows, found = [], []
    with Progress() as progress:
        for number, layer in enumerate(LAYERS):
            progress(number, len(LAYERS), f"{layer[0]} -> {layer[1]}")
            found.append(measure(layer, options.threads, options.rounds))
    for each in found:
        channels, filters, size, kernel = each["layer"]
        base = median(each["ms"]["int8"])
        cells = [f"{kernel}x{kernel} {channels} -> {filters} at {size}x{size}", milliseconds(base)]
        rate = 2 * channels * filters * (size * kernel) ** 2 / base / 1e6
        cells.append(f"{rate:.0f}")
        for name in list(FORMS)[1:]:
            cuts = quantiles([a / b for a, b in zip(each["ms"]["int8"], each["ms"][name], strict=True)], n=10)
            cells.append(f"{base / median(each['ms'][name]):.2f} ({cuts[0]:.2f} .. {cuts[-1]:.2f})")
        cells += [bytes_short(each["resident_bytes"]["int8"]), bytes_short(each["resident_bytes"]["int4"])]
        rows.append(cells)
    headers = ["layer", "int8", "GOP/s", *list(FORMS)[1:], "resident int8", "int4"]
    print(f"{options.threads} threads, {options.rounds} rounds, {found[0]['kernel'].rsplit('__')[-1]}")
    print(table(headers, rows, "lrrrrrrrr"))
    print("""
Columns of forms: speed relative to int8, and the spread of single rounds. Weights stay in memory as codes of 4 or 2
bits; each run expands a layer's into a scratch buffer. Not shown: other engines, which have no such kernels.""")
    if options.json:
        options.json.write_text(json_text({"threads": options.threads, "layers": found}) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
