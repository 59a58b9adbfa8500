"""What AlexNet and VGG-16 weigh with the densities and bits of Deep Compression (Han, Mao, Dally, arXiv 1510.00149).

python benchmarks/deep_compression.py                      both, weights of a Laplace distribution
python benchmarks/deep_compression.py --weights channels   magnitudes that differ from channel to channel, too
python benchmarks/deep_compression.py --network alexnet --json

The layers have the networks' shapes; their weights are random, seeded, cut by magnitude to the densities of the
paper's tables 4 and 5, clustered (convolutions 8 bits, fully connected layers 5) and saved. That shows what the format
makes of so many weights and codes, beside the entropy of positions and codes taken as independent. It does not show
accuracy, and not the paper's sizes: how much entropy codes save depends on the distribution of trained weights.
"channels" is a guess at their unevenness, not a measurement.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from bittern import Network
from bittern.compression.deep_compression import DeepCompression
from bittern.encodings import Codebook, Encoding, Sparse
from bittern.encodings.base import Tree
from bittern.report import bytes_exact, json_text, table
from network_builder import Builder, LayerShape
from networks import NETWORKS
from numpy.typing import NDArray

DENSITIES: dict[str, tuple[float, ...]] = {
    "alexnet": (0.84, 0.38, 0.35, 0.37, 0.37, 0.09, 0.09, 0.25),
    "vgg16": (0.58, 0.22, 0.34, 0.36, 0.53, 0.24, 0.42, 0.32, 0.27, 0.34, 0.35, 0.29, 0.36, 0.04, 0.04, 0.23),
    "fc4096": (0.09,),
}
"""Share of the weights that stay, layer by layer; fc4096 is one layer of 4096 x 4096."""
BITS = {"conv": 8, "fc": 5}
WANTED = {"alexnet": 35.0, "vgg16": 49.0, "fc4096": 25.0}
"""How many times smaller than float32 the paper's files are (fc4096: what is asked of one such layer of 16 values)."""
SPREAD = 0.5  # of the logarithm of a channel's magnitude


@dataclass(frozen=True)
class Row:
    """One layer, in bytes; `entropy` is the least that independent positions and codes take."""

    layer: str
    weights: int
    density: float
    form: str
    dense: int
    indices: int
    codes: int
    tables: int
    entropy: int

    @property
    def total(self) -> int:
        """Everything but the header."""
        return self.indices + self.codes + self.tables


@dataclass(frozen=True)
class Result:
    """One network."""

    name: str
    rows: tuple[Row, ...]
    dense: int
    file: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Bytes of float32 weights and biases to those of the file."""
        return self.dense / self.file

    @property
    def bound(self) -> float:
        """The ratio if every layer took its entropy, and biases and codebooks came on top."""
        return self.dense / (self.dense - 4 * sum(row.weights for row in self.rows) + sum(r.entropy for r in self.rows))


def layers_of(name: str) -> list[LayerShape]:
    """The layers with weights."""
    if name == "fc4096":
        return [LayerShape("fc", 4096, 1, 1, 4096)]
    net = Builder(name, weights=False)
    NETWORKS[name](net)
    return net.layers


def draw(rng: np.random.Generator, shape: tuple[int, ...], weights: str) -> NDArray[np.float32]:
    """Random weights: gaussian, laplace, or laplace with a magnitude for each input and output channel (channels)."""
    if weights == "gaussian":
        return rng.standard_normal(shape, np.float32)
    size = math.prod(shape)
    values = rng.standard_exponential(size, np.float32).reshape(shape)
    np.negative(values, out=values, where=rng.integers(0, 2, shape, np.uint8).astype(bool))
    if weights == "channels":
        for axis in (0, 1):
            scales = np.exp(rng.normal(0, SPREAD, shape[axis])).astype(np.float32)
            values *= scales.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return values


def split(tree: Encoding) -> tuple[int, int, int]:
    """Bytes of positions, of codes and of tables (codebook, code lengths, frequencies, offsets)."""
    assert isinstance(tree, Codebook)
    streams: dict[str, int] = {"indices": 0, "codes": 0}

    def count(node: Tree, part: str) -> None:
        leaf = getattr(node, "leaf", None)
        streams[part] += leaf.nbytes if leaf is not None else 0
        for _, child in node.children():
            count(child, part)

    if isinstance(tree.codes, Sparse):
        count(tree.codes.pattern, "indices")
        count(tree.codes.values, "codes")
    else:
        count(tree.codes, "codes")
    return streams["indices"], streams["codes"], tree.nbytes - sum(streams.values())


def entropy(tree: Encoding) -> tuple[float, int]:
    """The share of non-zeros; the codebook's bytes and those that independent positions and codes take at least."""
    assert isinstance(tree, Codebook)
    counts = np.bincount(tree.codes.decode().reshape(-1))
    zero = counts[tree.table.decode() == 0].sum()
    share = counts[counts > 0] / counts.sum()
    least = math.ceil(float(counts.sum() * -(share @ np.log2(share))) / 8) + tree.table.nbytes
    return 1 - float(zero / counts.sum()), least


