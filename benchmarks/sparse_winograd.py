"""3x3 convolutions pruned in Winograd's domain against dense ones: the layers of ResNet-50, one thread.

python benchmarks/sparse_winograd.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import bittern
from bittern.layer_networks import LAYER, one_layer
from bittern.layer_shapes import LayerShape, parse_shape
from bittern.report import Progress, json_text, significant, table
from peer_report import spread
from sparse_layers import crossing, timed

LAYERS = ("64x56x56,outputs=64", "128x28x28,outputs=128", "256x14x14,outputs=256", "512x7x7,outputs=512")
DENSITIES = (0.5, 0.4, 0.3, 0.2, 0.1)
TILES = (2, 4)
_NOT_SHOWN = """Not shown: other machines and threads; moves between layouts in front of and behind the layer, which \
dense and sparse kernels want different; the accuracy of networks with so few weights. Zeros are drawn uniformly."""


def kernel_named(start: str) -> str:
    """The kernel of that name at the best level that may be used here."""
    levels = bittern.cpu().isa_levels_usable
    levels = levels[: levels.index(bittern.cpu().isa) + 1]
    return [each.name for each in bittern.kernels() if each.name.startswith(start) and each.isa in levels][-1]


def models_of(layer: LayerShape, threads: int) -> dict[str, bittern.Model]:
    """The convolution as the planner runs it dense; weights of tiles, dense for 2x2, and sparse of every density."""
    models = {"picked": bittern.load(one_layer(layer), threads=threads)}
    for m in TILES:
        shape = replace(layer, kind=f"sparse_winograd{m}")
        if m == 2:
            forced = [kernel_named("winograd_f32_f32_f32_2x2")]
            models["dense 2"] = bittern.load(one_layer(replace(shape, density=1)), threads=threads, kernels=forced)
        forced = [kernel_named(f"sparse_winograd_f32_f32_f32_{m}x{m}")]
        for density in DENSITIES:
            file = one_layer(replace(shape, density=density))
            models[f"{m} {density}"] = bittern.load(file, threads=threads, kernels=forced)
    return models


def measure(layer: LayerShape, threads: int, rounds: int, best: bool) -> dict[str, Any]:
    """Times, and for each tile size the density at which the sparse layer is as fast as the picked dense one."""
    models = models_of(layer, threads)
    times = timed(models, layer, rounds, best)
    zeros = [1 - density for density in DENSITIES]
    even = {}
    for m in TILES:
        ratios = [median(times["picked"]) / median(times[f"{m} {density}"]) for density in DENSITIES]
        found = crossing(zeros, ratios)
        even[m] = None if found is None else 1 - found
    picked = next(row.kernel for row in models["picked"].plan.layers if row.name == LAYER)
    return {"layer": layer, "picked": picked, "ms": times, "even": even}


def text_of(found: Sequence[Mapping[str, Any]]) -> str:
    """A row for each layer and tile size."""
    rows = []
    for each in found:
        for m in TILES:
            ratios = []
            for density in DENSITIES:
                base, own = each["ms"]["picked"], each["ms"][f"{m} {density}"]
                low, high = spread([a / b for a, b in zip(base, own, strict=True)])
                ratios.append(f"{median(base) / median(own):.2f} ({low:.2f} .. {high:.2f})")
            dense = [significant(median(each["ms"][name])) for name in ("picked", "dense 2")]
            even = "never" if each["even"][m] is None else f"{100 * each['even'][m]:.0f} %"
            if median(each["ms"]["picked"]) >= median(each["ms"][f"{m} {DENSITIES[0]}"]):
                even = f"above {100 * DENSITIES[0]:.0f} %"
            rows.append((str(each["layer"]), f"{m}x{m}", *dense, *ratios, even))
    titles = [f"{100 * density:.0f} %" for density in DENSITIES]
    return table(("layer", "tile", "picked ms", "dense 2x2 ms", *titles, "even at"), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--best", action="store_true", help="the best round, not the median: where other work disturbs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write times and choices there, too")
    options = parser.parse_args(arguments)
    layers = [parse_shape(f"conv:{text},kernel=3,pad=1") for text in LAYERS]
    found = []
    with Progress() as progress:
        for index, layer in enumerate(layers):
            progress(index, len(layers), str(layer))
            found.append(measure(layer, options.threads, options.rounds, options.best))
    print(f"{'Best' if options.best else 'Medians'} of {options.rounds} rounds, {options.threads} threads.")
    print(
        "How many times as fast as the dense kernel that the planner picks, at each density of the weights of tiles:\n"
    )
    print(text_of(found))
    print(f"\n{_NOT_SHOWN}")
    if options.json is not None:
        options.json.write_text(json_text([{**each, "layer": each["layer"].to_json()} for each in found]), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
