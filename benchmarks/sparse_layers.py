"""Convolutions with most weights zero: the sparse kernel against the dense ones on the layers of ResNet-50 and VGG-16.

python benchmarks/sparse_layers.py                  90 % zeros, one thread
python benchmarks/sparse_layers.py --break-even     how many zeros it takes to be as fast as the direct dense kernel
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import bittern
import numpy as np
from bittern.encodings import Dense
from bittern.kernel_bench import panel_shape
from bittern.layer_networks import LAYER, one_layer
from bittern.layer_shapes import LayerShape, named_shapes, parse_shape
from bittern.report import Progress, json_text, milliseconds, significant, table
from peer_report import spread

NETWORKS = ("resnet50", "vgg16")
BREAK_EVEN = (
    "64x56x56,outputs=256", "512x28x28,outputs=128", "1024x14x14,outputs=256", "512x7x7,outputs=2048",
    "64x56x56,outputs=64,kernel=3,pad=1", "128x28x28,outputs=128,kernel=3,pad=1",
    "256x14x14,outputs=256,kernel=3,pad=1", "512x7x7,outputs=512,kernel=3,pad=1",
)  # fmt: skip
"""Layers of ResNet-50 that stand for the others of their window."""

SWEEP = (0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
WINDOWS = (1, 3)
_RUNS = 3  # of a sample, whose median counts

Times = dict[str, list[float]]


def layers() -> list[LayerShape]:
    """The distinct convolutions of both networks."""
    found = {shape for name in NETWORKS for shape, _ in named_shapes(name).shapes if shape.kind == "conv"}
    return sorted(found, key=lambda shape: (shape.kernel, -shape.height, shape.channels, shape.outputs, shape.stride))


def sparse_kernel() -> str:
    """The kernel on real numbers at the best level that may be used here."""
    levels = bittern.cpu().isa_levels_usable
    levels = levels[: levels.index(bittern.cpu().isa) + 1]
    names = [each.name for each in bittern.kernels() if each.loop == "spmm" and each.isa in levels]
    return next(name for name in reversed(names) if "_f32_f32_f32_" in name)


def pruned(layer: LayerShape, sparsity: float) -> bittern.Network:
    """The layer alone; zeros are drawn uniformly, seeded."""
    return one_layer(replace(layer, kind="sparse", density=1 - sparsity))


def kernel_of(model: bittern.Model) -> str:
    """What runs the layer."""
    return next(row.kernel for row in model.plan.layers if row.name == LAYER and row.op == "Conv")


def timed(models: Mapping[str, bittern.Model], layer: LayerShape, rounds: int, best: bool) -> Times:
    """Milliseconds of the convolution alone, all models once per round in turning order; or the best of them, twice."""
    rng = np.random.default_rng(1)
    images = [rng.standard_normal((1, layer.channels, layer.height, layer.width), np.float32) for _ in range(3)]
    times: Times = {name: [] for name in models}
    names = list(models)
    for turn in range(rounds):
        for step in range(len(names)):
            name = names[(turn + step) % len(names)]
            profile = models[name].profile(images[turn % len(images)], runs=_RUNS)
            times[name].append(sum(row.ms for row in profile.layers if row.layer.op in ("Conv", "WinogradConv")))
    return {name: [min(samples)] * 2 for name, samples in times.items()} if best else times


def measure(layer: LayerShape, sparsity: float, threads: int, rounds: int, best: bool) -> dict[str, Any]:
    """The sparse kernel, the direct dense one and the planner's choice of dense weights, on the same values."""
    sparse = pruned(layer, sparsity)
    dense = sparse.copy()
    dense.constants[f"{LAYER}.w"] = Dense(sparse.constants[f"{LAYER}.w"].decode())
    models = {
        "sparse": bittern.load(sparse, threads=threads, kernels=[sparse_kernel()]),
        "direct": bittern.load(dense, threads=threads, winograd=False),
        "picked": bittern.load(dense, threads=threads),
    }
    kernels = {name: kernel_of(model) for name, model in models.items()}
    if kernels["picked"] == kernels["direct"]:
        del models["picked"]
    times = timed(models, layer, rounds, best)
    thin = replace(layer, kind="sparse", density=1 - sparsity)
    real = 2e-6 * thin.entries * math.prod(layer.output_size) / median(times["sparse"])
    return {
        "layer": layer,
        "kernels": kernels,
        "ms": times,
        "real_gflops": real,
        "share": real / limit_of(thin, threads),
    }


