"""How much two real networks bear to lose: sparsity against agreement with the float network.

python benchmarks/pruning.py                        both, from ../shared/data
python benchmarks/pruning.py --data DIR --network resnet8 --json

Calibrated on some of the sample inputs, judged on the others. Nothing is random, and nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bittern
import numpy as np
from bittern.report import Progress, bytes_short, json_text, table
from numpy.typing import NDArray

Array = NDArray[Any]
METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude", "bias_correction": False},
    "reconstruct": {"method": "reconstruct"},
}
LAYERS: dict[str, dict[str, Any]] = {
    "uniform": {},
    "global": {"per_layer": "global", "normalise": True},
    "sensitivity": {"per_layer": "sensitivity"},
}
"""How the sparsity is spread over layers; patterns but unstructured are uniform."""

SPARSITIES = {"squeezenet_dc": (0.7, 0.8, 0.9), "resnet8": (0.3, 0.5, 0.7)}


def squeezenet(data: Path) -> tuple[bittern.Network, str, Array, Array]:
    """The network, its output, ten photos for calibration, nineteen to judge by."""
    network = bittern.convert(data / "squeezenet_dc" / "squeezenet_dc.onnx")
    photos = np.load(data / "imagenet_sample" / "images.npz")["images"]
    cropped = photos[:, 14:241, 14:241, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    images = np.ascontiguousarray(cropped.transpose(0, 3, 1, 2))
    chosen = np.arange(len(images)) % 3 == 0
    return network, network.outputs[0].name, images[chosen], images[~chosen]


def resnet8(data: Path) -> tuple[bittern.Network, str, Array, Array]:
    """The network, its output, eight images and their mirror images for calibration, eight others."""
    network = bittern.convert(data / "mlperf_tiny" / "resnet8_cifar10_float.onnx")
    images = np.load(data / "mlperf_tiny" / "expected_resnet8_cifar10.npz")["input_float"]
    some = images[::2]
    return network, "logits", np.concatenate([some, some[:, :, ::-1]]), images[1::2]


NETWORKS = {"squeezenet_dc": squeezenet, "resnet8": resnet8}


def outputs(network: bittern.Network, output: str, images: Array) -> Array:
    """What the network says of each image, one after the other."""
    model, name = bittern.load(network), network.inputs[0].name
    return np.concatenate([model.run({name: images[at : at + 1]})[output] for at in range(len(images))])


def measure(name: str, data: Path, progress: Progress) -> list[dict[str, Any]]:
    """A row per pattern, sparsity and method."""
    network, output, given, unseen = NETWORKS[name](data)
    exact = outputs(network, output, unseen)
    cases: list[tuple[str, float | None, str, str]] = [
        ("unstructured", share, layers, method)
        for share in SPARSITIES[name]
        for layers in LAYERS
        for method in (METHODS if layers != "sensitivity" else ("reconstruct",))
    ]
    cases += [("2:4", None, "uniform", method) for method in METHODS]
    rows: list[dict[str, Any]] = []
    for pattern, sparsity, layers, method in cases:
        share: dict[str, Any] = {} if sparsity is None else {"sparsity": sparsity}
        made = bittern.compress(
            network,
            recipe="prune",
            pattern=pattern,
            calibration={network.inputs[0].name: given},
            **share,
            **METHODS[method],
            **LAYERS[layers],
        )
        found = outputs(made, output, unseen)
        weights = [row for row in made.summary().rows if row.is_weight]
        elements = sum(row.elements for row in weights)
        zeros = 1 - sum(row.density * row.elements for row in weights) / elements
        noise = np.sum(np.square(found.astype(np.float64) - exact))
        rows.append(
            {
                "network": name,
                "pattern": pattern,
                "sparsity": zeros,
                "layers": layers,
                "method": method,
                "sqnr_db": float(10 * np.log10(np.sum(np.square(exact.astype(np.float64))) / noise)),
                "same_class": int(np.sum(found.argmax(axis=-1) == exact.argmax(axis=-1))),
                "images": len(unseen),
                "file_bytes": len(made.to_bytes()),
            }
        )
        progress(len(rows), len(cases), f"{name} {pattern} {layers} {method}")
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 2 where the data is not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of real networks")
    parser.add_argument("--network", choices=list(NETWORKS), action="append", help="default: both")
    parser.add_argument("--json", action="store_true", help="plain data instead of a table")
    arguments = parser.parse_args(words)
    if not arguments.data.is_dir():
        print(f"{arguments.data}: no such folder; name one with --data", file=sys.stderr)
        return 2
    with Progress() as progress:
        rows = [row for name in arguments.network or NETWORKS for row in measure(name, arguments.data, progress)]
    if arguments.json:
        print(json_text(rows))
        return 0
    cells = [
        [
            *(row["network"], row["pattern"], f"{100 * row['sparsity']:.1f} %", row["layers"], row["method"]),
            *(f"{row['sqnr_db']:.1f} dB", f"{row['same_class']} of {row['images']}", bytes_short(row["file_bytes"])),
        ]
        for row in rows
    ]
    headers = ("network", "pattern", "zeros", "layers", "method", "signal to noise", "same class", "file")
    print(table(headers, cells, "llrllrrr"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
