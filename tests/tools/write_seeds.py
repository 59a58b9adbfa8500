"""Writes the good files that the mutator and the fuzzers start from: write_seeds FOLDER.

A file for each constant of tests/encoding_samples.py, each operator of tests/operator_samples.py, and networks, many of
them with layers that run on 8-bit codes.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests import hostile, operator_samples
from tests.encoding_samples import all_samples
from tests.kernels.bits import bit_cases
from tests.kernels.one_row import code_row_cases, real_row_cases
from tests.quantized_random import random_case
from tests.rawfile import assemble, product_graph
from tests.reference.container import Leaf
from tests.reference.decoders import decode, spelled

LARGEST = 12_000
"""Bytes of a seed: what is larger costs time for every file made of it and shows nothing new."""


def leaves_of(tree: Mapping[str, Any]) -> Iterator[str]:
    """Names of the leaves that a tree uses."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves_of(value)
        elif key == "parts":
            for part in value:
                yield from leaves_of(spelled(part))
        elif key in ("leaf", "lengths", "frequencies", "offsets"):
            yield str(value)


def encodings() -> Iterator[tuple[str, bytes]]:
    """A network for each constant: a product if it is real, a list of the constant alone if it holds integers."""
    samples = all_samples(np.random.default_rng(22))
    for name, tree in samples.constants.items():
        leaves = {leaf: samples.leaves[leaf] for leaf in leaves_of(spelled(tree))}
        value = decode(tree, {leaf: Leaf(raw.dtype, raw.shape, raw.data) for leaf, raw in leaves.items()})
        graph = product_graph(tree, value.shape)
        if not np.issubdtype(value.dtype, np.floating):
            graph["nodes"] = [{"name": "pass", "op": "Relu", "inputs": ["x"], "outputs": ["y"], "attributes": {}}]
        yield f"encoding.{name}", assemble(graph, leaves)


def quantised() -> Iterator[tuple[str, bytes]]:
    """Random graphs of quantised layers, some as TensorFlow Lite rounds; products with one row; planes of bits."""
    for seed in range(40):
        net = random_case(seed)[1]
        if seed % 2:
            for node in net.nodes:
                if node.op == "QuantizeLinear":
                    node.attributes["requantize"] = "tflite"
        yield f"quantised.{seed}", net.to_bytes()
    for loop, cases in (("gemv_u8", code_row_cases), ("gemv_f32", real_row_cases), ("bgemm", bit_cases)):
        for index, case in enumerate(cases(loop)):
            if index % 7 == 3:
                yield f"{loop}.{index}", case.network().to_bytes()


def seeds() -> Iterator[tuple[str, bytes]]:
    """Every seed that is small enough."""
    for name, data in (*encodings(), *quantised()):
        if len(data) <= LARGEST:
            yield name, data
    for name, net in operator_samples.networks():
        yield f"operator.{name}", net.to_bytes()
    yield "network.good", hostile.good_file()
    yield "network.nested", hostile.nested_file(5)


def main(folder: Path) -> int:
    """Write the seeds; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, data in seeds():
        (folder / f"{name}.bittern").write_bytes(data)
        count += 1
    return count


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1]))} files")