def limit_of(layer: LayerShape, threads: int) -> float:
    """What the loop can do at best on this layer's panels, 10^9 operations per second: the best of some tries."""
    kernel = next(each for each in bittern.kernels() if each.name == sparse_kernel())
    vectors, entries = panel_shape(kernel, layer) or (1, 1)
    return max(bittern.panel_limit(vectors, entries, kernel.isa, threads) for _ in range(3))


def sweep(layer: LayerShape, threads: int, rounds: int, best: bool) -> dict[str, Any]:
    """The direct dense kernel once, the sparse kernel at every sparsity of the sweep."""
    dense = one_layer(layer)
    models = {"direct": bittern.load(dense, threads=threads, winograd=False)}
    for sparsity in SWEEP:
        models[f"{sparsity}"] = bittern.load(pruned(layer, sparsity), threads=threads, kernels=[sparse_kernel()])
    times = timed(models, layer, rounds, best)
    base = median(times["direct"])
    ratios = [base / median(times[f"{sparsity}"]) for sparsity in SWEEP]
    return {"layer": layer, "ms": times, "ratios": ratios, "break_even": crossing(SWEEP, ratios)}


def crossing(sparsities: Sequence[float], ratios: Sequence[float]) -> float | None:
    """Where the ratio rises through 1 for the last time, on straight lines between; None if it does not."""
    found = None
    for index in range(1, len(ratios)):
        low, high = ratios[index - 1], ratios[index]
        if low < 1 <= high:
            step = (1 - low) / (high - low)
            found = sparsities[index - 1] + step * (sparsities[index] - sparsities[index - 1])
    return found


def ratio_text(slow: Sequence[float], fast: Sequence[float]) -> str:
    """The ratio of medians, and the spread of the rounds' ratios."""
    low, high = spread([a / b for a, b in zip(slow, fast, strict=True)])
    return f"{median(slow) / median(fast):.2f} ({low:.2f} .. {high:.2f})"


def spread_text(samples: Sequence[float]) -> str:
    """The tenth and the ninetieth percentile."""
    low, high = spread(samples)
    return f"{significant(low)} .. {significant(high)}"


def layers_text(found: Sequence[Mapping[str, Any]]) -> str:
    """A row for each layer, then median and minimum of the ratios for each window."""
    rows = []
    ratios: dict[tuple[int, str], list[float]] = {}
    shares: dict[int, list[float]] = {}
    for each in found:
        layer, times = each["layer"], each["ms"]
        picked = times.get("picked", times["direct"])
        shares.setdefault(layer.kernel, []).append(each["share"])
        for name, dense in (("direct", times["direct"]), ("picked", picked)):
            ratios.setdefault((layer.kernel, name), []).append(median(dense) / median(times["sparse"]))
        rows.append(
            [
                str(layer),
                milliseconds(median(times["sparse"])),
                spread_text(times["sparse"]),
                significant(each["real_gflops"]),
                f"{100 * each['share']:.0f} %",
                milliseconds(median(times["direct"])),
                milliseconds(median(picked)),
                each["kernels"]["picked"].rpartition("__")[0],
                ratio_text(times["direct"], times["sparse"]),
                ratio_text(picked, times["sparse"]) if "picked" in times else "=",
            ]
        )
    headers = [
        "layer",
        "sparse",
        "p10 .. p90",
        "GFLOP/s",
        "share",
        "direct",
        "picked",
        "the pick",
        "direct/sparse",
        "pick/sparse",
    ]
    lines = [table(headers, rows, "lrrrrrrlrr"), ""]
    for window in WINDOWS:
        alike = shares.get(window)
        if alike:
            lines.append(
                f"{window}x{window}, {len(alike)} layers, share of the loop's limit: "
                f"median {100 * median(alike):.0f} %, least {100 * min(alike):.0f} %"
            )
        for name, said in (("direct", "direct dense kernel"), ("picked", "planner's dense pick")):
            values = ratios.get((window, name))
            if values:
                lines.append(
                    f"{window}x{window}, {len(values)} layers, times as fast as the {said}: "
                    f"median {median(values):.2f}, least {min(values):.2f}"
                )
    return "\n".join(lines)