def layer(net: Network, name: str, shape: LayerShape, weight: NDArray[np.float32], density: float, bits: int) -> Row:
    """Compress one layer into the network."""
    made = DeepCompression(density=density, bits=bits).compress(weight, name, [name]).encoding
    assert made is not None
    window = [shape.height, shape.width] if shape.kind == "conv" else []
    net.add_input(f"{name}.x", ["N", shape.channels, *window])
    net.add_constant(f"{name}.weight", made)
    net.add_constant(f"{name}.bias", np.zeros(shape.outputs, np.float32))
    inputs = [f"{name}.x", f"{name}.weight", f"{name}.bias"]
    if shape.kind == "conv":
        options: dict[str, Any] = {"strides": [shape.stride] * 2, "pads": list(shape.pads), "group": shape.groups}
    else:
        options = {"transB": 1}
    net.add_node("Conv" if shape.kind == "conv" else "Gemm", inputs, [name], name, **options)
    kept, least = entropy(made)
    return Row(name, weight.size, kept, made.describe(), weight.nbytes, *split(made), least)


def measure(name: str, weights: str, seed: int) -> Result:
    """All layers of one network, one after the other: the largest one decides how much memory it takes."""
    start = time.perf_counter()
    rng = np.random.default_rng(seed)
    net = Network(name)
    rows = []
    for index, (shape, density) in enumerate(zip(layers_of(name), DENSITIES[name], strict=True)):
        size = (shape.outputs, shape.channels // shape.groups, shape.kernel, shape.kernel)
        weight = draw(rng, size if shape.kind == "conv" else size[:2], weights)
        bits = 4 if name == "fc4096" else BITS[shape.kind]
        rows.append(layer(net, f"{shape.kind}{index + 1}", shape, weight, density, bits))
    net.set_outputs([node.outputs[0] for node in net.nodes])
    biases = sum(4 * tree.size for key, tree in net.constants.items() if key.endswith(".bias"))
    dense = sum(row.dense for row in rows) + biases
    return Result(name, tuple(rows), dense, len(net.to_bytes()), time.perf_counter() - start)


def report(result: Result) -> str:
    """The layers of one network and what they come to."""
    cells = [
        [
            row.layer,
            bytes_exact(row.weights),
            f"{100 * row.density:.1f} %",
            *map(bytes_exact, (row.indices, row.codes, row.tables)),
            f"{8 * row.total / row.weights:.2f}",
            f"{row.dense / row.total:.1f}",
            f"{row.dense / row.entropy:.1f}",
            row.form,
        ]
        for row in result.rows
    ]
    headers = ["layer", "weights", "kept", "indices", "codes", "tables", "bits/weight", "times", "entropy", "form"]
    return (
        f"{result.name}: {bytes_exact(result.file)} bytes for {bytes_exact(result.dense)} of float32: "
        f"{result.ratio:.2f} times smaller, {result.bound:.2f} at the entropy, {WANTED[result.name]:.0f} wanted "
        f"({result.seconds:.0f} s)\n" + table(headers, cells, "lrrrrrrrrl")
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(DENSITIES), action="append", help="default: all")
    parser.add_argument("--weights", choices=("gaussian", "laplace", "channels"), default="laplace")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(arguments)
    results = []
    for name in options.network or DENSITIES:
        results.append(measure(name, options.weights, options.seed))
        if not options.json:
            print(report(results[-1]) + "\n", flush=True)
    if options.json:
        found = [asdict(result) | {"ratio": result.ratio, "bound": result.bound} for result in results]
        print(json_text({"weights": options.weights, "seed": options.seed, "networks": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