def sweeps_text(found: Sequence[Mapping[str, Any]]) -> str:
    """A row for each layer: speed against the direct kernel at every sparsity; then where both are as fast."""
    rows = []
    for each in found:
        even = each["break_even"]
        beyond = f"below {100 * SWEEP[0]:.0f} %" if each["ratios"][0] >= 1 else "never"
        end = beyond if even is None else f"{100 * even:.0f} %"
        ratios = [f"{ratio:.2f}" for ratio in each["ratios"]]
        rows.append([str(each["layer"]), milliseconds(median(each["ms"]["direct"])), *ratios, end])
    headers = ["layer", "direct", *(f"{100 * sparsity:.0f} %" for sparsity in SWEEP), "even at"]
    lines = [table(headers, rows, "l" + "r" * (len(SWEEP) + 2)), ""]
    for window in WINDOWS:
        alike = [each for each in found if each["layer"].kernel == window]
        even = sorted(SWEEP[0] if each["ratios"][0] >= 1 else each["break_even"] or 1.0 for each in alike)
        if alike:
            lines.append(
                f"{window}x{window}, {len(alike)} layers: the sparse kernel is as fast as the direct dense one at "
                f"{100 * median(even):.0f} % of zeros (median; {100 * even[0]:.0f} to {100 * even[-1]:.0f} %)"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sparsity", type=float, default=0.9, metavar="S", help="share of zeros (default: 0.9)")
    parser.add_argument("--break-even", action="store_true", help="sweep the sparsity on a few layers")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--rounds", type=int, default=30, metavar="R")
    parser.add_argument(
        "--best", action="store_true", help="judge by the best round of each, where other work keeps the machine busy"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.threads < 1 or not 0 <= options.sparsity < 1:
        parser.error("--rounds and --threads are at least 1, --sparsity from 0 to below 1")
    chosen = [parse_shape(f"conv:{text}") for text in BREAK_EVEN] if options.break_even else layers()
    found = []
    with Progress() as progress:
        for number, layer in enumerate(chosen):
            progress(number, len(chosen), str(layer))
            if options.break_even:
                found.append(sweep(layer, options.threads, options.rounds, options.best))
            else:
                found.append(measure(layer, options.sparsity, options.threads, options.rounds, options.best))
    zeros = "" if options.break_even else f"{100 * options.sparsity:g} % zeros, "
    judged = ", the best of each" if options.best else ""
    print(f"{zeros}{options.threads} threads, {options.rounds} rounds{judged}, {sparse_kernel()}")
    print(sweeps_text(found) if options.break_even else layers_text(found))
    print("""
Ratios: medians of the dense kernel over those of the sparse one, above 1 the sparse one is faster; in brackets p10
.. p90 of single rounds. direct: this engine's dense kernel without Winograd; picked: the planner's own choice for
dense weights. GFLOP/s: with the weights that are not zero alone; share: of what the loop can do at best on the
layer's panels in the first-level cache (bittern.panel_limit). Places of zeros are drawn uniformly; every layer
stands alone, its weights and maps warm, without conversions of layouts around it. Not shown: zeros that trained
networks have in patterns, whole networks and other engines (benchmarks/peers.py --sparse), batches.""")
    if options.json:
        document = {
            "threads": options.threads,
            "rounds": options.rounds,
            "sparsity": SWEEP if options.break_even else options.sparsity,
            "kernel": sparse_kernel(),
            "layers": [each | {"layer": each["layer"].to_json(), "text": str(each["layer"])} for each in found],
        }
        options.json.write_text(json_text(document) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
